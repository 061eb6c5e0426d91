"""When things happen in a run, in steps."""

from dataclasses import dataclass

from jaxrec.config import Config
from jaxrec.data.dataset import Counted
from jaxrec.errors import InputError
from jaxrec.training.batch import steps_per_epoch


@dataclass(frozen=True)
class Cadence:
    """When things happen, in steps of one phase; 0 stands for never but at the end.

    ``train.epochs`` counts in epochs and then so do eval.every and checkpoint.every; with
    ``train.steps`` all three count steps. Where not given, both are an epoch.
    """

    total: int
    per_epoch: int
    evaluate: int
    checkpoint: int
    log: int

    @classmethod
    def of(cls, config: Config, pairs: int, total: int | None = None) -> "Cadence":
        """The cadence for E pairs; ``total`` replaces the configured length (refit)."""
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
        """:meth:`of` a train part. Raises InputError where there is nothing to train on."""
        if train.n_edges == 0:
            raise InputError(f"{config.data}: no train pairs are left after filter and split")
        return cls.of(config, train.n_edges, total)

    def due(self, every: int, step: int) -> bool:
        """Whether something that happens each ``every`` steps, and at the end, is due."""
        return step == self.total or (every > 0 and step > 0 and step % every == 0)

    def next_boundary(self, step: int) -> int:
        """The first step after ``step`` at which anything is due."""
        periods = [p for p in (self.evaluate, self.checkpoint, self.log) if p > 0]
        return min([self.total, *((step // p + 1) * p for p in periods)])
