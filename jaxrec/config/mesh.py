"""The section of a configuration that says how a run is laid out over devices."""

from dataclasses import dataclass, replace
from typing import Annotated, Literal

from jaxrec.config.checks import Range, check, check_fields


@dataclass(frozen=True)
class MeshConfig:
    """The layout over data x table devices."""

    data: Annotated[int, Range(1, 2**20)] = 1
    """Parts that a batch is split into."""
    table: Annotated[int, Range(1, 2**20)] = 1
    """Parts that the embedding table, its optimizer state and the graph's rows are split into."""
    order: Literal["auto", "locality", "data"] = "auto"
    """The order of nodes that is cut into the parts of a table: one that brings neighbours near
    each other (reverse Cuthill-McKee), or the data set's own; auto is locality, and data where the
    data set lies in parts already."""
    exchange: Literal["auto", "all_gather", "all_to_all", "ring"] = "auto"
    """How a layer of propagation gets the rows of other devices: all of them, or those that its
    edges need by one exchange or by one to each neighbour in turn; auto moves the fewest bytes."""

    coordinator: str | None = None
    """Of several processes: HOST:PORT of the first, or `auto` where JAX finds them by itself
    (SLURM, Open MPI, Kubernetes, TPU). Not given: one process."""
    processes: Annotated[int | None, Range(1, 2**20)] = None
    """How many there are (not with auto)."""
    process_id: Annotated[int | None, Range(0, 2**20)] = None
    """Which one this is, from 0 (not with auto)."""
    silent_seconds: Annotated[int, Range(1, 2**20)] = 60
    """A process without a sign of life for so long counts as dead, and the others end."""
    memory: Literal["auto", "device", "host"] = "auto"
    """Where the embedding table lies, with what the optimizer keeps of its rows. host: in the
    host's memory, and the device has the rows of a few batches (mf, by row-sparse updates); auto:
    on the device, or on the host where the plan says that the device has no room for it."""

    def __post_init__(self) -> None:
        check_fields(self, "mesh")
        numbers = self.processes, self.process_id
        if self.coordinator in (None, "auto"):
            check(
                numbers == (None, None),
                "mesh.processes and mesh.process_id need mesh.coordinator, as HOST:PORT",
            )
            return
        host, _, port = self.coordinator.rpartition(":")
        check(
            bool(host) and port in map(str, range(1, 2**16)),
            f"mesh.coordinator is HOST:PORT or auto, not {self.coordinator}",
        )
        if self.processes is None or self.process_id is None:
            check(False, "mesh.coordinator needs mesh.processes and mesh.process_id")
        else:
            check(
                self.process_id < self.processes,
                f"mesh.process_id {self.process_id} is not within mesh.processes {self.processes}",
            )

    @property
    def devices(self) -> int:
        """How many there must be."""
        return self.data * self.table

    def of_any_process(self) -> "MeshConfig":
        """Without what is one process's own: what config.json says."""
        return replace(self, coordinator=None, processes=None, process_id=None)
