"""What can be measured of embeddings and of the scores they make: pure, on a sample, on device."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxrec import losses
from jaxrec.evaluate.scorers import PAIRS, Scorer
from jaxrec.evaluate.topk import Rows, rank
from jaxrec.models.nodes import unit_rows

TOP = 20
SATURATED = 7.0
"""A score gap at which the sigmoid's derivative is below 1e-3."""


class Moments(NamedTuple):
    """Mean and standard deviation."""

    mean: Float[Array, ""]
    sd: Float[Array, ""]


def _moments(x: Array, used: Array) -> Moments:
    count = jnp.maximum(jnp.sum(used, dtype=jnp.float32), 1)
    mean = jnp.sum(jnp.where(used, x, 0)) / count
    square = jnp.sum(jnp.where(used, jnp.square(x - mean), 0)) / count
    return Moments(mean, jnp.sqrt(square))


def cosines(x_nD: Float[Array, "n D"]) -> Moments:
    """Of the cosines between all pairs of different rows. A row of zeros has cosine 0."""
    unit_nD = unit_rows(x_nD)
    cosine_nn = unit_nD @ unit_nD.T
    return _moments(cosine_nn, ~jnp.eye(len(x_nD), dtype=bool))


def cross_cosines(x_nD: Float[Array, "n D"], y_mD: Float[Array, "m D"]) -> Moments:
    """Of the cosines between each row of one and each row of the other."""
    cosine_nm = unit_rows(x_nD) @ unit_rows(y_mD).T
    return _moments(cosine_nm, jnp.ones(cosine_nm.shape, bool))


class Spectrum(NamedTuple):
    """Effective rank, and share of the squared norm along the first singular direction."""

    rank: Float[Array, ""]
    first: Float[Array, ""]


def spectrum(x_nD: Float[Array, "n D"]) -> Spectrum:
    """exp(-Σ p log p) with p = σ / Σ σ of the singular values σ, and σ_1² / Σ σ².

    Source: Roy and Vetterli, "The effective rank", EUSIPCO 2007. A matrix of zeros has rank 0.
    """
    sigma = jnp.linalg.svd(x_nD / _scale(x_nD), compute_uv=False)
    total = jnp.sum(sigma)
    p = sigma / jnp.where(total > 0, total, 1)
    entropy = -jnp.sum(jnp.where(p > 0, p * jnp.log(jnp.where(p > 0, p, 1)), 0))
    square = jnp.sum(jnp.square(sigma))
    first = jnp.square(sigma[0]) / jnp.where(square > 0, square, 1)
    return Spectrum(jnp.where(total > 0, jnp.exp(entropy), 0), first)


def _scale(x: Array) -> Float[Array, ""]:
    """The largest entry, so that squares of very large and very small numbers stay in range."""
    top = jnp.max(jnp.abs(x))
    return jnp.where(top > 0, top, 1)


def norm(x_nD: Float[Array, "n D"]) -> Moments:
    """Of the rows' lengths."""
    scale = _scale(x_nD)
    length_n = scale * jnp.linalg.norm(x_nD / scale, axis=1)
    return _moments(length_n, jnp.ones(length_n.shape, bool))


def alignment(user_PD: Float[Array, "P D"], item_PD: Float[Array, "P D"]) -> Float[Array, ""]:
    """E |u - v|² over pairs that belong together, rows of length 1; 0 is perfect, 2 is chance.

    Source: Wang and Isola, "Understanding contrastive representation learning through alignment
    and uniformity on the hypersphere", ICML 2020.
    """
    return jnp.mean(losses.squared_norm(unit_rows(user_PD) - unit_rows(item_PD)))


def uniformity(x_nD: Float[Array, "n D"]) -> Float[Array, ""]:
    """log E exp(-2 |x - y|²) over different rows of length 1; 0 where all are one, -4 at best.

    Source: as :func:`alignment`.
    """
    unit_nD = unit_rows(x_nD)
    square_n = losses.squared_norm(unit_nD)
    gap_nn = jnp.maximum(square_n[:, None] + square_n - 2 * unit_nD @ unit_nD.T, 0)
    other_nn = ~jnp.eye(len(x_nD), dtype=bool)
    return jnp.log(_moments(jnp.exp(-2 * gap_nn), other_nn).mean)


