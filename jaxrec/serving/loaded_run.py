"""A run loaded for serving, with everything prepared before the first request."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from jaxrec.catalogue import Catalogue
from jaxrec.data.dataset import Csr
from jaxrec.errors import InputError
from jaxrec.evaluation.filter_scorer import filter_scorer
from jaxrec.evaluation.scorers import table_scorer
from jaxrec.recommend import HeldOut, Recommender
from jaxrec.serving.batching import Batcher
from jaxrec.serving.limits import Limits
from jaxrec.serving.ranker import Query, Ranker, placed

Source = Literal["model", "basket", "popular"]
"""What a list is based on. "model": the user's trained vector or history, and the basket, if any;
"basket": the basket alone; "popular": the popularity of items."""
_MOST_FILTERS = 64  # number of filters to cache


class NotFound(Exception):
    """Raised if the run cannot answer a request; ``str(e)`` is the whole message."""


@dataclass(frozen=True)
class ListRequest:
    """A request for one list of recommendations."""

    user: str | None = None
    basket: tuple[str, ...] = ()
    k: int = 20
    deny: tuple[str, ...] = ()
    where: tuple[str, ...] = ()
    include_seen: bool = False
    unknown: Literal["popular", "fail"] = "popular"


class Answer(NamedTuple):
    """One list of recommendations.

    Attributes:
      item_k: row numbers of the items, the best item first.
      score_k: the items' scores.
      source: the basis of the list.
      skipped: ids of the request that the run does not know.
    """

    item_k: np.ndarray
    score_k: np.ndarray
    source: Source
    skipped: list[str]


class _Allowed(NamedTuple):
    """The items that conditions allow, as a mask on the host and on the device."""

    mask_I: np.ndarray
    placed: Any


class Served:
    """A run loaded for serving.

    It may be created in any thread, but all requests must come from the thread of one event loop.

    Args:
      recommender: the run.
      titles: the table of items, if any.
      limits: limits of requests.
      held_out: whether users' test items are excluded from their lists.
      observe: called with the number of queries of each ranked block.

    Raises:
      InputError: vectors are not finite, or the model's arrays do not fit the device.
    """

    def __init__(
        self,
        recommender: Recommender,
        titles: Catalogue | None,
        limits: Limits,
        held_out: HeldOut = "drop",
        observe: Callable[[int], Any] = lambda queries: None,
    ) -> None:
        self.recommender, self.catalogue, self._limits = recommender, titles, limits
        table = recommender.table
        if not all(np.isfinite(x).all() for x in (table.user, table.item)):
            raise InputError(
                "the embeddings are not finite and cannot be served; `jaxrec doctor` says why"
            )
        self.n_users, self.n_items = len(table.user_ids), len(table.item_ids)
        self.item_ids: list[str] = recommender.item_ids
        self._learnt_U, learnt_I = recommender.learnt
        self._left_out = recommender.left_out(False, held_out) if self.n_users else None
        self._bias = 0.0 if table.user_bias is None else float(table.user_bias.mean())
        self._filters: OrderedDict[tuple[str, ...], _Allowed] = OrderedDict()
        degree_U = self._left_out.degree if self._left_out is not None else np.zeros(1, np.int32)
        most = int(degree_U.max(initial=0)) + 2 * limits.ids
        self._batchers: dict[str, Batcher] = {}
        self._filter = recommender.graph_filter
        if self._filter is not None:
            # The neighbours of an item are the filter's list for a history of that item alone.
            made = Ranker(filter_scorer(self._filter), limits.k, most)
            rankers = {"similar": made, "recommend": made}
            self._item_ID = table.item
            _ = self._popular
        else:
            near = recommender.cosine_items
            self._item_ID = np.asarray(near.params["item"])
            rankers = {"similar": Ranker(near, limits.k, 1)}
            if self.n_users:
                rankers["recommend"] = Ranker(table_scorer(table), limits.k, most)
                _ = self._popular, self._folds
        self._everything = _Allowed(learnt_I, placed(learnt_I))
        for name, ranker in rankers.items():
            self._batchers[name] = Batcher(ranker, limits.pending, observe)

    @classmethod
    def load(
        cls,
        run: str | Path,
        titles: str | Path | None = None,
        limits: Limits | None = None,
        held_out: HeldOut = "drop",
        observe: Callable[[int], Any] = lambda queries: None,
        new_items: str | Path | None = None,
    ) -> Served:
        """Read a run folder, and compile the programs that rank its lists.

        Raises:
          InputError: the run has not finished, a table cannot be read, or the run cannot be
            served (see the class).
        """
        recommender = Recommender.load(run, new_items=new_items)
        catalogue = None if titles is None else Catalogue.load(titles, recommender.table.item_ids)
        return cls(recommender, catalogue, limits or Limits(), held_out, observe)

    @property
    def ranks_by(self) -> Literal["vectors", "histories"]:
        """What users' lists are computed from: their vectors or, by a graph filter, their items."""
        return "vectors" if self._filter is None else "histories"

    @property
    def pending(self) -> int:
        """Number of queries that wait to be ranked."""
        return sum(batcher.pending for batcher in self._batchers.values())

    def close(self) -> None:
        """End the ranking threads when all requests are answered."""
        for batcher in self._batchers.values():
            batcher.close()

    @cached_property
    def titles(self) -> list[str | None]:
        """The title of each item [I], None if unknown."""
        if self.catalogue is None:
            return [None] * self.n_items
        return self.catalogue.titles()

    @cached_property
    def _popular(self) -> tuple[np.ndarray, np.ndarray]:
        """All items, most popular first, and the number of users of each item [I]."""
        count_I = self.recommender.known.item_counts(self.n_items)
        return np.lexsort((np.arange(self.n_items), -count_I)).astype(np.int32), count_I

    @cached_property
    def _folds(self) -> bool:
        """Whether the run can rank by a basket.

        A graph filter always can. Other models need a user who has an item with a trained vector.
        """
        if self._filter is not None:
            return True
        try:
            self._fold(np.zeros(1, np.int32))
        except InputError:
            return False
        return True

    async def recommend(self, request: ListRequest) -> Answer:
        """Rank the items for a request.

        For a user with a basket, two vectors are folded in: one from the user's items, and one from
        the user's items and the basket. The second minus the first is added to the user's vector. A
        graph filter scores by the user's items and the basket together.

        Raises:
          NotFound: the run has no users, the user is unknown and ``request.unknown`` is "fail", a
            condition is invalid, or there are conditions but no table of items.
          Busy: too many queries are waiting.
        """
        if not self.n_users:
            raise NotFound("the model was trained on items alone and knows no users; use /similar")
        allowed, skipped = self._allowed(request.where), []
        denied = self._rows(request.deny, skipped)
        basket = np.unique(self._rows(request.basket, skipped))
        row = -1 if request.user is None else self.recommender.user_row(request.user)
        if request.user is not None and row < 0:
            if request.unknown == "fail":
                raise NotFound("the run does not know this user")
            skipped.append(request.user)
        seen = self._seen(row)
        left_out = denied if request.include_seen else np.concatenate([denied, seen, basket])
        trained = basket[self._everything.mask_I[basket]] if self._folds else basket[:0]
        by_model = row >= 0 and bool(self._learnt_U[row])
        if not by_model and not len(trained):
            item_k, score_k = self._most_popular(left_out, allowed.mask_I, request.k)
            return Answer(item_k, score_k, "popular", skipped)
        query = self._query(row if by_model else -1, trained)._replace(
            left_out=left_out.astype(np.int32), k=request.k, allowed=allowed.placed
        )
        item_k, score_k = await self._batchers["recommend"].rank(query)
        source = "model" if by_model else "basket"
        return Answer(item_k, self.recommender.clipped(score_k), source, skipped)

    def _query(self, row: int, basket: np.ndarray) -> Query:
        """Build the query for a user (-1: no user) and a basket of trained items."""
        table, bias, nothing = self.recommender.table, self._bias, np.zeros(0, np.int32)
        if self._filter is not None:
            return Query(table.item[0], 0.0, nothing, 0, None, self._history(row, basket))
        if row >= 0:
            vector = table.user[row]
            bias = 0.0 if table.user_bias is None else float(table.user_bias[row])
            if len(basket):
                own = self.recommender.known.take(np.array([row])).indices
                vector = vector + self._fold(np.union1d(own, basket)) - self._fold(own)
                vector = self.recommender.as_scored(vector[None])[0]
        else:
            vector = self._fold(basket)
        return Query(vector, bias, nothing, 0, None)

    def _history(self, row: int, basket: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the items by which a graph filter scores, and their weights.

        The items of the user at ``row`` (-1: no user) come first, then the items of the basket,
        which have weight 1.
        """
        assert self._filter is not None
        (indptr, indices), weight_E = self._filter.pairs
        own = slice(0, 0) if row < 0 else slice(indptr[row], indptr[row + 1])
        new = np.setdiff1d(basket, indices[own]).astype(np.int32)
        weights = np.ones(len(indices[own])) if weight_E is None else weight_E[own]
        items = np.concatenate([indices[own], new])
        return items, np.concatenate([weights, np.ones(len(new))]).astype(np.float32)

    async def similar(self, item: str, k: int, where: Sequence[str] = ()) -> Answer:
        """Rank the items nearest to an item.

        The items are ordered by the cosine. For a graph filter, they are ordered by the filter's
        scores for a history of this item alone.

        Raises:
          NotFound: the item is unknown or has no trained vector, a condition is invalid, or there
            are conditions but no table of items.
          Busy: too many queries are waiting.
        """
        row = self.recommender.item_row(item)
        if row < 0:
            raise NotFound("the run does not know this item")
        if not self._everything.mask_I[row]:
            raise NotFound("the item has no train pair, and so no trained vector")
        allowed, itself = self._allowed(where), np.array([row], np.int32)
        history = None if self._filter is None else self._history(-1, itself)
        query = Query(self._item_ID[row], 0.0, itself, k, allowed.placed, history)
        item_k, score_k = await self._batchers["similar"].rank(query)
        return Answer(item_k, score_k, "model", [])

    def find(self, text: str, most: int) -> list[int]:
        """Return the row numbers of at most ``most`` items whose title or id contains ``text``.

        An item whose id equals the text comes first.
        """
        exact = self.recommender.item_row(text)
        found = [exact] if exact >= 0 else []
        contains = self._search_texts.str.contains(text.lower(), literal=True)
        rows = contains.arg_true().head(most).to_list()
        return (found + [row for row in rows if row != exact])[:most]

    @cached_property
    def _search_texts(self) -> Any:
        """The title and id of each item as one text in lower case."""
        import polars as pl

        pairs = zip(self.item_ids, self.titles, strict=True)
        texts = [f"{title} {item}" if title else item for item, title in pairs]
        return pl.Series(texts, dtype=pl.String).str.to_lowercase()

    def about(self, rows: np.ndarray) -> list[dict[str, Any]]:
        """Return the columns of the table of items, as one dictionary per given row number."""
        if self.catalogue is None:
            return [{} for _ in rows]
        return self.catalogue.frame[rows.tolist()].to_dicts()

    def _seen(self, row: int) -> np.ndarray:
        if row < 0 or self._left_out is None:
            return np.zeros(0, np.int32)
        return self._left_out.take(np.array([row])).indices

    def _rows(self, items: Sequence[str], skipped: list[str]) -> np.ndarray:
        rows = np.array([self.recommender.item_row(item) for item in items], np.int32)
        skipped += [item for item, row in zip(items, rows, strict=True) if row < 0]
        return rows[rows >= 0]

    def _fold(self, items: np.ndarray) -> np.ndarray:
        indptr = np.array([0, len(items)], np.int32)
        return self.recommender.fold_in_rows(Csr(indptr, items.astype(np.int32)))[0]

    def _most_popular(
        self, left_out: np.ndarray, mask_I: np.ndarray, k: int
    ) -> tuple[np.ndarray, np.ndarray]:
        order_I, count_I = self._popular
        mask_I = mask_I.copy()
        mask_I[left_out] = False
        item_k = order_I[mask_I[order_I]][:k]
        return item_k, count_I[item_k].astype(np.float32)

    def _allowed(self, where: Sequence[str]) -> _Allowed:
        if not where:
            return self._everything
        if self.catalogue is None:
            raise NotFound("conditions need a table of items; start the server with --titles TABLE")
        key = tuple(sorted(set(where)))
        if key not in self._filters:
            try:
                mask_I = self.catalogue.where(key) & self._everything.mask_I
            except InputError as e:
                raise NotFound(str(e)) from e
            self._filters[key] = _Allowed(mask_I, placed(mask_I))
            if len(self._filters) > _MOST_FILTERS:
                self._filters.popitem(last=False)
        self._filters.move_to_end(key)
        return self._filters[key]
