"""Mistakes to be made on purpose, to see what they do: their rules, and what makes each.

None is known to a step: ``jaxrec.presets.mistakes`` registers losses and an optimizer under the
names that are here.
"""

from typing import Any, Literal

from jaxrec.config.checks import check

Mistake = Literal["accumulated-gradients", "sum-in-sigmoid", "batch-scores"]

ADDED = "accumulated-gradients"
"""The mistake, and the registered optimizer that makes it."""
LOSSES = (
    "bpr-sum-in-sigmoid",
    "bpr-batch-scores",
    "bpr-batch-scores-sum-in-sigmoid",
    "triplet-batch-scores",
)
"""Registered losses: a loss, and the mistakes that are made in it."""


def loss_with(loss: str, made: tuple[str, ...]) -> str:
    """The name of a loss in which these mistakes are made; its own where they are none of it."""
    return "-".join([loss, *(name for name in ("batch-scores", "sum-in-sigmoid") if name in made)])


def check_mistakes(config: Any) -> None:
    """Raise InputError where the mistakes do not go with the rest of a configuration."""
    made, loss, how = config.mistakes, config.loss.name, config.negatives
    check(len(set(made)) == len(made), f"mistakes names one twice: {' '.join(made)}")
    check(
        ADDED not in made or not config.optim.asks_for_rows,
        f"mistakes {ADDED} needs gradients of all rows, and optim.sparse has few",
    )
    check(
        "sum-in-sigmoid" not in made or loss == "bpr",
        f"mistakes sum-in-sigmoid needs loss.name bpr, not {loss}",
    )
    check(
        "batch-scores" not in made or loss in ("bpr", "triplet"),
        f"mistakes batch-scores needs loss.name bpr or triplet, not {loss}",
    )
    one_each = how.count == 1 if how.private else how.picks is not None
    check(
        "batch-scores" not in made or one_each,
        "mistakes batch-scores needs one negative per pair: negatives.count 1, or "
        "negatives.pick with a shared set",
    )
    check(
        not set(made) - {ADDED} or (config.model.score != "mlp" and how.hard == 0),
        "mistakes sum-in-sigmoid and batch-scores need model.score dot or cosine, and are "
        "without negatives.hard",
    )