def simplex(x_nD: Float[Array, "n D"]) -> Float[Array, ""]:
    """Share of the rows that are probabilities: no entry below 0, and a sum of 1."""
    whole_n = jnp.abs(jnp.sum(x_nD, axis=1) - 1) < 1e-3
    return jnp.mean(((jnp.min(x_nD, axis=1) >= 0) & whole_n).astype(jnp.float32))


class Lists(NamedTuple):
    """How much lists of K items differ from user to user.

    Attributes:
      items: different items in any of the lists, over as many as there could be.
      overlap: items that the lists of two users share, over K; mean over pairs of users.
      popular: items of the lists that are among the K most popular ones, over K.
    """

    items: Float[Array, ""]
    overlap: Float[Array, ""]
    popular: Float[Array, ""]


def lists(item_UK: Int[Array, "U K"], n_items: int, popular_K: Int[Array, "K"] | None) -> Lists:
    """Of top-K lists; -1 stands for no item."""
    n_users, k = item_UK.shape
    there_UK = item_UK >= 0
    count_I = jnp.zeros(n_items, jnp.float32)
    count_I = count_I.at[jnp.where(there_UK, item_UK, n_items)].add(1.0, mode="drop")
    # Each item's c users make c (c - 1) ordered pairs of lists that share it.
    shared = jnp.sum(count_I * (count_I - 1)) / max(n_users * (n_users - 1), 1) / k
    different = jnp.sum(count_I > 0, dtype=jnp.float32) / min(n_users * k, n_items)
    if popular_K is None:
        return Lists(different, shared, jnp.zeros(()))
    popular_UK = jnp.any(item_UK[:, :, None] == popular_K, axis=2) & there_UK
    return Lists(different, shared, jnp.mean(popular_UK.astype(jnp.float32)))


def dead(layers: list[Float[Array, "_ _"]]) -> Float[Array, ""]:
    """Share of the units of all layers that are 0 at every row."""
    unit_H = jnp.concatenate([jnp.all(x <= 0, axis=0) for x in layers])
    return jnp.mean(unit_H.astype(jnp.float32))


class Pairs(NamedTuple):
    """Pairs of one part of the data; ``other_P`` are items that their users do not know.

    ``rating_P`` where ratings are predicted, else None.
    """

    user_P: Int[Array, "P"]
    item_P: Int[Array, "P"]
    other_P: Int[Array, "P"]
    rating_P: Float[Array, "P"] | None = None


class Sample(NamedTuple):
    """What is looked at: rows, and pairs of train and of validation (None where there are none)."""

    user_n: Int[Array, "n"]
    item_m: Int[Array, "m"]
    listed_l: Int[Array, "l"]
    popular_K: Int[Array, "K"] | None
    train: Pairs | None
    validation: Pairs | None


def of_pairs(
    score: Callable[[Array, Array], Array], pairs: Pairs, temperature: float
) -> dict[str, Array]:
    """How a part's pairs score: against an item that the user does not know, or their ratings.

    Args:
      score: (user [P], item [P]) to scores [P].
      temperature: that scores are divided by in training.
    """
    pos_P = score(pairs.user_P, pairs.item_P)
    if pairs.rating_P is not None:
        error_P = pairs.rating_P - pos_P
        off = jnp.mean(pairs.rating_P) - jnp.mean(pos_P)
        return {"mse": jnp.mean(jnp.square(error_P)), "off": off}
    gap_P = (pos_P - score(pairs.user_P, pairs.other_P)) / temperature
    won_P = jnp.where(gap_P == 0, 0.5, (gap_P > 0).astype(jnp.float32))
    return {
        "auc": jnp.mean(won_P),
        "gap_loss": jnp.mean(jax.nn.softplus(-gap_P)),
        "saturated": jnp.mean((jnp.abs(gap_P) > SATURATED).astype(jnp.float32)),
        "saturated_wrong": jnp.mean((gap_P < -SATURATED).astype(jnp.float32)),
        "gap": jnp.mean(jnp.abs(gap_P)),
    }


_spectrum = jax.jit(spectrum)


# Users and items are alike to the compiler, and so are train and validation: each is one program.
@jax.jit
def _lengths_and_angles(row_nD: Array) -> dict[str, Array]:
    spread, length = cosines(row_nD), norm(row_nD)
    return {
        "cosine": spread.mean,
        "cosine_sd": spread.sd,
        "norm": length.mean,
        "norm_sd": length.sd,
        "uniformity": uniformity(row_nD),
        "simplex": simplex(row_nD),
    }


