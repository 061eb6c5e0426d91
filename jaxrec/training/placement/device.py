"""Placement of a run's arrays on one device, which is the default."""

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import SingleDeviceSharding

from jaxrec.training.checkpoint import Checkpoints, placed_at
from jaxrec.training.step import Totals, TrainState, cleared


@runtime_checkable
class FedByHost(Protocol):
    """A dispatch whose input is prepared by threads on the host.

    Attributes:
      waited: seconds that training waited for these threads.
    """

    waited: float

    def __call__(self, state: TrainState, data: Any, n: jax.Array) -> tuple[TrainState, Totals]: ...
    def close(self) -> None: ...


class OneDevice:
    """The methods that all problems on a single device share."""

    _examiner: Any  # measures a state for the doctor

    @property
    def examine(self) -> Callable[[TrainState], dict[str, float] | None]:
        """The function that measures a state for the doctor, always on the same sample."""
        return self._examiner

    def look_back(self) -> None:
        """Compute the doctor's embeddings at step 0, before another state takes memory."""
        self._examiner.look_back()

    def state_shape(self) -> TrainState:
        """Return the shapes and types of a state without allocating its arrays."""
        raise TypeError("the class of the problem must define state_shape")

    def placed_shape(self) -> TrainState:
        """Return the shapes, types and devices of a state, to restore a checkpoint with."""
        return placed_at(SingleDeviceSharding(jax.local_devices()[0]), self.state_shape())

    def restore(self, checkpoints: Checkpoints, step: int) -> TrainState:
        """Restore the state of one of this run's checkpoints. Raises Damaged, RunError."""
        return checkpoints.restore(step, self.placed_shape())

    def notes(self) -> dict[str, Any]:
        """Return the layout of the tables, which a checkpoint records; empty on one device."""
        return {}

    def prepared(self) -> tuple[list[str], dict[str, dict[str, Any]]]:
        """Return lines for the console, and the fields of events for timing.jsonl."""
        return [], {}

    def number(self, n: int) -> jax.Array:
        """Put a number on the device."""
        return jax.device_put(np.int32(n))

    def cleared(self, totals: Totals) -> Totals:
        """Return sums of zero on the device, in the structure of ``totals``."""
        return cleared(totals)

    def fed_by_host(self, state: TrainState, step: int) -> FedByHost | None:
        """Return a dispatch whose inputs the host prepares, beginning with this step.

        The result is None if the host prepares no inputs; the stepper's dispatch is then used.
        """
        return None

    def finite(self, state: TrainState) -> bool:
        """Return whether all parameters are finite."""
        return bool(jax.device_get(all_finite(state.params)))


@jax.jit
def all_finite(params: Any) -> jax.Array:
    """Return whether all arrays are finite."""
    leaves = jax.tree.map(lambda leaf: jnp.all(jnp.isfinite(leaf)), params)
    return jax.tree.reduce(jnp.logical_and, leaves, jnp.bool_(True))
