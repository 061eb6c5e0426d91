"""The doctor beside the loop: measures at every evaluation, and a warning when something starts."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from jaxrec.config import Config
from jaxrec.doctor.course import Course
from jaxrec.doctor.findings import findings
from jaxrec.log import Reporter, RunLog
from jaxrec.train import signs
from jaxrec.train.state import Totals, TrainState


class Attendant:
    """Writes the doctor's lines of one phase.

    Args:
      phase, origin: name of the phase, and its first step in the whole run.
      record: writes a line: (step of the phase, split, **figures).
    """

    def __init__(
        self,
        config: Config,
        stepper: Any,
        phase: str,
        origin: int,
        log: RunLog,
        record: Callable[..., None],
    ) -> None:
        self._config, self._phase, self._origin = config, phase, origin
        self._log, self._record = log, record
        self._parts: tuple[str, ...] = getattr(stepper, "parts", ())
        self._told: set[str] = set()
        self._looked = 0

    def of_steps(self, totals: Totals) -> dict[str, float]:
        """What the steps since the last line of the log showed."""
        return signs.record(totals.signs, self._parts)

    def measure(
        self,
        examine: Callable[[TrainState], dict[str, float] | None],
        state: TrainState,
        step: int,
        run: Path,
        reporter: Reporter,
    ) -> None:
        """Measure a state, once, and say what is found for the first time."""
        if not self._config.log.doctor:
            return
        if self._log.find(self._origin + step, "doctor") is not None:
            return
        found = examine(state)
        if found is not None:
            self._record(step, "doctor", **found)
            for title in self._new():
                reporter.say(f"doctor: {title}; why: `jaxrec doctor {run}`")

    def broke(self, totals: Totals, step: int) -> None:
        """Leave behind what there is to say about a step whose numbers are not finite."""
        if self._config.log.doctor:
            self._record(step, "doctor", not_finite=1.0, **self.of_steps(totals))

    def _new(self) -> list[str]:
        """Titles of what the newest line adds to all lines before it, told or not."""
        records = [r for r in self._log.records if r["phase"] == self._phase]
        ends = [n for n, r in enumerate(records, 1) if r["split"] == "doctor"]
        new = []
        for end in ends[self._looked :]:
            found = findings(Course(self._config, records[:end]))
            new = [f for f in found if f.name not in self._told]
            self._told |= {f.name for f in new}
        self._looked = len(ends)
        return [finding.title for finding in new]
