"""What every section of a configuration is checked with."""

from collections.abc import Sequence

from jaxrec.errors import InputError

RATING_METRICS = ("rmse", "mae")
"""Metrics of predicted ratings; the others are of rankings."""
PAIR_METRICS = ("auc", "auc_seen", "average_precision", "average_precision_seen")
"""Metrics of labelled pairs of items."""


def lower_is_better(metric: str) -> bool:
    """Whether a metric is an error."""
    return metric.partition("@")[0] in RATING_METRICS


def check(ok: bool, message: str) -> None:
    """Raise InputError with the message unless ``ok``."""
    if not ok:
        raise InputError(message)


def check_cutoffs(ks: Sequence[int]) -> None:
    """Raise InputError unless ``ks`` are one or more different cut-offs of at least 1."""
    listed = " ".join(map(str, ks))
    check(
        len(ks) > 0 and all(k >= 1 for k in ks),
        f"eval.k must be one or more cut-offs of at least 1, not ({listed})",
    )
    check(len(set(ks)) == len(ks), f"eval.k names a cut-off twice: {listed}")


def shown_cutoff(ks: Sequence[int]) -> int:
    """The cut-off of the metrics that are shown where there is room for one: 20, or the largest."""
    return 20 if 20 in ks else max(ks)
