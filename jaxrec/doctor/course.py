"""What a run has recorded so far, as the doctor reads it."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from jaxrec.config import Config, lower_is_better


@dataclass(frozen=True)
class Course:
    """The records of one phase, in their order: lines of metrics.jsonl.

    Embeddings from elsewhere have a single record and no configuration.
    """

    config: Config | None
    records: Sequence[dict[str, Any]]

    def _of(self, split: str) -> list[dict[str, Any]]:
        return [r for r in self.records if r.get("split") == split]

    @cached_property
    def measured(self) -> list[dict[str, Any]]:
        """What the doctor measured, from step 0 on."""
        return self._of("doctor")

    @cached_property
    def trained(self) -> list[dict[str, Any]]:
        """What the steps themselves said."""
        return self._of("train")

    @cached_property
    def steps(self) -> int:
        """How many steps lie between the first and the last record."""
        places = [r["step"] for r in self.records if "step" in r]
        return max(places) - min(places) if places else 0

    def last(self, name: str) -> float | None:
        """The newest figure of a name: of the doctor's, else of the steps'."""
        for lines in (self.measured, self.trained):
            values = [r[name] for r in lines if name in r]
            if values:
                return values[-1]
        return None

    def first(self, name: str) -> float | None:
        """The oldest figure of a name, likewise."""
        for lines in (self.measured, self.trained):
            values = [r[name] for r in lines if name in r]
            if values:
                return values[0]
        return None

    def growth(self, name: str) -> float | None:
        """The newest figure over the oldest; None where there are not two, or the oldest is 0."""
        first, last = self.first(name), self.last(name)
        if first is None or last is None or first == 0:
            return None
        return last / first

    @cached_property
    def figures(self) -> dict[str, float]:
        """The newest figure of every name."""
        names = ("step", "epoch", "split", "phase")
        lines = (*self.trained, *self.measured)
        return {n: x for line in lines for n, x in line.items() if n not in names}

    @cached_property
    def judged(self) -> list[float]:
        """The metric that selects, at each evaluation; higher is better, errors by their sign."""
        if self.config is None:
            return []
        metric = self.config.metric
        sign = -1 if lower_is_better(metric) else 1
        lines = self._of(self.config.eval.select_on)
        return [sign * r[metric] for r in lines if metric in r]
