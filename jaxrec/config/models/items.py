"""Models of items alone, which learn from weighted pairs of them."""

from dataclasses import dataclass
from typing import Any, Literal

from jaxrec.config.checks import check
from jaxrec.config.models.kind import ModelKind


@dataclass(frozen=True)
class ItemOptions:
    """What models of items have."""

    tables: Literal["two", "one"] = "two"
    """skipgram, item-mf: an item has one vector as a centre and another as a context, or one."""
    side: Literal["none", "average", "weighted"] = "none"
    """skipgram, item-mf: an item's centre vector is its own alone; or the average of its own and
    those of its features; or their average by weights that each item learns (EGES). Features that
    an item lacks do not count. Takes the data's names, bags of names and numbers."""


def _check(model: Any) -> None:
    for field in ("init", "dtype", "kernel"):
        default, value = getattr(type(model), field), getattr(model, field)
        check(
            value == default,
            f"model.{field} {value} is not for {model.name}, which has {default}",
        )
    check(
        model.score != "mlp",
        f"model.score is dot or cosine for {model.name}, not mlp",
    )
    check(
        not model.biases or model.score == "dot",
        f"model.biases of {model.name} need model.score dot: a cosine has no room for them",
    )


def _check_skipgram(model: Any) -> None:
    check(
        not model.biases,
        "model.biases is not for skipgram; item-mf has them, on walks too",
    )
    _check(model)


_OF_PAIRS: dict[str, Any] = {"least_layers": None, "users": False}
SKIPGRAM = ModelKind("skipgram", None, (ItemOptions,), _check_skipgram, **_OF_PAIRS)
ITEM_MF = ModelKind("item-mf", None, (ItemOptions,), _check, **_OF_PAIRS)
