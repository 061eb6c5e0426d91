"""Coordination of the processes of a run.

The processes are those of ``jax.distributed``: they share one mesh of devices and make the same
decisions at the same steps. Each process writes its part of a checkpoint; only the first process
writes logs and results. With one process, every function here returns at once.
"""

from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
from jax.experimental import multihost_utils

from jaxrec.config import MeshConfig
from jaxrec.errors import InputError

START_SECONDS = 120
"""Seconds after which the processes give up connecting at the start."""


def join(config: MeshConfig) -> None:
    """Connect to the other processes, if the configuration has any.

    Raises:
      InputError: the connection fails, or the number of devices does not match the mesh.
    """
    if config.coordinator is None:
        return
    where = (
        {}
        if config.coordinator == "auto"
        else {
            "coordinator_address": config.coordinator,
            "num_processes": config.processes,
            "process_id": config.process_id,
        }
    )
    if not jax.distributed.is_initialized():
        try:
            jax.distributed.initialize(
                **where,
                initialization_timeout=START_SECONDS,
                heartbeat_timeout_seconds=config.silent_seconds,
            )
        except (ValueError, RuntimeError) as e:
            reason = str(e).strip().splitlines()[0][:200]
            raise InputError(
                f"mesh.coordinator {config.coordinator}: the processes of this run did not find "
                f"each other ({reason}); give mesh.coordinator, mesh.processes and "
                "mesh.process-id to each"
            ) from e
    found = jax.device_count()
    if config.devices != found:
        raise InputError(
            f"mesh.data {config.data} x mesh.table {config.table} is {config.devices} devices, "
            f"but {jax.process_count()} processes have {found}; change the mesh to use them all"
        )


def several() -> bool:
    """Return whether the run has several processes."""
    return jax.process_count() > 1


def first() -> bool:
    """Return whether this is the process that writes logs and results."""
    return jax.process_index() == 0


def barrier(name: str) -> None:
    """Wait until all processes have called this function with the same name."""
    if several():
        multihost_utils.sync_global_devices(name)


def from_first(number: int) -> int:
    """Return, in every process, the number that the first process passes."""
    if not several():
        return number
    return int(multihost_utils.broadcast_one_to_all(np.int32(number)))


def greatest(number: int) -> int:
    """Return the maximum over all processes."""
    if not several():
        return number
    return int(np.max(multihost_utils.process_allgather(np.int32(number))))


def made_by_first(make: Callable[[], Path], named: str | Path | None) -> Path:
    """Create a folder in the first process, and return its path in all processes.

    Raises:
      InputError: ``named`` is None with several processes; or as ``make`` raises.
    """
    if not several():
        return make()
    if named is None:
        raise InputError("a run of several processes needs a name for its folder: give --run")
    folder = make() if first() else Path(named)
    barrier("folder")
    return folder


def total(numbers: np.ndarray) -> np.ndarray:
    """Sum integers elementwise over all processes; sums must fit into int32."""
    if not several():
        return numbers
    return np.asarray(multihost_utils.process_allgather(numbers.astype(np.int32))).sum(axis=0)
