"""What the configuration knows of a model: its options, its builder, and what it supports."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal


def _nothing(model: Any) -> None:
    """No rule of its own."""


@dataclass(frozen=True)
class ModelKind:
    """A model by its name. Its options and their rules stand in one file with the entry.

    Attributes:
      name: of model.name.
      home: module whose ``build(sizes, config, rngs, levels)`` makes the encoder; a model of items
        has none, for its tables are made by the trainer, and neither has one that is fitted.
      options: dataclasses of the options that it takes besides the common ones.
      check: raises InputError where its options do not go together.
      least_layers: of model.layers; None where it does not propagate, and model.layers must be 0.
      mesh: trains on a mesh of devices.
      host_tables: trains with its table in the host's memory.
      sampled: a step takes sampled blocks of the graph.
      rating_levels: tells types of edges apart by their ratings.
      embeds_new: when it embeds items that training has not seen, from their features.
      fitted: in closed form: no step, no loss and no optimizer.
      users: whether it has users, or items alone; it trains by every objective of such data.
      dropouts: options that are a share of something left out in a training step.
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
    embeds_new: Literal["never", "without ids", "always"] = "never"
    fitted: bool = False
    users: bool = True
    dropouts: tuple[str, ...] = ()

    @property
    def features(self) -> bool:
        """Whether it takes the data's features."""
        return self.embeds_new != "never"
