"""A model and its baselines before what judges them: a part of eval.json."""

from collections.abc import Callable
from typing import Any, NamedTuple

from jaxrec.data.dataset import Csr
from jaxrec.evaluation.cold import Cold
from jaxrec.evaluation.item_pairs import PairEvaluator
from jaxrec.evaluation.ranking import Evaluator
from jaxrec.evaluation.ratings import RatingEvaluator
from jaxrec.evaluation.scorers import Scorer


class Known(NamedTuple):
    """Items by user: what they have in train, all that they have besides what should be found, and
    that."""

    train: Csr
    had: Csr
    relevant: Csr


class Judged(NamedTuple):
    """A finished run's model, its baselines, and what judges them by a split."""

    model: Scorer
    baselines: dict[str, Scorer]
    evaluator: Evaluator | PairEvaluator
    ratings: RatingEvaluator | None = None
    cold: Cold | None = None
    known: Known | None = None

    def measure(self) -> dict[str, Any] | None:
        """See :func:`measure`."""
        return measure(self.model, self.baselines, self.evaluator, None, self.ratings, self.cold)


def measure(
    model: Scorer,
    baselines: dict[str, Scorer],
    evaluator: Evaluator | PairEvaluator,
    should_stop: Callable[[], bool] | None = None,
    ratings: RatingEvaluator | None = None,
    cold: Cold | None = None,
) -> dict[str, Any] | None:
    """Metrics of the model and of each baseline: a part of eval.json; None if stopped.

    With ``ratings`` the errors of the model besides, and of baselines of their own; with ``cold``
    how many users and items training has not met, and the model's metrics with or without them. The
    users of an item model are the items whose neighbours are ranked.
    """
    measured = {}
    for name, scorer in {"model": model, **baselines}.items():
        measured[name] = evaluator(scorer, should_stop)
        if measured[name] is None:
            return None
    if ratings is not None:
        measured["model"] |= ratings(model)
        measured |= ratings.baselines if baselines else {}
    found = {"metrics": measured.pop("model"), "baselines": measured, "users": evaluator.users}
    if isinstance(evaluator, PairEvaluator):
        return found | {"pairs": evaluator.pairs, "cold": evaluator.cold}
    if cold is None:
        return found
    told: dict[str, Any] = {**cold.counts, "left_out": cold.left_out}
    found["cold"] = told
    if cold.other is not None:
        other = cold.other(model, should_stop)
        if other is None:
            return None
        other |= {} if cold.ratings is None else cold.ratings(model)
        told["with" if cold.left_out else "without"] = other
    return found
