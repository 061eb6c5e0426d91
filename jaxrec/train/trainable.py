"""What can be trained: a problem, as the loop knows it."""

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import jax

from jaxrec.config import Config
from jaxrec.train.cadence import Cadence
from jaxrec.train.checkpoint import Checkpoints
from jaxrec.train.place import FedByHost
from jaxrec.train.state import Totals, TrainState


@runtime_checkable
class Trainable(Protocol):
    """What the loop asks of a problem: what to train, how often to do what, how to measure it."""

    @property
    def config(self) -> Config: ...
    @property
    def cadence(self) -> Cadence: ...
    @property
    def stepper(self) -> Any:
        """Its ``dispatch`` is jitted: (state, data, n) to the state n steps on, and its totals."""
        ...

    @property
    def data(self) -> Any: ...
    def fed_by_host(self, state: TrainState, step: int) -> FedByHost | None:
        """What trains from this step on, where the host has a part in it; None where it has not
        and the stepper's dispatch is compiled."""
        ...

    @property
    def unit(self) -> str:
        """What a batch is counted in."""
        ...

    def prepared(self) -> tuple[list[str], dict[str, dict[str, Any]]]: ...
    def initial_state(self) -> TrainState: ...
    def restore(self, checkpoints: Checkpoints, step: int) -> TrainState: ...
    def notes(self) -> dict[str, Any]: ...
    def number(self, n: int) -> jax.Array: ...
    def cleared(self, totals: Totals) -> Totals: ...
    def finite(self, state: TrainState) -> bool: ...
    def measure(
        self, split: str, state: TrainState, should_stop: Callable[[], bool]
    ) -> dict[str, float] | None: ...
    @property
    def examine(self) -> Callable[[TrainState], dict[str, float] | None]:
        """What the doctor measures of a state; None where it has nothing to say."""
        ...

    def look_back(self) -> None:
        """See what the doctor wants to know of the state before the first step, and forget it: for
        a run that is resumed, before it has a state."""
        ...
