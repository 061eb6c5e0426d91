"""What a finished run is for: top-K lists and neighbours, in the user's own ids.

Loads the run's embeddings, and nothing that trains; jax itself comes with the first ranking.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from jaxtyping import Float32

from jaxrec.data.dataset import Csr
from jaxrec.errors import InputError, nearest
from jaxrec.files import replacing
from jaxrec.runfolder import Embeddings, read_embeddings, read_seen

if TYPE_CHECKING:
    from jaxrec.evaluate.ranking import Scorer

Ids = str | int | Sequence[str | int]

_USERS_AT_ONCE = 16_384
_IDS_COMPARED = 50_000


class _Side:
    """The users or the items: their ids, both ways, and their vectors."""

    def __init__(self, kind: str, ids: np.ndarray, emb_ND: np.ndarray, run: Path) -> None:
        self.kind = kind
        self.ids = ids
        self.emb_ND = emb_ND
        self._run = run

    @cached_property
    def series(self) -> pl.Series:
        """The ids as a column to take from."""
        return pl.Series(self.ids, dtype=pl.String)

    @cached_property
    def _row(self) -> dict[str, int]:
        return {name: row for row, name in enumerate(self.ids.tolist())}

    def rows(self, ids: Ids) -> np.ndarray:
        """Row numbers [n] of ids. Raises InputError at one that the run has not seen."""
        names = [ids] if isinstance(ids, str | int) else ids
        found = [self._row.get(str(name), -1) for name in names]
        if -1 in found:
            unknown = [str(name) for name, row in zip(names, found, strict=True) if row < 0]
            more = f", nor are {len(unknown) - 1} more of those given" if len(unknown) > 1 else ""
            raise InputError(
                f"{self.kind} {unknown[0]!r} is not among the {len(self.ids):,} {self.kind}s of "
                f"{self._run}{self._hint(unknown[0])}{more}"
            )
        return np.array(found, np.int32)

    def _hint(self, name: str) -> str:
        known: Iterable[str] = self._row
        if len(self._row) > _IDS_COMPARED:  # comparing with millions would take a minute
            known = islice((k for k in known if k[:1] == name[:1]), _IDS_COMPARED)
        return nearest(name, known)

    @cached_property
    def cosine(self) -> Scorer:
        """Scores every pair on this side by the cosine; rows of zeros by 0."""
        from jaxrec.evaluate.ranking import dot_scorer

        norm_N1 = np.linalg.norm(self.emb_ND, axis=1, keepdims=True)
        unit_ND = self.emb_ND / np.where(norm_N1 > 0, norm_N1, np.float32(1))
        return dot_scorer(unit_ND, unit_ND)

    @cached_property
    def itself(self) -> Csr:
        """What is left out of a row's neighbours: the row."""
        n = len(self.ids)
        return Csr(np.arange(n + 1, dtype=np.int32), np.arange(n, dtype=np.int32))


class Recommender:
    """Lists and neighbours from a finished run; ids go in as str or int and come out as str.

    Ties go to the item (user) that comes first in the run's id table.
    """

    def __init__(self, table: Embeddings, seen: Csr, run: Path) -> None:
        self._table = table
        self._seen = seen
        self._user = _Side("user", table.user_ids, table.user, run)
        self._item = _Side("item", table.item_ids, table.item, run)

    @classmethod
    def load(cls, run: str | Path) -> Recommender:
        """Read a run folder.

        Raises:
          InputError: no run folder, a run that has not finished, a damaged file.
        """
        table = read_embeddings(run)
        seen = read_seen(run, len(table.user_ids), len(table.item_ids))
        return cls(table, seen, Path(run))

    @property
    def user_ids(self) -> list[str]:
        """All users, in the order of the rows of their embeddings."""
        return self._user.ids.tolist()

    @property
    def item_ids(self) -> list[str]:
        """All items, in the order of the rows of their embeddings."""
        return self._item.ids.tolist()

    def recommend(
        self,
        users: Ids,
        k: int = 20,
        *,
        include_seen: bool = False,
        allow: Ids | None = None,
        deny: Ids | None = None,
    ) -> pl.DataFrame:
        """The k best items of each user.

        Args:
          users: one id or several.
          k: length of a list; shorter where fewer items are left.
          include_seen: also items that the user had in train or validation.
          allow: only these items; all where None.
          deny: none of these items.

        Returns:
          A row a recommendation: user, item, rank (from 1), score (u · i + biases); users in
          the order given, best first.

        Raises:
          InputError: an unknown id, or k below 1.
        """
        allowed_I = self._allowed(allow, deny)
        return self._lists(self._user.rows(users), k, include_seen, allowed_I)

    def recommend_all(
        self,
        k: int = 20,
        *,
        include_seen: bool = False,
        allow: Ids | None = None,
        deny: Ids | None = None,
    ) -> Iterator[pl.DataFrame]:
        """:meth:`recommend` for every user of the run, one frame a block of users.

        Give the result to :func:`write`; memory holds one block at a time.
        """
        allowed_I = self._allowed(allow, deny)
        rows = np.arange(len(self._user.ids), dtype=np.int32)
        for start in range(0, len(rows), _USERS_AT_ONCE):
            block = rows[start : start + _USERS_AT_ONCE]
            yield self._lists(block, k, include_seen, allowed_I)

    def similar_items(self, items: Ids, k: int = 10) -> pl.DataFrame:
        """The k items nearest to each: item, similar, rank (from 1), score (cosine).

        The item itself is never among them.

        Raises:
          InputError: an unknown id, or k below 1.
        """
        return _neighbours(self._item, items, k)

    def similar_users(self, users: Ids, k: int = 10) -> pl.DataFrame:
        """The k users nearest to each: user, similar, rank (from 1), score (cosine).

        Raises:
          InputError: an unknown id, or k below 1.
        """
        return _neighbours(self._user, users, k)

    def user_embedding(self, users: Ids) -> Float32[np.ndarray, "n D"]:
        """The users' vectors. Raises InputError at an unknown id."""
        return self._user.emb_ND[self._user.rows(users)]

    def item_embedding(self, items: Ids) -> Float32[np.ndarray, "n D"]:
        """The items' vectors. Raises InputError at an unknown id."""
        return self._item.emb_ND[self._item.rows(items)]

    @cached_property
    def _scorer(self) -> Scorer:
        from jaxrec.evaluate.scorers import table_scorer

        return table_scorer(self._table)

    def _allowed(self, allow: Ids | None, deny: Ids | None) -> np.ndarray | None:
        if allow is None and deny is None:
            return None
        allowed_I = np.full(len(self._item.ids), allow is None)
        if allow is not None:
            allowed_I[self._item.rows(allow)] = True
        if deny is not None:
            allowed_I[self._item.rows(deny)] = False
        return allowed_I

    def _lists(
        self, rows: np.ndarray, k: int, include_seen: bool, allowed_I: np.ndarray | None
    ) -> pl.DataFrame:
        seen = None if include_seen else self._seen
        item_nk, score_nk = _rank(self._scorer, rows, seen, k, allowed_I)
        return _frame(("user", self._user, rows), ("item", self._item, item_nk), score_nk)


