"""LightGCN, and matrix factorisation: the same table without layers."""

from dataclasses import dataclass
from typing import Any, Literal

from jaxrec.config.checks import Share, check
from jaxrec.config.models.kind import ModelKind


@dataclass(frozen=True)
class LightGCNOptions:
    """What lightgcn alone has."""

    layer_weights: Literal["mean", "learned"] = "mean"
    """lightgcn: layers count the same, or by weights that are learned."""
    edge_dropout: Share = 0.0
    """lightgcn: share of the pairs left out of the graph of a training step."""


@dataclass(frozen=True)
class MFOptions:
    """What mf alone has."""

    frozen_items: str | None = None
    """mf: embeddings.npz with item and item_ids, or a run folder. The items' vectors stay as they
    are there, and those of users are trained; an item that is not there has the vector 0."""


def _check_lightgcn(model: Any) -> None:
    check(
        model.layers >= 1 or (model.layer_weights == "mean" and model.edge_dropout == 0),
        "model.layer_weights learned and model.edge_dropout need model.layers of at least 1",
    )
    check(
        model.edge_dropout == 0 or model.kernel != "buckets",
        "model.edge_dropout needs model.kernel csr or segment_sum: "
        "buckets are made once for a whole run",
    )


def _check_mf(model: Any) -> None:
    check(
        model.frozen_items is None or model.init == "normal",
        "model.init spectral and model.frozen_items are two ways to begin; take one",
    )


LIGHTGCN = ModelKind(
    "lightgcn",
    "jaxrec.models.lightgcn",
    (LightGCNOptions,),
    _check_lightgcn,
    least_layers=0,
    mesh=True,
    host_tables=True,
    dropouts=("edge_dropout",),
)
MF = ModelKind(
    "mf",
    "jaxrec.models.lightgcn",
    (MFOptions,),
    _check_mf,
    least_layers=None,
    mesh=True,
    host_tables=True,
)
