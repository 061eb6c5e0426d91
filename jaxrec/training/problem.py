"""A training problem: a configuration and its data on the device, with encoder and evaluators."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jaxtyping import PRNGKeyArray

from jaxrec import models, processes
from jaxrec.config import Config, FilterConfig
from jaxrec.data.dataset import Counted, Dataset, ItemsByUser, union
from jaxrec.data.split import Splits, filtered
from jaxrec.evaluation.cold import Cold, Met, View, refuse_nothing
from jaxrec.evaluation.ranking import Evaluator, Scorer, empty_csr
from jaxrec.evaluation.ratings import RatingEvaluator
from jaxrec.evaluation.scorers import scorer_of
from jaxrec.evaluation.topk import of_sample
from jaxrec.evaluation.user_runs import allowed_items, errors_of
from jaxrec.files import write_npz
from jaxrec.graph.bipartite import Bipartite
from jaxrec.graph.pagerank import Window
from jaxrec.graph.spectral import spectral_table
from jaxrec.parted.stored import Parted
from jaxrec.randomness import OfParameters, OfPhase, OfSeed, child
from jaxrec.rowwise import RowOptimizer
from jaxrec.runfolder import Seen, seen_arrays
from jaxrec.training import frozen_items, warm_start
from jaxrec.training.batch import Batch
from jaxrec.training.checkpoint import Checkpoints
from jaxrec.training.device_data import Inputs, hard_window, inputs, on_host, train_data
from jaxrec.training.monitor import Examiner
from jaxrec.training.optimizers import optimizer, rest_optimizer
from jaxrec.training.placement import relayout
from jaxrec.training.placement.device import FedByHost, OneDevice
from jaxrec.training.placement.host_sampling import HostDispatch
from jaxrec.training.placement.relayout import Rows
from jaxrec.training.schedule import Cadence
from jaxrec.training.step import TABLE, Stepper, TrainState
from jaxrec.training.step_statistics import counter
from jaxrec.training.trained_rows import learnt

TRAIN_USERS = 2**15
"""The largest number of users whose train pairs are ranked; more users are sampled."""


@dataclass(frozen=True)
class Problem(OneDevice):
    """One phase of a run: data, model, length and evaluation."""

    config: Config
    splits: Splits
    stepper: Stepper
    data: Any  # a TrainData, or a MeshData on a mesh
    cadence: Cadence
    init_key: PRNGKeyArray
    takes: Inputs
    on_host: bool
    """Whether ``data`` is in host memory; the host then samples the blocks."""
    window_seconds: float | None = None
    """Seconds that the PageRank ranking for hard negatives took; None without it."""

    @classmethod
    def build(
        cls,
        config: Config,
        splits: Splits,
        *,
        phase: str = "search",
        total: int | None = None,
        tx: optax.GradientTransformation | RowOptimizer | None = None,
        window: Window | None = None,
    ) -> "Problem":
        """Build the problem of a phase, and copy the train pairs to the device.

        Args:
          total: number of steps; by default as configured.
          tx: an optimizer to use instead of the configured one.
          window: candidates of hard negatives from a problem with the same train pairs, to reuse.

        Raises:
          InputError: there are no train pairs, or the data does not suit the configuration.
        """
        train = splits.train
        cadence = Cadence.checked(config, train, total)
        init_key, data_key = keys(config, phase)
        takes = (
            inputs(config, train) if config.warm_start is None else warm_start.takes(config, train)
        )
        shape: models.Encoder = nnx.eval_shape(lambda: new_model(config, train, takes, init_key))
        tx = optimizer(config, train.n_users + train.n_items, cadence.total, tx)
        stepper = Stepper(
            config,
            shape,
            tx,
            train.n_users,
            train.n_items,
            rest_optimizer(config, cadence.total),
        )
        host = on_host(config, train)
        with jax.default_device(cls._data_device(host)):
            on_device, seconds = train_data(config, train, takes, data_key), None
        if config.negatives.hard and window is not None:
            on_device = on_device._replace(window=window)
        elif config.negatives.hard:
            began = time.perf_counter()
            on_device = on_device._replace(window=hard_window(config, train, on_device.graph))
            seconds = time.perf_counter() - began
        return cls(config, splits, stepper, on_device, cadence, init_key, takes, host, seconds)

    def sibling(self, config: Config) -> "Problem":
        """Return the problem of a run that can be trained together with this one.

        The configurations may differ only as :func:`jaxrec.training.together.program` allows. Both
        problems share arrays, evaluators and compiled programs.
        """
        init_key, data_key = keys(config, "search")
        train = self.splits.train
        stepper = replace(
            self.stepper,
            config=config,
            tx=optimizer(config, train.n_users + train.n_items, self.cadence.total),
            rest=rest_optimizer(config, self.cadence.total),
        )
        data = self.data._replace(key=data_key)
        made = replace(self, config=config, stepper=stepper, data=data, init_key=init_key)
        # With more users, ranking of train uses a sample of users that depends on the seed.
        parts = "validation", "test", *(("train",) if train.n_users <= TRAIN_USERS else ())
        for part in parts:
            self.evaluator(part)
        alike = "_nodes", "_met", "_evaluators", "_rating_evaluators", "draw", "count_known"
        for name in alike:
            shared = getattr(self, name)
            vars(made)[name] = dict(shared) if isinstance(shared, dict) else shared
        vars(made)["_baselines"] = self._baselines
        made._examiner.share(self._examiner)
        return made

    @classmethod
    def _data_device(cls, host: bool) -> Any:
        """Return the device that holds the train data."""
        return jax.devices("cpu")[0] if host else jax.local_devices()[0]

    @property
    def unit(self) -> str:
        """The unit of the batch size, for messages."""
        return "pairs"

    def prepared(self) -> tuple[list[str], dict[str, dict[str, Any]]]:
        """Return lines for the console, and the fields of events for timing.jsonl."""
        if self.window_seconds is None:
            return [], {}
        return [], {"ranked": {"hard_negatives_seconds": round(self.window_seconds, 3)}}

    def fed_by_host(self, state: TrainState, step: int) -> FedByHost | None:
        """Return the dispatch for blocks sampled on the host; None if the device samples them."""
        if not self.on_host:
            return None
        return HostDispatch(self.stepper, state, self.data, step, self.cadence.total)

    def state_shape(self) -> TrainState:
        """Return the shapes and types of a state without allocating its arrays."""
        return jax.eval_shape(self.stepper.init, nnx.state(self.stepper.encoder))

    def restore(self, checkpoints: Checkpoints, step: int) -> TrainState:
        """Restore the state of a checkpoint. Raises Damaged or RunError."""
        processes.barrier("restore")  # the first process may still be writing the manifest
        layout = checkpoints.meta(step).get("layout")
        if layout == self.notes().get("layout"):
            return checkpoints.restore(step, self.placed_shape())
        stored, like = relayout.rows_of(self.splits.train, layout), self.state_shape()
        found = relayout.restored(checkpoints, step, like, stored, self.rows())
        return self.placed(found)

    def placed(self, state: Any) -> TrainState:
        """Copy a NumPy state to the device."""
        return jax.tree.map(jnp.asarray, state)

    def rows(self) -> Rows:
        """Return the layout of the tables' rows."""
        place_N, n_nodes = self.data.graph.place_N, self.data.graph.n_nodes
        return Rows(np.arange(n_nodes) if place_N is None else np.asarray(place_N), n_nodes)

    def _model(self) -> models.Encoder:
        return new_model(self.config, self.splits.train, self.takes, self.init_key)

    def initial_state(self) -> TrainState:
        """Initialise the state before step 0."""
        return self.stepper.init(self._initial_params())

    def _initial_params(self) -> nnx.State:
        config, train = self.config.model, self.splits.train
        model = self._model()
        if self.config.warm_start is not None:
            warm_start.load(model, self.config, train, self.data.graph)
        frozen_items.load(model, self.config, train, self.data.graph)
        if config.init == "normal" or self.config.warm_start is not None:
            return nnx.state(model)
        model.embedding[...] = spectral_table(
            *(self.data.graph, train.n_users, config.dim, model.smoothing, config.init_std),
            child(self.init_key, OfParameters.SPECTRAL),
        )
        return nnx.state(model)

    @cached_property
    def _nodes(self) -> Callable[[TrainState, Bipartite], tuple[jax.Array, jax.Array | None]]:
        stepper = self.stepper

        def nodes(state: TrainState, graph: Bipartite) -> tuple[jax.Array, jax.Array | None]:
            params = stepper.current(state)
            return stepper.nodes(params, graph).emb_ND, stepper.biases(params, graph)

        return jax.jit(nodes)

    def embeddings(self, state: TrainState) -> tuple[jax.Array, jax.Array]:
        """Compute the final user [U, D] and item [I, D] embeddings for scoring."""
        emb_ND, _ = self._embedded(state)
        return emb_ND[: self.stepper.n_users], emb_ND[self.stepper.n_users :]

    def _embedded(self, state: TrainState) -> tuple[jax.Array, jax.Array | None]:
        """Compute the final embeddings and the biases of all nodes."""
        if not self.on_host:
            return self._nodes(state, self.data.graph)
        made = self._nodes(jax.device_put(state, jax.devices("cpu")[0]), self.data.graph)
        return jax.device_put(made, jax.local_devices()[0])

    def learned(self, state: TrainState) -> dict[str, jax.Array | np.ndarray]:
        """Return all arrays that scoring needs, by their names in embeddings.npz."""
        n_users = self.stepper.n_users
        emb_ND, bias_N = self._embedded(state)
        arrays: dict[str, Any] = {"user": emb_ND[:n_users], "item": emb_ND[n_users:]}
        if bias_N is not None:
            arrays |= {"user_bias": bias_N[:n_users], "item_bias": bias_N[n_users:]}
        model = nnx.merge(self.stepper.graphdef, state.params)
        for part, layer in (("score", model.score), ("decoder", model.decoder)):
            weights = {} if layer is None else layer.weights._asdict()
            arrays |= {f"{part}_{name}": array for name, array in weights.items()}
        return arrays | self._predicts

    @cached_property
    def _predicts(self) -> dict[str, np.ndarray]:
        """The arrays that turn scores into predicted ratings."""
        return self.stepper.objective.learned(self.config, self.splits.train)

    def scorer(self, state: TrainState) -> Scorer:
        """Return the scorer of a state."""
        return scorer_of(self.learned(state))

    def measure(
        self, split: str, state: TrainState, should_stop: Callable[[], bool]
    ) -> dict[str, float] | None:
        """Return the metrics of a split that has pairs; None if a signal came."""
        evaluator, ratings = self.evaluator(split), self.ratings(split)
        assert evaluator is not None
        scorer = self.scorer(state)
        if "_examiner" in vars(self):  # keep the scorer for the doctor
            self._at_hand[:] = [(state, scorer)]
        metrics = evaluator(scorer, should_stop)
        return metrics if metrics is None or ratings is None else metrics | ratings(scorer)

    @cached_property
    def _examiner(self) -> Examiner:
        def scorer(state: TrainState) -> Scorer:
            kept_for, kept = self._at_hand.pop() if self._at_hand else (None, None)
            return kept if kept is not None and kept_for is state else self.scorer(state)

        of_state = scorer, self.initial_state
        return Examiner(
            self.config, self.splits, self.stepper, self.data, *of_state, self.cadence.total
        )

    @cached_property
    def _at_hand(self) -> list[tuple[TrainState, Scorer]]:
        """The last state and its scorer, kept until the doctor uses the scorer."""
        return []

    def parameters(self, state: TrainState) -> dict[str, np.ndarray]:
        """Return all parameters by path, with table rows in the data set's order."""
        by_path = {}
        for path, value in nnx.to_flat_state(self.stepper.current(state)):
            name, array = "/".join(map(str, path)), value[...]
            if name == TABLE:
                array = self.data.graph.in_data_order(array)
            by_path[name] = np.asarray(jax.device_get(array))
        return by_path

    def model(self, parameters: dict[str, np.ndarray]) -> models.Encoder:
        """Rebuild the encoder from its parameters, the inverse of :meth:`parameters`."""
        model = self._model()
        params = nnx.state(model)
        flat = dict(nnx.to_flat_state(params))
        for path, value in flat.items():
            array = jnp.asarray(parameters["/".join(map(str, path))])
            if path == (TABLE,) and self.data.graph.place_N is not None:
                array = jnp.zeros_like(array).at[self.data.graph.place_N].set(array)
            value[...] = array
        return model

    def part(self, split: str) -> tuple[ItemsByUser, ItemsByUser]:
        """Return each user's relevant items in a split, and the items to mask.

        "validation" masks the train items, "test" the train and validation items, and "train"
        masks nothing. With eval.repeatable, no split masks items. "train" has at most
        ``TRAIN_USERS`` users, which limits the cost.
        """
        train, validation = self.splits.train.csr(), self.splits.validation.csr()
        if split == "train":
            some = of_sample(train, TRAIN_USERS, self.config.seed)
            return some, empty_csr(self.stepper.n_users)
        if self.config.eval.repeatable:
            return getattr(self.splits, split).csr(), empty_csr(self.stepper.n_users)
        if split == "validation":
            return validation, train
        return self.splits.test.csr(), union(train, validation)

    def learnt(self) -> tuple[np.ndarray, np.ndarray]:
        """Return masks of the users [U] and of the items [I] that have a trained vector."""
        return learnt(self.config, self.splits.train, self.takes)

    def write_seen(self, run: Path, dataset: Dataset | Parted) -> None:
        """Write RUN/seen.npz: each user's items by split, and which vectors are trained.

        Args:
          dataset: the run's data, before filters and split.
        """
        if not processes.first():
            return
        known, test = union(*(part.csr() for part in self.splits[:2])), self.splits.test.csr()
        left_out = None
        if isinstance(dataset, Dataset) and self.config.filter != FilterConfig():
            if self.config.split.name == "windows":  # pairs after the window are not known yet
                last = self.splits.test.time
                assert dataset.time is not None
                assert last is not None
                dataset = dataset.take(dataset.time <= last.max())
            left_out = filtered(dataset, self.splits.train, known, test)
        user_U, item_I = self.learnt()
        write_npz(run / "seen.npz", seen_arrays(Seen(known, test, left_out, user_U, item_I)))

    @cached_property
    def draw(self) -> Callable[[Any, jax.Array], Batch]:
        """The compiled function of (data, step) that draws a step's batch."""
        return jax.jit(self.stepper.batch)

    @cached_property
    def count_known(self) -> Callable[[Batch], np.ndarray]:
        """The function that counts a batch's negatives.

        The function returns [3]: how many negatives are among the user's train items, how many are
        among the user's validation items, and the number of all negatives.
        """
        return counter(*(part.csr() for part in self.splits[:2]))

    def evaluator(self, split: str) -> Evaluator | None:
        """Return the cached full-ranking evaluator of a split; None if the split is empty.

        Raises:
          InputError: eval.cold drops all pairs of the split.
        """
        if split not in self._evaluators:
            relevant, seen = self.part(split)
            self._evaluators[split] = None
            if relevant.degree.any():
                left_out = self.config.eval.cold == "drop" and split != "train"
                view = self._view(split, relevant, left_out)
                refuse_nothing(self.config, split, view)
                self._evaluators[split] = self._ranking(view, seen)
        return self._evaluators[split]

    def baselines(self, split: str) -> dict[str, dict[str, float]]:
        """Return the baselines' metrics measured so far, by name; :func:`measure` adds new ones.

        Runs that are trained together with equal seeds share this dictionary, so they measure each
        baseline once.
        """
        return self._baselines.setdefault((split, self.config.seed), {})

    @cached_property
    def _baselines(self) -> dict[tuple[str, int], dict[str, dict[str, float]]]:
        return {}

    def cold(self, split: str) -> Cold:
        """Count the users and items of a held-out split that have no train pairs.

        If there are such users or items, the result also has an evaluator for the other setting of
        eval.cold.
        """
        relevant, seen = self.part(split)
        counts, left_out = self._met.counts(relevant), self.config.eval.cold == "drop"
        if not counts["users"] and not counts["items"]:
            return Cold(counts, left_out)
        view = self._view(split, relevant, not left_out)
        if not view.relevant.degree.any():
            return Cold(counts, left_out)
        ratings = self._rated(split, not left_out)
        return Cold(counts, left_out, self._ranking(view, seen), ratings)

    @cached_property
    def _met(self) -> Met:
        return Met.of(self.splits.train)

    def _view(self, split: str, relevant: ItemsByUser, left_out: bool) -> View:
        """Return the evaluation view of a split, with or without cold users and items."""
        held_out = None if split == "train" else getattr(self.splits, split)
        view = View(relevant, None if held_out is None else allowed_items(self.config, held_out))
        return self._without(view) if left_out else view

    def _without(self, view: View) -> View:
        return view.without(self._met)

    def _ranking(self, view: View, seen: ItemsByUser) -> Evaluator:
        return Evaluator(
            view.relevant,
            seen,
            self.config.eval.k,
            self.stepper.n_items,
            allowed=view.allowed,
            block=self.config.eval.block,
        )

    def ratings(self, split: str) -> RatingEvaluator | None:
        """Return the cached evaluator of rating errors; None if only rankings are evaluated."""
        if split not in self._rating_evaluators:
            left_out = self.config.eval.cold == "drop" and split != "train"
            self._rating_evaluators[split] = self._rated(split, left_out)
        return self._rating_evaluators[split]

    def _rated(self, split: str, left_out: bool) -> RatingEvaluator | None:
        errors = errors_of(self.config)
        if errors is None:
            return None
        held_out = getattr(self.splits, split)
        held_out = self._met.pairs(held_out) if left_out else held_out
        return errors(held_out, self.splits.train)

    @cached_property
    def _rating_evaluators(self) -> dict[str, RatingEvaluator | None]:
        return {}

    @cached_property
    def _evaluators(self) -> dict[str, Evaluator | None]:
        return {}


def keys(config: Config, phase: str) -> tuple[PRNGKeyArray, PRNGKeyArray]:
    """Return a phase's random keys: one for initial parameters, and one for sampling."""
    of_phase = child(jax.random.key(config.seed), OfSeed[phase.upper()])
    return child(of_phase, OfPhase.PARAMETERS), child(of_phase, OfPhase.DATA)


def new_model(config: Config, train: Counted, takes: Inputs, key: PRNGKeyArray) -> models.Encoder:
    sizes = train.n_users, train.n_items
    return models.build(config.model, *sizes, key, takes.sizes, takes.levels, takes.decodes)
