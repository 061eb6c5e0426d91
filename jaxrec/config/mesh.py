"""The section of a configuration that says how a run is laid out over devices."""

from dataclasses import dataclass
from typing import Literal

from jaxrec.config.checks import check

MODELS = ("lightgcn", "mf")
"""Models that train on a mesh of devices."""


@dataclass(frozen=True)
class MeshConfig:
    """The layout over data x table devices."""

    data: int = 1
    """Parts that a batch is split into."""
    table: int = 1
    """Parts that the embedding table, its optimizer state and the graph's rows are split into."""
    order: Literal["locality", "data"] = "locality"
    """The order of nodes that is cut into the parts of a table: one that brings neighbours near
    each other (reverse Cuthill-McKee), or the data set's own."""
    exchange: Literal["auto", "all_gather", "all_to_all", "ring"] = "auto"
    """How a layer of propagation gets the rows of other devices: all of them, or those that its
    edges need by one exchange or by one to each neighbour in turn; auto moves the fewest bytes."""

    def __post_init__(self) -> None:
        check(self.data >= 1, f"mesh.data must be at least 1, not {self.data}")
        check(self.table >= 1, f"mesh.table must be at least 1, not {self.table}")

    @property
    def devices(self) -> int:
        """How many there must be."""
        return self.data * self.table
