"""The stored split of a run: a hash of each pair's ids, and the part of the pair.

Unlike row numbers and seeded draws, hashes of ids do not change when data grows. So a run with a
warm start can keep the test pairs of the earlier run, and count the test pairs on which the warm
start was trained.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from jaxrec.config import PairsConfig, SplitConfig
from jaxrec.data.dataset import TRAIN, VALIDATION, Dataset
from jaxrec.data.itemgraph import ItemGraph
from jaxrec.data.pair_keys import id_hashes, pair_hashes
from jaxrec.data.split import Kept, pair_id_hashes, repeats
from jaxrec.errors import InputError
from jaxrec.files import parse_json, read_arrays, write_npz

NAME = "split.npz"
_CODE = np.uint64(7)  # two bits hold the part, and one bit says whether the pair was trained on
_TRAINED = 4


@dataclass(frozen=True)
class KeptSplit:
    """The split of a run: the pairs of the run and of its warm starts, and their parts.

    Attributes:
      key_P: [P] uint64, ascending: the upper 61 bits of each pair's hash, and in the lower three
        bits the part and whether parameters have been trained on the pair. The chance that any two
        of 25 million pairs have the same 61 bits is 1 in 7,000.
      protocol: rule of the split (:func:`rule`); empty if unknown.
      seed: seed of the split.
      whole: whether ``key_P`` includes all pairs that were trained on.
      sure: whether all pairs marked as trained were trained on; if False, some of them may have
        been used for validation only.
    """

    key_P: np.ndarray
    protocol: dict[str, Any]
    seed: int
    whole: bool = True
    sure: bool = True

    @classmethod
    def of(
        cls,
        hash_E: np.ndarray,
        part_E: np.ndarray,
        protocol: dict[str, Any],
        seed: int,
        *,
        refit: bool = False,
        before: "KeptSplit | None" = None,
    ) -> "KeptSplit":
        """Combine a run's own pairs with those of its warm start.

        Args:
          hash_E: hashes of the run's pairs.
          part_E: parts of these pairs: train, validation or test.
          refit: whether the run finally trains on the train and validation pairs together.
          before: the stored split of the warm start.
        """
        trained_E = part_E == TRAIN
        if refit:
            trained_E |= part_E == VALIDATION
        if before is not None:
            trained_E |= before.trained(hash_E)
        own = cls(_packed(hash_E, part_E, trained_E), protocol, seed)
        return own if before is None else own.joined(before)

    def joined(self, other: "KeptSplit") -> "KeptSplit":
        """Merge with the pairs of another split; a pair in both keeps its part in this split."""
        there = self._codes(other.key_P) < 0
        trained = (other.key_P & np.uint64(_TRAINED)) > 0
        key_P = self.key_P.copy()
        if not there.all():  # a pair trained in either split counts as trained
            at = np.searchsorted(key_P, other.key_P[~there & trained] & ~_CODE)
            key_P[at] |= np.uint64(_TRAINED)
        key_P = np.sort(np.concatenate([key_P, other.key_P[there]]))
        whole, sure = self.whole and other.whole, self.sure and other.sure
        return KeptSplit(key_P, self.protocol, self.seed, whole, sure)

    def _codes(self, hash_E: np.ndarray) -> np.ndarray:
        """Return the lower three bits of each pair's key, [E] int8; -1 for absent pairs."""
        if not len(self.key_P):
            return np.full(len(hash_E), -1, np.int8)
        order = np.argsort(hash_E)  # sorted lookups use the processor cache better
        base = hash_E[order] & ~_CODE
        at = np.minimum(np.searchsorted(self.key_P, base), len(self.key_P) - 1)
        found = self.key_P[at]
        code = np.where(found & ~_CODE == base, (found & _CODE).astype(np.int8), np.int8(-1))
        made = np.empty(len(hash_E), np.int8)
        made[order] = code
        return made

    def parts(self, hash_E: np.ndarray) -> np.ndarray:
        """Return the part of each pair, [E] int8; -1 for absent pairs."""
        code = self._codes(hash_E)
        return np.where(code < 0, code, code & 3)

    def trained(self, hash_E: np.ndarray) -> np.ndarray:
        """Return whether parameters were trained on each pair, [E] bool."""
        code = self._codes(hash_E)
        return (code >= 0) & ((code & _TRAINED) > 0)

    def of_pairs(self, hash_E: np.ndarray) -> Kept:
        """Return the earlier labels of a data set's pairs."""
        code = self._codes(hash_E)
        part = np.where(code < 0, code, code & 3)
        return Kept(part, (code >= 0) & ((code & _TRAINED) > 0), self.seed)

    def save(self, run: Path) -> None:
        """Write RUN/split.npz. Raises InputError if it cannot be written."""
        more = {"protocol": self.protocol, "whole": self.whole, "sure": self.sure}
        about = json.dumps(more | {"seed": self.seed})
        write_npz(run / NAME, {"pairs": self.key_P, "about": np.array(about)})


def _packed(hash_E: np.ndarray, part_E: np.ndarray, trained_E: np.ndarray) -> np.ndarray:
    code_E = part_E.astype(np.uint64) | (trained_E.astype(np.uint64) * np.uint64(_TRAINED))
    return np.sort((hash_E & ~_CODE) | code_E)


