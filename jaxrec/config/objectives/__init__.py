"""What a run is trained towards: rankings, ratings, or pairs of items.

Each objective's file holds its rules and its :class:`Objective`; ``OBJECTIVES`` lists them. The
loss says which of them a run has.
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
"""Metrics of rankings, each at a cut-off; any other name is that of a registered metric."""
OWN_METRICS = {name: of for of in OBJECTIVES.values() for name in of.metrics}
"""Metrics without a cut-off, and the objective that each belongs to."""
LOSS_NAMES = tuple(name for of in OBJECTIVES.values() for name in of.losses)
"""jaxrec's own losses; any other name is that of a loss that a user has registered."""


def of_loss(name: str) -> Objective:
    """The objective of a loss; that of a loss which a user has registered is to rank."""
    return next((of for of in OBJECTIVES.values() if name in of.losses), RANKING)


def lower_is_better(metric: str) -> bool:
    """Whether a metric is an error."""
    of = OWN_METRICS.get(metric.partition("@")[0])
    return of is not None and of.lower_is_better
