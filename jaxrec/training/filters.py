"""Runs of graph filters, which are fitted in closed form and then evaluated like any other run."""

import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from jaxrec.config.models.filter import order, spectral_weight
from jaxrec.data.dataset import Csr, Dataset
from jaxrec.data.split import refit_splits
from jaxrec.errors import InputError
from jaxrec.evaluation.baselines import ease, refuse_dense
from jaxrec.evaluation.filter_scorer import filter_scorer
from jaxrec.evaluation.ranking import Scorer
from jaxrec.files import write_json, write_npz
from jaxrec.graph import filters
from jaxrec.graph.filters import Filter, Leading
from jaxrec.training import learned_filters, results
from jaxrec.training.device_data import Inputs
from jaxrec.training.loop import Outcome
from jaxrec.training.problem import Problem, keys
from jaxrec.training.schedule import Cadence
from jaxrec.training.signals import SignalWatch
from jaxrec.training.task import UserTask


class _Sizes(NamedTuple):
    """Stands in for a stepper, since a fitted model needs only the numbers of users and items."""

    n_users: int
    n_items: int


@dataclass
class Kept:
    """A cache of the expensive parts of fitted filters, with the seconds that each part took.

    Attributes:
      saved: seconds saved by using cached parts again.
    """

    saved: float = 0.0
    _parts: dict[tuple[Any, ...], tuple[Any, float]] = field(default_factory=dict)

    def take(self, of: tuple[Any, ...], compute: Callable[[], Any]) -> Any:
        """Return the part with the key ``of``, computed if it is not cached.

        The kind of a part is ``of[0]``. The cache holds the latest two parts of each kind.
        """
        if of in self._parts:
            self._parts[of] = self._parts.pop(of)  # becomes the latest
            self.saved += self._parts[of][1]
            return self._parts[of][0]
        alike = [key for key in self._parts if key[0] == of[0]]
        if len(alike) > 1:
            del self._parts[alike[0]]
        began = time.monotonic()
        made = compute()
        self._parts[of] = made, time.monotonic() - began
        return made


