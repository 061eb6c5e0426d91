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
    """A dispatch whose input threads of the host prepare.

    Attributes:
      waited: seconds that training stood still for these threads.
    """

    waited: float

    def __call__(self, state: TrainState, data: Any, n: jax.Array) -> tuple[TrainState, Totals]: ...
    def close(self) -> None: ...


class OneDevice:
    """The methods that all problems on a single device share."""

    _examiner: Any  # measures a state for the doctor

    @property
    def examine(self) -> Callable[[TrainState], dict[str, float] | None]:
        """The doctor's measures of a state; every call uses the same sample."""
        return self._examiner

    def look_back(self) -> None:
        """Let the doctor read the state before the first step, then forget that state."""
        self._examiner.look_back()

    def state_shape(self) -> TrainState:
        """Return the shapes and types of a state without allocating its arrays."""
        raise TypeError("a problem makes its own states")

    def placed_shape(self) -> TrainState:
        """Return the shapes, types and devices of a state, to restore a checkpoint with."""
        return placed_at(SingleDeviceSharding(jax.local_devices()[0]), self.state_shape())

    def restore(self, checkpoints: Checkpoints, step: int) -> TrainState:
        """Restore the state of one of this run's checkpoints. Raises Damaged, RunError."""
        return checkpoints.restore(step, self.placed_shape())

    def notes(self) -> dict[str, Any]:
        """Return a checkpoint's record of how its arrays are laid out (empty on one device)."""
        return {}

    def prepared(self) -> tuple[list[str], dict[str, dict[str, Any]]]:
        """Return console lines, and fields for timing.jsonl by event, once the problem is built."""
        return [], {}

    def number(self, n: int) -> jax.Array:
        """Put a number where the steps read it."""
        return jax.device_put(np.int32(n))

    def cleared(self, totals: Totals) -> Totals:
        """Return empty sums where the steps read them."""
        return cleared(totals)

    def fed_by_host(self, state: TrainState, step: int) -> FedByHost | None:
        """Return the dispatch that trains from this step on if the host takes part in it.

        None means that it does not: the stepper's own dispatch is compiled instead.
        """
        return None

    def finite(self, state: TrainState) -> bool:
        """Whether all parameters are finite."""
        return bool(jax.device_get(all_finite(state.params)))


@jax.jit
def all_finite(params: Any) -> jax.Array:
    """Whether all arrays are finite."""
    leaves = jax.tree.map(lambda leaf: jnp.all(jnp.isfinite(leaf)), params)
    return jax.tree.reduce(jnp.logical_and, leaves, jnp.bool_(True))
