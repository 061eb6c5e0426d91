"""Measures of a few hundred rows, scores and lists, in NumPy except for :func:`dead`."""

from collections.abc import Mapping
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

SATURATED = 7.0
"""Score gap above which the sigmoid's derivative is below 1e-3."""

_ONE_THREAD = 2**17
"""Largest number of multiplications in a product that OpenBLAS computes on one thread."""


class Moments(NamedTuple):
    """Mean and standard deviation."""

    mean: float
    sd: float


def _moments(x: np.ndarray) -> Moments:
    return Moments(float(x.mean()), float(x.std())) if x.size else Moments(0.0, 0.0)


def _between_rows(x_nn: np.ndarray) -> np.ndarray:
    """Return the off-diagonal entries, [n (n - 1)]."""
    n = len(x_nn)
    # After entry 0, every (n + 1)-th entry is on the diagonal: drop the last of each n + 1 entries.
    return x_nn.ravel()[1:].reshape(n - 1, n + 1)[:, :-1].ravel() if n > 1 else x_nn[:0, 0]


def _unit(x_nD: np.ndarray) -> np.ndarray:
    """Normalise rows in float64, where squares cannot overflow; rows of zeros stay zeros."""
    x_nD = x_nD.astype(np.float64)
    length_n1 = np.linalg.norm(x_nD, axis=1, keepdims=True)
    return x_nD / np.where(length_n1 > 0, length_n1, 1)


