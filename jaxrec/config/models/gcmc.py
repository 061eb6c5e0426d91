"""The configuration of GC-MC."""

from dataclasses import dataclass
from typing import Any

from jaxrec.config.models.kind import ModelKind
from jaxrec.config.models.shared import (
    FeatureOptions,
    HiddenOptions,
    MatrixOptions,
    NodeDropoutOptions,
    check_features,
    check_hidden,
    layer_weights,
)


@dataclass(frozen=True)
class GCMCOptions:
    """Options of gcmc."""

    levels: bool | None = None
    """gcmc: each rating value is an edge type with its own weights. On by default if the data
    has ratings with at most 20 distinct values."""
    batch_norm: bool = False
    """gcmc: batch normalisation of the embeddings, over users and over items."""


def _check(model: Any) -> None:
    check_hidden(model)
    check_features(model)


GCMC = ModelKind(
    "gcmc",
    "jaxrec.models.gcmc",
    (GCMCOptions, FeatureOptions, HiddenOptions, MatrixOptions, NodeDropoutOptions),
    _check,
    rating_levels=True,
    embeds_new="without ids",
    feature_rows="always",
    dropouts=("node_dropout",),
    matrix_weights=layer_weights,
)
