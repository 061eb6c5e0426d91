"""The entry of a model in ``KINDS``: its options, its builder and its supported features."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal


def _nothing(model: Any) -> None:
    """Accept every configuration of the model."""


def _no_matrices(model: Any) -> int:
    """Return 0, because the model has no weight matrices."""
    return 0


When = Literal["never", "without ids", "always"]
"""When a model computes vectors from features alone: never, only if model.ids is off, or always."""


@dataclass(frozen=True)
class ModelKind:
    """A model's entry: its name, options, checks and supported features.

    Attributes:
      name: value of model.name.
      home: module whose ``build(sizes, config, rngs, levels)`` builds the encoder; None for item
        models, whose tables the trainer builds, and for fitted models.
      options: dataclasses of the model's options, without the options that every model has.
      check: raises InputError if the model's options contradict each other.
      least_layers: smallest value of model.layers; None for models without propagation, for which
        model.layers must be 0.
      mesh: whether the model supports a mesh of devices.
      host_tables: whether the model supports a table in host memory.
      sampled: whether a step uses sampled blocks of the graph.
      rating_levels: whether each rating value can be an edge type.
      embeds_new: when the model can embed unseen items from their features.
      feature_rows: when features give a vector to a node without train pairs.
      fitted: whether the model is fitted in closed form, without steps, a loss or an optimizer.
      users: whether the model has users besides items. If so, it can be trained by every objective
        with users.
      dropouts: names of options that are dropout rates.
      matrix_weights: maps the model section to a lower bound of the number of weights in the
        model's matrices.
    """

    name: str
    home: str | None
    options: tuple[type, ...] = ()
    check: Callable[[Any], None] = _nothing
    least_layers: int | None = 1
    mesh: bool = False
    host_tables: bool = False
    sampled: bool = False
    rating_levels: bool = False
    embeds_new: When = "never"
    feature_rows: When = "never"
    fitted: bool = False
    users: bool = True
    dropouts: tuple[str, ...] = ()
    matrix_weights: Callable[[Any], int] = _no_matrices

    @property
    def features(self) -> bool:
        """Whether the model uses the data's features."""
        return self.embeds_new != "never"
