"""Negatives on the device: which items stand against a positive, as a function of a key.

``known`` holds the items that each user is known to like, by row.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, UInt32

from jaxrec.graph.csr import DeviceCsr, contains, count_prefix

_TRIES = 4  # draws of a popular negative, of which the first that its user does not know is taken


class Popularity(NamedTuple):
    """Items by a distribution of their own.

    Attributes:
      end_I: where each item's stretch of the values of a uint32 ends.
      log_q_I: logarithm of each item's probability; that of a single event where it is 0.
    """

    end_I: UInt32[Array, "I"]
    log_q_I: Float[Array, "I"]


def popularity(weight_I: np.ndarray, power: float = 1.0) -> Popularity:
    """The distribution weight^power / Σ weight^power (word2vec: counts to the power 3/4).

    Items of weight 0 are never drawn. Exact to 2^-32 an item.
    """
    share_I = weight_I / max(weight_I.max(initial=0), 1e-300)
    mass_I = np.where(weight_I > 0, np.power(share_I, power), 0.0)
    if mass_I.sum() == 0:
        mass_I = np.ones(len(weight_I))
    q_I = mass_I / mass_I.sum()
    end_I = np.minimum(np.round(np.cumsum(q_I) * 2**32), 2**32 - 1).astype(np.uint32)
    # From the last item that can be drawn on, so that rounding leaves nothing beyond it.
    end_I[np.flatnonzero(mass_I)[-1] :] = 2**32 - 1
    least = q_I[q_I > 0].min()
    return Popularity(jnp.asarray(end_I), jnp.asarray(np.log(np.maximum(q_I, least)), jnp.float32))


def _draw(key: PRNGKeyArray, shape: tuple[int, ...], of: Popularity) -> Array:
    # The largest value would lie beyond the last item.
    bits = jnp.minimum(jax.random.bits(key, shape), jnp.uint32(2**32 - 2))
    return jnp.searchsorted(of.end_I, bits, side="right").astype(jnp.int32)


def uniform(
    key: PRNGKeyArray, count: int, n_items: int, user_B: Int[Array, "B"], known: DeviceCsr | None
) -> Int[Array, "B N"]:
    """N = count private negatives a positive, uniform over items 0..n_items-1.

    Where ``known`` is given they are uniform over the items that the user does not know, exactly
    and without rejection rounds: draw a rank r among the unknown items, and shift it by the
    number of known items before it, which bisection over (item - its rank) finds. A user who
    knows every item gets any item.

    >>> import jax
    >>> import jax.numpy as jnp
    >>> known = DeviceCsr(jnp.array([0, 2, 3]), jnp.array([0, 1, 2]))  # 0, 1 and 2 by user 1
    >>> users = jnp.array([0, 1])
    >>> drawn = uniform(jax.random.key(0), 50, 3, users, known)
    >>> [sorted(set(row)) for row in drawn.tolist()]
    [[2], [0, 1]]
    """
    shape = (user_B.shape[0], count)
    if known is None or known.indices.shape[0] == 0:
        return jax.random.randint(key, shape, 0, n_items, jnp.int32)
    user_BN = jnp.broadcast_to(user_B[:, None], shape)
    unknown = n_items - (known.indptr[user_BN + 1] - known.indptr[user_BN])
    rank_BN = jax.random.randint(key, shape, 0, jnp.where(unknown > 0, unknown, n_items), jnp.int32)
    shift_BN = count_prefix(known, user_BN, lambda item, rank: item - rank <= rank_BN)
    return rank_BN + jnp.where(unknown > 0, shift_BN, 0)


def popular(
    key: PRNGKeyArray,
    count: int,
    of: Popularity,
    user_B: Int[Array, "B"],
    known: DeviceCsr | None,
) -> tuple[Int[Array, "B N"], Bool[Array, "B N"] | None]:
    """N = count private negatives a positive by a distribution of the items.

    Where ``known`` is given, the first of a few draws that the user does not know; a negative
    is not valid where they know all of those.
    """
    shape = (user_B.shape[0], count)
    if known is None:
        return _draw(key, shape, of), None
    drawn_BNT = _draw(key, (*shape, _TRIES), of)
    flat = drawn_BNT.reshape(shape[0], -1)
    unknown_BNT = ~contains(known, user_B, flat).reshape(drawn_BNT.shape)
    first_BN1 = jnp.argmax(unknown_BNT, axis=2, keepdims=True)
    neg_BN = jnp.take_along_axis(drawn_BNT, first_BN1, axis=2)[..., 0]
    return neg_BN, jnp.any(unknown_BNT, axis=2)


def exposed(
    key: PRNGKeyArray,
    user_B: Int[Array, "B"],
    shown: DeviceCsr,
    neg_BN: Int[Array, "B N"],
    valid_BN: Bool[Array, "B N"] | None,
) -> tuple[Int[Array, "B N"], Bool[Array, "B N"] | None]:
    """N private negatives a positive, uniform over what its user was shown and left alone.

    Users who were shown nothing keep the negatives given, and which of these count.
    """
    if shown.indices.shape[0] == 0:
        return neg_BN, valid_BN
    first_B1 = shown.indptr[user_B][:, None]
    size_B1 = shown.indptr[user_B + 1][:, None] - first_B1
    has_B1 = size_B1 > 0
    place_BN = jax.random.randint(key, neg_BN.shape, 0, jnp.maximum(size_B1, 1), jnp.int32)
    at_BN = jnp.minimum(first_B1 + place_BN, shown.indices.shape[0] - 1)
    valid_BN = None if valid_BN is None else valid_BN | has_B1
    return jnp.where(has_B1, shown.indices[at_BN], neg_BN), valid_BN


def picked(
    how: str, score_BNC: Float[Array, "B N C"], pos_B: Float[Array, "B"]
) -> Int[Array, "B N"]:
    """Which of C candidates to take: a place in 0..C-1 for each of N negatives of a pair.

    Args:
      how: "semi-hard": the highest score that is below the positive's, and where there is none the
        lowest of all (Schroff et al., "FaceNet", CVPR 2015, section 3.2, of scores instead of
        distances). Otherwise the highest score.
      score_BNC: of the candidates; -inf where one must not be taken.
      pos_B: the positives' scores.
    """
    if how != "semi-hard":
        return jnp.argmax(score_BNC, axis=2).astype(jnp.int32)
    below_BNC = score_BNC < pos_B[:, None, None]
    may_BNC = score_BNC > -jnp.inf
    highest_BN = jnp.argmax(jnp.where(below_BNC, score_BNC, -jnp.inf), axis=2)
    lowest_BN = jnp.argmin(jnp.where(may_BNC, score_BNC, jnp.inf), axis=2)
    found_BN = jnp.any(below_BNC & may_BNC, axis=2)
    return jnp.where(found_BN, highest_BN, lowest_BN).astype(jnp.int32)


def shared(
    key: PRNGKeyArray, count: int, n_items: int, of: Popularity | None = None
) -> Int[Array, "S"]:
    """S = count negatives for the whole batch, with replacement: uniform where ``of`` is None.

    >>> import jax
    >>> import numpy as np
    >>> by_count = popularity(np.array([0, 5, 0, 1]))
    >>> sorted(set(shared(jax.random.key(0), 200, 4, by_count).tolist()))
    [1, 3]
    """
    if of is not None:
        return _draw(key, (count,), of)
    return jax.random.randint(key, (count,), 0, n_items, jnp.int32)
