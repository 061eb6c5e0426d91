"""Rank for a server with programs that are all compiled before the first request.

Programs are compiled for blocks of 1, 2, 4, ... queries, with a power of two of items per list and
of excluded items. Inputs are padded to these shapes; any other shape raises an error instead of
being compiled.
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
_LONG_MOST = 8  # most queries in a block with longer lists
_LEFT_OUT = 256  # least capacity of a block for excluded items

Shape = tuple[tuple[int, ...], str]


class Query(NamedTuple):
    """A query for one list.

    Attributes:
      vector: vector [D] of the user, or of the item whose neighbours are requested.
      bias: bias of the user, 0 if the model has none.
      left_out: [m] int32, items to exclude.
      k: length of the list.
      allowed: [I] bool on the device; only queries with the same array are ranked together.
    """

    vector: np.ndarray
    bias: float
    left_out: np.ndarray
    k: int
    allowed: Any


def placed(mask_I: np.ndarray) -> Any:
    """Copy a mask of items to the device."""
    return jax.device_put(mask_I)


class _Room(NamedTuple):
    """The shape of a compiled program: queries, length of lists, and excluded items of all."""

    queries: int
    k: int
    left_out: int


class Ranker:
    """Ranks all items for blocks of queries.

    Args:
      scorer: a scorer whose ``params`` hold "user" and "item", and optionally biases.
      longest: greatest length of a list.
      left_out: most items excluded from one list.

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
        """Return how many of the first queries can be ranked as one block, at least 1."""
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
        """Rank the queries of one block, and return each one's items and scores, best first."""
        left_out = sum(len(query.left_out) for query in queries)
        room = self._room(len(queries), max(query.k for query in queries), left_out)
        assert room is not None, "the queries do not fit one block"
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
            filled = item_BK[n, : query.k] >= 0
            lists.append((item_BK[n, : query.k][filled], score_BK[n, : query.k][filled]))
        return lists

    def _room(self, queries: int, k: int, left_out: int) -> _Room | None:
        """Return the smallest compiled shape that fits, or None."""
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


@lru_cache(maxsize=256)  # loading a run of the same sizes again needs no compilation
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
