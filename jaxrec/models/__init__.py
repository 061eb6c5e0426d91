"""Encoders: (parameters, graph) to embeddings. A model knows nothing of losses or loops."""

import importlib
import inspect

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

    Args:
      sizes: of the users' and the items' features that are part of the input.
      levels: types of edges, of a model that tells them apart.
      decodes: rating levels that a decoder tells apart; without one where 0.
    """
    rngs = nnx.Rngs(params=key)
    if config.registered:
        encoder = _registered(config, ModelSizes(n_users, n_items, *sizes), rngs)
    else:
        assert config.kind.home is not None, "models of items have tables, and no encoder"
        home = importlib.import_module(config.kind.home)
        encoder = home.build(ModelSizes(n_users, n_items, *sizes), config, rngs, levels)
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
