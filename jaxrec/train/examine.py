"""What the doctor measures of a run's state: the sample's figures, and what lies within."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array

from jaxrec.config import Config
from jaxrec.data.split import Splits
from jaxrec.doctor import look, measures
from jaxrec.doctor.look import Sample
from jaxrec.doctor.sample import of_data
from jaxrec.evaluate.scorers import Scorer
from jaxrec.graph.bipartite import Bipartite
from jaxrec.models import HiddenLayers
from jaxrec.optim import learning_rate
from jaxrec.train.batches import steps_per_epoch
from jaxrec.train.constant import constant_loss
from jaxrec.train.draw import TrainData
from jaxrec.train.state import Stepper, TrainState


class FirstRows:
    """The sample's rows before the first step.

    Args:
      remade: makes them once more, for a run that was resumed.
    """

    def __init__(self, remade: Callable[[], np.ndarray]) -> None:
        self._remade, self._kept = remade, None

    def look_back(self) -> None:
        """Make them once more, while there is no other state."""
        self._kept = self._remade()

    def __call__(self, state: TrainState, now_nD: np.ndarray) -> np.ndarray:
        """Those before the first step, given the rows of a state."""
        if self._kept is None:
            self._kept = self._remade() if int(jax.device_get(state.step)) else now_nD
        return self._kept


@dataclass(frozen=True)
class Examiner:
    """Measures a state on a sample of the data that stays the same for the whole run.

    Args:
      scorer: of a state.
      initial_state: makes the state that the phase began with, once more.
      total: steps of the phase.
      table_rows: rows of the table of given nodes, where it lies in the host's memory.
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
        """The figures of a state that are numbers; ``not_finite`` counts the others."""
        scorer, rates = self.scorer(state), self.config.loss.rates
        temperature = 1.0 if rates else self.config.loss.temperature
        if self.table_rows is not None:
            found, row_nD, _ = look.measured(scorer, self._sample, temperature)
            within = {"table_nD": self.table_rows(state, self._node_n)}
        elif self.config.model.sampled and self.data.graph.indptr.devices() != state.step.devices():
            here = jax.device_put(state, jax.devices("cpu")[0])
            found, row_nD, _ = look.measured(scorer, self._sample, temperature)
            within = jax.device_get(self._within_alone(here, self.data.graph))
        else:
            inputs = state, self.data.graph
            found, row_nD, within = look.measured(
                scorer, self._sample, temperature, self._within, inputs
            )
        with np.errstate(all="ignore"):
            found["moved"] = measures.moved(row_nD, self._first(state, row_nD))
            found |= _inside(within)
        step = int(jax.device_get(state.step))
        figures = measures.finite(found) | self._facts
        figures["constant_loss"] = self._constant(step)
        figures |= self._stride(figures, step)
        if self.config.loss.name == "mse" and self.config.model.score != "mlp":
            figures |= measures.carried(figures, self.config.loss.temperature)
        return figures

    def look_back(self) -> None:
        """See the sample's rows before the first step, while there is no other state."""
        self._first.look_back()

    @cached_property
    def _sample(self) -> Sample:
        validation = self.splits.validation
        return of_data(self.splits.train, validation, self.config.loss.rates)

    @cached_property
    def _facts(self) -> dict[str, float]:
        """What the figures are judged by: sizes, and the spread of the ratings."""
        train, stored = self.splits.train, jax.tree.leaves(nnx.state(self.stepper.encoder))
        found: dict[str, float] = {
            "users": train.n_users,
            "items": train.n_items,
            "observations": train.n_edges,
        }
        found["parameters"] = sum(math.prod(leaf.shape) for leaf in stored)
        if self.config.loss.rates and train.rating is not None:
            found["rating_mean"] = float(train.rating.mean(dtype=np.float64))
            found["rating_sd"] = float(train.rating.std(dtype=np.float64))
        return {name: float(x) for name, x in found.items()}

    def _constant(self, step: int) -> float:
        """The loss of a constant prediction, after so many steps."""
        config, train, hard = self.config, self.splits.train, 0
        if config.negatives.hard:
            per_epoch = steps_per_epoch(train.n_edges, config.train.batch_size)
            hard = config.negatives.hard_in(max(step - 1, 0) // per_epoch)
        if hard not in self._constants:
            self._constants[hard] = constant_loss(config, train, hard)
        return self._constants[hard]

    @cached_property
    def _constants(self) -> dict[int, float]:
        """By how many hard negatives a pair has."""
        return {}

    @cached_property
    def _rate(self) -> Callable[[Any], Any]:
        return learning_rate(self.config.optim, self.total)

    def _stride(self, figures: dict[str, float], step: int) -> dict[str, float]:
        """How far a full step of Adam takes a row of the table, over the row's length.

        By the schedule: at the step before, which has been taken.
        """
        size, optim = figures.get("table_norm"), self.config.optim
        if not size or not step or optim.name not in ("adam", "adamw"):
            return {}
        return {"stride": float(self._rate(step - 1)) / size}

    @cached_property
    def _first(self) -> FirstRows:
        def remade() -> np.ndarray:
            return look.measured(self.scorer(self.initial_state()), self._sample).row_nD

        return FirstRows(remade)

    @cached_property
    def _node_n(self) -> np.ndarray:
        """The sample's nodes."""
        user_n, item_m = self._sample[:2]
        return np.concatenate([user_n, item_m + np.int32(self.stepper.n_users)])

    @cached_property
    def _within_alone(self) -> look.Within:
        return look.program(self._within)

    @cached_property
    def _within(self) -> look.Within:
        """The table's rows, and the share of rectified units that are dead."""
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
    """Figures of the table's own rows, before the encoder, and of the rectified layers."""
    found = {}
    if "table_nD" in within:
        table_nD = within["table_nD"]
        found["table_norm"] = measures.norm(table_nD).mean / math.sqrt(table_nD.shape[1])
    if "dead" in within:
        found["dead"] = float(within["dead"])
    return found