def load(run: Path) -> KeptSplit | None:
    """Read RUN/split.npz; return None for old runs and partitioned data, which have none.

    Raises:
      InputError: the file is damaged.
    """
    path = run / NAME
    if not path.is_file():
        return None
    try:
        stored = read_arrays(path)
        about = parse_json(str(stored["about"]))
        key_P, protocol = stored["pairs"], about["protocol"]
        if key_P.dtype != np.uint64 or key_P.ndim != 1 or not isinstance(protocol, dict):
            raise ValueError("other arrays")
        if not (key_P[1:] >= key_P[:-1]).all():
            raise ValueError("the pairs are not in order")
        kept = KeptSplit(key_P, protocol, int(about["seed"]), about["whole"], about["sure"])
    except (OSError, KeyError, IndexError, TypeError, ValueError) as e:
        raise InputError(
            f"{path}: damaged; copy it again, or train again: without it the test part is unknown"
        ) from e
    return kept


def labels(run: Path, data: Dataset | ItemGraph) -> np.ndarray | None:
    """Return the part of each pair in a run's stored split, [E] uint8; None if none is stored.

    Raises:
      InputError: the file is damaged, or lacks pairs of the data.
    """
    kept = load(run)
    if kept is None:
        return None
    part = kept.parts(hashes(data))
    if isinstance(data, Dataset) and data.split is not None:
        # If a pair is in several parts of a given split, the file has only the first part.
        again = repeats(data)
        part[again] = data.split[again]
    if (part < 0).any():
        raise InputError(
            f"{run / NAME}: lacks {int((part < 0).sum()):,} of the data's pairs; copy it again, or "
            "train again"
        )
    return part.astype(np.uint8)


def rule(config: SplitConfig | PairsConfig) -> dict[str, Any]:
    """Return the settings that must be the same in two splits for one to continue the other.

    Args:
      config: the settings of the split, as :func:`jaxrec.data.split.resolved` returns them.
    """
    if isinstance(config, PairsConfig):
        return {"name": "pairs", "test": config.test, "validation": config.validation}
    fields = {
        "given": ("validation", "per_user"),
        "cold-items": ("test", "validation"),
        "folds": ("validation", "per_user", "folds", "fold"),
        "windows": ("test", "validation", "folds", "fold"),
    }
    if config.name == "leave-last-out":
        return {"name": config.name, "validation": config.validation > 0}
    every = ("test", "validation", "per_user", "test_time", "validation_time")
    names = ("name", *fields.get(config.name, every))
    return {name: getattr(config, name) for name in names}


def hashes(data: Dataset | ItemGraph) -> np.ndarray:
    """Return a hash of each pair's ids, [E] uint64; the order of an item pair does not matter."""
    if isinstance(data, ItemGraph):
        hash_I = id_hashes(data.item_ids, 2)
        a, b = hash_I[data.src], hash_I[data.dst]
        return pair_hashes(np.minimum(a, b), np.maximum(a, b))
    hash_U, hash_I = pair_id_hashes(data.user_ids, data.item_ids)
    return pair_hashes(hash_U[data.user], hash_I[data.item])


FEW = 0.05
"""A warm start is reported as nearly useless if less than this share of its users or items are in
the new data."""


def told(start: Iterable[dict[str, Any]]) -> list[str]:
    """Return lines about a run's warm starts: shared ids, the split, and trained test pairs.

    Args:
      start: records from ``RUN/env.json`` or ``RUN/eval.json``.
    """
    lines = []
    for of in start:
        name = Path(of["run"]).name
        sides = [side for side in ("users", "items") if side in of]
        if sides:
            held = " and ".join(f"{of[s]['kept']:,} of {of[s]['of']:,} {s}" for s in sides)
            new = " and ".join(f"{of[s]['new']:,} {s}" for s in sides)
            lines.append(f"of {name}: {held} are in this data; {new} are new")
        for side in sides:
            if of[side]["kept"] < FEW * of[side]["of"]:
                there, here = (f"`{of[side][where]}`" for where in ("there", "here"))
                lines.append(
                    f"WARNING: hardly any of the {side} of {name} are in this data, so their "
                    f"trained parameters are not used; add the data of {name} to the new data, "
                    f"and write ids in the same form ({there} in {name}, {here} in this data)"
                )
        lines += _known(name, of)
    return lines


def _known(name: str, of: dict[str, Any]) -> list[str]:
    """Return lines about the held-out pairs on which the warm start was trained."""
    why = "" if of["split"] == "kept" else f" ({of.get('reason', '')})"
    if "trained" not in of:
        return [f"it is unknown whether {name} was trained on test pairs{why}"]
    counts = [
        f"{n:,} of {total:,} {part} pairs" for part, (n, total) in of["trained"].items() if total
    ]
    if not counts:
        return []
    at_least = "" if of["whole"] else "at least "
    data = "training data" if of["sure"] else "training or validation data"
    kept = of["split"] == "kept"
    first = f"the split of {name} is continued" if kept else f"the data is split anew{why}"
    lines = [f"{first}: {at_least}{' and '.join(counts)} were in the {data} of {name}"]
    if of["trained"].get("test", (0, 0))[0]:
        lines.append(f"WARNING: the test metrics count pairs on which {name} was trained")
    elif of["trained"].get("validation", (0, 0))[0]:
        lines.append(
            f"WARNING: the validation part, which may select the parameters, has pairs on which "
            f"{name} was trained; --eval.select-on none takes the last parameters instead"
        )
    return lines
