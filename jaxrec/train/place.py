"""Where the loop puts what it hands to the steps: here, on one device."""

from typing import Any

import jax
import numpy as np

from jaxrec.train.checkpoint import Checkpoints
from jaxrec.train.state import Totals, TrainState, cleared


class OneDevice:
    """What problems of one device have in common."""

    def blank_state(self) -> TrainState:
        """A state of the right structure, to restore a checkpoint into."""
        raise TypeError("a problem makes its own states")

    def restore(self, checkpoints: Checkpoints, step: int) -> TrainState:
        """The state of a checkpoint of this run. Raises Damaged, RunError."""
        return checkpoints.restore(step, self.blank_state())

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
