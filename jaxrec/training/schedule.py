"""The schedule of a run's events, in steps."""

from dataclasses import dataclass

from jaxrec.config import Config
from jaxrec.data.dataset import Counted
from jaxrec.errors import InputError
from jaxrec.training.batch import steps_per_epoch


@dataclass(frozen=True)
class Cadence:
    """The events of one phase, in steps; 0 means only at the end.

    With ``train.epochs``, eval.every and checkpoint.every count epochs; with ``train.steps``, all
    three count steps. The default of both is one epoch.
    """

    total: int
    per_epoch: int
    evaluate: int
    checkpoint: int
    log: int

    @classmethod
    def of(cls, config: Config, pairs: int, total: int | None = None) -> "Cadence":
        """Compute the cadence for E pairs; ``total`` replaces the configured length (refit)."""
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
        """:meth:`of` for a train part. Raises InputError if it is empty."""
        if train.n_edges == 0:
            raise InputError(f"{config.data}: no train pairs remain after filter and split")
        return cls.of(config, train.n_edges, total)

    def due(self, every: int, step: int) -> bool:
        """Whether an event that is due every ``every`` steps and at the end is due."""
        return step == self.total or (every > 0 and step > 0 and step % every == 0)

    def next_boundary(self, step: int) -> int:
        """Return the first step after ``step`` at which any event is due."""
        periods = [p for p in (self.evaluate, self.checkpoint, self.log) if p > 0]
        return min([self.total, *((step // p + 1) * p for p in periods)])
