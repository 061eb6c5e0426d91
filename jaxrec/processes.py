"""Several processes of one run: how they find each other, and agree on what only one can know.

The processes are JAX's own (``jax.distributed``): they share one mesh of devices, take the same
decisions at the same steps, and all write their part of a checkpoint. The first one alone writes
logs and results. With one process every function here costs nothing.
"""

from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
from jax.experimental import multihost_utils

from jaxrec.config import MeshConfig
from jaxrec.errors import InputError

START_SECONDS = 120
"""How long processes wait for each other at the start."""


def join(config: MeshConfig) -> None:
    """Find the other processes, where the configuration says that there are any.

    Raises:
      InputError: they cannot be found, or their devices are not those of the mesh.
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
            f"and {jax.process_count()} processes have {found}; a run of several takes them all"
        )


def several() -> bool:
    """Whether there are other processes."""
    return jax.process_count() > 1


def first() -> bool:
    """Whether this is the process that writes logs and results."""
    return jax.process_index() == 0


def barrier(name: str) -> None:
    """Wait until all processes are here."""
    if several():
        multihost_utils.sync_global_devices(name)


def from_first(number: int) -> int:
    """The first process's number, on all of them."""
    if not several():
        return number
    return int(multihost_utils.broadcast_one_to_all(np.int32(number)))


def greatest(number: int) -> int:
    """The greatest of all processes' numbers."""
    if not several():
        return number
    return int(np.max(multihost_utils.process_allgather(np.int32(number))))


def made_by_first(make: Callable[[], Path], named: str | Path | None) -> Path:
    """A folder that the first process makes.

    Raises:
      InputError: it has no name that all processes know; or as ``make``.
    """
    if not several():
        return make()
    if named is None:
        raise InputError("a run of several processes needs a name for its folder: give --run")
    made = make() if first() else Path(named)
    barrier("folder")
    return made


def total(numbers: np.ndarray) -> np.ndarray:
    """The sums of all processes' numbers, which int32 can count."""
    if not several():
        return numbers
    return np.asarray(multihost_utils.process_allgather(numbers.astype(np.int32))).sum(axis=0)
