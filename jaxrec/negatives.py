"""Negative sampling on the device, by pure functions of a random key.

Private negatives belong to one positive; shared negatives serve all positives of a batch. The
argument ``known`` is a CSR matrix: row u has the known items of user u.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, UInt32

from jaxrec.graph.csr import DeviceCsr, contains, count_prefix

__all__ = [
    "DeviceCsr",
    "Popularity",
    "exposed",
    "picked",
    "popular",
    "popularity",
    "shared",
    "uniform",
]

_TRIES = 4  # number of draws per popular negative; the first item unknown to the user is taken


class Popularity(NamedTuple):
    """A distribution over items.

    Attributes:
      end_I: end of the range of uint32 values that draw each item; it begins at the end before.
      log_q_I: log probability of each item. Items of weight 0, which are never drawn, get the least
        log probability of all other items.
    """

    end_I: UInt32[Array, "I"]
    log_q_I: Float[Array, "I"]


def popularity(weight_I: np.ndarray, power: float = 1.0) -> Popularity:
    """Build the distribution weight^power / Σ weight^power (word2vec: counts to the power 3/4).

    Items of weight 0 are never drawn. Probabilities are exact to 2^-32.

    >>> import jax.numpy as jnp
    >>> import numpy as np
    >>> jnp.exp(popularity(np.array([1, 3])).log_q_I).round(2).tolist()
    [0.25, 0.75]
    """
    share_I = weight_I / max(weight_I.max(initial=0), 1e-300)
    mass_I = np.where(weight_I > 0, np.power(share_I, power), 0.0)
    if mass_I.sum() == 0:
        mass_I = np.ones(len(weight_I))
    q_I = mass_I / mass_I.sum()
    end_I = np.minimum(np.round(np.cumsum(q_I) * 2**32), 2**32 - 1).astype(np.uint32)
    # Rounding could leave values above the last end, so the last item with weight gets them.
    end_I[np.flatnonzero(mass_I)[-1] :] = 2**32 - 1
    least = q_I[q_I > 0].min()
    return Popularity(jnp.asarray(end_I), jnp.asarray(np.log(np.maximum(q_I, least)), jnp.float32))


def _draw(key: PRNGKeyArray, shape: tuple[int, ...], of: Popularity) -> Array:
    # The largest value would be past the last item.
    bits = jnp.minimum(jax.random.bits(key, shape), jnp.uint32(2**32 - 2))
    return jnp.searchsorted(of.end_I, bits, side="right").astype(jnp.int32)


def uniform(
    key: PRNGKeyArray, count: int, n_items: int, user_B: Int[Array, "B"], known: DeviceCsr | None
) -> Int[Array, "B N"]:
    """Draw N = count private negatives per positive, uniformly over items 0..n_items-1.

    With ``known``, negatives are exactly uniform over the user's unknown items, without rejection:
    a rank among the unknown items is drawn, and shifted by the number of known items before it,
    which is found by bisection over (known item - its rank). A user who knows every item gets any
    item.

    >>> import jax
    >>> import jax.numpy as jnp
    >>> known = DeviceCsr(jnp.array([0, 2, 3]), jnp.array([0, 1, 2]))  # user 0: 0, 1; user 1: 2
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
    """Draw N = count private negatives per positive from a distribution over items.

    With ``known``, each negative is the first of a few draws that the user does not know; it is
    invalid if the user knows all of the draws. The second result says which negatives are valid.

    >>> import jax
    >>> import jax.numpy as jnp
    >>> import numpy as np
    >>> by_count = popularity(np.array([0, 5, 0, 1]))
    >>> drawn, _ = popular(jax.random.key(0), 100, by_count, jnp.array([0, 1]), None)
    >>> drawn.shape, sorted(set(drawn.ravel().tolist()))
    ((2, 100), [1, 3])
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
    """Draw N private negatives per positive, uniformly over the user's exposed items.

    Exposed items were shown to the user but not chosen; row u of ``shown`` has those of user u.
    Users without exposed items keep the given negatives and their validity.

    >>> import jax
    >>> import jax.numpy as jnp
    >>> shown = DeviceCsr(jnp.array([0, 2, 2]), jnp.array([4, 6]))  # user 0: 4 and 6
    >>> drawn, _ = exposed(jax.random.key(0), jnp.array([0, 1]), shown, jnp.full((2, 9), 7), None)
    >>> [sorted(set(row)) for row in drawn.tolist()]
    [[4, 6], [7]]
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
    """Pick one of C candidates, by index, for each of a pair's N negatives.

    Args:
      how: "semi-hard" picks the highest score below the positive's, or else the lowest (Schroff et
        al., "FaceNet", CVPR 2015, section 3.2, with scores for distances). Any other value picks
        the highest score.
      score_BNC: scores of the candidates; -inf excludes one.
      pos_B: scores of the positives.

    >>> import jax.numpy as jnp
    >>> score_BNC = jnp.array([[[3.0, 1.0, 2.0]]])
    >>> picked("hardest", score_BNC, jnp.array([2.5])).tolist()
    [[0]]
    >>> picked("semi-hard", score_BNC, jnp.array([2.5])).tolist()
    [[2]]
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
    """Draw S = count negatives for the whole batch with replacement, uniformly if ``of`` is None.

    >>> import jax
    >>> import numpy as np
    >>> by_count = popularity(np.array([0, 5, 0, 1]))
    >>> sorted(set(shared(jax.random.key(0), 200, 4, by_count).tolist()))
    [1, 3]
    """
    if of is not None:
        return _draw(key, (count,), of)
    return jax.random.randint(key, (count,), 0, n_items, jnp.int32)
