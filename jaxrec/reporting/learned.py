"""What a finished run has learnt, and what its items are called: for its lists and its map."""

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
    """The vectors of a finished run, the pairs it knows, and a table of its items.

    Attributes:
      catalogue: the table of items, or None.
      source: the file that ``catalogue`` is from.
    """

    def __init__(
        self, run: Run, table: Embeddings, seen: Seen, titles: str | Path | None = None
    ) -> None:
        self.folder, self.table, self.seen = run.folder, table, seen
        self.catalogue, self.source = _catalogue(run, table, titles)

    @classmethod
    def read(cls, run: Run, titles: str | Path | None = None) -> Learned | None:
        """Read the run's arrays; None where it has not written them yet.

        Args:
          titles: a table of items; None takes one that lies beside the run's data, if any.

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
        """[I] the title of each item, or its id where it has none."""
        ids = self.table.item_ids.tolist()
        if self.catalogue is None:
            return ids
        found = zip(self.catalogue.titles(), ids, strict=True)
        return [title or name for title, name in found]

    @cached_property
    def learnt_I(self) -> np.ndarray:
        """[I] bool: the items that training has made a vector for."""
        if not len(self.table.user_ids):
            return (self.table.item != 0).any(axis=1)
        return self.seen.learnt_items(len(self.table.item_ids))

    @cached_property
    def unit_ID(self) -> np.ndarray:
        """[I, D] the items' vectors at length 1; zeros stay zeros."""
        norm_I1 = np.linalg.norm(self.table.item, axis=1, keepdims=True)
        return self.table.item / np.maximum(norm_I1, _UNIT)

    @cached_property
    def counts_I(self) -> np.ndarray | None:
        """[I] how many users have each item in train and validation; None of a model of items."""
        if not len(self.table.user_ids):
            return None
        return self.seen.known.item_counts(len(self.table.item_ids))

    def categories(self) -> tuple[str, list[str | None]] | None:
        """The name of a column of categories, and the first category of each item [I]."""
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
        """[n, k] the best items of users as ``jaxrec recommend`` ranks them, those held out as test
        among them; or the nearest items of items, where the model knows no users. -1 past the end.
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
        except InputError:  # ids stand for titles then
            continue
    return None, None


def _beside(run: Run) -> list[Path]:
    """Tables of items in the folder of the run's data, by the names that data sets give them."""
    folder = Path(str(run.config.get("data") or ""))
    if not folder.is_dir() or folder == Path():
        return []
    return [
        path for path in (folder / "movies.csv", *sorted(folder.glob("*.item"))) if path.is_file()
    ]
