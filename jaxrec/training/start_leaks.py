"""Sources of a run's initial parameters and split, and which of its test pairs they trained on."""

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

_OLD = "it keeps no split, as runs did before, or those on data in parts"
_NO_RUN = "it is not a run folder"


@dataclass(frozen=True)
class Source:
    """A source of initial parameters.

    Attributes:
      role: "warm_start" or "frozen_items".
      path: as the configuration names it.
      run: its run folder; None if it is not a run.
      known: the pairs of the run and its own sources; None if unknown.
    """

    role: str
    path: str
    run: Path | None
    known: KeptSplit | None


@dataclass(frozen=True)
class Start:
    """All sources of a run, and their effect on its split."""

    sources: tuple[Source, ...] = ()

    @classmethod
    def of(cls, config: Config) -> "Start":
        """Read the splits of a configuration's sources.

        Raises:
          InputError: a run that has not finished, or a damaged file.
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
        """Union of the pairs of all sources."""
        found: KeptSplit | None = None
        for source in self.sources:
            if source.known is not None:
                found = source.known if found is None else found.joined(source.known)
        return found

    def inherited(self, rule: dict[str, Any], hash_E: np.ndarray) -> Kept | None:
        """Return the earlier split to continue under this rule; None if no source used it."""
        alike = [s.known for s in self.sources if s.known and s.known.protocol == rule]
        if not alike:
            return None
        first, *others = alike
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
        """Return a record per source for ``env.json`` and ``eval.json``.

        Args:
          rule: rule of the split.
          held_out: hashes of the pairs of "validation" and "test".
          ids: ids of the data's "users" and "items".
        """
        return [_facts(source, rule, held_out, ids) for source in self.sources]


def _named(config: Config) -> list[tuple[str, str, Path | None]]:
    """Return role, path and run folder of each source of a configuration."""
    found: list[tuple[str, str, Path | None]] = []
    if config.warm_start is not None:
        found.append(("warm_start", config.warm_start, Path(config.warm_start)))
    vectors = config.model.frozen_items
    if vectors is not None:
        run = Path(vectors)
        run = run.parent if run.name == "embeddings.npz" else run
        found.append(("frozen_items", vectors, run if (run / "config.json").is_file() else None))
    return found


def _known(run: Path, objective: Objective) -> KeptSplit | None:
    """Return the pairs of a run and its own sources; None if unknown.

    Args:
      objective: of the run that begins: its pairs are of users and items, or of items.
    """
    kept, config = load(check_run(run)), configs.load(run / "config.json")
    users = objective.users
    if config.objective.users != users or (kept is None and not users):
        return None
    if kept is not None:
        return kept
    # Recommendations exclude the pairs of train and validation.
    table = read_embeddings(run)
    seen = read_seen(run, len(table.user_ids), len(table.item_ids)).known
    user = np.repeat(np.arange(len(table.user_ids)), seen.degree)
    hash_U, hash_I = pair_id_hashes(table.user_ids, table.item_ids)
    hash_E = pair_hashes(hash_U[user], hash_I[seen.indices])
    found = KeptSplit.of(hash_E, np.full(len(hash_E), TRAIN), {}, config.seed)
    whole = True
    for _, _, before in _named(config):
        known = None
        if before is not None and (before / "config.json").is_file():
            known = _known(before, objective)
        whole &= known is not None
        found = found if known is None else found.joined(known)
    return KeptSplit(found.key_P, {}, config.seed, whole=whole and found.whole, sure=False)


def _facts(
    source: Source,
    rule: dict[str, Any],
    held_out: dict[str, np.ndarray],
    ids: dict[str, np.ndarray],
) -> dict[str, Any]:
    made: dict[str, Any] = {"run": source.path, "as": source.role}
    if source.run is not None:
        table = read_embeddings(source.run)
        sides = {"users": table.user_ids, "items": table.item_ids}
        if source.role == "frozen_items" or "users" not in ids:
            del sides["users"]
        made |= {side: _shared(there, ids[side]) for side, there in sides.items()}
    made["split"] = "drawn anew"
    known = source.known
    if known is None:
        made["reason"] = _NO_RUN if source.run is None else _reason_unknown(source.run, ids)
        return made
    if known.protocol == rule:
        made["split"] = "kept"
    else:
        made["reason"] = _difference(known.protocol, rule)
    trained = {part: [int(known.trained(h).sum()), len(h)] for part, h in held_out.items()}
    return made | {"trained": trained, "whole": known.whole, "sure": known.sure}


def _reason_unknown(run: Path, ids: dict[str, np.ndarray]) -> str:
    users = configs.load(run / "config.json").objective.users
    if not users and "users" in ids:
        return "it learned from pairs of items"
    return "it learned from users" if users and "users" not in ids else _OLD


def _shared(there: np.ndarray, here: np.ndarray) -> dict[str, Any]:
    """Count the shared ids."""
    here = np.asarray(here).astype(str)
    kept = len(np.intersect1d(there, here))
    made: dict[str, Any] = {"kept": kept, "of": len(there), "new": len(here) - kept}
    if len(there) and len(here):
        made |= {"there": str(there[0]), "here": str(here[0])}
    return made


def _difference(theirs: dict[str, Any], ours: dict[str, Any]) -> str:
    """Explain why a split cannot be continued."""
    if not theirs:
        return _OLD
    names = [name for name in ("name", *ours) if theirs.get(name) != ours.get(name)]
    section = "pairs" if ours.get("name") == "pairs" else "split"
    name = names[0]
    return f"{section}.{name} was {theirs.get(name)} there, and is {ours.get(name)} here"


def held_out_of(label: np.ndarray, hash_E: np.ndarray) -> dict[str, np.ndarray]:
    """Select the hashes of validation and test pairs."""
    return {"validation": hash_E[label == VALIDATION], "test": hash_E[label == TEST]}
