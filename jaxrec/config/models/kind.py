"""The entry of a model: its options, its builder, and its supported features."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal


def _nothing(model: Any) -> None:
    """Check nothing."""


def _no_matrices(model: Any) -> int:
    """Return the 0 weights of a model without matrices."""
    return 0


When = Literal["never", "without ids", "always"]
"""When a model makes vectors from features alone: never, if it has no table of ids, or always."""


@dataclass(frozen=True)
class ModelKind:
    """A model's entry: its name, options, checks and supported features.

    Attributes:
      name: value of model.name.
      home: module whose ``build(sizes, config, rngs, levels)`` makes the encoder; None for item
        models, whose tables the trainer makes, and for fitted models.
      options: dataclasses of its options besides the common ones.
      check: raises InputError if its options contradict each other.
      least_layers: least model.layers; None for models without propagation, where it must be 0.
      mesh: supports a mesh of devices.
      host_tables: supports a table in host memory.
      sampled: a step uses sampled blocks of the graph.
      rating_levels: has edge types by rating.
      embeds_new: when it can embed unseen items from their features.
      feature_rows: when features give a vector to a node without train pairs.
      fitted: is fitted in closed form, without steps, a loss or an optimizer.
      users: has users, not items alone; it trains by every objective of such data.
      dropouts: options that are dropout rates.
      matrix_weights: maps the model section to a lower bound of the weights in its matrices.
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
        """Whether it uses the data's features."""
        return self.embeds_new != "never"
