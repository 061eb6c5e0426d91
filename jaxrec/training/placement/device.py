"""Where the loop puts what it hands to the steps: here, on one device."""

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
    """A dispatch that threads of the host feed; it ``waited`` so many seconds for them."""

    waited: float

    def __call__(self, state: TrainState, data: Any, n: jax.Array) -> tuple[TrainState, Totals]: ...
    def close(self) -> None: ...


class OneDevice:
    """What problems of one device have in common."""

    _examiner: Any  # what measures a state for the doctor

    @property
    def examine(self) -> Callable[[TrainState], dict[str, float] | None]:
        """What the doctor measures of a state, on a sample that stays the same."""
        return self._examiner

    def look_back(self) -> None:
        """See what the doctor wants to know of the state before the first step, and forget it."""
        self._examiner.look_back()

    def state_shape(self) -> TrainState:
        """The shapes and types of a state, without an array of it."""
        raise TypeError("a problem makes its own states")

    def placed_shape(self) -> TrainState:
        """The shapes, types and places of a state, to restore a checkpoint by."""
        return placed_at(SingleDeviceSharding(jax.local_devices()[0]), self.state_shape())

    def restore(self, checkpoints: Checkpoints, step: int) -> TrainState:
        """The state of a checkpoint of this run. Raises Damaged, RunError."""
        return checkpoints.restore(step, self.placed_shape())

    def notes(self) -> dict[str, Any]:
        """What a checkpoint says of how its arrays are laid out."""
        return {}

    def prepared(self) -> tuple[list[str], dict[str, dict[str, Any]]]:
        """What to say once the problem is ready: to people, and to timing.jsonl by event."""
        return [], {}

    def number(self, n: int) -> jax.Array:
        """A number where the steps take it."""
        return jax.device_put(np.int32(n))

    def cleared(self, totals: Totals) -> Totals:
        """Empty sums where the steps take them."""
        return cleared(totals)

    def fed_by_host(self, state: TrainState, step: int) -> FedByHost | None:
        """What trains from this step on, where the host has a part in it; None where it has not
        and the stepper's dispatch is compiled."""
        return None

    def finite(self, state: TrainState) -> bool:
        """Whether all parameters are finite."""
        return bool(jax.device_get(all_finite(state.params)))


@jax.jit
def all_finite(params: Any) -> jax.Array:
    """Whether all arrays are finite."""
    leaves = jax.tree.map(lambda leaf: jnp.all(jnp.isfinite(leaf)), params)
    return jax.tree.reduce(jnp.logical_and, leaves, jnp.bool_(True))
