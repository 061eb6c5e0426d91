"""The configuration of two towers: dense layers for users and for items, without a graph."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Any, Literal

from jaxrec.config.checks import Range, Share, check
from jaxrec.config.models.kind import ModelKind
from jaxrec.config.models.shared import FeatureOptions, check_features


@dataclass(frozen=True)
class TowerOptions:
    """Options of two-tower."""

    tower_dims: Annotated[tuple[int, ...], Range(1, 2**16)] = ()
    """two-tower: widths of the layers between the input and the embeddings."""
    id_dim: Annotated[int | None, Range(1, 2**16)] = None
    """two-tower: width of the id embeddings; default: dim."""
    id_dropout: Share = 0.0
    """two-tower: share of ids hidden in each training step, so that the model learns to embed
    unseen users and items from features."""
    activation: Literal["relu", "gelu", "tanh"] = "relu"
    """two-tower: activation between the layers."""
    final: Literal["linear", "relu", "softmax"] = "linear"
    """two-tower: activation of the embeddings. relu confines them to one orthant, where cosines are
    never negative; softmax bounds the gap between two scores by 1."""
    bags: Literal["mean", "sum"] = "mean"
    """two-tower: average the vectors of the names in a bag, or sum them (multi-hot input)."""


def _check(model: Any) -> None:
    check_features(model)
    check(
        model.ids or (model.id_dim is None and model.id_dropout == 0),
        "model.id_dim and model.id_dropout need model.ids",
    )
    check(
        model.init == "normal",
        "model.init spectral needs a table as wide as the embeddings, "
        "but two-tower has layers in between; set model.init normal",
    )


def _matrix_weights(model: Any) -> int:
    ids = [model.id_dim or model.dim] if model.ids else []
    widths = [*ids, *model.tower_dims, model.dim]
    return 2 * sum(a * b for a, b in pairwise(widths))


TWO_TOWER = ModelKind(
    "two-tower",
    "jaxrec.models.towers",
    (TowerOptions, FeatureOptions),
    _check,
    least_layers=None,
    embeds_new="always",
    feature_rows="always",
    dropouts=("id_dropout",),
    matrix_weights=_matrix_weights,
)
