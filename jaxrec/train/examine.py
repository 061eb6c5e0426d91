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
from jaxtyping import Array, Float

from jaxrec.config import Config
from jaxrec.data.split import Splits
from jaxrec.doctor import measures
from jaxrec.doctor.measures import Sample
from jaxrec.doctor.sample import of_data
from jaxrec.evaluate.scorers import Scorer
from jaxrec.graph.bipartite import Bipartite
from jaxrec.models import HiddenLayers
from jaxrec.train.draw import TrainData
from jaxrec.train.state import Stepper, TrainState


@dataclass(frozen=True)
class Examiner:
    """Measures a state on a sample of the data that stays the same for the whole run.

    Args:
      scorer: of a state.
      initial_state: makes the state that the phase began with, once more.
    """

    config: Config
    splits: Splits
    stepper: Stepper
    data: TrainData
    scorer: Callable[[TrainState], Scorer]
    initial_state: Callable[[], TrainState]

    def __call__(self, state: TrainState) -> dict[str, float]:
        """The figures of a state that are numbers; ``not_finite`` counts the others."""
        scorer, rates = self.scorer(state), self.config.loss.rates
        temperature = 1.0 if rates else self.config.loss.temperature
        found = measures.measured(scorer, self._sample, temperature)
        found["moved"] = _moved(self._rows(scorer), self._first(state, scorer))
        if self.config.model.sampled and self.data.graph.indptr.devices() != state.step.devices():
            state = jax.device_put(state, jax.devices("cpu")[0])
        found |= self._within(state, self.data.graph)
        figures = {name: float(x) for name, x in jax.device_get(found).items()}
        figures = measures.finite(figures) | self._facts
        figures |= self._stride(figures)
        if self.config.loss.name == "mse" and self.config.model.score != "mlp":
            figures |= measures.carried(figures, self.config.loss.temperature)
        return figures

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

    def _stride(self, figures: dict[str, float]) -> dict[str, float]:
        """How far a full step of Adam takes a row of the table, over the row's length."""
        size, optim = figures.get("table_norm"), self.config.optim
        if not size or optim.name not in ("adam", "adamw"):
            return {}
        return {"stride": optim.learning_rate / size}

    def _rows(self, scorer: Scorer) -> Float[Array, "n D"]:
        user_ND, item_ND = scorer.params["user"], scorer.params["item"]
        return _both(user_ND, item_ND, self._sample.user_n, self._sample.item_m)

    def _first(self, state: TrainState, scorer: Scorer) -> Float[Array, "n D"]:
        """The sample's rows before the first step: of a resumed run they are made again."""
        if "rows" not in self._kept:
            began = int(jax.device_get(state.step)) == 0
            first = scorer if began else self.scorer(self.initial_state())
            self._kept["rows"] = self._rows(first)
        return self._kept["rows"]

    @cached_property
    def _kept(self) -> dict[str, Array]:
        return {}

    @cached_property
    def _within(self) -> Callable[[TrainState, Bipartite], dict[str, Array]]:
        """The table's own rows, before the encoder, and the rectified layers."""
        stepper = self.stepper
        node_n = jnp.concatenate(
            [self._sample.user_n, self._sample.item_m + jnp.int32(stepper.n_users)]
        )

        def within(state: TrainState, graph: Bipartite) -> dict[str, Array]:
            model: Any = nnx.merge(stepper.graphdef, stepper.current(state))
            row_n = graph.places(node_n)
            found = {}
            if model.embedding is not None:
                base_nD = model.embedding[...][row_n]
                found["table_cosine"] = measures.cosines(base_nD).mean
                length, width = measures.norm(base_nD).mean, base_nD.shape[1]
                found["table_norm"] = length / jnp.sqrt(jnp.float32(width))
            if isinstance(model, HiddenLayers):
                layers = model.hidden(graph, row_n)
                if layers:
                    found["dead"] = measures.dead(layers)
            return found

        return jax.jit(within)


@jax.jit
def _both(user_UD: Array, item_ID: Array, user_n: Array, item_m: Array) -> Float[Array, "n D"]:
    return jnp.concatenate([user_UD[user_n], item_ID[item_m]])


@jax.jit
def _moved(now_nD: Float[Array, "n D"], first_nD: Float[Array, "n D"]) -> Float[Array, ""]:
    """Mean distance of rows from where they began, over their mean length there."""
    length = measures.norm(first_nD).mean
    return measures.norm(now_nD - first_nD).mean / jnp.where(length > 0, length, 1)
