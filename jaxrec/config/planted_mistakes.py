"""Names and checks of the mistakes that a configuration can plant to show their effects.

The training step has no code for mistakes: ``jaxrec.presets.mistakes`` registers losses and an
optimizer under the names below.
"""

from typing import Any, Literal

from jaxrec.config.checks import check

Mistake = Literal["accumulated-gradients", "sum-in-sigmoid", "batch-scores"]

ADDED = "accumulated-gradients"
"""Name of the mistake of never clearing gradients, and of the optimizer that makes this mistake."""
LOSSES = (
    "bpr-sum-in-sigmoid",
    "bpr-batch-scores",
    "bpr-batch-scores-sum-in-sigmoid",
    "triplet-batch-scores",
)
"""The registered losses: each name is the correct loss, followed by the loss's mistakes."""


def loss_with(loss: str, mistakes: tuple[str, ...]) -> str:
    """Return the name of the loss that is ``loss`` with the given mistakes."""
    in_loss = (name for name in ("batch-scores", "sum-in-sigmoid") if name in mistakes)
    return "-".join([loss, *in_loss])


def check_mistakes(config: Any) -> None:
    """Raise InputError if the mistakes contradict the rest of a configuration."""
    planted, loss, how = config.mistakes, config.loss.name, config.negatives
    check(len(set(planted)) == len(planted), f"mistakes has a name twice: {' '.join(planted)}")
    check(
        ADDED not in planted or not config.optim.asks_for_rows,
        f"mistakes {ADDED} needs the gradients of all rows, but optim.sparse computes only the "
        "gradients of a batch's rows; set optim.sparse False",
    )
    check(
        "sum-in-sigmoid" not in planted or loss == "bpr",
        f"mistakes sum-in-sigmoid needs loss.name bpr, not {loss}",
    )
    check(
        "batch-scores" not in planted or loss in ("bpr", "triplet"),
        f"mistakes batch-scores needs loss.name bpr or triplet, not {loss}",
    )
    one_each = how.count == 1 if how.private else how.picks is not None
    check(
        "batch-scores" not in planted or one_each,
        "mistakes batch-scores needs one negative per pair: negatives.count 1, or "
        "negatives.pick with a shared set",
    )
    check(
        not set(planted) - {ADDED} or (config.model.score != "mlp" and how.hard == 0),
        "mistakes sum-in-sigmoid and batch-scores need model.score dot or cosine, and "
        "negatives.hard 0",
    )
