"""Options that several models have."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from jaxrec.config.checks import Range, Share, check


@dataclass(frozen=True)
class FeatureOptions:
    """Models that take features beside the embeddings of ids, or instead of them."""

    ids: bool = True
    """gcmc, pinsage, two-tower: an embedding for each id is part of the input. Without, the model
    is inductive: it needs features, and embeds items that it has never seen (two-tower does so
    either way)."""
    features: bool | None = None
    """gcmc, pinsage, two-tower: the data's features are part of the input. By default where there
    are any."""
    columns: tuple[str, ...] = ()
    """gcmc, pinsage, two-tower: the features to take, of users and of items; all of them where
    not given."""


def check_features(model: Any) -> None:
    """Raise InputError where a model of features has no input, or begins with what it lacks."""
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
        "model.columns are features, and model.features is off",
    )


@dataclass(frozen=True)
class HiddenOptions:
    """Models with layers between the input and the embeddings."""

    hidden_dim: Annotated[int | None, Range(1, 2**16)] = None
    """gcmc, pinsage: width of what is between input and embeddings; dim where not given."""


@dataclass(frozen=True)
class MatrixOptions:
    """Models whose layers have matrices."""

    matrices: Literal["random", "linear"] = "random"
    """ngcf, gcmc, pinsage: the layers' matrices begin at random, or so that the layers begin as
    averages of their input (sums, of ngcf's form paper), which keeps a spectral start whole."""


def check_hidden(model: Any) -> None:
    """Raise InputError where mirrored layers of an uneven width are asked for."""
    hidden = model.hidden_dim or model.dim
    check(
        model.matrices == "random" or hidden % 2 == 0,
        f"model.matrices linear needs an even model.hidden_dim, not {hidden}",
    )


@dataclass(frozen=True)
class NodeDropoutOptions:
    """Models that leave out nodes in training."""

    node_dropout: Share = 0.0
    """ngcf, gcmc: share of the nodes that send nothing in a layer of a training step."""
