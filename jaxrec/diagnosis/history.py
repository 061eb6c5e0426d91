"""The records of a run, as read by the doctor."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from jaxrec.config import Config, lower_is_better
from jaxrec.diagnosis.thresholds import BEGUN

_RECENT = 32
"""Least number of steps in each mean of the loss."""


@dataclass(frozen=True)
class Course:
    """The records of one phase in order, from metrics.jsonl.

    For a file of embeddings, there is a single record and no configuration.
    """

    config: Config | None
    records: Sequence[dict[str, Any]]

    def _of(self, split: str) -> list[dict[str, Any]]:
        return [r for r in self.records if r.get("split") == split]

    @cached_property
    def measured(self) -> list[dict[str, Any]]:
        """The doctor's records, from step 0 on."""
        return self._of("doctor")

    @cached_property
    def trained(self) -> list[dict[str, Any]]:
        """The records of the training steps."""
        return self._of("train")

    @cached_property
    def steps(self) -> int:
        """Number of steps between the first and the last record."""
        places = [r["step"] for r in self.records if "step" in r]
        return max(places) - min(places) if places else 0

    @cached_property
    def watched(self) -> bool:
        """Whether the doctor measured the run during training, from the first step on."""
        return any(r.get("step") is not None for r in self.measured)

    @cached_property
    def begun(self) -> bool:
        """Whether there were enough steps to judge the training.

        True if the doctor did not measure the run during training.
        """
        return not self.watched or self.steps >= BEGUN

    @cached_property
    def progress(self) -> float:
        """Share of the configured training length that is done; 1 if unknown."""
        if self.config is None or not self.records:
            return 1.0
        newest, length = self.records[-1], self.config.train
        if newest.get("phase", "search") != "search":
            return 1.0
        done, of = newest.get("epoch"), length.epochs
        if length.steps is not None:
            done, of = newest.get("step"), length.steps
        return 1.0 if not done or not of else min(1.0, done / of)

    @cached_property
    def noise_first(self) -> bool:
        """Whether the first figures describe an untrained, randomly initialised table."""
        config = self.config
        if config is None or not self.watched or len(self.measured) < 2:
            return False
        return config.warm_start is None and config.model.init == "normal"

    @cached_property
    def losses(self) -> list[float]:
        """Means of the loss without L2, each over ``_RECENT`` or more steps; the newest mean is
        first."""
        found, weight, total = [], 0, 0.0
        ends = [r["step"] for r in self.trained]
        starts = [min((r.get("step", 0) for r in self.measured), default=0), *ends]
        for record, start in zip(
            reversed(self.trained), reversed(starts[: len(ends)]), strict=True
        ):
            if "loss" not in record:
                continue
            steps = max(record["step"] - start, 1)
            weight += steps
            total += steps * (record["loss"] - record.get("l2", 0.0))
            if weight >= _RECENT:
                found.append(total / weight)
                weight, total = 0, 0.0
        if weight and not found:
            found.append(total / weight)
        return found

    def last(self, name: str) -> float | None:
        """Return a figure's newest value, from the doctor's records or else the train records."""
        for lines in (self.measured, self.trained):
            values = [r[name] for r in lines if name in r]
            if values:
                return values[-1]
        return None

    def first(self, name: str) -> float | None:
        """Return a figure's oldest value, from the doctor's records or else the train records."""
        for lines in (self.measured, self.trained):
            values = [r[name] for r in lines if name in r]
            if values:
                return values[0]
        return None

    def growth(self, name: str) -> float | None:
        """Return the ratio of the newest to the oldest value of a figure; None if unknown or
        infinite."""
        first, last = self.first(name), self.last(name)
        if first is None or last is None or first == 0:
            return None
        return last / first

    @cached_property
    def figures(self) -> dict[str, float]:
        """The newest value of every figure, by name."""
        names = ("step", "epoch", "split", "phase")
        lines = (*self.trained, *self.measured)
        return {n: x for line in lines for n, x in line.items() if n not in names}

    @cached_property
    def _judgements(self) -> list[dict[str, Any]]:
        if self.config is None:
            return []
        return [r for r in self._of(self.config.eval.select_on) if self.config.metric in r]

    @cached_property
    def judged(self) -> list[float]:
        """The selection metric at each evaluation; errors are negated, so that higher is better."""
        if self.config is None:
            return []
        metric = self.config.metric
        sign = -1 if lower_is_better(metric) else 1
        return [sign * r[metric] for r in self._judgements]

    def upto(self, evaluation: int) -> "Course":
        """Return the records up to an evaluation; evaluations are counted from 0."""
        step = self._judgements[evaluation].get("step", 0)
        return Course(self.config, [r for r in self.records if r.get("step", 0) <= step])
