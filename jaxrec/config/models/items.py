"""The configuration of item models, which are trained on weighted item pairs."""

from dataclasses import dataclass
from typing import Any, Literal

from jaxrec.config.checks import check
from jaxrec.config.models.kind import ModelKind


@dataclass(frozen=True)
class ItemOptions:
    """Options of item models."""

    tables: Literal["two", "one"] = "two"
    """skipgram, item-mf: separate centre and context vectors per item, or one vector for both."""
    side: Literal["none", "average", "weighted"] = "none"
    """skipgram, item-mf: how an item's centre vector is composed. none: it is the item's own
    vector; average: the mean of the item's vector and the vectors of its features; weighted: their
    mean with weights learned per item (EGES). Missing features do not count; categories, bags and
    numbers are used."""


def _check(model: Any) -> None:
    for field in ("init", "dtype", "kernel"):
        default, value = getattr(type(model), field), getattr(model, field)
        check(
            value == default,
            f"model.{field} {value} is not for {model.name}; take {default}",
        )
    check(
        model.score != "mlp",
        f"model.score must be dot or cosine for {model.name}, not mlp",
    )
    check(
        not model.biases or model.score == "dot",
        f"model.biases of {model.name} need model.score dot",
    )


def _check_skipgram(model: Any) -> None:
    check(
        not model.biases,
        "model.biases is not for skipgram; take item-mf, which trains on walks too",
    )
    _check(model)


_OF_PAIRS: dict[str, Any] = {"least_layers": None, "users": False}
SKIPGRAM = ModelKind("skipgram", None, (ItemOptions,), _check_skipgram, **_OF_PAIRS)
ITEM_MF = ModelKind("item-mf", None, (ItemOptions,), _check, **_OF_PAIRS)
