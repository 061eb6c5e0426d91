"""Diagnosis during training: figures at every evaluation, and a warning when a fault starts."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array

from jaxrec.config import Config
from jaxrec.data.split import Splits
from jaxrec.diagnosis import measures, sample_measures
from jaxrec.diagnosis.history import Course
from jaxrec.diagnosis.rules import findings
from jaxrec.diagnosis.sample import of_data
from jaxrec.diagnosis.sample_measures import Sample
from jaxrec.evaluation.scorers import Scorer
from jaxrec.graph.bipartite import Bipartite
from jaxrec.log import Reporter, RunLog
from jaxrec.models import HiddenLayers
from jaxrec.optax_chain import learning_rate
from jaxrec.training import step_statistics
from jaxrec.training.batch import TrainData, steps_per_epoch
from jaxrec.training.objectives.objective import UserObjective
from jaxrec.training.step import Stepper, Totals, TrainState


class FirstRows:
    """The embeddings of the doctor's sample at step 0.

    Args:
      remade: recomputes these embeddings; called in a resumed run and in a refit.
    """

    def __init__(self, remade: Callable[[], np.ndarray]) -> None:
        self._remade, self._kept = remade, None

    def look_back(self) -> None:
        """Recompute the embeddings now, before another state takes memory."""
        self._kept = self._remade()

    def __call__(self, state: TrainState, now_nD: np.ndarray) -> np.ndarray:
        """Return the embeddings at step 0; they are ``now_nD`` if the state is at step 0."""
        if self._kept is None:
            self._kept = self._remade() if int(jax.device_get(state.step)) else now_nD
        return self._kept


@dataclass(frozen=True)
class Examiner:
    """Measures training states for the doctor, always on the same sample of the data.

    Args:
      scorer: returns the scorer of a state.
      initial_state: recreates the initial state of the phase.
      total: number of steps of the phase.
      table_rows: gathers the given nodes' rows from a table in host memory; None for other tables.
    """

    config: Config
    splits: Splits
    stepper: Stepper
    data: TrainData
    scorer: Callable[[TrainState], Scorer]
    initial_state: Callable[[], TrainState]
    total: int
    table_rows: Callable[[TrainState, np.ndarray], np.ndarray] | None = None

    def __call__(self, state: TrainState) -> dict[str, float]:
        """Return the figures of a state; ``not_finite`` counts figures that are not finite."""
        scorer, temperature = self.scorer(state), self.objective.temperature(self.config)
        if self.table_rows is not None:
            found, row_nD, _ = sample_measures.measured(scorer, self._sample, temperature)
            within = {"table_nD": self.table_rows(state, self._node_n)}
        elif self.config.model.sampled and self.data.graph.indptr.devices() != state.step.devices():
            here = jax.device_put(state, jax.devices("cpu")[0])
            found, row_nD, _ = sample_measures.measured(scorer, self._sample, temperature)
            within = jax.device_get(self._within_alone(here, self.data.graph))
        else:
            inputs = state, self.data.graph
            found, row_nD, within = sample_measures.measured(
                scorer, self._sample, temperature, self._within, inputs
            )
        with np.errstate(all="ignore"):
            found["moved"] = measures.moved(row_nD, self._first(state, row_nD))
            found |= _inside(within)
        step = int(jax.device_get(state.step))
        figures = measures.finite(found) | self._facts
        figures["constant_loss"] = self._constant(step)
        figures |= self._stride(figures, step)
        return figures | self.objective.figures(self.config, figures)

    def look_back(self) -> None:
        """Recompute the sample's embeddings at step 0, before another state takes memory."""
        self._first.look_back()

    def share(self, other: "Examiner") -> None:
        """Use the sample, facts and program of ``other``, which has the same data and model."""
        for name in ("_sample", "_facts", "_within"):
            vars(self)[name] = getattr(other, name)

    @cached_property
    def _sample(self) -> Sample:
        return of_data(self.splits.train, self.splits.validation, self.objective.observed)

    @property
    def objective(self) -> UserObjective:
        """The training objective of the run."""
        return self.stepper.objective

    @cached_property
    def _facts(self) -> dict[str, float]:
        """Facts that the doctor's rules need: sizes, and the spread of the ratings."""
        train, stored = self.splits.train, jax.tree.leaves(nnx.state(self.stepper.encoder))
        found: dict[str, float] = {
            "users": train.n_users,
            "items": train.n_items,
            "observations": train.n_edges,
        }
        found["parameters"] = sum(math.prod(leaf.shape) for leaf in stored)
        rating = self.objective.observed(train)
        if rating is not None:
            found["rating_mean"] = float(rating.mean(dtype=np.float64))
            found["rating_sd"] = float(rating.std(dtype=np.float64))
        return {name: float(x) for name, x in found.items()}

    def _constant(self, step: int) -> float:
        """Return the loss of a constant prediction at a step."""
        config, train, hard = self.config, self.splits.train, 0
        if config.negatives.hard:
            per_epoch = steps_per_epoch(train.n_edges, config.train.batch_size)
            hard = config.negatives.hard_in(max(step - 1, 0) // per_epoch)
        if hard not in self._constants:
            self._constants[hard] = self.objective.constant(config, train, hard)
        return self._constants[hard]

    @cached_property
    def _constants(self) -> dict[int, float]:
        """The loss of a constant prediction for each number of hard negatives."""
        return {}

    @cached_property
    def _rate(self) -> Callable[[Any], Any]:
        return learning_rate(self.config.optim, self.total)

    def _stride(self, figures: dict[str, float], step: int) -> dict[str, float]:
        """Return as "stride" how far a step of Adam moves a table row, relative to the row's norm.

        Adam moves each number of a row by about the learning rate; the rate of the latest step is
        used. The result is empty at step 0, for other optimizers and for models without a table.
        """
        size, optim = figures.get("table_norm"), self.config.optim
        if not size or not step or optim.name not in ("adam", "adamw"):
            return {}
        return {"stride": float(self._rate(step - 1)) / size}

    @cached_property
    def _first(self) -> FirstRows:
        def remade() -> np.ndarray:
            return sample_measures.measured(self.scorer(self.initial_state()), self._sample).row_nD

        return FirstRows(remade)

    @cached_property
    def _node_n(self) -> np.ndarray:
        """The nodes of the sample: its users, then its items."""
        user_n, item_m = self._sample[:2]
        return np.concatenate([user_n, item_m + np.int32(self.stepper.n_users)])

    @cached_property
    def _within_alone(self) -> sample_measures.Within:
        return sample_measures.program(self._within)

    @cached_property
    def _within(self) -> sample_measures.Within:
        """The function that returns the sample's table rows and the share of dead rectified units.

        The function takes a state and the graph.
        """
        stepper, node_n = self.stepper, self._node_n

        def within(state: TrainState, graph: Bipartite) -> dict[str, Array]:
            model: Any = nnx.merge(stepper.graphdef, stepper.current(state))
            row_n = graph.places(jnp.asarray(node_n))
            found = {}
            if model.embedding is not None:
                found["table_nD"] = model.embedding[...][row_n]
            if isinstance(model, HiddenLayers):
                layers = model.hidden(graph, row_n)
                if layers:
                    found["dead"] = measures.dead(layers)
            return found

        return within


def _inside(within: dict[str, np.ndarray]) -> dict[str, float]:
    """Return the table rows' mean norm, divided by √D, and the share of dead units, if measured."""
    found = {}
    if "table_nD" in within:
        table_nD = within["table_nD"]
        found["table_norm"] = measures.norm(table_nD).mean / math.sqrt(table_nD.shape[1])
    if "dead" in within:
        found["dead"] = float(within["dead"])
    return found


class Attendant:
    """Writes the doctor's records to the log of one phase, and warns of new findings.

    Args:
      phase: name of the phase.
      origin: the step of the run at which the phase begins.
      record: writes a record to the log; called with (step of the phase, split, **figures).
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
        """Return the step statistics since the last record of the log."""
        return step_statistics.record(totals.signs, self._parts)

    def measure(
        self,
        examine: Callable[[TrainState], dict[str, float] | None],
        state: TrainState,
        step: int,
        run: Path,
        reporter: Reporter,
    ) -> None:
        """Log a state's figures and report new findings, unless the log has the figures already."""
        if not self._config.log.doctor:
            return
        if self._log.find(self._origin + step, "doctor") is not None:
            return
        found = examine(state)
        if found is not None:
            self._record(step, "doctor", **found)
            for title in self._new():
                reporter.say(f"doctor: {title}; `jaxrec doctor {run}` shows the likely cause")

    def broke(self, totals: Totals, step: int) -> None:
        """Log that a step's loss or parameters are not finite, with the step statistics so far."""
        if self._config.log.doctor:
            self._record(step, "doctor", not_finite=1.0, **self.of_steps(totals))

    def _new(self) -> list[str]:
        """Return the titles of findings that appeared with the newest record."""
        records = [r for r in self._log.records if r["phase"] == self._phase]
        ends = [n for n, r in enumerate(records, 1) if r["split"] == "doctor"]
        new = []
        for end in ends[self._looked :]:
            found = findings(Course(self._config, records[:end]))
            new = [f for f in found if f.name not in self._told]
            self._told |= {f.name for f in new}
        self._looked = len(ends)
        return [finding.title for finding in new]
