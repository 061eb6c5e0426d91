"""What the loop asks of a problem, whatever is trained."""

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

from jaxrec.config import Config
from jaxrec.train.problem import Cadence
from jaxrec.train.state import TrainState


@runtime_checkable
class Trainable(Protocol):
    """What the loop asks of a problem: what to train, how often to do what, how to measure it."""

    @property
    def config(self) -> Config: ...
    @property
    def cadence(self) -> Cadence: ...
    @property
    def stepper(self) -> Any:
        """Its ``dispatch`` is jitted: (state, data, n) to the state n steps on, and its totals,
        which begin as ``zero_totals()``; the doctor watches the gradients of its ``parts``."""
        ...

    @property
    def data(self) -> Any: ...
    @property
    def on_host(self) -> bool:
        """Whether batches are drawn on the host."""
        ...

    @property
    def window_seconds(self) -> float | None: ...
    @property
    def unit(self) -> str:
        """What a batch is counted in."""
        ...

    def initial_state(self) -> TrainState: ...
    def blank_state(self) -> TrainState: ...
    def measure(
        self, split: str, state: TrainState, should_stop: Callable[[], bool]
    ) -> dict[str, float] | None: ...
    def examine(self, state: TrainState) -> dict[str, float]:
        """The figures that the doctor goes by."""
        ...
