"""Negatives on the device: which items stand against a positive, as a function of a key.

``known`` is a CSR matrix on the device (indptr [U + 1], indices [nnz], ascending and unique in
each row): the items that a user is known to like.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int, PRNGKeyArray


class Known(NamedTuple):
    """Items known by user, on the device."""

    indptr: Int[Array, "U1"]
    indices: Int[Array, "nnz"]


def _search(known: Known, user: Array, goes_right: Callable[[Array, Array], Array]) -> Array:
    """How many of the user's known items satisfy a predicate that is true for a prefix of the row.

    ``goes_right(item, rank)`` judges the item at that rank of the row; shapes are user's. The
    bisection ends when the longest row at hand is done: log2 of its length in rounds.
    """
    start = known.indptr[user]
    last = known.indices.shape[0] - 1

    def halve(bounds: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = bounds
        middle = (low + high) // 2
        item = known.indices[jnp.clip(middle, 0, last)]
        right = goes_right(item, middle - start)
        still = low < high
        return jnp.where(still & right, middle + 1, low), jnp.where(still & ~right, middle, high)

    bounds = (start, known.indptr[user + 1])
    low, _ = jax.lax.while_loop(lambda b: jnp.any(b[0] < b[1]), halve, bounds)
    return low - start


def is_known(
    known: Known, user_B: Int[Array, "B"], item_BN: Int[Array, "B N"]
) -> Bool[Array, "B N"]:
    """Whether each item is among its user's known ones."""
    if known.indices.shape[0] == 0:
        return jnp.zeros(item_BN.shape, bool)
    user_BN = jnp.broadcast_to(user_B[:, None], item_BN.shape)
    before = _search(known, user_BN, lambda item, _: item < item_BN)
    at = jnp.clip(known.indptr[user_BN] + before, 0, known.indices.shape[0] - 1)
    inside = before < known.indptr[user_BN + 1] - known.indptr[user_BN]
    return inside & (known.indices[at] == item_BN)


def uniform(
    key: PRNGKeyArray, count: int, n_items: int, user_B: Int[Array, "B"], known: Known | None
) -> Int[Array, "B N"]:
    """N = count private negatives a positive, uniform over items 0..n_items-1.

    Where ``known`` is given they are uniform over the items that the user does not know, exactly
    and without rejection rounds: draw a rank r among the unknown items, and shift it by the
    number of known items before it, which bisection over (item - its rank) finds. A user who
    knows every item gets any item.
    """
    shape = (user_B.shape[0], count)
    if known is None or known.indices.shape[0] == 0:
        return jax.random.randint(key, shape, 0, n_items, jnp.int32)
    user_BN = jnp.broadcast_to(user_B[:, None], shape)
    unknown = n_items - (known.indptr[user_BN + 1] - known.indptr[user_BN])
    rank_BN = jax.random.randint(key, shape, 0, jnp.where(unknown > 0, unknown, n_items), jnp.int32)
    shift_BN = _search(known, user_BN, lambda item, rank: item - rank <= rank_BN)
    return rank_BN + jnp.where(unknown > 0, shift_BN, 0)


def shared(key: PRNGKeyArray, count: int, n_items: int) -> Int[Array, "S"]:
    """S = count negatives for the whole batch, uniform over the items, with replacement."""
    return jax.random.randint(key, (count,), 0, n_items, jnp.int32)
