"""NGCF."""

from dataclasses import dataclass
from typing import Any, Literal

from jaxrec.config.checks import Share, check
from jaxrec.config.models.kind import ModelKind
from jaxrec.config.models.shared import MatrixOptions, NodeDropoutOptions


@dataclass(frozen=True)
class NGCFOptions:
    """What ngcf alone has."""

    form: Literal["paper", "lecture"] = "paper"
    """ngcf: interaction terms, layers concatenated; or the lecture's mean of neighbours and one
    linear map of node and neighbours, the last layer."""
    message_dropout: Share = 0.0
    """ngcf: share of the entries of a layer's output set to 0 in a training step."""


def _check(model: Any) -> None:
    check(
        model.matrices == "random" or model.form == "paper",
        "model.matrices linear needs model.form paper; with lecture take model.matrices random",
    )


NGCF = ModelKind(
    "ngcf",
    "jaxrec.models.ngcf",
    (NGCFOptions, MatrixOptions, NodeDropoutOptions),
    _check,
    dropouts=("node_dropout", "message_dropout"),
)