def _products(x_nD: np.ndarray, y_mD: np.ndarray) -> np.ndarray:
    """Compute x yᵀ, [n, m], a few rows at a time.

    For a larger product, BLAS would start threads, which contend with XLA's threads and cost a
    hundred times as much as the product itself.
    """
    step, y_Dm = max(1, _ONE_THREAD // max(y_mD.size, 1)), y_mD.T
    return np.concatenate([x_nD[i : i + step] @ y_Dm for i in range(0, len(x_nD), step)])


def _gram(x_nD: np.ndarray) -> np.ndarray:
    """Return the smaller of xᵀx and xxᵀ; their nonzero eigenvalues are equal."""
    small = x_nD.T if x_nD.shape[1] <= len(x_nD) else x_nD
    return _products(small, small)


def cosines(x_nD: Float[np.ndarray, "n D"]) -> Moments:
    """Return the moments of the cosines between all pairs of different rows; rows of zeros give 0.

    For a matrix U of unit rows u_i, the cosines c_ij have the sums Σ_ij c_ij = |Σ_i u_i|² and
    Σ_ij c_ij² = |UᵀU|² = |UUᵀ|². The diagonal is then subtracted from both.
    """
    unit_nD, n = _unit(x_nD), len(x_nD)
    if n < 2:
        return Moments(0.0, 0.0)
    own_n, pairs = np.square(unit_nD).sum(axis=1), n * (n - 1)
    mean = (np.square(unit_nD.sum(axis=0)).sum() - own_n.sum()) / pairs
    square = (np.square(_gram(unit_nD)).sum() - np.square(own_n).sum()) / pairs
    return Moments(float(mean), float(np.sqrt(max(square - mean**2, 0.0))))


def cross_cosines(x_nD: Float[np.ndarray, "n D"], y_mD: Float[np.ndarray, "m D"]) -> Moments:
    """Return the moments of the cosines between each row of x and each row of y."""
    return _moments(_products(_unit(x_nD), _unit(y_mD)))


class Spectrum(NamedTuple):
    """Effective rank, and share of the squared norm along the first singular direction."""

    rank: float
    first: float


def spectrum(x_nD: Float[np.ndarray, "n D"]) -> Spectrum:
    """Return the effective rank exp(-Σ p log p), where p = σ / Σ σ, and the share σ_1² / Σ σ².

    The σ are the singular values of X. The σ² are computed as eigenvalues of the smaller of XᵀX and
    XXᵀ in float64. For float32 rows, the error of each σ is at most 1e-8 of the largest σ, less
    than that of a float32 SVD. Smaller values are rounding errors and count as 0.

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
    """Return the moments of the rows' lengths."""
    return _moments(np.linalg.norm(x_nD.astype(np.float64), axis=1))


def moved(now_nD: Float[np.ndarray, "n D"], first_nD: Float[np.ndarray, "n D"]) -> float:
    """Return rows' mean distance from their start, divided by their mean length at the start."""
    length = norm(first_nD).mean
    return norm(now_nD.astype(np.float64) - first_nD).mean / (length if length > 0 else 1.0)


def alignment(user_PD: Float[np.ndarray, "P D"], item_PD: Float[np.ndarray, "P D"]) -> float:
    """Return E |u - v|² over positive pairs of normalised rows; 0 is perfect, 2 is chance.

    Source: Wang and Isola, "Understanding contrastive representation learning through alignment
    and uniformity on the hypersphere", ICML 2020.
    """
    return float(np.square(_unit(user_PD) - _unit(item_PD)).sum(axis=1).mean())


def uniformity(x_nD: Float[np.ndarray, "n D"]) -> float:
    """Return log E exp(-2 |x - y|²) over different normalised rows; 0 if all are equal, -4 at best.

    Source: see :func:`alignment`.
    """
    unit_nD = _unit(x_nD)
    angle_nn = _products(unit_nD, unit_nD)
    square_n = np.diag(angle_nn)  # 1 for a unit row, 0 for a row of zeros
    gap_p = _between_rows(np.maximum(square_n[:, None] + square_n - 2 * angle_nn, 0))
    return float(np.log(np.exp(-2 * gap_p).mean())) if gap_p.size else 0.0


def simplex(x_nD: Float[np.ndarray, "n D"]) -> float:
    """Return the share of rows that are distributions: entries are at least 0 and sum to 1."""
    whole_n = np.abs(x_nD.sum(axis=1) - 1) < 1e-3
    return float(np.mean((x_nD.min(axis=1) >= 0) & whole_n))


class Lists(NamedTuple):
    """Measures of how much lists of K items differ from user to user.

    Attributes:
      items: number of distinct items in the lists, divided by the largest possible number.
      overlap: mean share of items that two users' lists have in common.
      popular: share of the lists' items that are among the K most popular items.
    """

    items: float
    overlap: float
    popular: float


def lists(
    item_UK: Int[np.ndarray, "U K"], n_items: int, popular_K: Int[np.ndarray, "_"] | None
) -> Lists:
    """Measure how much top-K lists differ; -1 marks an empty position in a list."""
    n_users, k = item_UK.shape
    there_UK = item_UK >= 0
    count_I = np.bincount(item_UK[there_UK], minlength=n_items).astype(np.float64)
    # An item in c lists is shared by c (c - 1) ordered pairs of lists.
    shared = (count_I * (count_I - 1)).sum() / max(n_users * (n_users - 1), 1) / k
    different = np.count_nonzero(count_I) / min(n_users * k, n_items)
    if popular_K is None:
        return Lists(different, float(shared), 0.0)
    popular_UK = np.isin(item_UK, popular_K) & there_UK
    return Lists(different, float(shared), float(popular_UK.mean()))


def dead(layers: list[Float[Array, "_ _"]]) -> Float[Array, ""]:
    """Return the share of all layers' units that are 0 in every row."""
    unit_H = jnp.concatenate([jnp.all(x <= 0, axis=0) for x in layers])
    return jnp.mean(unit_H.astype(jnp.float32))


class Scored(NamedTuple):
    """Scores of pairs, scores of items that the pairs' users do not know, and true ratings."""

    pos_P: Float[np.ndarray, "P"]
    other_P: Float[np.ndarray, "P"]
    rating_P: Float[np.ndarray, "P"] | None = None


def of_pairs(scored: Scored, temperature: float) -> dict[str, float]:
    """Measure the scores of pairs against those of unknown items, or against the true ratings.

    Args:
      temperature: divisor of scores in training.
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
    """Measure the rows of each side (``user``, ``item``); uniformity uses every other row."""
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
    """Keep the finite figures; add the number of other figures as ``not_finite`` if it is not 0."""
    good = {name: x for name, x in figures.items() if abs(x) < float("inf")}
    lost = len(figures) - len(good)
    return good | ({"not_finite": float(lost)} if lost else {})


def carried(figures: dict[str, float], temperature: float = 1.0) -> dict[str, float]:
    """Return ``carried``, |mean u · i| divided by the standard deviation of the ratings.

    The result is empty if the figures lack the mean or the standard deviation.

    Args:
      figures: ``dot_mean``, the mean of u · i, and ``rating_sd``.
      temperature: divisor of scores in training, by which the mean is divided too.
    """
    dot, sd = figures.get("dot_mean"), figures.get("rating_sd")
    return {} if dot is None or not sd else {"carried": abs(dot) / temperature / sd}
