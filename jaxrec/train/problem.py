"""A configuration and its data, made ready: device arrays, encoder, evaluators, cadence."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jaxtyping import PRNGKeyArray

from jaxrec import models, optim, rowwise
from jaxrec.config import Config
from jaxrec.data.dataset import Csr, Dataset
from jaxrec.data.split import Splits
from jaxrec.errors import InputError
from jaxrec.evaluate.ranking import Evaluator, Scorer, empty_csr, union
from jaxrec.evaluate.scorers import pair_scorer
from jaxrec.graph import bipartite
from jaxrec.graph.bipartite import Bipartite
from jaxrec.graph.csr import DeviceCsr
from jaxrec.graph.pagerank import Window, rank_window
from jaxrec.graph.spectral import spectral_table
from jaxrec.graph.spmm import resolve
from jaxrec.models.score import PairWeights
from jaxrec.negatives import Popularity
from jaxrec.negatives import popularity as popularity_of
from jaxrec.rowwise import RowOptimizer
from jaxrec.train.batches import Pairs, steps_per_epoch
from jaxrec.train.draw import TrainData
from jaxrec.train.state import TABLE, Stepper, TrainState


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

    def due(self, every: int, step: int) -> bool:
        """Whether something that happens each ``every`` steps, and at the end, is due."""
        return step == self.total or (every > 0 and step > 0 and step % every == 0)

    def next_boundary(self, step: int) -> int:
        """The first step after ``step`` at which anything is due."""
        periods = [p for p in (self.evaluate, self.checkpoint, self.log) if p > 0]
        return min([self.total, *((step // p + 1) * p for p in periods)])


@dataclass(frozen=True)
class Problem:
    """One phase of a run: what it trains on, with what, for how long, judged by what."""

    config: Config
    splits: Splits
    stepper: Stepper
    data: TrainData
    cadence: Cadence
    init_key: PRNGKeyArray
    window_seconds: float | None = None
    """What ranking items by PageRank took, where hard negatives are drawn from such ranks."""

    @classmethod
    def build(
        cls,
        config: Config,
        splits: Splits,
        *,
        phase: str = "search",
        total: int | None = None,
        tx: optax.GradientTransformation | RowOptimizer | None = None,
    ) -> "Problem":
        """Put the train part on the device. ``total`` replaces the configured length.

        Raises:
          InputError: nothing to train on.
        """
        train = splits.train
        if train.n_edges == 0:
            raise InputError(f"{config.data}: no train pairs are left after filter and split")
        cadence = Cadence.of(config, train.n_edges, total)
        seed_key = jax.random.key(config.seed)
        init_key, data_key = jax.random.split(
            jax.random.fold_in(seed_key, {"search": 0, "refit": 1}[phase])
        )
        shape = nnx.eval_shape(lambda: _model(config, train, init_key))
        stepper = Stepper(
            config,
            nnx.graphdef(shape),
            tx or _optimizer(config, train.n_users + train.n_items, cadence.total),
            train.n_users,
            train.n_items,
            _rest_optimizer(config, cadence.total),
        )
        on_device, seconds = _train_data(config, train, data_key), None
        if config.negatives.hard:
            began = time.perf_counter()
            on_device = on_device._replace(window=_window(config, train, on_device.graph))
            seconds = time.perf_counter() - began
        return cls(config, splits, stepper, on_device, cadence, init_key, seconds)

    def blank_state(self) -> TrainState:
        """A state of the right structure, to restore a checkpoint into."""
        return self.stepper.init(nnx.state(_model(self.config, self.splits.train, self.init_key)))

    def initial_state(self) -> TrainState:
        """The state before step 0."""
        config, train = self.config.model, self.splits.train
        if config.init == "normal":
            return self.blank_state()
        model = _model(self.config, train, self.init_key)
        model.embedding[...] = spectral_table(
            *(self.data.graph, train.n_users, config.dim, model.smoothing, config.init_std),
            self.init_key,
        )
        return self.stepper.init(nnx.state(model))

    @cached_property
    def _nodes(self) -> Callable[[TrainState, Bipartite], jax.Array]:
        stepper = self.stepper
        return jax.jit(lambda state, graph: stepper.nodes(stepper.current(state), graph).emb_ND)

    def embeddings(self, state: TrainState) -> tuple[jax.Array, jax.Array]:
        """Final user [U, D] and item [I, D] embeddings, as they are scored."""
        emb_ND = self._nodes(state, self.data.graph)
        return emb_ND[: self.stepper.n_users], emb_ND[self.stepper.n_users :]

    def scorer(self, state: TrainState) -> Scorer:
        """What ranks items for users."""
        return pair_scorer(*self.embeddings(state), self.pair_weights(state))

    def pair_weights(self, state: TrainState) -> PairWeights | None:
        """The parameters of a learned score; None where the score is a product."""
        score = nnx.merge(self.stepper.graphdef, state.params).score
        return None if score is None else score.weights

    def parameters(self, state: TrainState) -> dict[str, np.ndarray]:
        """Every parameter by its path, the table's rows in the data set's order."""
        found = {}
        for path, value in nnx.to_flat_state(self.stepper.current(state)):
            name, array = "/".join(map(str, path)), value[...]
            if name == TABLE:
                array = self.data.graph.in_data_order(array)
            found[name] = np.asarray(jax.device_get(array))
        return found

    def part(self, split: str) -> tuple[Csr, Csr]:
        """What is relevant and what is masked: "train" masks nothing, "test" validation too."""
        train, validation = self.splits.train.csr(), self.splits.validation.csr()
        if split == "train":
            return train, empty_csr(self.stepper.n_users)
        if split == "validation":
            return validation, train
        return self.splits.test.csr(), union(train, validation)

    def evaluator(self, split: str) -> Evaluator | None:
        """The full ranking of a split, made once; None where the split holds no pairs."""
        if split not in self._evaluators:
            relevant, seen = self.part(split)
            self._evaluators[split] = None
            if len(relevant.indices):
                self._evaluators[split] = Evaluator(
                    relevant,
                    seen,
                    self.config.eval.k,
                    self.stepper.n_items,
                    block=self.config.eval.block,
                )
        return self._evaluators[split]

    @cached_property
    def _evaluators(self) -> dict[str, Evaluator | None]:
        return {}


def _optimizer(
    config: Config, n_rows: int, steps: int
) -> optax.GradientTransformation | RowOptimizer:
    room = rowwise if config.sparse_updates(n_rows) else optim
    return room.build(config.optim, steps)


def _rest_optimizer(config: Config, steps: int) -> optax.GradientTransformation:
    """Of what is no table, where the table has a row-wise optimizer."""
    dense = {"rowwise_adagrad": "adagrad"}.get(config.optim.name, config.optim.name)
    return optim.build(replace(config.optim, name=dense, sparse=None), steps)


def _model(config: Config, train: Dataset, key: PRNGKeyArray) -> models.Encoder:
    return models.build(config.model, train.n_users, train.n_items, key)


def _popularity(config: Config, train: Dataset) -> Popularity | None:
    """How likely each item is to be drawn: in the batch, or as a negative."""
    in_batch = config.negatives.name == "in-batch"
    if in_batch and config.train.positives == "users":
        a_user = 1 / np.maximum(train.user_counts(), 1)
        return popularity_of(np.bincount(train.item, a_user[train.user], train.n_items))
    power = 1.0 if in_batch else config.negatives.popularity
    if power == 0 and not config.corrects:
        return None
    return popularity_of(train.item_counts() if power > 0 else np.ones(train.n_items), power)


def _window(config: Config, train: Dataset, graph: Bipartite) -> Window:
    """Where hard negatives are drawn from."""
    first, last = config.negatives.hard_ranks
    if first >= train.n_items:
        raise InputError(
            f"negatives.hard_ranks begins at {first}, and there are {train.n_items} items in train"
        )
    known = train.csr()
    window = rank_window(graph, (known.indptr, known.indices), train.n_users, first, last)
    return jax.block_until_ready(window)


def _train_data(config: Config, train: Dataset, key: PRNGKeyArray) -> TrainData:
    order = np.lexsort((train.item, train.user))
    indptr = np.zeros(train.n_users + 1, np.int64)
    np.cumsum(train.user_counts(), out=indptr[1:])
    weight = train.weight
    pairs = Pairs(
        user_E=jnp.asarray(train.user[order]),
        item_E=jnp.asarray(train.item[order]),
        weight_E=None if weight is None else jnp.asarray(weight[order], jnp.float32),
        indptr=jnp.asarray(indptr, jnp.int32),
        active=jnp.asarray(np.flatnonzero(train.user_counts()), jnp.int32),
    )
    known = train.csr()
    device_known = DeviceCsr(jnp.asarray(known.indptr), jnp.asarray(known.indices))
    buckets = resolve(config.model.kernel) == "buckets"
    graph = bipartite.build(train, reorder=True, buckets=buckets)
    return TrainData(graph, pairs, device_known, key, _popularity(config, train))
