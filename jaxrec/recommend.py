"""What a finished run is for: top-K lists and neighbours, in the user's own ids.

Loads the run's embeddings, and nothing that trains; jax itself comes with the first ranking.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

import numpy as np
import polars as pl
from jaxtyping import Float32

from jaxrec import config as configs
from jaxrec import foldin, fork_check
from jaxrec.config.checks import INT32, Range, conform
from jaxrec.data import array_checks
from jaxrec.data.dataset import Csr, Joined
from jaxrec.errors import InputError, nearest
from jaxrec.rerank import Rerank
from jaxrec.runfolder import Embeddings, Seen, read_embeddings, read_seen

if TYPE_CHECKING:
    from jaxrec.evaluation.ranking import Scorer
    from jaxrec.graph.filters import Filter

Ids = str | bytes | int | float | np.generic | Iterable[Any]
"""One id or several: texts and whole numbers, in whatever holds them (NumPy, pandas, polars)."""
Unknown = Literal["skip", "fail"]
"""What becomes of ids that a run does not know: they are skipped and counted, or refused."""
UnknownUsers = Literal["skip", "fail", "popular"]
"""The same of users, who may get popular items too."""
HeldOut = Literal["drop", "keep"]
"""Whether what was held out as test is left out of recommendations, or ranked again."""

_USERS_AT_ONCE = 16_384
_AS_RANKED = Rerank()
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

    def rows(self, ids: Ids, unknown: Unknown = "fail", what: str | None = None) -> np.ndarray:
        """Row numbers [n] of ids.

        Args:
          unknown: whether ids that the run does not know are skipped, and counted on stderr.
          what: what messages call the ids; where given, none needs to be known.

        Raises:
          InputError: an id that the run has not seen; where they are skipped, no other id.
        """
        names = array_checks.id_texts(ids, f"{self.kind}s")
        found = np.array([self.place(name) for name in names], np.int32)
        lost = np.flatnonzero(found < 0)
        if not len(lost):
            return found
        first, among = names[lost[0]], f"among the {len(self.ids):,} {self.kind}s of {self._run}"
        if unknown == "fail" or (what is None and len(lost) == len(names)):
            more = f", nor are {len(lost) - 1:,} more of those given" if len(lost) > 1 else ""
            raise InputError(f"{self.kind} {first!r} is not {among}{self._hint(first)}{more}")
        _say(
            f"skipped {len(lost):,} of {len(names):,} {what or f'{self.kind}s'}, which are not "
            f"{among}; the first is {first!r}"
        )
        return found[found >= 0]

    def found(self, ids: Ids) -> tuple[pl.Series, np.ndarray]:
        """The ids, and their row numbers [n]; -1 of those that the run has not seen."""
        names = array_checks.id_texts(ids, f"{self.kind}s")
        rows = np.array([self.place(name) for name in names], np.int32)
        return pl.Series(names, dtype=pl.String), rows

    def place(self, name: str) -> int:
        """The row of an id, -1 where it has none; 1.0 is found as 1, as a gap in a table has it."""
        found = self._row.get(name)
        return self._row.get(array_checks.without_point(name), -1) if found is None else found

    def _hint(self, name: str) -> str:
        known: Iterable[str] = self._row
        if len(self._row) > _IDS_COMPARED:  # comparing with millions would take a minute
            known = islice((k for k in known if k[:1] == name[:1]), _IDS_COMPARED)
        return nearest(name, known)

    @cached_property
    def cosine(self) -> Scorer:
        """Scores every pair on this side by the cosine; rows of zeros by 0."""
        from jaxrec.evaluation.ranking import dot_scorer

        unit_ND = _unit_rows(self.emb_ND)
        return dot_scorer(unit_ND, unit_ND)

    @cached_property
    def itself(self) -> Csr:
        """What is left out of a row's neighbours: the row."""
        n = len(self.ids)
        return Csr(np.arange(n + 1, dtype=np.int32), np.arange(n, dtype=np.int32))