def _of_side(row_nD: Array) -> dict[str, Array]:
    # LAPACK's threads beside XLA's in one program cost a hundred times what either takes alone.
    shape = jax.block_until_ready(_spectrum(row_nD))
    return {"rank": shape.rank, "first": shape.first} | _lengths_and_angles(row_nD)


@partial(jax.jit, static_argnums=(0, 1))
def _of_scores(fn: Any, n_items: int, params: dict[str, Array], sample: Sample) -> dict[str, Array]:
    n_listed, m = len(sample.listed_l), len(sample.item_m)
    grid = jnp.repeat(sample.listed_l, m), jnp.tile(sample.item_m, n_listed)
    score_lm = PAIRS[fn](params, *grid).reshape(n_listed, m)
    cross = cross_cosines(params["user"][sample.listed_l], params["item"][sample.item_m])
    nothing = Rows(jnp.zeros(n_listed + 1, jnp.int32), jnp.zeros(0, jnp.int32))
    ranked = rank(fn, min(TOP, n_items), params, sample.listed_l, nothing)
    how = lists(ranked.item_BK, n_items, sample.popular_K)
    return {
        "pair_cosine": cross.mean,
        "pair_cosine_sd": cross.sd,
        "score_mean": jnp.mean(score_lm),
        "dot_mean": jnp.mean(params["user"][sample.user_n], axis=0)
        @ jnp.mean(params["item"][sample.item_m], axis=0),
        "score_spread": jnp.mean(jnp.std(score_lm, axis=1)),
        # What tells users apart: what is left of the spread without the items' own means.
        "score_personal": jnp.mean(jnp.std(score_lm - jnp.mean(score_lm, axis=0), axis=1)),
        **{f"list_{name}": x for name, x in how._asdict().items()},
    }


@jax.jit
def _taken(x_ND: Array, row_n: Array) -> Array:
    return x_ND[row_n]


def sides(row: dict[str, Array]) -> dict[str, Array]:
    """The figures of each side's rows, by ``user`` and ``item``, on the device."""
    found = {}
    for side, row_nD in row.items():
        # One at a time: on CPU the threads of two decompositions wait for each other by spinning.
        of_side = jax.block_until_ready(_of_side(jax.block_until_ready(row_nD)))
        found |= {f"{side}_{name}": x for name, x in of_side.items()}
    return found


@partial(jax.jit, static_argnums=(0, 1))
def _of_part(
    fn: Any, temperature: float, params: dict[str, Array], pairs: Pairs
) -> dict[str, Array]:
    found = of_pairs(lambda *pair: PAIRS[fn](params, *pair), pairs, temperature)
    both = params["user"][pairs.user_P], params["item"][pairs.item_P]
    return found | {"alignment": alignment(*both)}


def measured(scorer: Scorer, sample: Sample, temperature: float = 1.0) -> dict[str, Array]:
    """Every figure of a sample, on the device.

    Args:
      scorer: of embeddings, as ``evaluate.scorers.scorer_of`` makes it.
      temperature: that scores are divided by in training.
    """
    fn, params = scorer.fn, scorer.params
    found = jax.block_until_ready(_of_scores(fn, scorer.n_items, params, sample))
    of = {"user": sample.user_n, "item": sample.item_m}
    found |= sides({side: _taken(params[side], row_n) for side, row_n in of.items()})
    for part, pairs in (("train", sample.train), ("validation", sample.validation)):
        if pairs is not None:
            of_part = _of_part(fn, temperature, params, pairs)
            found |= {f"{part}_{name}": x for name, x in of_part.items()}
    return found


def finite(figures: dict[str, float]) -> dict[str, float]:
    """Those that are numbers, and under ``not_finite`` how many are not, where any are not."""
    good = {name: x for name, x in figures.items() if abs(x) < float("inf")}
    lost = len(figures) - len(good)
    return good | ({"not_finite": float(lost)} if lost else {})


def carried(figures: dict[str, float], temperature: float = 1.0) -> dict[str, float]:
    """The mean product of users and items in standard deviations of the ratings."""
    dot, sd = figures.get("dot_mean"), figures.get("rating_sd")
    return {} if dot is None or not sd else {"carried": abs(dot) / temperature / sd}
