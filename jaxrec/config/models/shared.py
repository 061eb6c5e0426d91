"""Options shared by several models."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Any, Literal

from jaxrec.config.checks import Range, Share, check


@dataclass(frozen=True)
class FeatureOptions:
    """Options of models that use features besides, or instead of, id embeddings."""

    ids: bool = True
    """gcmc, pinsage, two-tower: use an embedding for each id. If off, the model needs features and
    is inductive: it can embed unseen items (two-tower can in either case)."""
    features: bool | None = None
    """gcmc, pinsage, two-tower: use the data's features. On by default if there are any."""
    columns: tuple[str, ...] = ()
    """gcmc, pinsage, two-tower: names of the user and item features to use; default: all."""


def check_features(model: Any) -> None:
    """Raise InputError if the model has no input, or an option needs ids or features it lacks."""
    check(
        model.ids or model.features is not False,
        "model.ids and model.features are both off: the model has no input",
    )
    check(
        model.ids or model.init == "normal",
        "model.init spectral needs model.ids; without ids take model.init normal",
    )
    check(
        not model.columns or model.features is not False,
        "model.columns selects features, but model.features is off",
    )


@dataclass(frozen=True)
class HiddenOptions:
    """Options of models with hidden layers."""

    hidden_dim: Annotated[int | None, Range(1, 2**16)] = None
    """gcmc, pinsage: width of the hidden layers; default: dim."""


@dataclass(frozen=True)
class MatrixOptions:
    """Options of models whose layers have matrices."""

    matrices: Literal["random", "linear"] = "random"
    """ngcf, gcmc, pinsage: initial matrices of the layers. random: random values; linear: matrices
    with which a layer averages its input (ngcf in the form paper: sums it), which preserves a
    spectral start."""


def check_hidden(model: Any) -> None:
    """Raise InputError if model.matrices is linear and the hidden layers have an odd width."""
    hidden = model.hidden_dim or model.dim
    check(
        model.matrices == "random" or hidden % 2 == 0,
        f"model.matrices linear needs an even model.hidden_dim, not {hidden}",
    )


def layer_weights(model: Any) -> int:
    """Return the number of weights of matrices from width dim through the hidden layers to dim."""
    hidden = model.hidden_dim or model.dim
    return sum(a * b for a, b in pairwise([model.dim, *[hidden] * model.layers, model.dim]))


@dataclass(frozen=True)
class NodeDropoutOptions:
    """Options of models with node dropout."""

    node_dropout: Share = 0.0
    """ngcf, gcmc: share of nodes whose messages are dropped in a layer during training."""
