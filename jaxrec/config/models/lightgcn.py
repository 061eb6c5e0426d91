"""The configuration of LightGCN, and of matrix factorisation, which is LightGCN without layers."""

from dataclasses import dataclass
from typing import Any, Literal

from jaxrec.config.checks import Share, check
from jaxrec.config.models.kind import ModelKind


@dataclass(frozen=True)
class LightGCNOptions:
    """Options of lightgcn."""

    layer_weights: Literal["mean", "learned"] = "mean"
    """lightgcn: equal or learned weights of the layers."""
    edge_dropout: Share = 0.0
    """lightgcn: share of pairs dropped from the graph in each training step."""


@dataclass(frozen=True)
class MFOptions:
    """Options of mf."""

    frozen_items: str | None = None
    """mf: a file such as embeddings.npz with item and item_ids, or a run folder. Its item vectors
    are kept fixed, and only users are trained; items that are not in it get zero vectors."""


def _check_lightgcn(model: Any) -> None:
    check(
        model.layers >= 1 or (model.layer_weights == "mean" and model.edge_dropout == 0),
        "model.layer_weights learned and model.edge_dropout need model.layers of at least 1",
    )
    check(
        model.edge_dropout == 0 or model.kernel != "buckets",
        "model.edge_dropout needs model.kernel csr or segment_sum: buckets are built once per run",
    )


def _check_mf(model: Any) -> None:
    check(
        model.frozen_items is None or model.init == "normal",
        "model.init spectral and model.frozen_items exclude each other; give one",
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
