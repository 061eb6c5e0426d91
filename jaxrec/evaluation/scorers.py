"""Scorers, which score items for users by embeddings, by popularity or at random."""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Num

from jaxrec import hashed_random
from jaxrec.models.decoder import DecoderWeights, all_expected, expected, level_logits
from jaxrec.models.score import PairWeights, all_scores, pair_scores
from jaxrec.randomness import OfSeed, child
from jaxrec.runfolder import Embeddings

ScoreFn = Callable[[Any, Array], Array]

PairFn = Callable[[Any, Array, Array], Array]
"""Maps ``(params, user_B, item_B)`` to the scores of the pairs (user, item), [B]."""

TileFn = Callable[[Any, Array, int], Any]
"""Maps ``(params, first, size)`` to the parameters that score items first .. first + size - 1."""


class Scorer(NamedTuple):
    """Scores all items for given users.

    Attributes:
      fn: pure ``(params, user_B int32) -> score_BI float32``; higher is better, and an item with
        score -inf is never recommended. Reuse one function with different ``params``, since each
        function is compiled.
      params: pytree of arrays.
      n_items: I.
    """

    fn: ScoreFn
    params: Any
    n_items: int


def _dot(params: dict[str, Array], user_B: Array) -> Array:
    # A lower precision than HIGHEST on GPU and TPU would change the ranking.
    score_BI = lax.dot_general(
        params["user"][user_B],
        params["item"],
        (((1,), (1,)), ((), ())),
        precision=lax.Precision.HIGHEST,
        preferred_element_type=jnp.float32,
    )
    return _rated(params, score_BI, user_B[:, None], slice(None))


def dot_scorer(
    user_UD: Float[Array | np.ndarray, "U D"],
    item_ID: Float[Array | np.ndarray, "I D"],
    *,
    user_bias_U: Float[Array | np.ndarray, "U"] | None = None,
    item_bias_I: Float[Array | np.ndarray, "I"] | None = None,
    dtype: Any = None,
) -> Scorer:
    """Make the scorer u · i plus biases. ``dtype`` is the factors' type; sums are float32."""
    params = {"user": jnp.asarray(user_UD, dtype), "item": jnp.asarray(item_ID, dtype)}
    biases = {"user_bias": user_bias_U, "item_bias": item_bias_I}
    params |= {n: jnp.asarray(b, jnp.float32) for n, b in biases.items() if b is not None}
    return Scorer(_dot, params, len(item_ID))


def _learned(params: dict[str, Array], user_B: Array) -> Array:
    score_BI = all_scores(_pair_weights(params), params["user"][user_B], params["item"])
    return _rated(params, score_BI, user_B[:, None], slice(None))


def _decoded(params: dict[str, Array], user_B: Array) -> Array:
    level_R, user_BD = params["decoder_level_R"], params["user"][user_B]
    return all_expected(_decoder_weights(params), level_R, user_BD, params["item"])


def _rated(params: dict[str, Array], score: Array, user: Any, item: Any) -> Array:
    """Add biases, and convert scores to ratings for rating models."""
    if "user_bias" in params:
        score += params["user_bias"][user]
    if "item_bias" in params:
        score += params["item_bias"][item]
    if "rating_mean" in params:
        score = params["rating_mean"] + params["rating_scale"] * score
    return score


def _pair_weights(params: dict[str, Array]) -> PairWeights:
    return PairWeights(*(params[f"score_{name}"] for name in PairWeights._fields))


def _decoder_weights(params: dict[str, Array]) -> DecoderWeights:
    return DecoderWeights(*(params[f"decoder_{name}"] for name in DecoderWeights._fields))


def _dot_pairs(params: dict[str, Array], user_B: Array, item_B: Array) -> Array:
    score_B = jnp.sum(params["user"][user_B] * params["item"][item_B], axis=1)
    return _rated(params, score_B, user_B, item_B)


def _learned_pairs(params: dict[str, Array], user_B: Array, item_B: Array) -> Array:
    item_B1D = params["item"][item_B[:, None]]
    score_B1 = pair_scores(_pair_weights(params), params["user"][user_B], item_B1D)
    return _rated(params, score_B1[:, 0], user_B, item_B)


def _decoded_pairs(params: dict[str, Array], user_B: Array, item_B: Array) -> Array:
    pair_BD = params["user"][user_B], params["item"][item_B]
    return expected(level_logits(_decoder_weights(params), *pair_BD), params["decoder_level_R"])


