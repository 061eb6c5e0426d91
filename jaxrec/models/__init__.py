"""Encoders map (parameters, graph) to embeddings; losses and training loops are elsewhere."""

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
    """Build the configured encoder with initialised parameters, and its learned score if any.

    Args:
      sizes: sizes of the users' and items' features; None for a side without features.
      levels: number of edge types, for models that distinguish edge types.
      decodes: number of rating levels of the decoder; 0 for no decoder.

    >>> import jax
    >>> import jaxrec
    >>> encoder = build(jaxrec.preset("lightgcn").model, 4, 3, jax.random.key(0))
    >>> type(encoder).__name__, encoder.embedding[...].shape
    ('LightGCN', (7, 64))
    """
    rngs = nnx.Rngs(params=key)
    if config.registered:
        encoder = _registered(config, ModelSizes(n_users, n_items, *sizes), rngs)
    else:
        assert config.kind.home is not None, "item models have tables, no encoder"
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
    """Build a model that was registered by name.

    Raises:
      InputError: no such model is registered, its options do not fit, or it returns no Encoder.
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
            f"model.name {config.name} returns a {type(encoder).__name__}; it must return a "
            "subclass of jaxrec.models.Encoder"
        )
    if encoder.out_dim is None:
        if encoder.embedding is None:
            raise InputError(f"model.name {config.name} has no embedding table: set its out_dim")
        encoder.out_dim = encoder.embedding[...].shape[1]
    return encoder
