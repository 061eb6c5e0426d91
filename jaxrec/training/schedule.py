"""The schedule of a run's events, in steps."""

from dataclasses import dataclass

from jaxrec.config import Config
from jaxrec.data.dataset import Counted
from jaxrec.errors import InputError
from jaxrec.training.batch import steps_per_epoch


@dataclass(frozen=True)
class Cadence:
    """The length of one phase, and the periods of its events, in steps.

    A period of 0 means that the event is due only at the end. In the configuration, eval.every and
    checkpoint.every count steps if train.steps is set, and epochs otherwise. Both default to one
    epoch.
    """

    total: int
    per_epoch: int
    evaluate: int
    checkpoint: int
    log: int

    @classmethod
    def of(cls, config: Config, pairs: int, total: int | None = None) -> "Cadence":
        """Compute the cadence of a phase.

        Args:
          pairs: number of train pairs per epoch; for training on walks, the number of walks.
          total: number of steps; by default as configured.
        """
        per_epoch = steps_per_epoch(pairs, config.train.batch_size)
        unit = per_epoch if config.train.steps is None else 1
        steps = config.train.steps
        configured = config.train.epochs * per_epoch if steps is None else steps
        evaluate, checkpoint = (
            per_epoch if every is None else every * unit
            for every in (config.eval.every, config.checkpoint.every)
        )
        log = per_epoch if steps is None else evaluate or per_epoch
        total = configured if total is None else total
        return cls(total, per_epoch, evaluate, checkpoint, log)

    @classmethod
    def checked(cls, config: Config, train: Counted, total: int | None) -> "Cadence":
        """Compute the cadence for train data. Raises InputError if the data has no pairs."""
        if train.n_edges == 0:
            raise InputError(f"{config.data}: no train pairs remain after filter and split")
        return cls.of(config, train.n_edges, total)

    def due(self, every: int, step: int) -> bool:
        """Return whether an event with the period ``every`` is due at a step."""
        return step == self.total or (every > 0 and step > 0 and step % every == 0)

    def next_boundary(self, step: int) -> int:
        """Return the first step after ``step`` at which any event is due."""
        periods = [p for p in (self.evaluate, self.checkpoint, self.log) if p > 0]
        return min([self.total, *((step // p + 1) * p for p in periods)])
