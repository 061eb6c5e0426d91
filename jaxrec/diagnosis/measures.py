"""What can be measured of a few hundred rows, scores and lists: pure, by NumPy in float64."""

from collections.abc import Mapping
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

SATURATED = 7.0
"""A score gap at which the sigmoid's derivative is below 1e-3."""

_ONE_THREAD = 2**17
"""Multiplications up to which OpenBLAS takes a product for too small to share among threads."""


class Moments(NamedTuple):
    """Mean and standard deviation."""

    mean: float
    sd: float


def _moments(x: np.ndarray) -> Moments:
    return Moments(float(x.mean()), float(x.std())) if x.size else Moments(0.0, 0.0)


def _between_rows(x_nn: np.ndarray) -> np.ndarray:
    """The entries off the diagonal, [n (n - 1)]: those of pairs of different rows."""
    n = len(x_nn)
    # Without its first entry a row of n + 1 begins at each entry of the diagonal.
    return x_nn.ravel()[1:].reshape(n - 1, n + 1)[:, :-1].ravel() if n > 1 else x_nn[:0, 0]


def _unit(x_nD: np.ndarray) -> np.ndarray:
    """Rows of length 1 in float64, whose squares hold whatever float32 can; zeros stay zeros."""
    x_nD = x_nD.astype(np.float64)
    length_n1 = np.linalg.norm(x_nD, axis=1, keepdims=True)
    return x_nD / np.where(length_n1 > 0, length_n1, 1)