class Recommender:
    """Lists and neighbours from a finished run; ids go in as texts or numbers, and come out as str.

    Ties go to the item (user) that comes first in the run's id table. Items that training has
    learnt nothing of are never recommended; users whom it has learnt nothing of get popular items.
    A line on stderr says so, and what else of a question is left out of the answer.
    """

    def __init__(self, table: Embeddings, seen: Seen, run: Path) -> None:
        self._table = table
        self._seen = seen
        self._run = run
        self._user = _Side("user", table.user_ids, table.user, run)
        self._item = _Side("item", table.item_ids, table.item, run)
        self._said: set[str] = set()

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

    @property
    def table(self) -> Embeddings:
        """What the run has learnt."""
        return self._table

    @property
    def known(self) -> Csr:
        """Items by user in train and validation."""
        return self._seen.known

    @property
    def learnt(self) -> tuple[np.ndarray, np.ndarray]:
        """[U] and [I] bool: the users and the items that have a vector which training has made."""
        return self._learnt_U, self._learnt_I

    @property
    def cosine_items(self) -> Scorer:
        """Scores items for items by the cosine."""
        return self._item.cosine

    def user_row(self, user: str) -> int:
        """The row of a user; -1 where the run does not know them."""
        return self._user.place(user)

    def item_row(self, item: str) -> int:
        """The row of an item; -1 where the run does not know it."""
        return self._item.place(item)

    def recommend(
        self,
        users: Ids,
        k: int = 20,
        *,
        include_seen: bool = False,
        held_out: HeldOut = "drop",
        allow: Ids | None = None,
        deny: Ids | None = None,
        unknown: UnknownUsers = "skip",
        rerank: Rerank = _AS_RANKED,
    ) -> pl.DataFrame:
        """The k best items of each user.

        Args:
          users: one id or several.
          k: length of a list; shorter where fewer items are left.
          include_seen: also items that the user has, in any part of the data.
          held_out: "keep" ranks again what the user has in test alone.
          allow: only these items; all where None.
          deny: none of these items.
          unknown: "skip" skips ids that the run does not know, and counts them on stderr; "fail"
            refuses them; "popular" recommends popular items to unknown users, and skips items.
          rerank: how a list is chosen among the best items; the k best as they are by default.

        Returns:
          A row a recommendation: user, item, rank (from 1), score (u · i + biases, what a filter
          gives, or the rating that is predicted; for a user without a learnt vector, the number
          of users who have the item in train and validation); users in the order given, best
          first.

        Raises:
          InputError: an unknown id where that is refused, not one known user, or k below 1.
        """
        fork_check.check()
        asked = self._users
        allowed_I = self._allowed(allow, deny, _of_items(unknown))
        if unknown == "popular":
            names, rows = asked.found(users)
        else:
            rows = asked.rows(users, unknown)
            names = asked.series.gather(rows)
        left_out = self.left_out(include_seen, held_out)
        self._say_unlearnt(rows[rows >= 0])
        return self._lists((names, rows), left_out, k, allowed_I, rerank)

    def recommend_all(
        self,
        k: int = 20,
        *,
        include_seen: bool = False,
        held_out: HeldOut = "drop",
        allow: Ids | None = None,
        deny: Ids | None = None,
        unknown: UnknownUsers = "skip",
        rerank: Rerank = _AS_RANKED,
    ) -> Iterator[pl.DataFrame]:
        """:meth:`recommend` for every user of the run, one frame a block of users.

        Give the result to ``jaxrec.list_files.write``; memory holds one block at a time.
        """
        fork_check.check()
        allowed_I = self._allowed(allow, deny, _of_items(unknown))
        rows = np.arange(len(self._users.ids), dtype=np.int32)
        left_out = self.left_out(include_seen, held_out)
        self._say_unlearnt(rows)
        for start in range(0, len(rows), _USERS_AT_ONCE):
            block = rows[start : start + _USERS_AT_ONCE]
            asked = self._users.series.gather(block), block
            yield self._lists(asked, left_out, k, allowed_I, rerank)

    def recommend_history(
        self,
        history: Ids | pl.DataFrame,
        k: int = 20,
        *,
        include_seen: bool = False,
        allow: Ids | None = None,
        deny: Ids | None = None,
        unknown: Unknown = "skip",
        source: str = "the history",
        rerank: Rerank = _AS_RANKED,
    ) -> pl.DataFrame:
        """The k best items of users that the run has not met, from their items alone.

        Args:
          history: the items of one user, who is called "history"; or columns user and item.
          k, allow, deny, rerank: see :meth:`recommend`.
          include_seen: also items of the history.
          unknown: "skip" skips items that the run has not learnt, and users who have no other, and
            counts them on stderr; "fail" refuses them.
          source: what messages call the history, say its file.

        Returns:
          As :meth:`recommend`; users by their first row.

        Raises:
          InputError: not one known item, an unknown id where that is refused, or k below 1.
        """
        fork_check.check()
        allowed_I = self._allowed(allow, deny, unknown)
        names, items = self._histories(history, source, unknown)
        left_out = None if include_seen else items
        rows = np.arange(len(names), dtype=np.int32)
        scorer = self._scorer_of(items)
        k = _length(k, scorer.n_items)
        item_nC, score_nC = _rank(scorer, rows, left_out, rerank.pool(k, scorer.n_items), allowed_I)
        found = rerank.choose(names.tolist(), item_nC, self.clipped(score_nC), k, self._item.emb_ND)
        return _frame(("user", pl.Series(names, dtype=pl.String)), ("item", self._item), *found)

    def fold_in(
        self, history: Ids | pl.DataFrame, *, source: str = "the history"
    ) -> Float32[np.ndarray, "n D"]:
        """Vectors for users that the run has not met; :meth:`recommend_history` says of what.

        Items that the run has not learnt are skipped. Raises InputError at a user without another.
        """
        fork_check.check()
        return self.fold_in_rows(self._histories(history, source, "skip", every_user=True)[1])

    def fold_in_rows(self, items: Csr) -> Float32[np.ndarray, "n D"]:
        """:meth:`fold_in` of items by row number; zeros for a user without a learnt one."""
        every = np.ones(len(items.degree), bool)
        items = items.among(every, self._learnt_I)
        if self.graph_filter is not None:
            return self.graph_filter.vectors(items)
        user_nD = foldin.vectors(items, self._table.item, self._fold_FD)
        return self.as_scored(user_nD)

    def as_scored(self, user_nD: Float32[np.ndarray, "n D"]) -> Float32[np.ndarray, "n D"]:
        """Vectors of users as the model scores them: of length 1 where it does so by the cosine."""
        return _unit_rows(user_nD) if self._cosine else user_nD

    @cached_property
    def _cosine(self) -> bool:
        return configs.load(self._run / "config.json").model.score == "cosine"

    def similar_items(self, items: Ids, k: int = 10, *, unknown: Unknown = "skip") -> pl.DataFrame:
        """The k items nearest to each: item, similar, rank (from 1), score (cosine).

        Of a filter the score is what it gives to the other item for a history of the item alone.
        The item itself is never among them, nor is one that training has learnt nothing of.

        Args:
          unknown: "skip" skips items that the run does not know or has not learnt, and counts
            them on stderr; "fail" refuses them.

        Raises:
          InputError: an unknown or unlearnt id where that is refused, no other id, or k below 1.
        """
        found = self._item, lambda: self._near_items
        return self._neighbours(*found, items, k, self._learnt_I, unknown)

    def similar_users(self, users: Ids, k: int = 10, *, unknown: Unknown = "skip") -> pl.DataFrame:
        """The k users nearest to each: user, similar, rank (from 1), score (cosine).

        Users whom training has learnt nothing of are neither asked for nor found.

        Args:
          unknown: as of :meth:`similar_items`.

        Raises:
          InputError: as :meth:`similar_items`.
        """
        found = self._users, lambda: self._users.cosine
        return self._neighbours(*found, users, k, self._learnt_U, unknown)

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
        from jaxrec.evaluation.filter_scorer import filter_scorer
        from jaxrec.evaluation.scorers import table_scorer

        return (
            table_scorer(self._table)
            if self.graph_filter is None
            else filter_scorer(self.graph_filter)
        )

    @cached_property
    def graph_filter(self) -> Filter | None:
        """What scores in the place of the vectors, where the run's model is a filter."""
        from jaxrec.evaluation.filter_scorer import stored_filter

        return stored_filter(self._run, self._table)

    def _scorer_of(self, items: Csr) -> Scorer:
        """What ranks for users that the run has not met."""
        from jaxrec.evaluation.filter_scorer import filter_scorer
        from jaxrec.evaluation.scorers import table_scorer

        if self.graph_filter is not None:
            return filter_scorer(self.graph_filter, items)
        return table_scorer(self._folded(self.fold_in_rows(items)))

    @cached_property
    def _near_items(self) -> Scorer:
        """What finds an item's neighbours: the cosine, or what a filter makes of the item alone."""
        if self.graph_filter is None:
            return self._item.cosine
        return self._scorer_of(self._item.itself)

    def _folded(self, user_nD: np.ndarray) -> Embeddings:
        """The table with new users for the run's own; their bias is the mean bias."""
        from jaxrec.evaluation.topk import power_of_two

        size = power_of_two(len(user_nD))  # so that not every number of users compiles anew
        user_nD = np.pad(user_nD, ((0, size - len(user_nD)), (0, 0)))
        bias_U = self._table.user_bias
        bias_n = None if bias_U is None else np.full(size, bias_U.mean(), np.float32)
        return self._table._replace(user=user_nD, user_bias=bias_n)

    @cached_property
    def _fold_FD(self) -> np.ndarray:
        _ = self._users
        known = self._seen.known.among(self._learnt_U, self._learnt_I)
        if not len(known.indices):
            raise InputError(f"{self._run}: no user has seen an item, so none can be folded in")
        return foldin.fit(self._table.user, self._table.item, known)

    def _histories(
        self,
        history: Ids | pl.DataFrame,
        source: str,
        unknown: Unknown,
        *,
        every_user: bool = False,
    ) -> tuple[np.ndarray, Csr]:
        if not isinstance(history, pl.DataFrame):
            history = pl.DataFrame(
                {"item": array_checks.id_texts(history, source)}, {"item": pl.String}
            )
        known = self._item.series, self._learnt_I
        refuse = {"items": unknown == "fail", "users": every_user or unknown == "fail"}
        names, items, said = foldin.histories(history, known, self._run, source, refuse)
        for text in said:
            _say(f"{source}: {text}")
        return names, items

    @cached_property
    def _learnt_U(self) -> np.ndarray:
        return self._seen.learnt_users() if self._marked else np.ones(len(self._user.ids), bool)

    @cached_property
    def _learnt_I(self) -> np.ndarray:
        if not len(self._user.ids):  # a row of zeros stands for an item without a train pair
            return (self._item.emb_ND != 0).any(axis=1)
        n_items = len(self._item.ids)
        return self._seen.learnt_items(n_items) if self._marked else np.ones(n_items, bool)

    @cached_property
    def _marked(self) -> bool:
        """Whether it can be told who has been learnt: not of runs of old versions that may have
        other sources than train pairs."""
        if self._seen.item_I is not None:
            return True
        config = configs.load(self._run / "config.json")
        elsewhere = config.warm_start is not None or config.model.frozen_items is not None
        return not config.model.kind.features and not elsewhere

    def left_out(self, include_seen: bool, held_out: HeldOut) -> Joined | None:
        """What is left out by user."""
        if held_out not in get_args(HeldOut):
            raise InputError(f"held_out is drop or keep, not {held_out!r}")
        if include_seen:
            return None
        known, test, filtered, *_ = self._seen
        if test is None and held_out == "drop":
            seen = self._run / "seen.npz"
            self._say_once(
                f"{seen}: written by an older version, without what was held out as test, which "
                f"may be recommended; remove it, and `jaxrec resume {self._run}` writes it anew"
            )
        elif test is not None and held_out == "keep" and len(test.indices):
            self._say_once(
                f"{self._run}: {len(test.indices):,} pairs that were held out as test are ranked "
                "again, though their users have them"
            )
        parts = known, test if held_out == "drop" else None, filtered
        return Joined(tuple(part for part in parts if part is not None))

    def _say_once(self, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            _say(text)

    def _say_unlearnt(self, rows: np.ndarray) -> None:
        """Say how many users get popular items, and how many items are never recommended."""
        lost_I, cold = ~self._learnt_I, rows[~self._learnt_U[rows]]
        if lost_I.any():
            self._say_once(
                f"{self._run}: {lost_I.sum():,} of {len(lost_I):,} items have no train pair and no "
                "learnt vector; they are not recommended"
            )
        if len(cold):
            of = f"{len(cold):,} of {len(rows):,} users have" if len(rows) > 1 else "the user has"
            _say(
                f"{self._run}: {of} no train pair and no learnt vector, the first is "
                f"{str(self._user.ids[cold[0]])!r}; popular items are recommended, their score is "
                "the number of users who have the item"
            )

    @cached_property
    def _popular(self) -> Scorer:
        from jaxrec.evaluation.scorers import popularity_scorer

        return popularity_scorer(self._seen.known.item_counts(len(self._item.ids)))

    def _allowed(
        self, allow: Ids | None, deny: Ids | None, unknown: Unknown = "fail"
    ) -> np.ndarray:
        """[I] bool: the items that may be recommended, of those that have been learnt."""
        _check_unknown(unknown)
        allowed_I = np.full(len(self._item.ids), allow is None)
        if allow is not None:
            allowed_I[self._item.rows(allow, unknown)] = True
        if deny is not None:
            allowed_I[self._item.rows(deny, unknown, "items to deny")] = False
        return allowed_I & self._learnt_I

    def _lists(
        self,
        asked: tuple[pl.Series, np.ndarray],
        left_out: Joined | None,
        k: int,
        allowed_I: np.ndarray,
        rerank: Rerank,
    ) -> pl.DataFrame:
        """Lists by the model, and by popularity for users without a learnt vector.

        Args:
          asked: the users' names, and their rows; -1 of users that the run does not know.
        """
        names, rows = asked
        k = _length(k, len(self._item.ids))
        size = rerank.pool(k, len(self._item.ids))
        item_nC = np.full((len(rows), size), -1, np.int32)
        score_nC = np.full(item_nC.shape, -np.inf, np.float32)
        learnt_n = np.append(self._learnt_U, False)[rows]
        if learnt_n.any() or not len(rows):
            found = _rank(self._scorer, rows[learnt_n], left_out, size, allowed_I)
            item_nC[learnt_n], score_nC[learnt_n] = found[0], self.clipped(found[1])
        if not learnt_n.all():
            kept = None if left_out is None else left_out.take(rows[~learnt_n])
            cold = np.arange((~learnt_n).sum(), dtype=np.int32)
            found = _rank(self._popular, cold, kept, size, allowed_I)
            item_nC[~learnt_n], score_nC[~learnt_n] = found
        chosen = rerank.choose(names.to_list(), item_nC, score_nC, k, self._item.emb_ND)
        return _frame(("user", names), ("item", self._item), *chosen)

    def clipped(self, score_nk: np.ndarray) -> np.ndarray:
        """Scores that are ratings, within the range of these."""
        span = self._table.rating_range
        return score_nk if span is None else score_nk.clip(*span)

    def _neighbours(
        self,
        side: _Side,
        scorer: Callable[[], Scorer],
        ids: Ids,
        k: int,
        learnt_N: np.ndarray,
        unknown: Unknown,
    ) -> pl.DataFrame:
        fork_check.check()
        _check_unknown(unknown)
        rows = side.rows(ids, unknown)
        lost = np.flatnonzero(~learnt_N[rows])
        if len(lost):
            name, kind = str(side.ids[rows[lost[0]]]), side.kind
            if unknown == "fail" or len(lost) == len(rows):
                raise InputError(
                    f"{kind} {name!r} is in no train pair of {self._run}: it has no vector"
                )
            _say(
                f"skipped {len(lost):,} of {len(rows):,} {kind}s, which are in no train pair of "
                f"{self._run}; the first is {name!r}"
            )
            rows = rows[learnt_N[rows]]
        near_nk, score_nk = _rank(scorer(), rows, side.itself, k, learnt_N)
        names = side.series.gather(rows)
        return _frame((side.kind, names), ("similar", side), near_nk, score_nk)


def _check_unknown(unknown: Unknown) -> None:
    if unknown not in get_args(Unknown):
        raise InputError(f"unknown is skip or fail, not {unknown!r}")


def _of_items(unknown: UnknownUsers) -> Unknown:
    """What becomes of unknown items where it has been said of users."""
    return "skip" if unknown == "popular" else unknown


def _say(text: str) -> None:
    print(f"jaxrec: {text}", file=sys.stderr)


def _unit_rows(emb_ND: np.ndarray) -> np.ndarray:
    """Rows of length 1; zeros stay zeros."""
    norm_N1 = np.linalg.norm(emb_ND, axis=1, keepdims=True)
    return emb_ND / np.where(norm_N1 > 0, norm_N1, np.float32(1))


def _rank(
    scorer: Scorer, rows: np.ndarray, left_out: Csr | Joined | None, k: int, allowed: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    from jaxrec.evaluation.ranking import top_k

    return top_k(scorer, rows, left_out, _length(k, scorer.n_items), allowed=allowed)


def _length(k: int, n_items: int) -> int:
    """The length of a list; raises InputError where k is none."""
    return min(conform(Annotated[int, Range(1, INT32)], k, "k"), n_items)


def _frame(
    asked: tuple[str, pl.Series],
    found: tuple[str, _Side],
    found_nk: np.ndarray,
    score_nk: np.ndarray,
) -> pl.DataFrame:
    """Lists [n, k] as one row an entry, without the places where nothing was left."""
    (asked_name, names), (found_name, found_side) = asked, found
    n, place = np.nonzero(found_nk >= 0)
    columns: dict[str, Any] = {
        asked_name: names.gather(n),
        found_name: found_side.series.gather(found_nk[n, place]),
        "rank": (place + 1).astype(np.int32),
        "score": score_nk[n, place],
    }
    return pl.DataFrame(columns)