def _rank(
    scorer: Scorer, rows: np.ndarray, left_out: Csr | None, k: int, allowed: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    from jaxrec import compilation
    from jaxrec.evaluate.ranking import top_k

    compilation.use_cache()

    if k < 1:
        raise InputError(f"k must be at least 1, not {k}")
    # A few users fill up to a power of two, so that not every number of them compiles anew.
    block = 1 << (len(rows) - 1).bit_length() if 0 < len(rows) <= 32 else None
    k = min(k, scorer.n_items)
    return top_k(scorer, rows, left_out, k, allowed=allowed, block=block)


def _neighbours(side: _Side, ids: Ids, k: int) -> pl.DataFrame:
    rows = side.rows(ids)
    near_nk, score_nk = _rank(side.cosine, rows, side.itself, k, None)
    return _frame((side.kind, side, rows), ("similar", side, near_nk), score_nk)


def _frame(
    asked: tuple[str, _Side, np.ndarray], found: tuple[str, _Side, np.ndarray], score_nk: np.ndarray
) -> pl.DataFrame:
    """Lists [n, k] as one row an entry, without the places where nothing was left."""
    (asked_name, asked_side, rows), (found_name, found_side, found_nk) = asked, found
    n, place = np.nonzero(found_nk >= 0)
    columns: dict[str, Any] = {
        asked_name: asked_side.series.gather(rows[n]),
        found_name: found_side.series.gather(found_nk[n, place]),
        "rank": (place + 1).astype(np.int32),
        "score": score_nk[n, place],
    }
    return pl.DataFrame(columns)


def write(frames: pl.DataFrame | Iterable[pl.DataFrame], path: str | Path) -> None:
    """Write frames below one another, in the format of the suffix, whole or not at all.

    Several are written as they come: none needs to be in memory with the next.

    Args:
      frames: of the same columns, one or more.
      path: .parquet, .csv, .tsv or .jsonl; a file that is there is replaced.

    Raises:
      InputError: another suffix, or a place that cannot be written.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in (".parquet", ".csv", ".tsv", ".jsonl"):
        raise InputError(f"{path}: the name must end in .parquet, .csv, .tsv or .jsonl")
    several = [frames] if isinstance(frames, pl.DataFrame) else frames
    with replacing(path) as partial:
        if suffix == ".parquet":
            _write_parquet(several, partial)
            return
        with partial.open("wb") as file:
            for number, frame in enumerate(several):
                if suffix == ".jsonl":
                    frame.write_ndjson(file)
                else:
                    separator = "," if suffix == ".csv" else "\t"
                    frame.write_csv(file, separator=separator, include_header=number == 0)


def _write_parquet(frames: Iterable[pl.DataFrame], path: Path) -> None:
    # A parquet file cannot be appended to; parts on disk keep one frame in memory at a time.
    with tempfile.TemporaryDirectory(prefix=f"{path.name}.", dir=path.parent) as folder:
        parts = []
        for number, frame in enumerate(frames):
            parts.append(Path(folder, f"{number}.parquet"))
            frame.write_parquet(parts[-1])
        pl.scan_parquet(parts).sink_parquet(path)


def read_ids(path: str | Path, column: str) -> list[str]:
    """Ids from a file: a .parquet or a table with a header that names ``column``, or a line each.

    Raises:
      InputError: the file cannot be read, holds several columns and none of that name, or is
        empty.
    """
    path = Path(path)
    try:
        if path.suffix == ".parquet":
            frame = pl.read_parquet(path)
        else:
            text = path.read_text(encoding="utf-8-sig")
            head = text.partition("\n")[0]
            separator = "\t" if "\t" in head else ","
            named = column in (cell.strip() for cell in head.split(separator))
            frame = pl.read_csv(
                text.encode(), has_header=named, infer_schema=False, separator=separator
            )
    except (OSError, UnicodeDecodeError, pl.exceptions.PolarsError) as e:
        raise InputError(f"{path}: no readable list of ids; one id a line will do") from e
    if column not in frame.columns:
        if frame.width != 1:
            raise InputError(f"{path}: has no column {column!r}; name it so, or give one id a line")
        frame.columns = [column]
    ids = frame[column].cast(pl.String).drop_nulls().str.strip_chars()
    ids = [i for i in ids.to_list() if i]
    if not ids:
        raise InputError(f"{path}: holds no ids; give one id a line")
    return ids
