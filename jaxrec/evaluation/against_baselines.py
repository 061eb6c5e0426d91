"""Evaluates a model together with its baselines, for eval.json."""

from collections.abc import Callable
from typing import Any, NamedTuple

from jaxrec.data.dataset import Csr
from jaxrec.evaluation.cold import Cold
from jaxrec.evaluation.item_pairs import PairEvaluator
from jaxrec.evaluation.ranking import Evaluator
from jaxrec.evaluation.ratings import RatingEvaluator
from jaxrec.evaluation.scorers import Scorer


class Known(NamedTuple):
    """Items by user: the train items, all known items (train and validation), and the relevant
    items."""

    train: Csr
    had: Csr
    relevant: Csr


class Judged(NamedTuple):
    """A finished run's model, its baselines, and their evaluator on a split."""

    model: Scorer
    baselines: dict[str, Scorer]
    evaluator: Evaluator | PairEvaluator
    ratings: RatingEvaluator | None = None
    cold: Cold | None = None
    known: Known | None = None

    def measure(self) -> dict[str, Any] | None:
        """Compute the metrics; see :func:`measure`."""
        return measure(self.model, self.baselines, self.evaluator, None, self.ratings, self.cold)


def measure(
    model: Scorer,
    baselines: dict[str, Scorer],
    evaluator: Evaluator | PairEvaluator,
    should_stop: Callable[[], bool] | None = None,
    ratings: RatingEvaluator | None = None,
    cold: Cold | None = None,
    known: dict[str, dict[str, float]] | None = None,
) -> dict[str, Any] | None:
    """Compute the metrics of the model and its baselines, for eval.json; None if interrupted.

    ``ratings`` adds rating errors of the model and of rating baselines. ``cold`` adds the counts of
    cold users and items, and the model's metrics with the other setting of ``eval.cold``. For an
    item model, "users" is the number of query items. ``known`` maps names of baselines to metrics
    that were measured before. Baselines in ``known`` are not measured again, and the metrics of
    all other baselines are added to ``known``.
    """
    known = {} if known is None else known
    measured = {}
    for name, scorer in {"model": model, **baselines}.items():
        found = dict(known.get(name, ())) or evaluator(scorer, should_stop)
        if found is None:
            return None
        measured[name] = found
    known |= {name: dict(measured[name]) for name in baselines}
    if ratings is not None:
        measured["model"] |= ratings(model)
        measured |= ratings.baselines if baselines else {}
    result = {"metrics": measured.pop("model"), "baselines": measured, "users": evaluator.users}
    if isinstance(evaluator, PairEvaluator):
        return result | {"pairs": evaluator.pairs, "cold": evaluator.cold}
    if cold is None:
        return result
    counts: dict[str, Any] = {**cold.counts, "left_out": cold.left_out}
    result["cold"] = counts
    if cold.other is not None:
        other = cold.other(model, should_stop)
        if other is None:
            return None
        other |= {} if cold.ratings is None else cold.ratings(model)
        counts["with" if cold.left_out else "without"] = other
    return result
