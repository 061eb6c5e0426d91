"""What scores items for users: embeddings, popularity, chance."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Num

from jaxrec import hashing
from jaxrec.models.score import PairWeights, all_scores
from jaxrec.runfolder import Embeddings

ScoreFn = Callable[[Any, Array], Array]

TileFn = Callable[[Any, Array, int], Any]
"""``(params, first, size)`` to the parameters that score the items first .. first + size - 1."""


class Scorer(NamedTuple):
    """Something that scores all items for given users.

    Attributes:
      fn: pure ``(params, user_B int32) -> score_BI float32``; higher is better, -inf is never
        recommended. Keep one function and vary ``params``: a new function is a new compilation.
      params: pytree of arrays.
      n_items: I.
    """

    fn: ScoreFn
    params: Any
    n_items: int


def _dot(params: dict[str, Array], user_B: Array) -> Array:
    # HIGHEST: GPU and TPU would round float32 factors to fewer bits, and change the ranking.
    score_BI = lax.dot_general(
        params["user"][user_B],
        params["item"],
        (((1,), (1,)), ((), ())),
        precision=lax.Precision.HIGHEST,
        preferred_element_type=jnp.float32,
    )
    if "user_bias" in params:
        score_BI += params["user_bias"][user_B, None]
    if "item_bias" in params:
        score_BI += params["item_bias"]
    return score_BI


def dot_scorer(
    user_UD: Float[Array | np.ndarray, "U D"],
    item_ID: Float[Array | np.ndarray, "I D"],
    *,
    user_bias_U: Float[Array | np.ndarray, "U"] | None = None,
    item_bias_I: Float[Array | np.ndarray, "I"] | None = None,
    dtype: Any = None,
) -> Scorer:
    """Score u · i (+ biases). ``dtype`` is the type of the factors; sums are float32."""
    params = {"user": jnp.asarray(user_UD, dtype), "item": jnp.asarray(item_ID, dtype)}
    biases = {"user_bias": user_bias_U, "item_bias": item_bias_I}
    params |= {n: jnp.asarray(b, jnp.float32) for n, b in biases.items() if b is not None}
    return Scorer(_dot, params, len(item_ID))


def _learned(params: dict[str, Array], user_B: Array) -> Array:
    weights = PairWeights(*(params[name] for name in PairWeights._fields))
    return all_scores(weights, params["user"][user_B], params["item"])


def pair_scorer(
    user_UD: Float[Array | np.ndarray, "U D"],
    item_ID: Float[Array | np.ndarray, "I D"],
    weights: PairWeights | None,
) -> Scorer:
    """Score by the learned function of these weights; u · i where there are none."""
    if weights is None:
        return dot_scorer(user_UD, item_ID)
    params = {"user": jnp.asarray(user_UD), "item": jnp.asarray(item_ID)}
    params |= {name: jnp.asarray(x) for name, x in weights._asdict().items()}
    return Scorer(_learned, params, len(item_ID))


def table_scorer(table: Embeddings) -> Scorer:
    """What ranks by the embeddings of a finished run."""
    if table.score_bias_H is not None:
        fields = (getattr(table, f"score_{name}") for name in PairWeights._fields)
        return pair_scorer(table.user, table.item, PairWeights(*fields))
    biases = {"user_bias_U": table.user_bias, "item_bias_I": table.item_bias}
    return dot_scorer(table.user, table.item, **biases)


def _popularity(count_I: Array, user_B: Array) -> Array:
    return jnp.broadcast_to(count_I, (len(user_B), len(count_I)))


def popularity_scorer(counts_I: Num[Array | np.ndarray, "I"]) -> Scorer:
    """Every item by its count (of train interactions), the same for every user."""
    return Scorer(_popularity, jnp.asarray(counts_I, jnp.float32), len(counts_I))


def _random(params: tuple[Array, Array], user_B: Array) -> Array:
    key, item_I = params
    bits = jax.vmap(lambda user: jax.random.bits(jax.random.fold_in(key, user)))(user_B)
    return hashing.uniform(bits[:, None] + item_I * jnp.uint32(0x9E3779B9))


def _items(x: Array, first: Array, size: int) -> Array:
    return lax.dynamic_slice_in_dim(x, first, size)


def _dot_tile(params: dict[str, Array], first: Array, size: int) -> dict[str, Array]:
    of_items = ("item", "item_bias")
    by_item = {n: _items(x, first, size) for n, x in params.items() if n in of_items}
    return params | by_item


def _random_tile(params: tuple[Array, Array], first: Array, size: int) -> tuple[Array, Array]:
    return params[0], _items(params[1], first, size)


TILES: dict[ScoreFn, TileFn] = {_dot: _dot_tile, _learned: _dot_tile}
TILES |= {_popularity: _items, _random: _random_tile}
"""Score functions that can score some of the items alone: large catalogues are ranked in tiles."""


def random_scorer(seed: int, n_items: int) -> Scorer:
    """A uniform score in [0, 1) for each user and item, a function of (seed, user, item)."""
    return Scorer(_random, (jax.random.key(seed), jnp.arange(n_items, dtype=jnp.uint32)), n_items)
