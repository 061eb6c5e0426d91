"""Rank lists for a server with programs that are all compiled before the first request.

Programs are compiled for blocks of 1, 2, 4, ... queries, and for a graph filter for blocks of 1 and
8. The numbers of items per list and of excluded items are powers of two as well, but no list is
longer than the number of all items. Inputs are padded to a compiled shape; an input that fits no
compiled shape raises an error.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrec.data.dataset import Csr
from jaxrec.errors import InputError
from jaxrec.evaluation.scorers import BY_USER, ScoreFn, Scorer, from_host
from jaxrec.evaluation.topk import Ranked, Rows, as_rows, power_of_two, rank

MOST = 32
"""Most queries in a block."""
_SHORT = 32  # length of the lists of most requests
_LONG_MOST = 8  # the largest number of queries in a block with longer lists
_LEFT_OUT = 256  # least number of excluded items in a compiled shape
_OF_HISTORIES = (1, 8)  # queries per block of a graph filter, whose time grows with each query
_BY_HISTORY = ("indptr", "indices", "weight")

Shape = tuple[tuple[int, ...], str]


class Query(NamedTuple):
    """A query for one list.

    Attributes:
      vector: vector [D] of the user, or of the item whose neighbours are requested.
      bias: bias of the user, 0 if the model has none.
      left_out: [m] int32, items to exclude.
      k: length of the list.
      allowed: which items may be in the list, [I] bool on the device. Only queries that share one
        array are ranked together.
      history: items and their weights, by which a graph filter scores instead of by ``vector``.
    """

    vector: np.ndarray
    bias: float
    left_out: np.ndarray
    k: int
    allowed: Any
    history: tuple[np.ndarray, np.ndarray] | None = None

    @property
    def history_length(self) -> int:
        """Number of items in the history."""
        return 0 if self.history is None else len(self.history[0])


def placed(mask_I: np.ndarray) -> Any:
    """Copy a mask of items to the device."""
    return jax.device_put(mask_I)


class _Room(NamedTuple):
    """The shape of a compiled program.

    Attributes:
      queries: number of queries.
      k: length of a list.
      left_out: number of excluded items, over all queries.
      history: number of items in all histories; 0 except for a graph filter.
    """

    queries: int
    k: int
    left_out: int
    history: int = 0


class Ranker:
    """Ranks all items for blocks of queries.

    Args:
      scorer: a scorer whose ``params`` hold "user" and "item", and optionally biases; or the scorer
        of a graph filter.
      longest: greatest length of a list.
      left_out: most items that one list excludes or one history holds.

    Raises:
      InputError: the model's arrays do not fit the device.
    """

    def __init__(self, scorer: Scorer, longest: int, left_out: int) -> None:
        if scorer.fn is from_host:
            raise InputError(
                "the embeddings do not fit the device's memory; serve from the CPU with "
                "JAX_PLATFORMS=cpu"
            )
        self._fn, self.n_items = scorer.fn, scorer.n_items
        self._of_histories = "indptr" in scorer.params
        params = {n: x for n, x in scorer.params.items() if n not in (*BY_USER, *_BY_HISTORY)}
        self._params = jax.tree.map(jnp.asarray, params)
        self._dim = scorer.params["user"].shape[1]
        self._biased = "user_bias" in scorer.params
        short, long = (min(power_of_two(max(k, _SHORT)), self.n_items) for k in (1, longest))
        sizes = _OF_HISTORIES if self._of_histories else tuple(1 << n for n in range(6))
        asked = [(n, short) for n in sizes] + [(n, long) for n in (1, _LONG_MOST)]
        shapes = [(n, k, max(_LEFT_OUT, 64 * n)) for n, k in asked]
        widest = max(power_of_two(left_out), _LEFT_OUT)
        shapes += [(1, k, widest) for k in (short, long)]
        rooms = {_Room(*shape, shape[-1] * self._of_histories) for shape in shapes}
        self._rooms = sorted(rooms, key=lambda room: (room.k, room.left_out, room.queries))
        self._programs = {room: self._compiled(room) for room in self._rooms}

    def fitting(self, queries: Sequence[Query]) -> int:
        """Return how many of the first queries can be ranked as one block, at least 1."""
        first, count, left_out, longest, history = queries[0], 0, 0, 0, 0
        for query in queries[:MOST]:
            longest = max(longest, query.k)
            left_out += len(query.left_out)
            history += query.history_length
            same = query.allowed is first.allowed
            if not same or self._room(count + 1, longest, left_out, history) is None:
                break
            count += 1
        return max(count, 1)

    def rank(self, queries: Sequence[Query]) -> list[tuple[np.ndarray, np.ndarray]]:
        """Rank the queries of one block, and return each one's items and scores, best first."""
        left_out = sum(len(query.left_out) for query in queries)
        history = sum(query.history_length for query in queries)
        room = self._room(len(queries), max(query.k for query in queries), left_out, history)
        assert room is not None, "the queries do not fit one block"
        indptr = _ends([len(query.left_out) for query in queries], room.queries)
        seen = as_rows(Csr(indptr, np.concatenate([q.left_out for q in queries])), room.left_out)
        seen = Rows(seen.indptr_, seen.index_M.astype(np.int32, copy=False))
        of = self._histories(queries, room) if room.history else self._vectors(queries, room)
        ranked = self._programs[room](self._params, of, seen, queries[0].allowed)
        item_BK, score_BK = jax.device_get((ranked.item_BK, ranked.score_BK))
        lists = []
        for n, query in enumerate(queries):
            filled = item_BK[n, : query.k] >= 0
            lists.append((item_BK[n, : query.k][filled], score_BK[n, : query.k][filled]))
        return lists

    def _vectors(self, queries: Sequence[Query], room: _Room) -> dict[str, np.ndarray]:
        of: dict[str, np.ndarray] = {"user": np.zeros((room.queries, self._dim), np.float32)}
        if self._biased:
            of["user_bias"] = np.zeros(room.queries, np.float32)
        for n, query in enumerate(queries):
            of["user"][n] = query.vector
            if self._biased:
                of["user_bias"][n] = query.bias
        return of

    def _histories(self, queries: Sequence[Query], room: _Room) -> dict[str, np.ndarray]:
        indices, weights = np.zeros(room.history, np.int32), np.zeros(room.history, np.float32)
        start = 0
        for query in queries:
            assert query.history is not None, "a filter scores histories"
            end = start + query.history_length
            indices[start:end], weights[start:end] = query.history
            start = end
        indptr = _ends([query.history_length for query in queries], room.queries)
        return {"indptr": indptr, "indices": indices, "weight": weights}

    def _room(self, queries: int, k: int, left_out: int, history: int) -> _Room | None:
        """Return the smallest compiled shape that fits, or None."""
        k = min(k, self.n_items)
        return next(
            (
                room
                for room in self._rooms
                if room.queries >= queries
                and room.k >= k
                and room.left_out >= left_out
                and (room.history >= history or not self._of_histories)
            ),
            None,
        )

    def _compiled(self, room: _Room) -> Any:
        leaves, tree = jax.tree.flatten(self._params)
        shapes = tuple((x.shape, str(x.dtype)) for x in leaves)
        return _program(self._fn, room, tree, shapes, self._dim, self._biased, self.n_items)


