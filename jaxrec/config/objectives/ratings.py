"""The rating objective: predict ratings, from rated interactions."""

import dataclasses
from typing import Any

from jaxrec.config.checks import check
from jaxrec.config.objectives.objective import Objective, Table
from jaxrec.config.objectives.ranking import numbers_of_pairs, ranking_table

_METRICS = ("rmse", "mae")


def _check(config: Any) -> None:
    loss = config.loss.name
    for f in dataclasses.fields(config.negatives):
        check(
            getattr(config.negatives, f.name) == f.default,
            f"negatives.{f.name} needs a loss with negatives, not loss.name {loss}",
        )
    if loss != "levels":
        return
    score = config.model.score
    check(
        score == "dot",
        f"model.score {score} is not for loss.name levels, which uses a decoder",
    )
    check(
        not config.model.biases,
        "model.biases is not for loss.name levels, whose decoder has no biases",
    )


def _tables(config: Any) -> list[Table]:
    return [ranking_table(config), Table("Ratings", list(_METRICS), ("mean", "biases"))]


RATINGS = Objective(
    "ratings",
    of="models that predict ratings",
    losses=("mse", "levels"),
    default_metric="rmse",
    check=_check,
    tables=_tables,
    batch_numbers=lambda config, n_items: numbers_of_pairs(config),
    trains="jaxrec.training.objectives.ratings",
    task="jaxrec.training.interactions",
    judges="jaxrec.evaluation.user_runs",
    errors="jaxrec.evaluation.ratings",
    metrics=_METRICS,
    lower_is_better=True,
    negatives=False,
    reads=("rating",),
)
