"""Two towers: dense layers for users and for items, without a graph."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from jaxrec.config.checks import Range, Share, check
from jaxrec.config.models.kind import ModelKind
from jaxrec.config.models.shared import FeatureOptions, check_features


@dataclass(frozen=True)
class TowerOptions:
    """What two-tower alone has."""

    tower_dims: Annotated[tuple[int, ...], Range(1, 2**16)] = ()
    """two-tower: widths of the layers between the input and the embeddings."""
    id_dim: Annotated[int | None, Range(1, 2**16)] = None
    """two-tower: width of the ids' embeddings; dim where not given."""
    id_dropout: Share = 0.0
    """two-tower: share of a training step's ids that are hidden, so that features alone learn to
    stand for what has not been seen."""
    activation: Literal["relu", "gelu", "tanh"] = "relu"
    """two-tower: between the layers."""
    final: Literal["linear", "relu", "softmax"] = "linear"
    """two-tower: on the embeddings. relu has them all in one orthant, where cosines are never
    negative; softmax bounds the gap between two scores by 1."""
    bags: Literal["mean", "sum"] = "mean"
    """two-tower: the names in a bag are averaged, or added up (a multi-hot input)."""


def _check(model: Any) -> None:
    check_features(model)
    check(
        model.ids or (model.id_dim is None and model.id_dropout == 0),
        "model.id_dim and model.id_dropout need model.ids",
    )
    check(
        model.init == "normal",
        "model.init spectral is for models whose table is of the width of the embeddings, "
        "and two-tower has layers between",
    )


TWO_TOWER = ModelKind(
    "two-tower",
    "jaxrec.models.towers",
    (TowerOptions, FeatureOptions),
    _check,
    least_layers=None,
    embeds_new="always",
    dropouts=("id_dropout",),
)