def _ends(lengths: Sequence[int], rows: int) -> np.ndarray:
    """Return CSR row pointers [rows + 1] for rows of the given lengths, padded with empty rows."""
    indptr = np.zeros(rows + 1, np.int32)
    indptr[1 : len(lengths) + 1] = np.cumsum(lengths)
    indptr[len(lengths) + 1 :] = indptr[len(lengths)]
    return indptr


@lru_cache(maxsize=256)  # so that reloading a run of the same sizes compiles nothing
def _program(
    fn: ScoreFn,
    room: _Room,
    tree: Any,
    shapes: tuple[Shape, ...],
    dim: int,
    biased: bool,
    n_items: int,
) -> Any:
    def answer(params: dict[str, Any], of: dict[str, Any], seen: Rows, allowed_I: Any) -> Ranked:
        every_B = jnp.arange(room.queries, dtype=jnp.int32)
        return rank(fn, room.k, params | of, every_B, seen, allowed_I)

    leaves = [jax.ShapeDtypeStruct(shape, np.dtype(kind)) for shape, kind in shapes]
    ends = jax.ShapeDtypeStruct((room.queries + 1,), np.int32)
    if room.history:
        kinds = {"indices": np.int32, "weight": np.float32}
        of = {n: jax.ShapeDtypeStruct((room.history,), kind) for n, kind in kinds.items()}
        of["indptr"] = ends
    else:
        of = {"user": jax.ShapeDtypeStruct((room.queries, dim), np.float32)}
        if biased:
            of["user_bias"] = jax.ShapeDtypeStruct((room.queries,), np.float32)
    seen = Rows(ends, jax.ShapeDtypeStruct((room.left_out,), np.int32))  # pyright: ignore
    allowed_I = jax.ShapeDtypeStruct((n_items,), np.bool_)
    params = jax.tree.unflatten(tree, leaves)
    return jax.jit(answer).lower(params, of, seen, allowed_I).compile()
