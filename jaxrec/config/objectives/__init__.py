"""Training objectives: ranking, ratings, or item pairs.

Each objective has a file with its checks and its :class:`Objective`, which ``OBJECTIVES`` lists.
The loss determines a run's objective.
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

OBJECTIVES: dict[str, Objective] = {each.name: each for each in (RANKING, RATINGS, ITEM_PAIRS)}

METRIC_NAMES = ("recall", "recall_capped", "ndcg", "precision", "hit_rate", "mrr", "map")
"""Ranking metrics, each at a cut-off; other names are registered metrics."""
OWN_METRICS = {name: each for each in OBJECTIVES.values() for name in each.metrics}
"""Metrics without a cut-off, with their objectives."""
LOSS_NAMES = tuple(name for each in OBJECTIVES.values() for name in each.losses)
"""Built-in losses; other names are user-registered."""


def of_loss(name: str) -> Objective:
    """Return the objective of a loss; registered losses are for ranking."""
    return next((each for each in OBJECTIVES.values() if name in each.losses), RANKING)


def lower_is_better(metric: str) -> bool:
    """Return whether lower values of a metric are better, as for errors."""
    objective = OWN_METRICS.get(metric.partition("@")[0])
    return objective is not None and objective.lower_is_better
