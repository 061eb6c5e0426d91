"""Whether two configurations differ: paired tests over users, effect sizes, Holm's correction.

All tests are two-sided, of the hypothesis that the differences of the paired values are centred at
0. They take many sets of differences at once, one a row.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

_DRAWS_AT_ONCE = 2**24  # resampled values in memory


def paired_t(diff_RN: np.ndarray) -> np.ndarray:
    """p-values of Student's paired t-test (1908), [R]; 1 where no pair differs.

    Args:
      diff_RN: differences of N pairs, R sets of them.
    """
    from scipy import stats

    diff_RN = np.atleast_2d(diff_RN)
    spread_R = np.ptp(diff_RN, axis=1)
    p_R = np.where(diff_RN[:, 0] == 0, 1.0, 0.0)  # without a spread all are 0, or none is
    varied = spread_R > 0
    if varied.any():
        p_R[varied] = np.asarray(stats.ttest_1samp(diff_RN[varied], 0.0, axis=1))[1]
    return p_R


def wilcoxon(diff_RN: np.ndarray) -> np.ndarray:
    """p-values of Wilcoxon's signed-rank test (1945), [R], by its normal approximation.

    Pairs that do not differ are ranked and then left out (Pratt 1959), for a ranking metric of many
    users is the same under both configurations. 1 where no pair differs.
    """
    from scipy import stats

    diff_RN = np.atleast_2d(diff_RN)
    p_R = np.ones(len(diff_RN))
    varied = (diff_RN != 0).any(axis=1)
    if varied.any():
        how = {"zero_method": "pratt", "method": "approx", "correction": False}
        p_R[varied] = np.asarray(stats.wilcoxon(diff_RN[varied], axis=1, **how))[1]
    return p_R


class Bootstrap(NamedTuple):
    """p-values [R], and the interval of 95 % of the mean difference, low [R] and high [R]."""

    p_R: np.ndarray
    low_R: np.ndarray
    high_R: np.ndarray


def bootstrap(diff_RN: np.ndarray, draws: int = 2000, seed: int = 0) -> Bootstrap:
    """The bootstrap of the mean difference (Efron and Tibshirani 1993, sections 13.3 and 16.4).

    The interval is between percentiles of resampled means. The p-value is the share of means that
    are at least as far from 0 once the observed mean is taken off.
    """
    diff_RN = np.atleast_2d(np.asarray(diff_RN, np.float64))
    rows, size = diff_RN.shape
    mean_R = diff_RN.mean(axis=1)
    rng = np.random.default_rng(seed)
    means = []
    at_once = max(1, _DRAWS_AT_ONCE // max(size * (1 + rows), 1))
    left = draws
    while left:
        n = min(at_once, left)
        # How often each pair is drawn; the same draws serve all rows, each by itself a bootstrap.
        drawn = rng.integers(0, size, (n, size)) + size * np.arange(n)[:, None]
        count_DN = np.bincount(drawn.ravel(), minlength=n * size).reshape(n, size)
        means.append(count_DN.astype(np.float64) @ diff_RN.T / size)
        left -= n
    mean_DR = np.concatenate(means)
    away_DR = np.abs(mean_DR - mean_R)
    # A mean that equals the observed one but for rounding counts as as far.
    least_R = np.abs(mean_R) * (1 - 1e-9)
    p_R = (1 + (away_DR >= least_R).sum(axis=0)) / (draws + 1)
    low_R, high_R = np.percentile(mean_DR, (2.5, 97.5), axis=0)
    return Bootstrap(p_R, low_R, high_R)


def welch(a: Sequence[float], b: Sequence[float]) -> float | None:
    """p-value of Welch's t-test (1947) between the seeds of two configurations.

    None with fewer than two seeds of either, or where no seed of either moves the metric.
    """
    from scipy import stats

    if min(len(a), len(b)) < 2 or (np.ptp(a) == 0 and np.ptp(b) == 0):
        return None
    return float(np.asarray(stats.ttest_ind(a, b, equal_var=False))[1])


def holm(p: Sequence[float] | np.ndarray) -> np.ndarray:
    """p-values adjusted for being several, by Holm's step-down procedure (1979).

    The chance that any true hypothesis is rejected at a level is at most that level.
    """
    p = np.asarray(p, np.float64)
    order = np.argsort(p, kind="stable")
    scaled = p[order] * np.arange(len(p), 0, -1)
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(np.maximum.accumulate(scaled), 1.0)
    return adjusted


def effect_size(diff_N: np.ndarray) -> float:
    """Cohen's d of paired values (1988): the mean difference in standard deviations of it."""
    spread = float(np.std(diff_N, ddof=1)) if len(diff_N) > 1 else 0.0
    return float(np.mean(diff_N)) / spread if spread else 0.0
