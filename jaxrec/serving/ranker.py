"""Ranking for a server: every program is compiled before the first request, and none after it.

A program takes blocks of 1, 2, 4, ... queries, has room for a power of two of items a list and of
items left out, and is called as compiled: another shape would be an error, and no compilation.
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
"""Queries ranked at once."""
_SHORT = 32  # items of a list that most requests ask for
_LONG_MOST = 8  # queries at once with longer lists
_LEFT_OUT = 256  # items that a block has room for at least, to leave out

Shape = tuple[tuple[int, ...], str]


class Query(NamedTuple):
    """One list to be made.

    Attributes:
      vector: [D] of the user, or of the item whose neighbours are asked for.
      bias: of the user; 0 where the model has none.
      left_out: [m] int32 items.
      k: the list's length.
      allowed: [I] bool on the device; queries are ranked together where it is the same array.
    """

    vector: np.ndarray
    bias: float
    left_out: np.ndarray
    k: int
    allowed: Any


def placed(mask_I: np.ndarray) -> Any:
    """A mask of items where ranking needs it."""
    return jax.device_put(mask_I)


class _Room(NamedTuple):
    """A shape that there is a program for: queries, items a list, items left out of the block."""

    queries: int
    k: int
    left_out: int


class Ranker:
    """Ranks all items for blocks of queries.

    Args:
      scorer: whose ``params`` hold "user" and "item", and perhaps biases.
      longest: the longest list.
      left_out: the most items that are left out of one list.

    Raises:
      InputError: the model's arrays do not fit the device.
    """

    def __init__(self, scorer: Scorer, longest: int, left_out: int) -> None:
        if scorer.fn is from_host:
            raise InputError("the embeddings do not fit this device's memory; serve from the CPU")
        self._fn, self.n_items = scorer.fn, scorer.n_items
        self._params = {n: jnp.asarray(x) for n, x in scorer.params.items() if n not in BY_USER}
        self._dim = scorer.params["user"].shape[1]
        self._biased = "user_bias" in scorer.params
        short, long = (min(power_of_two(max(k, _SHORT)), self.n_items) for k in (1, longest))
        rooms = [_Room(1 << n, short, max(_LEFT_OUT, 64 << n)) for n in range(6)]
        rooms += [_Room(n, long, max(_LEFT_OUT, 64 * n)) for n in (1, _LONG_MOST)]
        widest = max(power_of_two(left_out), _LEFT_OUT)
        rooms += [_Room(1, k, widest) for k in (short, long)]
        self._rooms = sorted(set(rooms), key=lambda room: (room.k, room.left_out, room.queries))
        self._programs = {room: self._compiled(room) for room in self._rooms}

    def fitting(self, queries: Sequence[Query]) -> int:
        """How many of the first queries can be ranked as one block; 1 at least."""
        first, count, left_out, longest = queries[0], 0, 0, 0
        for query in queries[:MOST]:
            longest = max(longest, query.k)
            left_out += len(query.left_out)
            same = query.allowed is first.allowed
            if not same or self._room(count + 1, longest, left_out) is None:
                break
            count += 1
        return max(count, 1)

    def rank(self, queries: Sequence[Query]) -> list[tuple[np.ndarray, np.ndarray]]:
        """Items and scores of each query's list, best first; as many queries as fit one block."""
        left_out = sum(len(query.left_out) for query in queries)
        room = self._room(len(queries), max(query.k for query in queries), left_out)
        assert room is not None, "more than fits one block"
        user_BD = np.zeros((room.queries, self._dim), np.float32)
        bias_B = np.zeros(room.queries, np.float32)
        lengths = np.zeros(room.queries, np.int32)
        for n, query in enumerate(queries):
            user_BD[n], bias_B[n], lengths[n] = query.vector, query.bias, len(query.left_out)
        indptr = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
        seen = as_rows(Csr(indptr, np.concatenate([q.left_out for q in queries])), room.left_out)
        seen = Rows(seen.indptr_, seen.index_M.astype(np.int32, copy=False))
        ranked = self._programs[room](self._params, user_BD, bias_B, seen, queries[0].allowed)
        item_BK, score_BK = jax.device_get((ranked.item_BK, ranked.score_BK))
        lists = []
        for n, query in enumerate(queries):
            there = item_BK[n, : query.k] >= 0
            lists.append((item_BK[n, : query.k][there], score_BK[n, : query.k][there]))
        return lists

    def _room(self, queries: int, k: int, left_out: int) -> _Room | None:
        k = min(k, self.n_items)
        return next(
            (
                room
                for room in self._rooms
                if room.queries >= queries and room.k >= k and room.left_out >= left_out
            ),
            None,
        )

    def _compiled(self, room: _Room) -> Any:
        shapes = {n: (x.shape, str(x.dtype)) for n, x in self._params.items()}
        arrays = tuple(sorted(shapes.items()))
        return _program(self._fn, room, arrays, self._dim, self._biased, self.n_items)


@lru_cache(maxsize=256)  # so that a run of the same sizes is loaded without a compilation
def _program(
    fn: ScoreFn,
    room: _Room,
    arrays: tuple[tuple[str, Shape], ...],
    dim: int,
    biased: bool,
    n_items: int,
) -> Any:
    def answer(
        params: dict[str, Any], user_BD: Any, bias_B: Any, seen: Rows, allowed_I: Any
    ) -> Ranked:
        params = params | {"user": user_BD} | ({"user_bias": bias_B} if biased else {})
        every_B = jnp.arange(room.queries, dtype=jnp.int32)
        return rank(fn, room.k, params, every_B, seen, allowed_I)

    params = {n: jax.ShapeDtypeStruct(shape, np.dtype(kind)) for n, (shape, kind) in arrays}
    user_BD = jax.ShapeDtypeStruct((room.queries, dim), np.float32)
    bias_B = jax.ShapeDtypeStruct((room.queries,), np.float32)
    indptr = jax.ShapeDtypeStruct((room.queries + 1,), np.int32)
    seen = Rows(indptr, jax.ShapeDtypeStruct((room.left_out,), np.int32))  # pyright: ignore
    allowed_I = jax.ShapeDtypeStruct((n_items,), np.bool_)
    return jax.jit(answer).lower(params, user_BD, bias_B, seen, allowed_I).compile()
