"""Embeddings, known pairs and item titles of a finished run, for the report's lists and map."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import numpy as np

from jaxrec.catalogue import Catalogue
from jaxrec.data.dataset import Csr, Joined
from jaxrec.errors import InputError
from jaxrec.reporting.run_records import Run
from jaxrec.runfolder import Embeddings, Seen, read_embeddings, read_seen

_CATEGORIES = ("category", "genre", "class", "type", "department", "genres", "categories")
_UNIT = 1e-12


class Learned:
    """The vectors, known pairs and table of items of a finished run.

    Attributes:
      catalogue: the table of items, or None.
      source: the file of the table.
    """

    def __init__(
        self, run: Run, table: Embeddings, seen: Seen, titles: str | Path | None = None
    ) -> None:
        self.folder, self.table, self.seen = run.folder, table, seen
        self.catalogue, self.source = _catalogue(run, table, titles)

    @classmethod
    def read(cls, run: Run, titles: str | Path | None = None) -> Learned | None:
        """Read the run's arrays, or return None if it has not written them yet.

        Args:
          titles: a table of items; None uses the table beside the run's data, if any.

        Raises:
          InputError: ``titles`` cannot be used, or a file of the run is damaged.
        """
        needed = [run.folder / name for name in ("embeddings.npz", "seen.npz")]
        if not all(path.is_file() for path in needed):
            return None
        table = read_embeddings(run.folder)
        seen = read_seen(run.folder, len(table.user_ids), len(table.item_ids))
        return cls(run, table, seen, titles)

    @cached_property
    def names(self) -> list[str]:
        """The title of each item [I], or its id if it has no title."""
        ids = self.table.item_ids.tolist()
        if self.catalogue is None:
            return ids
        found = zip(self.catalogue.titles(), ids, strict=True)
        return [title or name for title, name in found]

    @cached_property
    def learnt_I(self) -> np.ndarray:
        """[I] bool: the items with a trained vector."""
        if not len(self.table.user_ids):
            return (self.table.item != 0).any(axis=1)
        return self.seen.learnt_items(len(self.table.item_ids))

    @cached_property
    def unit_ID(self) -> np.ndarray:
        """The items' vectors [I, D] scaled to length 1; zero vectors stay zero."""
        norm_I1 = np.linalg.norm(self.table.item, axis=1, keepdims=True)
        return self.table.item / np.maximum(norm_I1, _UNIT)

    @cached_property
    def counts_I(self) -> np.ndarray | None:
        """The number of users of each item [I] in train and validation; None for an item model."""
        if not len(self.table.user_ids):
            return None
        return self.seen.known.item_counts(len(self.table.item_ids))

    def categories(self) -> tuple[str, list[str | None]] | None:
        """Return the name of a column of categories and each item's first category, or None."""
        if self.catalogue is None:
            return None
        plain = {name.lower(): name for name in self.catalogue.frame.columns}
        found = next((plain[name] for name in _CATEGORIES if name in plain), None)
        if found is None:
            return None
        firsts = []
        for cell in self.catalogue.frame[found].to_list():
            parts = cell if isinstance(cell, list) else str(cell).split("|")
            firsts.append(str(parts[0]) if cell is not None and parts else None)
        return found, firsts

    def lists(self, rows: np.ndarray, k: int) -> np.ndarray:
        """Return the k best items [n, k] of the users in ``rows``.

        The lists are those of ``jaxrec recommend --held-out keep``, padded with -1. For an item
        model, ``rows`` are items, and the lists are their nearest items.
        """
        from jaxrec.evaluation.filter_scorer import run_scorer
        from jaxrec.evaluation.ranking import dot_scorer, top_k

        k = min(k, len(self.table.item_ids))
        if len(self.table.user_ids):
            scorer = run_scorer(self.folder, self.table)
            known = (self.seen.known, self.seen.filtered)
            left_out = Joined(tuple(part for part in known if part is not None))
        else:
            n = np.arange(len(self.table.item_ids) + 1, dtype=np.int32)
            scorer, left_out = dot_scorer(self.unit_ID, self.unit_ID), Csr(n, n[:-1])
        return top_k(scorer, rows, left_out, k, allowed=self.learnt_I)[0]


def _catalogue(
    run: Run, table: Embeddings, titles: str | Path | None
) -> tuple[Catalogue | None, Path | None]:
    ids = table.item_ids.tolist()
    if titles is not None:
        return Catalogue.load(titles, ids), Path(titles)
    for path in _beside(run):
        try:
            return Catalogue.load(path, ids), path
        except InputError:  # not a usable table: try the next one
            continue
    return None, None


def _beside(run: Run) -> list[Path]:
    """Find tables of items in the folder of the run's data, by their usual file names."""
    folder = Path(str(run.config.get("data") or ""))
    if not folder.is_dir() or folder == Path():
        return []
    return [
        path for path in (folder / "movies.csv", *sorted(folder.glob("*.item"))) if path.is_file()
    ]
