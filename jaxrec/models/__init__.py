"""Encoders: (parameters, graph) to embeddings. A model knows nothing of losses or loops."""

from flax import nnx
from jaxtyping import PRNGKeyArray

from jaxrec.config import ModelConfig
from jaxrec.models.lightgcn import LightGCN
from jaxrec.models.ngcf import NGCF
from jaxrec.models.nodes import Encoder, Nodes
from jaxrec.models.score import NeuralScore

__all__ = ["NGCF", "Encoder", "LightGCN", "NeuralScore", "Nodes", "build"]


def build(config: ModelConfig, n_users: int, n_items: int, key: PRNGKeyArray) -> Encoder:
    """The encoder of a configuration, freshly initialised from the key, with its learned score.

    ``mf`` is LightGCN without layers: the same table, trained by the same loop.
    """
    rngs = nnx.Rngs(params=key)
    encoder = _encoder(config, n_users, n_items, rngs)
    if config.score == "mlp":
        encoder.score = NeuralScore(encoder.out_dim, config.score_width, rngs)
    return encoder


def _encoder(config: ModelConfig, n_users: int, n_items: int, rngs: nnx.Rngs) -> Encoder:
    if config.name == "ngcf":
        return NGCF(
            n_users,
            n_items,
            config.dim,
            config.layers,
            form=config.form,
            init_std=config.init_std,
            node_dropout=config.node_dropout,
            message_dropout=config.message_dropout,
            kernel=config.kernel,
            dtype=config.dtype,
            rngs=rngs,
        )
    return LightGCN(
        n_users,
        n_items,
        config.dim,
        layers=0 if config.name == "mf" else config.layers,
        init_std=config.init_std,
        learned_shares=config.layer_weights == "learned",
        edge_dropout=config.edge_dropout,
        kernel=config.kernel,
        dtype=config.dtype,
        rngs=rngs,
    )