def _products(x_nD: np.ndarray, y_mD: np.ndarray) -> np.ndarray:
    """x yᵀ, [n, m], a few rows at a time.

    BLAS would start threads for the whole, and beside XLA's their waiting costs a hundred times
    what a product of this size does.
    """
    step, y_Dm = max(1, _ONE_THREAD // max(y_mD.size, 1)), y_mD.T
    return np.concatenate([x_nD[i : i + step] @ y_Dm for i in range(0, len(x_nD), step)])


def _gram(x_nD: np.ndarray) -> np.ndarray:
    """The smaller of xᵀx and xxᵀ, which have the same eigenvalues but for zeros."""
    small = x_nD.T if x_nD.shape[1] <= len(x_nD) else x_nD
    return _products(small, small)


def cosines(x_nD: Float[np.ndarray, "n D"]) -> Moments:
    """Of the cosines between all pairs of different rows. A row of zeros has cosine 0.

    Σ_ij c_ij = |Σ_i u_i|² and Σ_ij c_ij² = |UᵀU|² = |UUᵀ|², less the diagonal.
    """
    unit_nD, n = _unit(x_nD), len(x_nD)
    if n < 2:
        return Moments(0.0, 0.0)
    own_n, pairs = np.square(unit_nD).sum(axis=1), n * (n - 1)
    mean = (np.square(unit_nD.sum(axis=0)).sum() - own_n.sum()) / pairs
    square = (np.square(_gram(unit_nD)).sum() - np.square(own_n).sum()) / pairs
    return Moments(float(mean), float(np.sqrt(max(square - mean**2, 0.0))))


def cross_cosines(x_nD: Float[np.ndarray, "n D"], y_mD: Float[np.ndarray, "m D"]) -> Moments:
    """Of the cosines between each row of one and each row of the other."""
    return _moments(_products(_unit(x_nD), _unit(y_mD)))


class Spectrum(NamedTuple):
    """Effective rank, and share of the squared norm along the first singular direction."""

    rank: float
    first: float


def spectrum(x_nD: Float[np.ndarray, "n D"]) -> Spectrum:
    """exp(-Σ p log p) with p = σ / Σ σ of the singular values σ, and σ_1² / Σ σ².

    The squares of σ are the eigenvalues of the smaller of XᵀX and XXᵀ, in float64: of float32 rows
    that gives each σ to within 1e-8 of the largest one, closer than a float32 decomposition would.
    What comes out below that is rounding, and counts as 0.

    Source: Roy and Vetterli, "The effective rank", EUSIPCO 2007. A matrix of zeros has rank 0.
    """
    if not np.isfinite(x_nD).all():
        return Spectrum(float("nan"), float("nan"))
    x_nD = x_nD.astype(np.float64)
    n, width = x_nD.shape
    square = np.linalg.eigvalsh(_gram(x_nD))
    square = np.where(square > max(n, width) * np.finfo(float).eps * square.max(), square, 0)
    if not square.any():
        return Spectrum(0.0, 0.0)
    sigma = np.sqrt(square[square > 0])
    p = sigma / sigma.sum()
    return Spectrum(float(np.exp(-(p * np.log(p)).sum())), float(square.max() / square.sum()))


def norm(x_nD: Float[np.ndarray, "n D"]) -> Moments:
    """Of the rows' lengths."""
    return _moments(np.linalg.norm(x_nD.astype(np.float64), axis=1))


def moved(now_nD: Float[np.ndarray, "n D"], first_nD: Float[np.ndarray, "n D"]) -> float:
    """Mean distance of rows from where they began, over their mean length there."""
    length = norm(first_nD).mean
    return norm(now_nD.astype(np.float64) - first_nD).mean / (length if length > 0 else 1.0)


def alignment(user_PD: Float[np.ndarray, "P D"], item_PD: Float[np.ndarray, "P D"]) -> float:
    """E |u - v|² over pairs that belong together, rows of length 1; 0 is perfect, 2 is chance.

    Source: Wang and Isola, "Understanding contrastive representation learning through alignment
    and uniformity on the hypersphere", ICML 2020.
    """
    return float(np.square(_unit(user_PD) - _unit(item_PD)).sum(axis=1).mean())


def uniformity(x_nD: Float[np.ndarray, "n D"]) -> float:
    """log E exp(-2 |x - y|²) over different rows of length 1; 0 where all are one, -4 at best.

    Source: as :func:`alignment`.
    """
    unit_nD = _unit(x_nD)
    angle_nn = _products(unit_nD, unit_nD)
    square_n = np.diag(angle_nn)  # 1, and 0 of a row of zeros
    gap_p = _between_rows(np.maximum(square_n[:, None] + square_n - 2 * angle_nn, 0))
    return float(np.log(np.exp(-2 * gap_p).mean())) if gap_p.size else 0.0


def simplex(x_nD: Float[np.ndarray, "n D"]) -> float:
    """Share of the rows that are probabilities: no entry below 0, and a sum of 1."""
    whole_n = np.abs(x_nD.sum(axis=1) - 1) < 1e-3
    return float(np.mean((x_nD.min(axis=1) >= 0) & whole_n))


class Lists(NamedTuple):
    """How much lists of K items differ from user to user.

    Attributes:
      items: different items in any of the lists, over as many as there could be.
      overlap: items that the lists of two users share, over K; mean over pairs of users.
      popular: items of the lists that are among the K most popular ones, over K.
    """

    items: float
    overlap: float
    popular: float


def lists(
    item_UK: Int[np.ndarray, "U K"], n_items: int, popular_K: Int[np.ndarray, "_"] | None
) -> Lists:
    """Of top-K lists; -1 stands for no item."""
    n_users, k = item_UK.shape
    there_UK = item_UK >= 0
    count_I = np.bincount(item_UK[there_UK], minlength=n_items).astype(np.float64)
    # Each item's c users make c (c - 1) ordered pairs of lists that share it.
    shared = (count_I * (count_I - 1)).sum() / max(n_users * (n_users - 1), 1) / k
    different = np.count_nonzero(count_I) / min(n_users * k, n_items)
    if popular_K is None:
        return Lists(different, float(shared), 0.0)
    popular_UK = np.isin(item_UK, popular_K) & there_UK
    return Lists(different, float(shared), float(popular_UK.mean()))


def dead(layers: list[Float[Array, "_ _"]]) -> Float[Array, ""]:
    """Share of the units of all layers that are 0 at every row."""
    unit_H = jnp.concatenate([jnp.all(x <= 0, axis=0) for x in layers])
    return jnp.mean(unit_H.astype(jnp.float32))


class Scored(NamedTuple):
    """A part's pairs: their scores, those of the other items, and what they are to be."""

    pos_P: Float[np.ndarray, "P"]
    other_P: Float[np.ndarray, "P"]
    rating_P: Float[np.ndarray, "P"] | None = None


def of_pairs(scored: Scored, temperature: float) -> dict[str, float]:
    """How a part's pairs score: against an item that the user does not know, or their ratings.

    Args:
      temperature: that scores are divided by in training.
    """
    pos_P = scored.pos_P.astype(np.float64)
    if scored.rating_P is not None:
        error_P = scored.rating_P - pos_P
        found = {"mse": np.square(error_P).mean(), "off": error_P.mean()}
        return {name: float(x) for name, x in found.items()}
    gap_P = (pos_P - scored.other_P) / temperature
    return {
        "auc": float(np.where(gap_P == 0, 0.5, gap_P > 0).mean()),
        "gap_loss": float(np.logaddexp(0, -gap_P).mean()),
        "saturated": float((np.abs(gap_P) > SATURATED).mean()),
        "saturated_wrong": float((gap_P < -SATURATED).mean()),
        "gap": float(np.abs(gap_P).mean()),
    }


def sides(row: Mapping[str, np.ndarray]) -> dict[str, float]:
    """The figures of each side's rows, by ``user`` and ``item``; uniformity of every other one."""
    found = {}
    for side, row_nD in row.items():
        spread, length, shape = cosines(row_nD), norm(row_nD), spectrum(row_nD)
        of_side = {
            "cosine": spread.mean,
            "cosine_sd": spread.sd,
            "rank": shape.rank,
            "first": shape.first,
            "norm": length.mean,
            "norm_sd": length.sd,
            "uniformity": uniformity(row_nD[::2]),
            "simplex": simplex(row_nD),
        }
        found |= {f"{side}_{name}": x for name, x in of_side.items()}
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
