"""Training objectives: ranking, ratings, or item pairs.

Each objective's file holds its checks and its :class:`Objective`; ``OBJECTIVES`` lists them. The
loss determines a run's objective.
"""

from jaxrec.config.objectives.item_pairs import ITEM_PAIRS
from jaxrec.config.objectives.objective import Objective, Table
from jaxrec.config.objectives.ranking import RANKING
from jaxrec.config.objectives.ratings import RATINGS

__all__ = [
    "LOSS_NAMES",
    "METRIC_NAMES",
    "OBJECTIVES",
    "OWN_METRICS",
    "Objective",
    "Table",
    "lower_is_better",
    "of_loss",
]

OBJECTIVES: dict[str, Objective] = {of.name: of for of in (RANKING, RATINGS, ITEM_PAIRS)}

METRIC_NAMES = ("recall", "recall_capped", "ndcg", "precision", "hit_rate", "mrr", "map")
"""Ranking metrics, each at a cut-off; other names are registered metrics."""
OWN_METRICS = {name: of for of in OBJECTIVES.values() for name in of.metrics}
"""Metrics without a cut-off, with their objectives."""
LOSS_NAMES = tuple(name for of in OBJECTIVES.values() for name in of.losses)
"""Built-in losses; other names are user-registered."""


def of_loss(name: str) -> Objective:
    """Return the objective of a loss; registered losses are for ranking."""
    return next((of for of in OBJECTIVES.values() if name in of.losses), RANKING)


def lower_is_better(metric: str) -> bool:
    """Whether a metric is an error."""
    of = OWN_METRICS.get(metric.partition("@")[0])
    return of is not None and of.lower_is_better
