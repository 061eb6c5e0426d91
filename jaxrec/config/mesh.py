"""The section of a configuration for the mesh of devices."""

from dataclasses import dataclass, replace
from typing import Annotated, Literal

from jaxrec.config.checks import Range, check, check_fields


@dataclass(frozen=True)
class MeshConfig:
    """A mesh of data x table devices."""

    data: Annotated[int, Range(1, 2**20)] = 1
    """Number of parts of a batch."""
    table: Annotated[int, Range(1, 2**20)] = 1
    """Number of shards of the embedding table, its optimizer state and the graph's rows."""
    order: Literal["auto", "locality", "data"] = "auto"
    """Order of nodes in the sharded table. locality places neighbours near each other (reverse
    Cuthill-McKee); data keeps the data set's order; auto chooses data for a partitioned data set,
    and locality for any other."""
    exchange: Literal["auto", "all_gather", "all_to_all", "ring"] = "auto"
    """How propagation gets rows of other devices: gather all rows, or exchange only the needed rows
    in one all-to-all or around a ring; auto chooses the way that moves the fewest bytes."""

    coordinator: str | None = None
    """HOST:PORT of the first process, or `auto` if JAX can find the processes (SLURM, Open MPI,
    Kubernetes, TPU). Default: a single process."""
    processes: Annotated[int | None, Range(1, 2**20)] = None
    """Number of processes (not with auto)."""
    process_id: Annotated[int | None, Range(0, 2**20)] = None
    """Number of this process, from 0 (not with auto)."""
    silent_seconds: Annotated[int, Range(1, 2**20)] = 60
    """Seconds without a heartbeat after which a process counts as dead and the others stop."""
    memory: Literal["auto", "device", "host"] = "auto"
    """Where the embedding table and its optimizer state are stored. host: in host memory, with the
    rows of a few batches on the device (mf, with row-sparse updates); auto: on the device, or on
    the host if the plan finds too little device memory."""

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
            f"mesh.coordinator must be HOST:PORT or auto, not {self.coordinator}",
        )
        if self.processes is None or self.process_id is None:
            check(False, "mesh.coordinator needs mesh.processes and mesh.process_id")
        else:
            check(
                self.process_id < self.processes,
                f"mesh.process_id must be below mesh.processes ({self.processes}), not "
                f"{self.process_id}",
            )

    @property
    def devices(self) -> int:
        """Number of devices of the mesh."""
        return self.data * self.table

    def of_any_process(self) -> "MeshConfig":
        """Return the mesh without the settings of single processes, as config.json stores it."""
        return replace(self, coordinator=None, processes=None, process_id=None)
