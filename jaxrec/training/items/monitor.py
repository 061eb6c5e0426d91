"""The doctor's measures of item models: vectors and pair scores."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Bool

from jaxrec.config import Config
from jaxrec.data.itemgraph import PairSplits
from jaxrec.diagnosis import measures, sample_measures
from jaxrec.diagnosis.sample import ItemSample, of_items
from jaxrec.evaluation.scorers import Scorer
from jaxrec.training.items import objective
from jaxrec.training.monitor import FirstRows
from jaxrec.training.step import TrainState


@dataclass(frozen=True)
class ItemExaminer:
    """Measures training states for the doctor, always on the same sample of items.

    Args:
      learned: returns the vectors of a state, as ``ItemProblem.learned`` does.
      scorer: builds a scorer from the result of ``learned``.
      scored_I: which items have a vector.
      initial_state: computes the initial state of the phase again.
    """

    config: Config
    splits: PairSplits
    learned: Callable[[TrainState], dict[str, Any]]
    scorer: Callable[[dict[str, Any]], Scorer]
    scored_I: Bool[np.ndarray, "I"]
    initial_state: Callable[[], TrainState]

    def __call__(self, state: TrainState) -> dict[str, float]:
        """Return the finite measures of a state; ``not_finite`` counts the other measures."""
        learned = self.learned(state)
        row_mD = self._rows(learned)
        with np.errstate(all="ignore"):
            values = measures.sides({"item": row_mD})
            values["moved"] = measures.moved(row_mD, self._first(state, row_mD))
        temperature = self.config.loss.temperature
        values |= sample_measures.pairs_of(self.scorer(learned), self._sample.parts, temperature)
        return measures.finite(values) | self._facts(state)

    def look_back(self) -> None:
        """Compute the sample's vectors at step 0, before another state takes memory."""
        self._first.look_back()

    @cached_property
    def _sample(self) -> ItemSample:
        return of_items(self.splits, self.scored_I)

    def _facts(self, state: TrainState) -> dict[str, float]:
        """Return the facts against which the doctor compares the measures."""
        train = self.splits.train
        facts = {
            "items": train.n_items,
            "observations": train.n_pairs,
            "constant_loss": objective.constant(self.config, train),
            "parameters": sum(leaf.size for leaf in jax.tree.leaves(state.params)),
        }
        return {name: float(x) for name, x in facts.items()}

    def _rows(self, learned: dict[str, Any]) -> np.ndarray:
        return np.asarray(_rows_at(learned["item"], self._sample.item_m))

    @cached_property
    def _first(self) -> FirstRows:
        return FirstRows(lambda: self._rows(self.learned(self.initial_state())))


@jax.jit
def _rows_at(item_ID: Array, item_m: Array) -> Array:
    return item_ID[item_m]
