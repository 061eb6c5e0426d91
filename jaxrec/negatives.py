"""Negatives on the device: which items stand against a positive, as a function of a key.

``known`` holds the items that each user is known to like, by row.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, PRNGKeyArray

from jaxrec.graph.csr import DeviceCsr, count_prefix


def uniform(
    key: PRNGKeyArray, count: int, n_items: int, user_B: Int[Array, "B"], known: DeviceCsr | None
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
    shift_BN = count_prefix(known, user_BN, lambda item, rank: item - rank <= rank_BN)
    return rank_BN + jnp.where(unknown > 0, shift_BN, 0)


def shared(key: PRNGKeyArray, count: int, n_items: int) -> Int[Array, "S"]:
    """S = count negatives for the whole batch, uniform over the items, with replacement."""
    return jax.random.randint(key, (count,), 0, n_items, jnp.int32)
