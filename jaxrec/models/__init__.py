"""Encoders: (parameters, graph) to embeddings. A model knows nothing of losses or loops."""

import inspect
from typing import Any

import jax.numpy as jnp
from flax import nnx
from jaxtyping import PRNGKeyArray

from jaxrec import registry
from jaxrec.config import ModelConfig
from jaxrec.errors import InputError
from jaxrec.models.decoder import BilinearDecoder
from jaxrec.models.encoder import (
    Encoder,
    HiddenLayers,
    InductiveEncoder,
    LocalEncoder,
    ModelSizes,
    NewEdges,
    Nodes,
)
from jaxrec.models.gcmc import GCMC
from jaxrec.models.inputs import FeatureSizes
from jaxrec.models.lightgcn import LightGCN
from jaxrec.models.ngcf import NGCF
from jaxrec.models.pinsage import PinSAGE
from jaxrec.models.score import NeuralScore
from jaxrec.models.towers import Towers

__all__ = [
    "GCMC",
    "NGCF",
    "BilinearDecoder",
    "Encoder",
    "HiddenLayers",
    "InductiveEncoder",
    "LightGCN",
    "LocalEncoder",
    "ModelSizes",
    "NeuralScore",
    "NewEdges",
    "Nodes",
    "PinSAGE",
    "Towers",
    "build",
]

Sizes = tuple[FeatureSizes | None, FeatureSizes | None]


def build(
    config: ModelConfig,
    n_users: int,
    n_items: int,
    key: PRNGKeyArray,
    sizes: Sizes = (None, None),
    levels: int = 1,
    decodes: int = 0,
) -> Encoder:
    """The encoder of a configuration, freshly initialised from the key, with its learned score.

    ``mf`` is LightGCN without layers: the same table, trained by the same loop.

    Args:
      sizes: of the users' and the items' features that are part of the input.
      levels: types of edges, of a model that tells them apart.
      decodes: rating levels that a decoder tells apart; without one where 0.
    """
    rngs = nnx.Rngs(params=key)
    if config.registered:
        encoder = _registered(config, ModelSizes(n_users, n_items, *sizes), rngs)
    else:
        encoder = _encoder(config, n_users, n_items, rngs, sizes, levels)
    if config.score == "mlp":
        encoder.score = nnx.data(NeuralScore(encoder.out_dim, config.score_width, rngs))
    if decodes:
        decoder = BilinearDecoder(encoder.out_dim, decodes, config.bases, rngs)
        encoder.decoder = nnx.data(decoder)
    if config.biases:
        encoder.bias = nnx.data(nnx.Param(jnp.zeros(n_users + n_items)))
    return encoder


def _registered(config: ModelConfig, sizes: ModelSizes, rngs: nnx.Rngs) -> Encoder:
    """A model that a user has registered.

    Raises:
      InputError: nobody has, its options do not fit, or it makes something else than an Encoder.
    """
    make = registry.MODELS.get(config.name)
    options = registry.parsed_options(config.options)
    try:
        inspect.signature(make).bind(sizes, config, rngs, **options)
    except TypeError as e:
        raise InputError(
            f"model.name {config.name}: called with (sizes, config, rngs"
            f"{''.join(f', {name}={value!r}' for name, value in options.items())}): {e}"
        ) from e
    encoder = make(sizes, config, rngs, **options)
    if not isinstance(encoder, Encoder):
        raise InputError(
            f"model.name {config.name} makes a {type(encoder).__name__}; a subclass of "
            "jaxrec.models.Encoder is needed"
        )
    if encoder.out_dim is None:
        if encoder.embedding is None:
            raise InputError(f"model.name {config.name} has no embedding: set its out_dim")
        encoder.out_dim = encoder.embedding[...].shape[1]
    return encoder


def _encoder(
    config: ModelConfig, n_users: int, n_items: int, rngs: nnx.Rngs, sizes: Sizes, levels: int
) -> Encoder:
    if config.name == "two-tower":
        return Towers(
            n_users,
            n_items,
            config.dim,
            tower_dims=config.tower_dims,
            id_dim=(config.id_dim or config.dim) if config.ids else None,
            id_dropout=config.id_dropout,
            sizes=sizes,
            activation=config.activation,
            final=config.final,
            sum_bags=config.bags == "sum",
            init_std=config.init_std,
            rngs=rngs,
        )
    featured: dict[str, Any] = {"hidden": config.hidden_dim or config.dim, "ids": config.ids}
    featured |= {"sizes": sizes, "init_std": config.init_std, "kernel": config.kernel}
    featured["linear"] = config.matrices == "linear"
    if config.name == "gcmc":
        return GCMC(
            n_users,
            n_items,
            config.dim,
            layers=config.layers,
            levels=levels,
            batch_norm=config.batch_norm,
            node_dropout=config.node_dropout,
            rngs=rngs,
            **featured,
        )
    if config.name == "pinsage":
        return PinSAGE(
            n_users,
            n_items,
            config.dim,
            fan_outs=config.hops,
            uniform=config.neighbors == "uniform",
            walks=config.walks,
            walk_length=config.walk_length,
            rngs=rngs,
            **featured,
        )
    if config.name == "ngcf":
        return NGCF(
            n_users,
            n_items,
            config.dim,
            config.layers,
            form=config.form,
            linear=config.matrices == "linear",
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
        frozen_from=None if config.frozen_items is None else n_users,
        kernel=config.kernel,
        dtype=config.dtype,
        rngs=rngs,
    )
