"""GC-MC."""

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
)


@dataclass(frozen=True)
class GCMCOptions:
    """What gcmc alone has."""

    levels: bool | None = None
    """gcmc: each rating is a type of edge with its own weights. By default where there are
    ratings, and no more than 20 different ones."""
    batch_norm: bool = False
    """gcmc: embeddings are normalised over the users, and over the items."""


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
    dropouts=("node_dropout",),
)
