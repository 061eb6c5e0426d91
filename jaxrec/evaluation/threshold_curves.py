"""Measures how well scores separate true pairs from false ones, over all thresholds.

Equal scores share a threshold: the curves have one point per distinct score, and both areas equal
those of scikit-learn, ties included.

roc_auc            area under the curve of tpr, the true positive rate, against fpr, the false
                   positive rate, by trapezoids. It is the probability that a true pair scores above
                   a false one; ties count half (Fawcett 2006).
average_precision  Σ_n (recall_n - recall_{n-1}) · precision_n over falling thresholds n, without
                   interpolation (as scikit-learn).
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from jaxrec.errors import RunError


class Curve(NamedTuple):
    """The points of a curve in order of falling threshold.

    The first threshold is infinity, which no pair reaches. Shapes: x, y, threshold [n] float64.
    """

    x: np.ndarray
    y: np.ndarray
    threshold: np.ndarray

    def thinned(self, n: int = 1000) -> "Curve":
        """Return at most ``n`` points, spread evenly along the curve and along its threshold."""
        if len(self.x) <= n:
            return self
        finite = self.threshold[1:]
        spread = np.ptp(finite) or 1.0
        drop = np.append(0, np.append(0, -np.diff(finite)) / spread)
        way = np.cumsum(np.abs(np.diff(self.x, prepend=0)) + np.abs(np.diff(self.y, prepend=0)))
        way = way / (way[-1] or 1.0) + np.cumsum(drop)
        at = np.searchsorted(way, np.linspace(way[0], way[-1], n - 1))
        at = np.union1d(np.minimum(at, len(way) - 1), [0])
        return Curve(*(part[at] for part in self))


class _Counts(NamedTuple):
    """Falling thresholds, and the numbers of true and false pairs at or above each threshold."""

    threshold: np.ndarray
    true: np.ndarray
    false: np.ndarray


def _counts(score_P: np.ndarray, label_P: np.ndarray) -> _Counts:
    if np.isnan(score_P).any():
        raise RunError("the scores of pairs are not numbers (NaN), and cannot be compared")
    score_P = score_P.astype(np.float64)
    order = np.argsort(-score_P)  # the order of equal scores does not matter
    score_P, label_P = score_P[order], label_P[order]
    last = np.append(np.flatnonzero(score_P[1:] != score_P[:-1]), len(score_P) - 1)
    true = np.cumsum(label_P, dtype=np.int64)[last]
    false = last + 1 - true
    if not (true[-1] and false[-1]):
        raise ValueError("pairs of both labels are needed")
    return _Counts(score_P[last], true, false)


def areas(score_P: Float[np.ndarray, "P"], label_P: Bool[np.ndarray, "P"]) -> tuple[float, float]:
    """Return the area under the ROC curve, and the average precision.

    Raises:
      RunError: a score is NaN.
      ValueError: all labels are equal.
    """
    _, true, false = _counts(score_P, label_P)
    # Twice the area, times the numbers of true and of false pairs, is an integer: the sum is exact.
    before = np.append(0, true[:-1])
    twice = int(np.sum(np.diff(false, prepend=0) * (true + before)))
    roc_auc = twice / (2 * int(true[-1]) * int(false[-1]))
    precision = np.sum(np.diff(true, prepend=0) * (true / (true + false))) / true[-1]
    return roc_auc, float(precision)


def roc_curve(score_P: Float[np.ndarray, "P"], label_P: Bool[np.ndarray, "P"]) -> Curve:
    """Return true positive rates (y) at false positive rates (x), from (0, 0) to (1, 1)."""
    threshold, true, false = _counts(score_P, label_P)
    return Curve(
        np.append(0, false / false[-1]),
        np.append(0, true / true[-1]),
        np.append(np.inf, threshold),
    )


def pr_curve(score_P: Float[np.ndarray, "P"], label_P: Bool[np.ndarray, "P"]) -> Curve:
    """Return precision (y) at each recall (x), from recall 0 with precision 1 up to recall 1."""
    threshold, true, false = _counts(score_P, label_P)
    return Curve(
        np.append(0, true / true[-1]),
        np.append(1, true / (true + false)),
        np.append(np.inf, threshold),
    )
