"""Evaluates predicted ratings and baselines by RMSE and MAE over held-out pairs."""

from functools import cached_property, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int

from jaxrec.data.dataset import Dataset
from jaxrec.errors import InputError
from jaxrec.evaluation.scorers import PAIRS, PairFn, Scorer, dot_scorer

_BLOCK = 8192
# Koren, "Factor in the neighbors", TKDD 2010, section 2.1.
_ITEM_SHRINKAGE, _USER_SHRINKAGE = 25, 10


class RatingScale(NamedTuple):
    """Mean, minimum and maximum of the train ratings."""

    mean: float
    low: float
    high: float

    @classmethod
    def of(cls, train: Dataset) -> "RatingScale":
        """Compute the scale of the train ratings. Raises InputError if there are none."""
        rating = needed_ratings(train)
        return cls(float(rating.mean(dtype=np.float64)), float(rating.min()), float(rating.max()))


def needed_ratings(data: Dataset) -> np.ndarray:
    """Return the ratings. Raises InputError if there are none."""
    if data.rating is None:
        raise InputError(
            f"{data.name}: loss.name mse and levels need ratings, but this data has none; "
            "set --loss.name bpr, bce or softmax, which need none"
        )
    return data.rating


class _Pairs(NamedTuple):
    """Held-out ratings in S blocks of B pairs; padding has weight 0."""

    user_SB: Int[Array, "S B"]
    item_SB: Int[Array, "S B"]
    rating_SB: Float[Array, "S B"]
    weight_SB: Float[Array, "S B"]


@partial(jax.jit, static_argnums=0)
def _sums(fn: PairFn, params: Any, scale: RatingScale, pairs: _Pairs) -> Float[Array, "S 2"]:
    """Return the sum of squared errors and the sum of absolute errors of each block."""

    def of_block(pair: _Pairs) -> Array:
        user_B, item_B, rating_B, weight_B = pair
        predicted_B = jnp.clip(fn(params, user_B, item_B), scale.low, scale.high)
        error_B = predicted_B - rating_B
        return jnp.stack([weight_B @ jnp.square(error_B), weight_B @ jnp.abs(error_B)])

    return lax.map(of_block, pairs)


class RatingEvaluator:
    """Measures the errors of predictions, clipped to the range of the train ratings.

    Raises:
      InputError: there are no ratings.
    """

    def __init__(self, held_out: Dataset, train: Dataset) -> None:
        self._train = train
        self._scale = RatingScale.of(train)
        self.pairs = held_out.n_edges
        columns = (held_out.user, held_out.item, needed_ratings(held_out))
        size = min(_BLOCK, self.pairs)
        padding = -self.pairs % size

        def blocks(x: np.ndarray) -> Array:
            return jnp.asarray(np.pad(x, (0, padding)).reshape(-1, size))

        self._pairs = _Pairs(*map(blocks, (*columns, np.ones(self.pairs, np.float32))))

    def __call__(self, scorer: Scorer) -> dict[str, float]:
        """Compute ``{"rmse", "mae"}`` of a scorer's predictions."""
        scale = RatingScale(*map(jnp.float32, self._scale))
        sums_S2 = jax.device_get(_sums(PAIRS[scorer.fn], scorer.params, scale, self._pairs))
        square, absolute = (sums_S2.sum(axis=0, dtype=np.float64) / self.pairs).tolist()
        return {"rmse": square**0.5, "mae": absolute}

    @cached_property
    def baselines(self) -> dict[str, dict[str, float]]:
        """Errors of two baselines: the mean rating, and the mean rating with biases."""
        scorers = {"mean": mean_scorer(self._train), "biases": bias_scorer(self._train)}
        return {name: self(scorer) for name, scorer in scorers.items()}


def evaluator(held_out: Dataset, train: Dataset) -> RatingEvaluator:
    """Make the evaluator of held-out ratings. Raises InputError if there are none."""
    return RatingEvaluator(held_out, train)


def mean_scorer(train: Dataset) -> Scorer:
    """Predict the mean of the train ratings for every pair."""
    return _constant(train, np.zeros(train.n_users), np.zeros(train.n_items))


def bias_scorer(train: Dataset) -> Scorer:
    """Predict μ + b_u + b_i, where μ is the mean rating and the biases are shrunken mean residuals.

    b_i = Σ_u (r - μ) / (25 + n_i), then b_u = Σ_i (r - μ - b_i) / (10 + n_u), where n_i and n_u are
    the numbers of ratings of the item and of the user.

    Source: Koren, "Factor in the neighbors", TKDD 2010, section 2.1.
    """
    rest_E = needed_ratings(train).astype(np.float64) - RatingScale.of(train).mean
    sum_I = np.bincount(train.item, rest_E, train.n_items)
    bias_I = sum_I / (_ITEM_SHRINKAGE + train.item_counts())
    sum_U = np.bincount(train.user, rest_E - bias_I[train.item], train.n_users)
    return _constant(train, sum_U / (_USER_SHRINKAGE + train.user_counts()), bias_I)


def _constant(train: Dataset, bias_U: np.ndarray, bias_I: np.ndarray) -> Scorer:
    zeros = (np.zeros((n, 1), np.float32) for n in (train.n_users, train.n_items))
    mean = RatingScale.of(train).mean
    return dot_scorer(*zeros, user_bias_U=bias_U + mean, item_bias_I=bias_I)
