"""Test whether two configurations differ, by paired tests over users with Holm's correction.

All tests are two-sided, with the null hypothesis that paired differences are centred at 0. The
tests over users take several sets of differences at once, one per row.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

_DRAWS_AT_ONCE = 2**24  # the largest number of resampled values in memory


def paired_t(diff_RN: np.ndarray) -> np.ndarray:
    """Return p-values [R] of Student's paired t-test (1908); 1 where no pair differs.

    Args:
      diff_RN: R sets of differences of N pairs.
    """
    from scipy import stats

    diff_RN = np.atleast_2d(diff_RN)
    p_R = np.where(diff_RN[:, 0] == 0, 1.0, 0.0)  # these are the p-values of constant differences
    varied = np.ptp(diff_RN, axis=1) > 0
    if varied.any():
        p_R[varied] = np.asarray(stats.ttest_1samp(diff_RN[varied], 0.0, axis=1))[1]
    return p_R


def wilcoxon(diff_RN: np.ndarray) -> np.ndarray:
    """Return p-values [R] of Wilcoxon's signed-rank test (1945), by the normal approximation.

    Equal pairs are ranked and then dropped (Pratt 1959), because many users have the same metric
    under both configurations. The p-value is 1 where no pair differs.
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
    """p-values [R], and the ends [R] of the 95 % confidence intervals of the mean differences."""

    p_R: np.ndarray
    low_R: np.ndarray
    high_R: np.ndarray


def bootstrap(diff_RN: np.ndarray, draws: int = 2000, seed: int = 0) -> Bootstrap:
    """Bootstrap the mean difference (Efron and Tibshirani 1993, sections 13.3 and 16.4).

    The ends of the interval are the percentiles 2.5 and 97.5 of the resampled means. The p-value is
    the share of resampled means whose distance from the observed mean is at least the distance of
    the observed mean from 0.
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
        # Count how often each pair is drawn. All rows share the draws.
        drawn = rng.integers(0, size, (n, size)) + size * np.arange(n)[:, None]
        count_DN = np.bincount(drawn.ravel(), minlength=n * size).reshape(n, size)
        means.append(count_DN.astype(np.float64) @ diff_RN.T / size)
        left -= n
    mean_DR = np.concatenate(means)
    deviation_DR = np.abs(mean_DR - mean_R)
    # The factor treats deviations as equal if they differ only by rounding.
    least_R = np.abs(mean_R) * (1 - 1e-9)
    p_R = (1 + (deviation_DR >= least_R).sum(axis=0)) / (draws + 1)
    low_R, high_R = np.percentile(mean_DR, (2.5, 97.5), axis=0)
    return Bootstrap(p_R, low_R, high_R)


def welch(a: Sequence[float], b: Sequence[float]) -> float | None:
    """Return the p-value of Welch's t-test (1947) between the seeds of two configurations.

    The result is None if a configuration has fewer than two seeds, or if neither varies over seeds.
    """
    from scipy import stats

    if min(len(a), len(b)) < 2 or (np.ptp(a) == 0 and np.ptp(b) == 0):
        return None
    return float(np.asarray(stats.ttest_ind(a, b, equal_var=False))[1])


def corrected_t(diff_F: Sequence[float] | np.ndarray, ratio: float) -> float:
    """Return the p-value of the corrected resampled t-test (Nadeau and Bengio 2003).

    The models of different folds are trained on mostly the same pairs, so their results are not
    independent, and a plain t-test finds differences too often. This test estimates the variance of
    the mean difference as (1 / F + ratio) times the variance over folds.

    Args:
      diff_F: the difference of two configurations in each of F folds, two or more.
      ratio: number of test pairs divided by the number of train pairs.

    >>> round(corrected_t([0.02, 0.01, 0.03, 0.02], ratio=0.25), 3)
    0.041
    """
    from scipy import stats

    mean, variance = float(np.mean(diff_F)), float(np.var(diff_F, ddof=1))
    if variance == 0:
        return 0.0 if mean else 1.0
    t = mean / np.sqrt((1 / len(diff_F) + ratio) * variance)
    return float(2 * stats.t.sf(abs(t), len(diff_F) - 1))


def holm(p: Sequence[float] | np.ndarray) -> np.ndarray:
    """Adjust p-values for multiple tests by Holm's step-down procedure (1979).

    If the hypotheses with an adjusted p-value below a level are rejected, the probability that any
    of these is true is at most that level.
    """
    p = np.asarray(p, np.float64)
    order = np.argsort(p, kind="stable")
    scaled = p[order] * np.arange(len(p), 0, -1)
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(np.maximum.accumulate(scaled), 1.0)
    return adjusted


def effect_size(diff_N: np.ndarray) -> float:
    """Return Cohen's d of paired values (1988): mean / standard deviation of the differences.

    It is 0 if the standard deviation is 0, or if there are fewer than two differences.
    """
    std = float(np.std(diff_N, ddof=1)) if len(diff_N) > 1 else 0.0
    return float(np.mean(diff_N)) / std if std else 0.0
