"""The configuration of NGCF."""

from dataclasses import dataclass
from typing import Any, Literal

from jaxrec.config.checks import Share, check
from jaxrec.config.models.kind import ModelKind
from jaxrec.config.models.shared import MatrixOptions, NodeDropoutOptions


@dataclass(frozen=True)
class NGCFOptions:
    """Options of ngcf."""

    form: Literal["paper", "lecture"] = "paper"
    """ngcf: paper has the paper's interaction terms and concatenates the layers; lecture has the
    lecture's linear map of a node and of its neighbours' mean, and returns the last layer."""
    message_dropout: Share = 0.0
    """ngcf: dropout rate of each layer's output."""


def _check(model: Any) -> None:
    check(
        model.matrices == "random" or model.form == "paper",
        "model.matrices linear needs model.form paper; with lecture take model.matrices random",
    )


def _matrix_weights(model: Any) -> int:
    return model.layers * model.dim**2 * (2 if model.form == "paper" else 1)


NGCF = ModelKind(
    "ngcf",
    "jaxrec.models.ngcf",
    (NGCFOptions, MatrixOptions, NodeDropoutOptions),
    _check,
    dropouts=("node_dropout", "message_dropout"),
    matrix_weights=_matrix_weights,
)
