"""Recommend from a finished run: top-K lists and nearest neighbours, by the ids of the data.

The module loads the run's embeddings but no training code; jax is imported at the first ranking.
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
"""One id or several: strings or integers, in a list, NumPy array, or pandas or polars column."""
Unknown = Literal["skip", "fail"]
"""How to treat ids that the run does not know: skip and count them, or raise InputError."""
UnknownUsers = Literal["skip", "fail", "popular"]
"""How to treat unknown users: "skip" and "fail" as in :data:`Unknown`; "popular" recommends popular
items to them."""
HeldOut = Literal["drop", "keep"]
"""What to do with a user's test items: "drop" never recommends them to the user, "keep" ranks them
like other items."""

_USERS_AT_ONCE = 16_384
_NO_RERANK = Rerank()
_IDS_COMPARED = 50_000


class _Side:
    """The ids and vectors of the users, or of the items, with lookup by id."""

    def __init__(self, kind: str, ids: np.ndarray, emb_ND: np.ndarray, run: Path) -> None:
        self.kind = kind
        self.ids = ids
        self.emb_ND = emb_ND
        self._run = run

    @cached_property
    def series(self) -> pl.Series:
        """The ids as a polars column."""
        return pl.Series(self.ids, dtype=pl.String)

    @cached_property
    def _row(self) -> dict[str, int]:
        return {name: row for row, name in enumerate(self.ids.tolist())}

    def rows(self, ids: Ids, unknown: Unknown = "fail", label: str | None = None) -> np.ndarray:
        """Return the row numbers [n] of ids.

        Args:
          unknown: whether unknown ids are skipped and counted on stderr, or refused.
          label: name of the ids in messages; if given, all of them may be unknown.

        Raises:
          InputError: an unknown id is refused, or all ids are unknown.
        """
        series, row_n = self.rows_or_missing(ids)
        lost = np.flatnonzero(row_n < 0)
        if not len(lost):
            return row_n
        first, among = (
            series[int(lost[0])],
            f"among the {len(self.ids):,} {self.kind}s of {self._run}",
        )
        if unknown == "fail" or (label is None and len(lost) == len(row_n)):
            more = f"; {len(lost) - 1:,} more of the given {self.kind}s are unknown too"
            more = more if len(lost) > 1 else ""
            raise InputError(f"{self.kind} {first!r} is not {among}{self._hint(first)}{more}")
        _say(
            f"skipped {len(lost):,} of {len(row_n):,} {label or f'{self.kind}s'} that are not "
            f"{among}; the first is {first!r}"
        )
        return row_n[row_n >= 0]

    def rows_or_missing(self, ids: Ids) -> tuple[pl.Series, np.ndarray]:
        """Return the ids as strings and their row numbers [n], -1 for unknown ids."""
        names = array_checks.id_texts(ids, f"{self.kind}s")
        row_n = np.array([self.row_of(name) for name in names], np.int32)
        return pl.Series(names, dtype=pl.String), row_n

    def row_of(self, name: str) -> int:
        """Return the row of an id, or -1.

        The id "1.0" also matches "1": pandas turns integers with missing values into floats.
        """
        row = self._row.get(name)
        return self._row.get(array_checks.without_point(name), -1) if row is None else row

    def _hint(self, name: str) -> str:
        candidates: Iterable[str] = self._row
        if len(self._row) > _IDS_COMPARED:  # a comparison with millions of ids takes a minute
            candidates = islice((k for k in candidates if k[:1] == name[:1]), _IDS_COMPARED)
        return nearest(name, candidates)

    @cached_property
    def cosine(self) -> Scorer:
        """A scorer of two users, or of two items, by the cosine; a zero vector scores 0."""
        from jaxrec.evaluation.ranking import dot_scorer

        unit_ND = _unit_rows(self.emb_ND)
        return dot_scorer(unit_ND, unit_ND)

    @cached_property
    def identity(self) -> Csr:
        """The identity matrix, which excludes each row from its own neighbours."""
        n = len(self.ids)
        return Csr(np.arange(n + 1, dtype=np.int32), np.arange(n, dtype=np.int32))


class Recommender:
    """Recommendations and neighbours from a finished run.

    Ids may be given as strings or integers and are returned as strings. Ties go to the item (or
    user) that comes first in the run's id table. Items without a trained vector are never
    recommended; users without a trained vector get popular items. Messages on stderr count these
    items and users, and skipped ids.

    After ``jaxrec train --run runs/quickstart-1``:

    >>> import jaxrec
    >>> recommender = jaxrec.Recommender.load("runs/quickstart-1")
    >>> recommender.recommend(["u01", "u02"], k=3).columns
    ['user', 'item', 'rank', 'score']
    >>> recommender.similar_items(["i01"], k=2)["rank"].to_list()
    [1, 2]
    """

    def __init__(self, table: Embeddings, seen: Seen, run: Path) -> None:
        self._table = table
        self._seen = seen
        self._run = run
        self._user = _Side("user", table.user_ids, table.user, run)
        self._item = _Side("item", table.item_ids, table.item, run)
        self._said: set[str] = set()

    @classmethod
    def load(
        cls, run: str | Path, *, new_items: str | Path | pl.DataFrame | None = None
    ) -> Recommender:
        """Read a run folder.

        Args:
          new_items: items that were not in training, to be ranked with those of the run: the table
            that :func:`jaxrec.embed` returns, or the file that ``jaxrec embed`` writes.

        Raises:
          InputError: ``run`` is not a run folder, has not finished, or holds a damaged file, or
            the new items cannot be added.
        """
        table = read_embeddings(run)
        seen = read_seen(run, len(table.user_ids), len(table.item_ids))
        recommender = cls(table, seen, Path(run))
        return recommender if new_items is None else recommender._with(new_items)

    def _with(self, new_items: str | Path | pl.DataFrame) -> Recommender:
        """Return a recommender of the run's items and new ones, which count as trained."""
        from jaxrec import added_items

        added_items.refuse_ids(self._run, configs.load(self._run / "config.json"))
        in_memory = isinstance(new_items, pl.DataFrame)
        frame = new_items if in_memory else added_items.read(new_items)
        table, note = added_items.add(self._table, self._learnt_I, frame, self._run)
        if note is not None:
            _say(note)
        item_I = np.append(self._learnt_I, np.ones(len(table.item) - len(self._table.item), bool))
        seen = self._seen._replace(user_U=self._learnt_U, item_I=item_I)
        return Recommender(table, seen, self._run)

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
        """The run's embeddings."""
        return self._table

    @property
    def known(self) -> Csr:
        """The items of each user in train and validation."""
        return self._seen.known

    @property
    def learnt(self) -> tuple[np.ndarray, np.ndarray]:
        """Which users [U] and which items [I] have a trained vector, both bool."""
        return self._learnt_U, self._learnt_I

    @property
    def cosine_items(self) -> Scorer:
        """Scorer of items for items by the cosine."""
        return self._item.cosine

    def user_row(self, user: str) -> int:
        """Return the row of a user, or -1 if the run does not know them."""
        return self._user.row_of(user)

    def item_row(self, item: str) -> int:
        """Return the row of an item, or -1 if the run does not know it."""
        return self._item.row_of(item)

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
        rerank: Rerank = _NO_RERANK,
    ) -> pl.DataFrame:
        """Recommend the k best items to each user.

        Args:
          users: one id or several.
          k: length of a list; it is shorter if fewer items may be recommended.
          include_seen: also recommend items that the user has, in any part of the data.
          held_out: "keep" also ranks items that the user has only in the test part.
          allow: recommend only these items; None allows all.
          deny: never recommend these items.
          unknown: "skip" skips unknown ids and counts them on stderr; "fail" raises InputError;
            "popular" recommends popular items to unknown users, and skips unknown items.
          rerank: how each list is chosen from the best items; by default, it has the k best.

        Returns:
          One row per recommendation: user, item, rank (from 1) and score. Users come in the order
          given, and their best item first. The score is u · i + biases, the score of a graph
          filter, or the predicted rating; for a user without a trained vector it is the number of
          users who have the item in train and validation.

        Raises:
          InputError: an unknown id is refused, no user is known, or k is below 1.
        """
        fork_check.check()
        side = self._users
        allowed_I = self._allowed(allow, deny, _unknown_items(unknown))
        if unknown == "popular":
            names, rows = side.rows_or_missing(users)
        else:
            rows = side.rows(users, unknown)
            names = side.series.gather(rows)
        left_out = self.left_out(include_seen, held_out)
        self._say_untrained(rows[rows >= 0])
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
        rerank: Rerank = _NO_RERANK,
    ) -> Iterator[pl.DataFrame]:
        """Recommend to every user as :meth:`recommend` does; yield a frame per block of users.

        Pass the result to ``jaxrec.list_files.write``, which holds one block in memory at a time.
        """
        fork_check.check()
        allowed_I = self._allowed(allow, deny, _unknown_items(unknown))
        rows = np.arange(len(self._users.ids), dtype=np.int32)
        left_out = self.left_out(include_seen, held_out)
        self._say_untrained(rows)
        for start in range(0, len(rows), _USERS_AT_ONCE):
            block = rows[start : start + _USERS_AT_ONCE]
            users = self._users.series.gather(block), block
            yield self._lists(users, left_out, k, allowed_I, rerank)

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
        rerank: Rerank = _NO_RERANK,
    ) -> pl.DataFrame:
        """Recommend the k best items to new users, from the items in their histories.

        Args:
          history: the items of one user, who is called "history"; or columns user and item.
          k, allow, deny, rerank: see :meth:`recommend`.
          include_seen: also recommend items of the history.
          unknown: "skip" skips items without a trained vector, and users who have no other items,
            and counts both on stderr; "fail" raises InputError.
          source: name of the history in messages, such as its file.

        Returns:
          A frame like that of :meth:`recommend`, with users in the order of their first rows.

        Raises:
          InputError: no item has a trained vector, an unknown id is refused, or k is below 1.
        """
        fork_check.check()
        allowed_I = self._allowed(allow, deny, unknown)
        names, items = self._histories(history, source, unknown)
        left_out = None if include_seen else items
        rows = np.arange(len(names), dtype=np.int32)
        scorer = self._history_scorer(items)
        k = _length(k, scorer.n_items)
        item_nC, score_nC = _rank(scorer, rows, left_out, rerank.pool(k, scorer.n_items), allowed_I)
        lists = rerank.choose(names.tolist(), item_nC, self.clipped(score_nC), k, self._item.emb_ND)
        return _frame(("user", pl.Series(names, dtype=pl.String)), ("item", self._item), *lists)

    def fold_in(
        self, history: Ids | pl.DataFrame, *, source: str = "the history"
    ) -> Float32[np.ndarray, "n D"]:
        """Compute vectors for new users from a history, given as in :meth:`recommend_history`.

        Items without a trained vector are skipped.

        Raises:
          InputError: a user has no item with a trained vector.
        """
        fork_check.check()
        return self.fold_in_rows(self._histories(history, source, "skip", every_user=True)[1])

    def fold_in_rows(self, items: Csr) -> Float32[np.ndarray, "n D"]:
        """Compute the vectors of new users from the row numbers of their items.

        The vector of a user who has no item with a trained vector is zero.
        """
        every_user = np.ones(len(items.degree), bool)
        items = items.among(every_user, self._learnt_I)
        if self.graph_filter is not None:
            return self.graph_filter.vectors(items)
        user_nD = foldin.vectors(items, self._table.item, self._fold_FD)
        return self.as_scored(user_nD)

    def as_scored(self, user_nD: Float32[np.ndarray, "n D"]) -> Float32[np.ndarray, "n D"]:
        """Normalise the vectors of users if the model scores by the cosine."""
        return _unit_rows(user_nD) if self._cosine else user_nD

    @cached_property
    def _cosine(self) -> bool:
        return configs.load(self._run / "config.json").model.score == "cosine"

    def similar_items(self, items: Ids, k: int = 10, *, unknown: Unknown = "skip") -> pl.DataFrame:
        """Find the k nearest items of each item: columns item, similar, rank (from 1) and score.

        The score is the cosine. For a graph filter, it is the filter's score of the neighbour for a
        user who has only the item. Neither the item itself nor items without a trained vector are
        returned.

        Args:
          unknown: "skip" skips items that are unknown or have no trained vector, and counts these
            items on stderr; "fail" raises InputError.

        Raises:
          InputError: an id is refused, no item has a trained vector, or k is below 1.
        """
        scorer = self._item, lambda: self._near_items
        return self._neighbours(*scorer, items, k, self._learnt_I, unknown)

    def similar_users(self, users: Ids, k: int = 10, *, unknown: Unknown = "skip") -> pl.DataFrame:
        """Find the k nearest users of each user: columns user, similar, rank and score (cosine).

        Users without a trained vector are skipped, and never returned as neighbours.

        Args:
          unknown: see :meth:`similar_items`.

        Raises:
          InputError: as :meth:`similar_items` raises.
        """
        scorer = self._users, lambda: self._users.cosine
        return self._neighbours(*scorer, users, k, self._learnt_U, unknown)

    def user_embedding(self, users: Ids) -> Float32[np.ndarray, "n D"]:
        """Return the users' vectors. Raises InputError for an unknown id."""
        return self._users.emb_ND[self._users.rows(users)]

    def item_embedding(self, items: Ids) -> Float32[np.ndarray, "n D"]:
        """Return the items' vectors. Raises InputError for an unknown id."""
        return self._item.emb_ND[self._item.rows(items)]

    @property
    def _users(self) -> _Side:
        """The users of the run. Raises InputError if the model was trained on items alone."""
        if not len(self._user.ids):
            raise InputError(
                f"{self._run}: the model was trained on items alone and knows no users; use "
                "`jaxrec similar` to find the items nearest to an item"
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
        """The run's graph filter, which computes all scores; None if the model is no filter."""
        from jaxrec.evaluation.filter_scorer import stored_filter

        return stored_filter(self._run, self._table)

    def _history_scorer(self, items: Csr) -> Scorer:
        """Return a scorer for new users whose histories are these items."""
        from jaxrec.evaluation.filter_scorer import filter_scorer
        from jaxrec.evaluation.scorers import table_scorer

        if self.graph_filter is not None:
            return filter_scorer(self.graph_filter, items)
        return table_scorer(self._folded(self.fold_in_rows(items)))

    @cached_property
    def _near_items(self) -> Scorer:
        """Scorer of an item's neighbours: by the cosine, or by a graph filter.

        The graph filter scores for a history of this item alone.
        """
        if self.graph_filter is None:
            return self._item.cosine
        return self._history_scorer(self._item.identity)

    def _folded(self, user_nD: np.ndarray) -> Embeddings:
        """Return the table with new users instead of the run's users; each gets the mean bias."""
        from jaxrec.evaluation.topk import power_of_two

        size = power_of_two(len(user_nD))  # the vectors are padded, so that few sizes are compiled
        user_nD = np.pad(user_nD, ((0, size - len(user_nD)), (0, 0)))
        bias_U = self._table.user_bias
        bias_n = None if bias_U is None else np.full(size, bias_U.mean(), np.float32)
        return self._table._replace(user=user_nD, user_bias=bias_n)

    @cached_property
    def _fold_FD(self) -> np.ndarray:
        _ = self._users
        known = self._seen.known.among(self._learnt_U, self._learnt_I)
        if not len(known.indices):
            raise InputError(
                f"{self._run}: no user has an item with a trained vector, so new users cannot be "
                "folded in; train on data with at least one pair"
            )
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
        trained_items = self._item.series, self._learnt_I
        refuse = {"items": unknown == "fail", "users": every_user or unknown == "fail"}
        names, items, notes = foldin.histories(history, trained_items, self._run, source, refuse)
        for text in notes:
            _say(f"{source}: {text}")
        return names, items

    @cached_property
    def _learnt_U(self) -> np.ndarray:
        if not self._knows_trained:
            return np.ones(len(self._user.ids), bool)
        return self._seen.learnt_users()

    @cached_property
    def _learnt_I(self) -> np.ndarray:
        if not len(self._user.ids):  # item models give zeros to an item without a train pair
            return (self._item.emb_ND != 0).any(axis=1)
        n_items = len(self._item.ids)
        return self._seen.learnt_items(n_items) if self._knows_trained else np.ones(n_items, bool)

    @cached_property
    def _knows_trained(self) -> bool:
        """Whether it is known which vectors are trained.

        Runs of old versions do not store which vectors are trained. In these runs, users and items
        with pairs have trained vectors. Those without pairs do not, unless vectors can come from
        features, a warm start or a file; then this is unknown.
        """
        if self._seen.item_I is not None:
            return True
        config = configs.load(self._run / "config.json")
        elsewhere = config.warm_start is not None or config.model.frozen_items is not None
        return not config.model.kind.features and not elsewhere

    def left_out(self, include_seen: bool, held_out: HeldOut) -> Joined | None:
        """Return the items to exclude, by user; None excludes nothing.

        Raises:
          InputError: ``held_out`` is neither "drop" nor "keep".
        """
        if held_out not in get_args(HeldOut):
            raise InputError(f"held_out must be 'drop' or 'keep', not {held_out!r}")
        if include_seen:
            return None
        known, test, filtered, *_ = self._seen
        if test is None and held_out == "drop":
            seen = self._run / "seen.npz"
            self._say_once(
                f"{seen}: an older version wrote this file without the test items, which may "
                f"therefore be recommended; remove it, and `jaxrec resume {self._run}` writes it "
                "again"
            )
        elif test is not None and held_out == "keep" and len(test.indices):
            self._say_once(
                f"{self._run}: users may be recommended items that they have in the test part "
                f"({len(test.indices):,} pairs), because held_out is 'keep'"
            )
        parts = known, test if held_out == "drop" else None, filtered
        return Joined(tuple(part for part in parts if part is not None))

    def _say_once(self, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            _say(text)

    def _say_untrained(self, rows: np.ndarray) -> None:
        """Print how many users get popular items, and how many items are never recommended."""
        lost_I, cold = ~self._learnt_I, rows[~self._learnt_U[rows]]
        if lost_I.any():
            self._say_once(
                f"{self._run}: {lost_I.sum():,} of {len(lost_I):,} items have no train pair and no "
                "trained vector; they are never recommended"
            )
        if len(cold):
            who = f"{len(cold):,} of {len(rows):,} users have" if len(rows) > 1 else "the user has"
            _say(
                f"{self._run}: {who} no train pair and no trained vector (the first is "
                f"{str(self._user.ids[cold[0]])!r}) and get popular items, scored by the number of "
                "users who have the item"
            )

    @cached_property
    def _popular(self) -> Scorer:
        from jaxrec.evaluation.scorers import popularity_scorer

        return popularity_scorer(self._seen.known.item_counts(len(self._item.ids)))

    def _allowed(
        self, allow: Ids | None, deny: Ids | None, unknown: Unknown = "fail"
    ) -> np.ndarray:
        """Return which items are allowed and have a trained vector, [I] bool."""
        _check_unknown(unknown)
        allowed_I = np.full(len(self._item.ids), allow is None)
        if allow is not None:
            allowed_I[self._item.rows(allow, unknown)] = True
        if deny is not None:
            allowed_I[self._item.rows(deny, unknown, "items to deny")] = False
        return allowed_I & self._learnt_I

    def _lists(
        self,
        users: tuple[pl.Series, np.ndarray],
        left_out: Joined | None,
        k: int,
        allowed_I: np.ndarray,
        rerank: Rerank,
    ) -> pl.DataFrame:
        """Rank by the model, or by popularity for users without a trained vector.

        Args:
          users: the users' names, and their row numbers; -1 for unknown users.
        """
        names, rows = users
        k = _length(k, len(self._item.ids))
        size = rerank.pool(k, len(self._item.ids))
        item_nC = np.full((len(rows), size), -1, np.int32)
        score_nC = np.full(item_nC.shape, -np.inf, np.float32)
        learnt_n = np.append(self._learnt_U, False)[rows]
        if learnt_n.any() or not len(rows):
            items, scores = _rank(self._scorer, rows[learnt_n], left_out, size, allowed_I)
            item_nC[learnt_n], score_nC[learnt_n] = items, self.clipped(scores)
        if not learnt_n.all():
            seen = None if left_out is None else left_out.take(rows[~learnt_n])
            cold = np.arange((~learnt_n).sum(), dtype=np.int32)
            popular = _rank(self._popular, cold, seen, size, allowed_I)
            item_nC[~learnt_n], score_nC[~learnt_n] = popular
        chosen = rerank.choose(names.to_list(), item_nC, score_nC, k, self._item.emb_ND)
        return _frame(("user", names), ("item", self._item), *chosen)

    def clipped(self, score_nk: np.ndarray) -> np.ndarray:
        """Clip predicted ratings to the range of the data's ratings; do not change other scores."""
        limits = self._table.rating_range
        return score_nk if limits is None else score_nk.clip(*limits)

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
                    f"{kind} {name!r} has no train pair in {self._run}, and so no trained vector; "
                    f"ask for another {kind}"
                )
            _say(
                f"skipped {len(lost):,} of {len(rows):,} {kind}s, which have no train pair in "
                f"{self._run}; the first is {name!r}"
            )
            rows = rows[learnt_N[rows]]
        near_nk, score_nk = _rank(scorer(), rows, side.identity, k, learnt_N)
        names = side.series.gather(rows)
        return _frame((side.kind, names), ("similar", side), near_nk, score_nk)


def _check_unknown(unknown: Unknown) -> None:
    if unknown not in get_args(Unknown):
        raise InputError(f"unknown must be 'skip' or 'fail', not {unknown!r}")


def _unknown_items(unknown: UnknownUsers) -> Unknown:
    """Return how to treat unknown items, given how to treat unknown users."""
    return "skip" if unknown == "popular" else unknown


def _say(text: str) -> None:
    print(f"jaxrec: {text}", file=sys.stderr)


def _unit_rows(emb_ND: np.ndarray) -> np.ndarray:
    """Scale rows to length 1; rows of zeros are not changed."""
    norm_N1 = np.linalg.norm(emb_ND, axis=1, keepdims=True)
    return emb_ND / np.where(norm_N1 > 0, norm_N1, np.float32(1))


def _rank(
    scorer: Scorer, rows: np.ndarray, left_out: Csr | Joined | None, k: int, allowed: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    from jaxrec.evaluation.ranking import top_k

    return top_k(scorer, rows, left_out, _length(k, scorer.n_items), allowed=allowed)


def _length(k: int, n_items: int) -> int:
    """Return k, or ``n_items`` if that is less. Raises InputError if k is no positive integer."""
    return min(conform(Annotated[int, Range(1, INT32)], k, "k"), n_items)


def _frame(
    query: tuple[str, pl.Series],
    result: tuple[str, _Side],
    result_nk: np.ndarray,
    score_nk: np.ndarray,
) -> pl.DataFrame:
    """Turn lists [n, k] into a frame with one row per entry, without the padding (-1)."""
    (query_name, names), (result_name, result_side) = query, result
    n, place = np.nonzero(result_nk >= 0)
    columns: dict[str, Any] = {
        query_name: names.gather(n),
        result_name: result_side.series.gather(result_nk[n, place]),
        "rank": (place + 1).astype(np.int32),
        "score": score_nk[n, place],
    }
    return pl.DataFrame(columns)
