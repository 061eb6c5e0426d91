"""The section of a configuration that says which encoder, and how it scores."""

import dataclasses
from dataclasses import dataclass
from typing import Annotated, Literal

from jaxrec.config.checks import POSITIVE, Range, Share, check, check_fields
from jaxrec.config.items import OVER_ITEMS

_FAN_OUTS = (10, 5)  # of the first hop from the batch, and of the others
Width = Annotated[int, Range(1, 2**16)]
"""Numbers in a vector."""


MODEL_NAMES = ("lightgcn", "mf", "ngcf", "gcmc", "pinsage", "two-tower", "skipgram", "item-mf")
"""jaxrec's own models; any other name is that of a model that a user has registered."""


@dataclass(frozen=True)
class ModelConfig:
    """The encoder: what maps node ids and the graph to embeddings."""

    name: str = "lightgcn"
    """lightgcn; mf: the same table without propagation; ngcf; gcmc; pinsage, on sampled blocks;
    two-tower: dense layers for users and for items, without a graph. Of items alone, from weighted
    pairs: skipgram, on random walks; item-mf, on pairs or on walks. Or the name of a model that a
    plugin registers."""
    options: tuple[str, ...] = ()
    """Registered models: options of the constructor, as NAME=VALUE."""
    dim: Width = 64
    """Width D of the embeddings."""
    layers: Annotated[int, Range(0, 64)] = 3
    """Propagation layers L."""
    init: Literal["normal", "spectral"] = "normal"
    """normal, or spectral: leading singular vectors of the normalised interactions."""
    init_std: Annotated[float, POSITIVE] = 0.1
    """Standard deviation of the normal initialisation; root mean square of the spectral one."""
    matrices: Literal["random", "linear"] = "random"
    """ngcf, gcmc, pinsage: the layers' matrices begin at random, or so that the layers begin as
    averages of their input (sums, of ngcf's form paper), which keeps a spectral start whole."""
    score: Literal["dot", "cosine", "mlp"] = "dot"
    """Score of a user and an item, in training and in ranking; mlp is a learned function."""
    score_width: Width = 32
    """Hidden units of the score mlp."""
    biases: bool = False
    """A learned number for each user and each item is added to the score."""
    bases: Annotated[int, Range(1, 2**10)] = 2
    """Matrices that the decoder of loss.name levels mixes, for all levels."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Compute type of propagation (gcmc, pinsage: float32) and scores; parameters and sums stay
    float32."""
    kernel: Literal["auto", "segment_sum", "csr", "buckets"] = "auto"
    """Propagation kernel; auto takes the default of the platform."""
    layer_weights: Literal["mean", "learned"] = "mean"
    """lightgcn: layers count the same, or by weights that are learned."""
    form: Literal["paper", "lecture"] = "paper"
    """ngcf: interaction terms, layers concatenated; or the lecture's mean of neighbours and one
    linear map of node and neighbours, the last layer."""
    edge_dropout: Share = 0.0
    """lightgcn: share of the pairs left out of the graph of a training step."""
    node_dropout: Share = 0.0
    """ngcf, gcmc: share of the nodes that send nothing in a layer of a training step."""
    message_dropout: Share = 0.0
    """ngcf: share of the entries of a layer's output set to 0 in a training step."""
    hidden_dim: Annotated[int | None, Range(1, 2**16)] = None
    """gcmc, pinsage: width of what is between input and embeddings; dim where not given."""
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
    levels: bool | None = None
    """gcmc: each rating is a type of edge with its own weights. By default where there are
    ratings, and no more than 20 different ones."""
    batch_norm: bool = False
    """gcmc: embeddings are normalised over the users, and over the items."""
    neighbors: Literal["importance", "uniform"] = "importance"
    """pinsage: neighbours are the nodes that short random walks visit most, weighed by their
    visits; or drawn evenly from the nodes next to one. Neither looks at event weights."""
    fan_outs: Annotated[tuple[int, ...], Range(1, 2**16)] = ()
    """pinsage: neighbours a node, by hop from the batch; by default 10 and then 5."""
    walks: Annotated[int, Range(1, 2**16)] = 32
    """pinsage: random walks from each node, where neighbours are those of importance."""
    walk_length: Annotated[int, Range(1, 2**16)] = 2
    """pinsage: steps of such a walk; at an even number it is on the side where it began."""
    sampling: Literal["auto", "device", "host"] = "auto"
    """pinsage: where blocks are drawn; on the host where the graph does not fit the device."""
    tower_dims: Annotated[tuple[int, ...], Range(1, 2**16)] = ()
    """two-tower: widths of the layers between the input and the embeddings."""
    id_dim: Annotated[int | None, Range(1, 2**16)] = None
    """two-tower: width of the ids' embeddings; dim where not given."""
    id_dropout: Share = 0.0
    """two-tower: share of a training step's ids that are hidden, so that features alone learn to
    stand for what has not been seen."""
    activation: Literal["relu", "gelu", "tanh"] = "relu"
    """two-tower: between the layers."""
    final: Literal["linear", "relu", "softmax"] = "linear"
    """two-tower: on the embeddings. relu has them all in one orthant, where cosines are never
    negative; softmax bounds the gap between two scores by 1."""
    bags: Literal["mean", "sum"] = "mean"
    """two-tower: the names in a bag are averaged, or added up (a multi-hot input)."""
    tables: Literal["two", "one"] = "two"
    """skipgram, item-mf: an item has one vector as a centre and another as a context, or one."""
    side: Literal["none", "average", "weighted"] = "none"
    """skipgram, item-mf: an item's centre vector is its own alone; or the average of its own and
    those of its features; or their average by weights that each item learns (EGES). Features that
    an item lacks do not count. Takes the data's names, bags of names and numbers."""
    frozen_items: str | None = None
    """mf: embeddings.npz with item and item_ids, or a run folder. The items' vectors stay as they
    are there, and those of users are trained; an item that is not there has the vector 0."""

    def __post_init__(self) -> None:
        name = self.name
        check_fields(self, "model")
        hidden = self.hidden_dim or self.dim
        check(
            self.matrices == "random" or hidden % 2 == 0 or name == "ngcf",
            f"model.matrices linear needs an even model.hidden_dim, not {hidden}",
        )
        check(
            self.matrices == "random" or self.form == "paper",
            "model.matrices linear needs model.form paper; with lecture take model.matrices random",
        )
        check(
            name not in _FLAT or self.layers == 0,
            f"model.layers must be 0 for {name}, which does not propagate, not {self.layers}",
        )
        check(
            name in ("lightgcn", *_FLAT) or self.registered or self.layers >= 1,
            f"model.layers must be at least 1 for {name}, not {self.layers}",
        )
        check(
            self.layers >= 1 or (self.layer_weights == "mean" and self.edge_dropout == 0),
            "model.layer_weights learned and model.edge_dropout need model.layers of at least 1",
        )
        for field in dataclasses.fields(self):
            models = _MODELS_OF.get(field.name, (name,))
            check(
                name in models or getattr(self, field.name) == field.default,
                f"model.{field.name} is for {' and '.join(models)}, and {name} has none",
            )
        check(
            self.edge_dropout == 0 or self.kernel != "buckets",
            "model.edge_dropout needs model.kernel csr or segment_sum: "
            "buckets are made once for a whole run",
        )
        check(
            self.ids or self.features is not False,
            "model.ids and model.features are both off: the model has no input",
        )
        check(
            self.ids or self.init == "normal",
            "model.init spectral needs model.ids; without ids take model.init normal",
        )
        check(
            not self.columns or self.features is not False,
            "model.columns are features, and model.features is off",
        )
        self._check_items()
        self._check_towers()
        self._check_sampling()

    def _check_items(self) -> None:
        name = self.name
        for field in ("init", "dtype", "kernel"):
            default, value = getattr(ModelConfig, field), getattr(self, field)
            check(
                not self.over_items or value == default,
                f"model.{field} {value} is not for {name}, which has {default}",
            )
        check(
            not self.over_items or self.score != "mlp",
            f"model.score is dot or cosine for {name}, not mlp",
        )
        check(
            not self.biases or name != "skipgram",
            "model.biases is not for skipgram; item-mf has them, on walks too",
        )
        check(
            not self.biases or not self.over_items or self.score == "dot",
            f"model.biases of {name} need model.score dot: a cosine has no room for them",
        )

    def _check_towers(self) -> None:
        check(
            self.ids or (self.id_dim is None and self.id_dropout == 0),
            "model.id_dim and model.id_dropout need model.ids",
        )
        check(
            self.name != "two-tower" or self.init == "normal",
            "model.init spectral is for models whose table is of the width of the embeddings, "
            "and two-tower has layers between",
        )
        check(
            self.frozen_items is None or self.init == "normal",
            "model.init spectral and model.frozen_items are two ways to begin; take one",
        )

    def _check_sampling(self) -> None:
        listed = " ".join(map(str, self.fan_outs))
        check(
            len(self.fan_outs) in (0, self.layers),
            f"model.fan_outs needs a number a layer, {self.layers} of them, not ({listed})",
        )
        reached = self.walks * self.walk_length
        check(
            reached <= 2**16,
            f"model.walks of model.walk_length are {reached:,} steps from a node, and at most "
            f"{2**16:,} are counted",
        )
        check(
            self.neighbors == "uniform" or max(self.hops) <= reached,
            f"model.fan_outs asks for {max(self.hops, default=0)} neighbours, and "
            f"{self.walks} walks of {self.walk_length} visit {reached} nodes at most",
        )

    @property
    def hops(self) -> tuple[int, ...]:
        """``fan_outs`` with its default resolved."""
        first, other = _FAN_OUTS
        return self.fan_outs or (first, *(other for _ in range(self.layers - 1)))

    @property
    def rows_a_node(self) -> int:
        """Rows of the table that one node of a batch reads, of a model that reads few."""
        rows = 1
        for n in self.hops if self.sampled else ():
            rows *= 1 + n
        return rows

    @property
    def over_items(self) -> bool:
        """Whether it learns from an item graph, and has no users."""
        return self.name in OVER_ITEMS

    @property
    def registered(self) -> bool:
        """Whether it is a model of the user's own."""
        return self.name not in MODEL_NAMES

    @property
    def sampled(self) -> bool:
        """Whether a step takes sampled blocks of the graph."""
        return self.name == "pinsage"

    @property
    def local(self) -> bool:
        """Whether a step reads, and has a gradient for, a few rows of the table only."""
        return self.sampled or (self.layers == 0 and not self.registered)

    @property
    def draws(self) -> bool:
        """Whether a training step draws random numbers in the encoder."""
        drawn = self.sampled and self.neighbors == "uniform"
        dropped = max(getattr(self, name) for name in _DROPOUTS) > 0
        return drawn or dropped or self.registered


_FLAT = ("mf", "two-tower", *OVER_ITEMS)  # without propagation
_DROPOUTS = ("edge_dropout", "node_dropout", "message_dropout", "id_dropout")

FEATURED = ("gcmc", "pinsage", "two-tower")
"""Models that take features."""

# What only some models have.
_MODELS_OF = {
    "layer_weights": ("lightgcn",),
    "edge_dropout": ("lightgcn",),
    "form": ("ngcf",),
    "node_dropout": ("ngcf", "gcmc"),
    "message_dropout": ("ngcf",),
    "levels": ("gcmc",),
    "batch_norm": ("gcmc",),
    "matrices": ("ngcf", "gcmc", "pinsage"),
    "hidden_dim": ("gcmc", "pinsage"),
    **dict.fromkeys(("ids", "features", "columns"), FEATURED),
    **dict.fromkeys(("neighbors", "fan_outs", "walks", "walk_length", "sampling"), ("pinsage",)),
    **dict.fromkeys(("tower_dims", "id_dim", "id_dropout"), ("two-tower",)),
    **dict.fromkeys(("activation", "final", "bags"), ("two-tower",)),
    "frozen_items": ("mf",),
    **dict.fromkeys(("tables", "side"), OVER_ITEMS),
}
