"""Encoders: (parameters, graph) to embeddings. A model knows nothing of losses or loops."""

from flax import nnx
from jaxtyping import PRNGKeyArray

from jaxrec.config import ModelConfig
from jaxrec.models.lightgcn import LightGCN, Nodes

__all__ = ["LightGCN", "Nodes", "build"]


def build(config: ModelConfig, n_users: int, n_items: int, key: PRNGKeyArray) -> LightGCN:
    """The encoder of a configuration, freshly initialised from the key.

    ``mf`` is LightGCN without layers: the same table, trained by the same loop.
    """
    return LightGCN(
        n_users,
        n_items,
        config.dim,
        layers=0 if config.name == "mf" else config.layers,
        init_std=config.init_std,
        kernel=config.kernel,
        dtype=config.dtype,
        rngs=nnx.Rngs(params=key),
    )