def scorer_of(learned: Mapping[str, Array | np.ndarray]) -> Scorer:
    """Make the scorer of a run's arrays, named as in :class:`Embeddings`."""
    params = {name: jnp.asarray(x) for name, x in learned.items()}
    return Scorer(fn_of(params), params, len(params["item"]))


def fn_of(learned: Mapping[str, Array | np.ndarray]) -> ScoreFn:
    """Return the score function for a run's arrays, which depends on the names of the arrays."""
    fn = _learned if "score_bias_H" in learned else _dot
    return _decoded if "decoder_basis_SDD" in learned else fn


BY_USER, BY_ITEM = ("user", "user_bias"), ("item", "item_bias")


def from_host(params: Any, user_B: Array) -> Array:
    """Score function of scorers with factors in host memory; it marks them and is never called."""
    raise TypeError("factors in host memory are ranked by tiles")


def host_scorer(learned: Mapping[str, np.ndarray]) -> Scorer:
    """Make the scorer of arrays of any size. The arrays stay in host memory."""
    return Scorer(from_host, {n: np.asarray(x) for n, x in learned.items()}, len(learned["item"]))


def table_scorer(table: Embeddings) -> Scorer:
    """Make the scorer of a finished run's embeddings.

    The embeddings stay in host memory if they exceed half of a device's memory.
    """
    ids = ("user_ids", "item_ids")
    learned = {name: x for name, x in table.arrays().items() if name not in ids}
    limit = (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit", math.inf)
    fits = sum(x.nbytes for x in learned.values()) <= limit / 2
    return scorer_of(learned) if fits else host_scorer(learned)


def _popularity(count_I: Array, user_B: Array) -> Array:
    return jnp.broadcast_to(count_I, (len(user_B), len(count_I)))


def popularity_scorer(counts_I: Num[Array | np.ndarray, "I"]) -> Scorer:
    """Score every item by its count of train interactions."""
    return Scorer(_popularity, jnp.asarray(counts_I, jnp.float32), len(counts_I))


def _random(params: tuple[Array, Array], user_B: Array) -> Array:
    return _chance(params[0], user_B[:, None], params[1])


def _random_pairs(params: tuple[Array, Array], user_B: Array, item_B: Array) -> Array:
    return _chance(params[0], user_B, item_B.astype(jnp.uint32))


def _chance(key: Array, user: Array, item: Array) -> Array:
    """Hash each pair of user and item to [0, 1); the arrays are broadcast."""
    bits = jax.vmap(lambda user: jax.random.bits(jax.random.fold_in(key, user)))(user.ravel())
    return hashed_random.uniform(bits.reshape(user.shape) + item * jnp.uint32(0x9E3779B9))


def _items(x: Array, first: Array, size: int) -> Array:
    return lax.dynamic_slice_in_dim(x, first, size)


def _dot_tile(params: dict[str, Array], first: Array, size: int) -> dict[str, Array]:
    of_items = ("item", "item_bias")
    by_item = {n: _items(x, first, size) for n, x in params.items() if n in of_items}
    return params | by_item


def _random_tile(params: tuple[Array, Array], first: Array, size: int) -> tuple[Array, Array]:
    return params[0], _items(params[1], first, size)


TILES: dict[ScoreFn, TileFn] = {_dot: _dot_tile, _learned: _dot_tile, _decoded: _dot_tile}
TILES |= {_popularity: _items, _random: _random_tile}
"""For each score function that can score a tile of items, the function that selects the tile's
parameters; for large catalogues."""

OF_ITEMS: dict[ScoreFn, Callable[[Any, Array], Any]] = {
    _popularity: lambda params, item_M: params[item_M],
    _random: lambda params, item_M: (params[0], params[1][item_M]),
}
"""By score function: a function that maps ``(params, item_M)`` to the parameters that score only
these items. Each device of a mesh uses it to rank baselines over the device's own items."""

PAIRS: dict[ScoreFn, PairFn] = {
    _dot: _dot_pairs,
    _learned: _learned_pairs,
    _decoded: _decoded_pairs,
    _random: _random_pairs,
}
"""By score function: the function that scores given pairs, if there is one."""


def random_scorer(seed: int, n_items: int) -> Scorer:
    """Make the scorer that gives each pair a random score in [0, 1), hashed from (seed, user,
    item)."""
    key = child(jax.random.key(seed), OfSeed.CHANCE)
    return Scorer(_random, (key, jnp.arange(n_items, dtype=jnp.uint32)), n_items)
