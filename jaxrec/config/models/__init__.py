"""The model section of a configuration: encoder and score.

Each model has a file with its options, their checks and its :class:`ModelKind`, which ``KINDS``
lists. ``ModelConfig`` has all options as flat fields, so that each is ``--model.OPTION`` on the
command line and a key of config.json. Options that the selected model lacks must keep their
defaults.
"""

import dataclasses
from dataclasses import dataclass
from typing import Annotated, Literal

from jaxrec.config.checks import POSITIVE, Range, check, check_fields
from jaxrec.config.models.filter import FILTER, FilterOptions
from jaxrec.config.models.gcmc import GCMC, GCMCOptions
from jaxrec.config.models.items import ITEM_MF, SKIPGRAM, ItemOptions
from jaxrec.config.models.kind import ModelKind, When
from jaxrec.config.models.lightgcn import LIGHTGCN, MF, LightGCNOptions, MFOptions
from jaxrec.config.models.ngcf import NGCF, NGCFOptions
from jaxrec.config.models.pinsage import PINSAGE, PinSAGEOptions
from jaxrec.config.models.shared import (
    FeatureOptions,
    HiddenOptions,
    MatrixOptions,
    NodeDropoutOptions,
)
from jaxrec.config.models.towers import TWO_TOWER, TowerOptions

KINDS: dict[str, ModelKind] = {
    kind.name: kind
    for kind in (LIGHTGCN, MF, NGCF, GCMC, PINSAGE, TWO_TOWER, FILTER, SKIPGRAM, ITEM_MF)
}
"""Built-in models; other names are user-registered."""
MODEL_NAMES = tuple(KINDS)

Width = Annotated[int, Range(1, 2**16)]
"""Width of a vector."""


@dataclass(frozen=True)
class _Common:
    """Options of every model."""

    name: str = "lightgcn"
    """lightgcn; mf: the table of lightgcn without propagation; ngcf; gcmc; pinsage, on sampled
    blocks; two-tower: dense layers for users and for items, without a graph; filter: scores in
    closed form, without training. For items alone, from weighted pairs: skipgram, on random walks;
    item-mf, on pairs or on walks. Or the name of a model that a plugin registers."""
    dim: Width = 64
    """Width D of the embeddings."""
    layers: Annotated[int, Range(0, 64)] = 3
    """Propagation layers L."""
    init: Literal["normal", "spectral"] = "normal"
    """Initial embeddings. normal: random; spectral: leading singular vectors of the normalised
    interactions."""
    init_std: Annotated[float, POSITIVE] = 0.1
    """Standard deviation of the normal initialisation; root mean square of the spectral one."""
    score: Literal["dot", "cosine", "mlp"] = "dot"
    """Score of a user and an item, in training and ranking; mlp is a learned function."""
    score_width: Width = 32
    """Hidden units of the score mlp."""
    biases: bool = False
    """Add a learned bias of the user and of the item to the score."""
    bases: Annotated[int, Range(1, 2**10)] = 2
    """loss.name levels: number of basis matrices of the decoder."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Number type in which propagation and scores are computed (gcmc and pinsage propagate in
    float32); parameters and sums stay float32."""
    kernel: Literal["auto", "segment_sum", "csr", "buckets"] = "auto"
    """Propagation kernel; auto takes the default of the platform."""
    options: tuple[str, ...] = ()
    """Registered models: options of the model's constructor, as NAME=VALUE."""


@dataclass(frozen=True)
class ModelConfig(
    ItemOptions,
    FilterOptions,
    TowerOptions,
    PinSAGEOptions,
    GCMCOptions,
    NGCFOptions,
    MFOptions,
    LightGCNOptions,
    NodeDropoutOptions,
    MatrixOptions,
    HiddenOptions,
    FeatureOptions,
    _Common,
):
    """The encoder, which maps node ids and the graph to embeddings."""

    def __post_init__(self) -> None:
        name, kind = self.name, self.kind
        check_fields(self, "model")
        check(
            self.registered or not self.options,
            f"model.options are for models registered by a plugin, not for the built-in {name}",
        )
        check(
            kind.least_layers is not None or self.layers == 0,
            f"model.layers must be 0 for {name}, as it does not propagate, but is {self.layers}",
        )
        check(
            self.layers >= (kind.least_layers or 0),
            f"model.layers must be at least {kind.least_layers} for {name}, not {self.layers}",
        )
        for field in dataclasses.fields(self):
            models = _OWNERS.get(field.name, (name,))
            check(
                name in models or getattr(self, field.name) == field.default,
                f"model.{field.name} is for {' and '.join(models)}, not {name}",
            )
        kind.check(self)

    @property
    def registered(self) -> bool:
        """Whether the model is user-registered."""
        return self.name not in KINDS

    @property
    def kind(self) -> ModelKind:
        """The model's entry in ``KINDS``; for a registered model, an entry with default values."""
        return KINDS.get(self.name) or ModelKind(self.name, None, least_layers=0)

    @property
    def rows_a_node(self) -> int:
        """Table rows that a step reads per node of its batch; more than 1 for sampled blocks."""
        rows = 1
        for n in self.hops if self.sampled else ():
            rows *= 1 + n
        return rows

    @property
    def sampled(self) -> bool:
        """Whether a step uses sampled blocks of the graph."""
        return self.kind.sampled

    @property
    def local(self) -> bool:
        """Whether a step reads and updates only a few rows of the table."""
        return self.sampled or (self.layers == 0 and not self.registered)

    @property
    def inductive(self) -> bool:
        """Whether the model can embed unseen items from their features."""
        return self._now(self.kind.embeds_new)

    @property
    def feature_rows(self) -> bool:
        """Whether a node without train pairs gets a vector from its features."""
        return self._now(self.kind.feature_rows)

    def _now(self, when: When) -> bool:
        return when == "always" or (when == "without ids" and not self.ids)

    @property
    def draws(self) -> bool:
        """Whether a training step draws random numbers in the encoder."""
        drawn = self.sampled and self.neighbors == "uniform"
        dropped = any(getattr(self, name) > 0 for name in self.kind.dropouts)
        return drawn or dropped or self.registered


_OWNERS: dict[str, tuple[str, ...]] = {
    field.name: tuple(kind.name for kind in KINDS.values() if options in kind.options)
    for options in ModelConfig.__mro__[1:]
    if options not in (_Common, object)
    for field in dataclasses.fields(options)
}
"""For each option that only some models have, the names of these models."""