@dataclass(frozen=True)
class FilterProblem(Problem):
    """One phase of a filter's run; its state is a :class:`Filter`."""

    stepper: Any
    """The numbers of users and items; the problem of a trained model has a stepper here."""

    def fit(self, kept: Kept | None = None) -> Filter:
        """Fit the filter to the train pairs.

        Args:
          kept: a cache of parts from earlier fits to the same pairs with the same seed.
        """
        kept, model, train = kept or Kept(), self.config.model, self.splits.train
        fitted = self._learned(kept) if model.learned_steps else self._closed(train, kept)[0]
        if model.filter != "ease" and model.ease_weight == 0:
            return fitted
        weight_II = self._ease(fitted.pairs.known, kept)
        if model.filter == "ease":
            # EASE is defined on interactions, not on their weights.
            return fitted._replace(weight_II=weight_II, weight_E=None)
        weight = np.array([model.ease_weight], np.float32)
        return fitted._replace(weight_II=weight_II, ease_weight=weight)

    def _closed(self, train: Dataset, kept: Kept, of: str = "all") -> tuple[Filter, Leading | None]:
        """Fit the filter in closed form, and return it with its singular vectors, if it has any.

        Args:
          of: which pairs ``train`` holds, for the key of the cached singular vectors.
        """
        model, found = self.config.model, list[Leading]()

        def spectrum(compute: Callable[[], Leading]) -> Leading:
            found.append(kept.take((f"spectrum of {of} pairs", model.dim), compute))
            return found[-1]

        fitted = filters.fit(
            model.filter,
            train,
            self.init_key,
            dim=model.dim,
            order=order(model),
            flatness=model.flatness,
            degree_power=model.degree_power,
            spectral_weight=spectral_weight(model),
            user_power=model.user_power,
            products=model.products,
            neighbour_weight=model.neighbour_weight,
            neighbour_sharpness=model.neighbour_sharpness,
            neighbour_power=model.neighbour_power,
            spectrum=spectrum,
        )
        return fitted, found[0] if found else None

    def _learned(self, kept: Kept) -> Filter:
        """Fit the filter, and change it as is learned from hidden train pairs."""
        train, steps = self.splits.train, self.config.model.learned_steps
        key = jax.random.fold_in(self.init_key, 1)  # the key itself starts the singular vectors

        def fit_rest(rest: Dataset) -> tuple[Filter, Leading]:
            fitted, spectrum = self._closed(rest, kept, "visible")
            assert spectrum is not None  # only the list of popular items has none
            return fitted, spectrum

        of = dataclasses.replace(self.config.model, neighbour_weight=0.0, ease_weight=0.0)
        learn = partial(learned_filters.learn, fit_rest, train, key, steps)
        change = kept.take(("change", repr(of)), learn)
        fitted, spectrum = self._closed(train, kept)
        assert spectrum is not None
        return learned_filters.changed(fitted, spectrum.sigma_D, change)

    def _ease(self, known: Csr, kept: Kept) -> np.ndarray:
        """Return EASE's item-item weights [I, I], fitted with the configured options."""
        model, n_items = self.config.model, self.splits.train.n_items
        how = {"dropout": model.ease_dropout, "user_power": model.ease_user_power}
        numbers = ("ease", model.ease_l2, *how.values())
        made = kept.take(numbers, lambda: ease(known, n_items, model.ease_l2, **how))
        weight_II = np.asarray(made.params.weight_II)
        if model.ease_item_power == 0:
            return weight_II
        degree_I = np.maximum(np.bincount(known.indices, minlength=n_items), 1)
        scale_I = degree_I.astype(np.float32) ** np.float32(model.ease_item_power)
        weight_II = weight_II / scale_I[:, None]
        weight_II *= scale_I
        return weight_II

    def scorer(self, state: Filter) -> Scorer:  # type: ignore[override]
        """Return the scorer that ranks items for users."""
        if not self._scorers or self._scorers[0] is not state:
            self._scorers[:] = [state, filter_scorer(state)]
        return self._scorers[1]

    def measure(  # type: ignore[override]
        self, split: str, state: Filter, should_stop: Callable[[], bool]
    ) -> dict[str, float] | None:
        """Return the metrics of a split that has pairs; None if a signal stopped the evaluation."""
        evaluator = self.evaluator(split)
        assert evaluator is not None
        return evaluator(self.scorer(state), should_stop)

    @property
    def examine(self) -> Any:
        """None, because for filters the doctor examines the run folder instead of a state."""
        return None

    @cached_property
    def _scorers(self) -> list[Any]:
        """The last state and its scorer, since a state is often evaluated more than once."""
        return []


@dataclass(frozen=True)
class FilterTask(UserTask):
    """The task of recommending items to users by a filter, which is fitted in closed form."""

    def check(self) -> None:
        """Raise InputError if the data cannot be used, before a folder is written."""
        train = self.splits.train
        Cadence.checked(self.config, train, 0)
        if self.config.model.filter == "ease" or self.config.model.ease_weight > 0:
            refuse_dense(train.n_items)

    def problem(
        self, phase: str, total: int | None, tx: optax.GradientTransformation | None
    ) -> FilterProblem:
        if tx is not None:
            raise InputError(
                "a filter is fitted in closed form and takes no optax chain; leave tx out"
            )
        splits, config = self.splits, self.config
        if phase == "refit":
            splits = refit_splits(splits)
        sizes: Any = _Sizes(splits.train.n_users, splits.train.n_items)
        cadence = Cadence(0, 1, 0, 0, 0)
        return FilterProblem(
            config, splits, sizes, None, cadence, keys(config, phase)[0], Inputs(), False
        )

    def write(self, folder: Path, problem: Any, outcome: Outcome, watch: SignalWatch) -> None:
        """Write the results.

        filter.npz has the arrays for scoring; embeddings.npz has the ids and singular vectors.
        """
        fitted, train = outcome.state, problem.splits.train
        problem.write_seen(folder, self.dataset)
        write_npz(folder / "filter.npz", fitted.arrays())
        write_json(folder / "features.json", problem.takes.to_dict())
        ids = {"user_ids": train.user_ids, "item_ids": train.item_ids}
        arrays = {name: np.asarray(array).astype(str) for name, array in ids.items()}
        vectors = {"user": fitted.user_UD, "item": fitted.item_ID}
        write_npz(folder / "embeddings.npz", arrays | vectors)
        results.write_slices(folder, problem, outcome, watch)
