"""The sources of a run's initial parameters, and the held-out pairs that they were trained on."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from jaxrec import config as configs
from jaxrec.config import Config, Objective
from jaxrec.data.dataset import TEST, TRAIN, VALIDATION
from jaxrec.data.pair_keys import pair_hashes
from jaxrec.data.saved_split import KeptSplit, load
from jaxrec.data.split import Kept, pair_id_hashes
from jaxrec.runfolder import check_run, read_embeddings, read_seen

_OLD = "it has no stored split: it is an old run, or a run on data in parts"
_NO_RUN = "it is not a run folder"


@dataclass(frozen=True)
class Source:
    """A source of initial parameters.

    Attributes:
      role: "warm_start" or "frozen_items".
      path: the path in the configuration.
      run: the run folder of the source; None if the source is not a run.
      known: the pairs of that run and of the runs that it started from, each with its part of the
        split; None if unknown.
    """

    role: str
    path: str
    run: Path | None
    known: KeptSplit | None


@dataclass(frozen=True)
class Start:
    """All sources of a run's initial parameters, and their effect on the run's split."""

    sources: tuple[Source, ...] = ()

    @classmethod
    def of(cls, config: Config) -> "Start":
        """Read the splits of a configuration's sources.

        Raises:
          InputError: a source has not finished training, or has a damaged file.
        """
        objective = config.objective
        named = _named(config)
        return cls(
            tuple(
                Source(role, path, run, None if run is None else _known(run, objective))
                for role, path, run in named
            )
        )

    @property
    def known(self) -> KeptSplit | None:
        """The union of all sources' known pairs; None if no source has known pairs."""
        union: KeptSplit | None = None
        for source in self.sources:
            if source.known is not None:
                union = source.known if union is None else union.joined(source.known)
        return union

    def inherited(self, rule: dict[str, Any], hash_E: np.ndarray) -> Kept | None:
        """Return the split that the new run continues: the union over the sources with its rule.

        The result is None if no source has this rule.

        Args:
          rule: the settings of the new run's split.
          hash_E: the hashes of the data's pairs.
        """
        same_rule = [s.known for s in self.sources if s.known and s.known.protocol == rule]
        if not same_rule:
            return None
        first, *others = same_rule
        for other in others:
            first = first.joined(other)
        known = self.known
        assert known is not None
        return Kept(first.parts(hash_E), known.trained(hash_E), first.seed)

    def facts(
        self,
        rule: dict[str, Any],
        held_out: dict[str, np.ndarray],
        ids: dict[str, np.ndarray],
    ) -> list[dict[str, Any]]:
        """Return a record for each source, for ``env.json`` and ``eval.json``.

        Args:
          rule: the settings of the new run's split, to compare with those of each source's split.
          held_out: the hashes of the new run's "validation" and "test" pairs, by these names.
          ids: the ids of the data's "users" and "items", by these names; no users for item models.
        """
        return [_facts(source, rule, held_out, ids) for source in self.sources]


def _named(config: Config) -> list[tuple[str, str, Path | None]]:
    """Return the role, path and run folder of each source of a configuration."""
    sources: list[tuple[str, str, Path | None]] = []
    if config.warm_start is not None:
        sources.append(("warm_start", config.warm_start, Path(config.warm_start)))
    vectors = config.model.frozen_items
    if vectors is not None:
        run = Path(vectors)
        run = run.parent if run.name == "embeddings.npz" else run
        sources.append(("frozen_items", vectors, run if (run / "config.json").is_file() else None))
    return sources


def _known(run: Path, objective: Objective) -> KeptSplit | None:
    """Return the pairs of a run and of the runs that it started from, with their parts.

    The result is None if they are unknown, or if they are pairs of another kind than the new run's.

    Args:
      objective: the objective of the new run, which has pairs of users and items, or of two items.
    """
    kept, config = load(check_run(run)), configs.load(run / "config.json")
    users = objective.users
    if config.objective.users != users or (kept is None and not users):
        return None
    if kept is not None:
        return kept
    # The run has no stored split, but it stores the pairs of train and validation as seen items.
    table = read_embeddings(run)
    seen = read_seen(run, len(table.user_ids), len(table.item_ids)).known
    user = np.repeat(np.arange(len(table.user_ids)), seen.degree)
    hash_U, hash_I = pair_id_hashes(table.user_ids, table.item_ids)
    hash_E = pair_hashes(hash_U[user], hash_I[seen.indices])
    union = KeptSplit.of(hash_E, np.full(len(hash_E), TRAIN), {}, config.seed)
    whole = True
    for _, _, before in _named(config):
        known = None
        if before is not None and (before / "config.json").is_file():
            known = _known(before, objective)
        whole &= known is not None
        union = union if known is None else union.joined(known)
    return KeptSplit(union.key_P, {}, config.seed, whole=whole and union.whole, sure=False)


def _facts(
    source: Source,
    rule: dict[str, Any],
    held_out: dict[str, np.ndarray],
    ids: dict[str, np.ndarray],
) -> dict[str, Any]:
    record: dict[str, Any] = {"run": source.path, "as": source.role}
    if source.run is not None:
        table = read_embeddings(source.run)
        sides = {"users": table.user_ids, "items": table.item_ids}
        if source.role == "frozen_items" or "users" not in ids:
            del sides["users"]
        record |= {side: _shared(there, ids[side]) for side, there in sides.items()}
    record["split"] = "drawn anew"
    known = source.known
    if known is None:
        record["reason"] = _NO_RUN if source.run is None else _reason_unknown(source.run, ids)
        return record
    if known.protocol == rule:
        record["split"] = "kept"
    else:
        record["reason"] = _difference(known.protocol, rule)
    trained = {part: [int(known.trained(h).sum()), len(h)] for part, h in held_out.items()}
    return record | {"trained": trained, "whole": known.whole, "sure": known.sure}


def _reason_unknown(run: Path, ids: dict[str, np.ndarray]) -> str:
    users = configs.load(run / "config.json").objective.users
    if not users and "users" in ids:
        return "it was trained on pairs of items"
    return "it was trained on users" if users and "users" not in ids else _OLD


def _shared(there: np.ndarray, here: np.ndarray) -> dict[str, Any]:
    """Count the ids that a source and the data share, and give an example id of each."""
    here = np.asarray(here).astype(str)
    n_shared = len(np.intersect1d(there, here))
    counts: dict[str, Any] = {"kept": n_shared, "of": len(there), "new": len(here) - n_shared}
    if len(there) and len(here):
        counts |= {"there": str(there[0]), "here": str(here[0])}
    return counts


def _difference(theirs: dict[str, Any], ours: dict[str, Any]) -> str:
    """Return a clause that names the first setting in which two splits differ, for messages."""
    if not theirs:
        return _OLD
    names = [name for name in ("name", *ours) if theirs.get(name) != ours.get(name)]
    section = "pairs" if ours.get("name") == "pairs" else "split"
    name = names[0]
    return f"{section}.{name} was {theirs.get(name)} in that run, and is {ours.get(name)} now"


def held_out_of(label: np.ndarray, hash_E: np.ndarray) -> dict[str, np.ndarray]:
    """Return the hashes of the validation pairs and of the test pairs."""
    return {"validation": hash_E[label == VALIDATION], "test": hash_E[label == TEST]}
