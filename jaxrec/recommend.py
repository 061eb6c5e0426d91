"""What a finished run is for: top-K lists and neighbours, in the user's own ids.

Loads the run's embeddings, and nothing that trains; jax itself comes with the first ranking.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from jaxtyping import Float32

from jaxrec import config as configs
from jaxrec import foldin
from jaxrec.data.dataset import Csr
from jaxrec.errors import InputError, nearest
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

        unit_ND = _unit_rows(self.emb_ND)
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
        self._run = run
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
          A row a recommendation: user, item, rank (from 1), score (u · i + biases, or the
          rating that is predicted); users in the order given, best first.

        Raises:
          InputError: an unknown id, or k below 1.
        """
        asked = self._users
        allowed_I = self._allowed(allow, deny)
        rows = asked.rows(users)
        left_out = None if include_seen else self._seen
        return self._lists(asked, self._scorer, rows, left_out, k, allowed_I)

    def recommend_all(
        self,
        k: int = 20,
        *,
        include_seen: bool = False,
        allow: Ids | None = None,
        deny: Ids | None = None,
    ) -> Iterator[pl.DataFrame]:
        """:meth:`recommend` for every user of the run, one frame a block of users.

        Give the result to ``jaxrec.lists.write``; memory holds one block at a time.
        """
        asked = self._users
        allowed_I = self._allowed(allow, deny)
        rows = np.arange(len(asked.ids), dtype=np.int32)
        left_out = None if include_seen else self._seen
        for start in range(0, len(rows), _USERS_AT_ONCE):
            block = rows[start : start + _USERS_AT_ONCE]
            yield self._lists(asked, self._scorer, block, left_out, k, allowed_I)

    def recommend_history(
        self,
        history: Ids | pl.DataFrame,
        k: int = 20,
        *,
        include_seen: bool = False,
        allow: Ids | None = None,
        deny: Ids | None = None,
        source: str = "the history",
    ) -> pl.DataFrame:
        """The k best items of users that the run has not met, from their items alone.

        Args:
          history: the items of one user, who is called "history"; or columns user and item.
          k, allow, deny: see :meth:`recommend`.
          include_seen: also items of the history.
          source: what messages call the history, say its file.

        Returns:
          As :meth:`recommend`; users by their first row. Items that the run does not know are
          skipped, and counted in a line on stderr.

        Raises:
          InputError: a user without a known item, an unknown id in allow or deny, or k below 1.
        """
        from jaxrec.evaluate.scorers import table_scorer

        allowed_I = self._allowed(allow, deny)
        names, items = self._histories(history, source)
        asked = _Side("user", names, self._vectors(items), self._run)
        left_out = None if include_seen else items
        rows = np.arange(len(names), dtype=np.int32)
        scorer = table_scorer(self._folded(asked.emb_ND))
        return self._lists(asked, scorer, rows, left_out, k, allowed_I)

    def fold_in(
        self, history: Ids | pl.DataFrame, *, source: str = "the history"
    ) -> Float32[np.ndarray, "n D"]:
        """Vectors for users that the run has not met; :meth:`recommend_history` says of what."""
        return self._vectors(self._histories(history, source)[1])

    def similar_items(self, items: Ids, k: int = 10) -> pl.DataFrame:
        """The k items nearest to each: item, similar, rank (from 1), score (cosine).

        The item itself is never among them, nor is one that an item model has not learnt.

        Raises:
          InputError: an unknown id, one that an item model has not learnt, or k below 1.
        """
        learnt_I = None
        if not len(self._user.ids):
            # A row of zeros stands for an item without a train pair.
            learnt_I = (self._item.emb_ND != 0).any(axis=1)
            rows = self._item.rows(items)
            if not learnt_I[rows].all():
                name = self._item.ids[rows[np.argmin(learnt_I[rows])]]
                raise InputError(
                    f"item {str(name)!r} is in no train pair of {self._run}: it has no vector"
                )
        return _neighbours(self._item, items, k, learnt_I)

    def similar_users(self, users: Ids, k: int = 10) -> pl.DataFrame:
        """The k users nearest to each: user, similar, rank (from 1), score (cosine).

        Raises:
          InputError: an unknown id, or k below 1.
        """
        return _neighbours(self._users, users, k)

    def user_embedding(self, users: Ids) -> Float32[np.ndarray, "n D"]:
        """The users' vectors. Raises InputError at an unknown id."""
        return self._users.emb_ND[self._users.rows(users)]

    def item_embedding(self, items: Ids) -> Float32[np.ndarray, "n D"]:
        """The items' vectors. Raises InputError at an unknown id."""
        return self._item.emb_ND[self._item.rows(items)]

    @property
    def _users(self) -> _Side:
        """The users. Raises InputError where the model is of items alone."""
        if not len(self._user.ids):
            raise InputError(
                f"{self._run}: a model of items, which knows no users; `jaxrec similar` gives "
                "the items nearest to an item"
            )
        return self._user

    @cached_property
    def _scorer(self) -> Scorer:
        from jaxrec.evaluate.scorers import table_scorer

        return table_scorer(self._table)

    def _folded(self, user_nD: np.ndarray) -> Embeddings:
        """The table with new users for the run's own; their bias is the mean bias."""
        # Filled up to a power of two, so that not every number of users compiles anew.
        size = 1 << (len(user_nD) - 1).bit_length()
        user_nD = np.pad(user_nD, ((0, size - len(user_nD)), (0, 0)))
        bias_U = self._table.user_bias
        bias_n = None if bias_U is None else np.full(size, bias_U.mean(), np.float32)
        return self._table._replace(user=user_nD, user_bias=bias_n)

    @cached_property
    def _fold_FD(self) -> np.ndarray:
        _ = self._users
        if not len(self._seen.indices):
            raise InputError(f"{self._run}: no user has seen an item, so none can be folded in")
        return foldin.fit(self._table.user, self._table.item, self._seen)

    def _vectors(self, items: Csr) -> np.ndarray:
        user_nD = foldin.vectors(items, self._table.item, self._fold_FD)
        cosine = configs.load(self._run / "config.json").model.score == "cosine"
        return _unit_rows(user_nD) if cosine else user_nD

    def _histories(self, history: Ids | pl.DataFrame, source: str) -> tuple[np.ndarray, Csr]:
        if not isinstance(history, pl.DataFrame):
            ids = [history] if isinstance(history, str | int) else history
            history = pl.DataFrame({"item": [str(name) for name in ids]}, {"item": pl.String})
        return foldin.histories(history, self._item.series, self._run, source)

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
        self,
        asked: _Side,
        scorer: Scorer,
        rows: np.ndarray,
        left_out: Csr | None,
        k: int,
        allowed_I: np.ndarray | None,
    ) -> pl.DataFrame:
        item_nk, score_nk = _rank(scorer, rows, left_out, k, allowed_I)
        if self._table.rating_range is not None:
            score_nk = score_nk.clip(*self._table.rating_range)
        return _frame(("user", asked, rows), ("item", self._item, item_nk), score_nk)


def _unit_rows(emb_ND: np.ndarray) -> np.ndarray:
    """Rows of length 1; zeros stay zeros."""
    norm_N1 = np.linalg.norm(emb_ND, axis=1, keepdims=True)
    return emb_ND / np.where(norm_N1 > 0, norm_N1, np.float32(1))


def _rank(
    scorer: Scorer, rows: np.ndarray, left_out: Csr | None, k: int, allowed: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    from jaxrec.evaluate.ranking import top_k

    if k < 1:
        raise InputError(f"k must be at least 1, not {k}")
    # A few users fill up to a power of two, so that not every number of them compiles anew.
    block = 1 << (len(rows) - 1).bit_length() if 0 < len(rows) <= 32 else None
    k = min(k, scorer.n_items)
    return top_k(scorer, rows, left_out, k, allowed=allowed, block=block)


def _neighbours(side: _Side, ids: Ids, k: int, allowed: np.ndarray | None = None) -> pl.DataFrame:
    rows = side.rows(ids)
    near_nk, score_nk = _rank(side.cosine, rows, side.itself, k, allowed)
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
