"""The training problem of an item model: a configuration and an item graph on the device."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from jaxrec import rowwise
from jaxrec.config import Config
from jaxrec.data.itemgraph import ItemGraph, PairSplits
from jaxrec.data.schema import Schema
from jaxrec.errors import InputError
from jaxrec.evaluation import item_runs as judging
from jaxrec.evaluation.item_pairs import PairEvaluator, item_scorer
from jaxrec.evaluation.scorers import Scorer
from jaxrec.graph import walks
from jaxrec.models import skipgram
from jaxrec.models.encoder import unit_rows
from jaxrec.models.skipgram import Side, Tables
from jaxrec.negatives import popularity
from jaxrec.runfolder import read_embeddings, read_parameters
from jaxrec.training import warm_start
from jaxrec.training.items import side_information as sides
from jaxrec.training.items.batch import ItemData, slots_per_epoch
from jaxrec.training.items.monitor import ItemExaminer
from jaxrec.training.items.step import ItemStepper
from jaxrec.training.placement.device import OneDevice
from jaxrec.training.problem import keys
from jaxrec.training.schedule import Cadence
from jaxrec.training.step import TrainState, written

_BLOCK = 1 << 13  # number of items whose vectors are computed at once


@dataclass(frozen=True)
class ItemProblem(OneDevice):
    """One phase of an item model's run; ``training.problem.Problem`` is for other models."""

    config: Config
    splits: PairSplits
    stepper: ItemStepper
    data: ItemData
    cadence: Cadence
    init_key: PRNGKeyArray
    takes: Schema | None
    """The schema of the features in training; None if the model uses no features."""

    @classmethod
    def build(
        cls, config: Config, splits: PairSplits, *, phase: str = "search", total: int | None = None
    ) -> "ItemProblem":
        """Put the train pairs on the device; ``total`` replaces the configured number of steps.

        Raises:
          InputError: the model needs features that the data lacks.
        """
        train = splits.train
        degree_I = train.degree()
        n_slots = slots_per_epoch(config, int((degree_I > 0).sum()), train.n_pairs)
        cadence = Cadence.of(config, n_slots, total)
        init_key, data_key = keys(config, phase)
        takes = schema_of(config, train)
        data = _item_data(config, train, takes, data_key, degree_I)
        stepper = ItemStepper(config, rowwise.make_optimizer(config.optim, cadence.total))
        return cls(config, splits, stepper, data, cadence, init_key, takes)

    @property
    def unit(self) -> str:
        """The unit of the batch size, for messages."""
        return "walks" if self.config.train.positives == "walks" else "pairs"

    def _tables(self) -> Tables:
        takes, n_items = self.takes, self.splits.train.n_items
        sizes = (0, 0) if takes is None else (sides.n_rows(takes), sides.n_features(takes))
        return skipgram.new_tables(self.config.model, n_items, self.init_key, *sizes)

    def state_shape(self) -> TrainState:
        """Return the shapes and types of a state without allocating its arrays."""
        return jax.eval_shape(lambda: self.stepper.init(self._tables()))

    def initial_state(self) -> TrainState:
        """Return the state before step 0."""
        tables = self._tables()
        if self.config.warm_start is not None:
            tables = _warm(tables, self.config.warm_start, self.splits.train)
        return self.stepper.init(tables)

    @cached_property
    def seen_I(self) -> np.ndarray:
        """The mask [I] of the items with a train pair."""
        return self.splits.train.degree() > 0

    @cached_property
    def scored_I(self) -> np.ndarray:
        """The mask [I] of the items with a vector: seen items, and items with side information."""
        if self.data.side is None:
            return self.seen_I
        return self.seen_I | np.asarray(jax.device_get(self.data.side.there_IC)).any(axis=1)

    @cached_property
    def _vectors(self) -> Callable[[TrainState, ItemData, Array], dict[str, Array]]:
        return jax.jit(partial(_vectors, self.stepper))

    def learned(self, state: TrainState) -> dict[str, Any]:
        """Return all arrays that scoring needs, by their names in embeddings.npz.

        Items without a vector get zeros.
        """
        vectors = self._vectors(state, self.data, jnp.asarray(self.seen_I))
        return {"user": jnp.zeros((0, self.config.model.dim))} | vectors

    def embeddings(self, state: TrainState) -> tuple[Array, Array]:
        """Return an empty array of users [0, D], and the items' centre vectors [I, D]."""
        learned = self.learned(state)
        return learned["user"], learned["item"]

    def scorer(self, state: TrainState) -> Scorer:
        """Return the scorer of item pairs."""
        return self._scorer(self.learned(state))

    def _scorer(self, learned: dict[str, Any]) -> Scorer:
        context = self.config.model.score == "dot" and "item_context" in learned
        return item_scorer(learned, self.scored_I, context=context)

    def evaluator(self, split: str) -> PairEvaluator | None:
        """Return the cached evaluator of a split; None if the split has no pairs."""
        if split not in self._evaluators:
            evaluator = judging.evaluator(self.config, self.splits, split, self.scored_I)
            self._evaluators[split] = evaluator
        return self._evaluators[split]

    @cached_property
    def _evaluators(self) -> dict[str, PairEvaluator | None]:
        return {}

    def measure(
        self, split: str, state: TrainState, should_stop: Callable[[], bool]
    ) -> dict[str, float] | None:
        """Return the metrics of a split that has pairs; None if ``should_stop`` stops it."""
        evaluator = self.evaluator(split)
        assert evaluator is not None
        return evaluator(self.scorer(state), should_stop)

    @cached_property
    def _examiner(self) -> ItemExaminer:
        return ItemExaminer(
            self.config,
            self.splits,
            self.learned,
            self._scorer,
            self.scored_I,
            self.initial_state,
        )

    def parameters(self, state: TrainState) -> dict[str, np.ndarray]:
        """Return every table by its name, and the feature logits that unseen items get."""
        tables = self.stepper.current(state)
        if "share" in tables:
            assert self.data.side is not None
            tables["cold_share"] = _cold_logits(tables["share"], self.data.side, self.seen_I)
        return {name: np.asarray(jax.device_get(table)) for name, table in tables.items()}


def schema_of(config: Config, train: ItemGraph) -> Schema | None:
    """Return the schema of the items' features, from the warm start or else fitted to the data.

    Raises:
      InputError: the model needs features that the data lacks.
    """
    if config.model.side == "none":
        return None
    fitted = sides.fitted(train)
    return fitted if config.warm_start is None else warm_start.item_schema(config.warm_start)


def _item_data(
    config: Config, train: ItemGraph, takes: Schema | None, key: PRNGKeyArray, degree_I: np.ndarray
) -> ItemData:
    side = None
    if takes is not None:
        assert train.item_features is not None
        side = Side(*map(jnp.asarray, sides.encoded(train.item_features, takes)))
    if config.train.positives == "edges":
        frequency_I = np.bincount(train.src, train.weight, train.n_items)
        frequency_I += np.bincount(train.dst, train.weight, train.n_items)
        pair_E2 = jnp.stack([jnp.asarray(train.src), jnp.asarray(train.dst)], axis=1)
        return ItemData(
            key,
            popularity(frequency_I, config.negatives.popularity),
            pair_E2=pair_E2,
            weight_E=jnp.asarray(train.weight),
            side=side,
        )
    adjacency = train.adjacency()
    weight = adjacency.weight if config.walks.weighted else None
    start_A = np.flatnonzero(degree_I).astype(np.int32)
    frequency_I = visits(adjacency.indptr, adjacency.indices, weight, start_A, config.walks.length)
    keep_I = None
    if config.walks.subsample:
        ratio_I = config.walks.subsample / np.maximum(frequency_I / frequency_I.sum(), 1e-30)
        keep_I = jnp.asarray(np.minimum(np.sqrt(ratio_I) + ratio_I, 1), jnp.float32)
    return ItemData(
        key,
        popularity(frequency_I, config.negatives.popularity),
        graph=walks.walk_graph(adjacency.indptr, adjacency.indices, weight),
        start_A=jnp.asarray(start_A),
        keep_I=keep_I,
        side=side,
    )


def visits(
    indptr: np.ndarray,
    indices: np.ndarray,
    weight: np.ndarray | None,
    start_A: np.ndarray,
    length: int,
) -> np.ndarray:
    """Return [I], the expected visits to each item if a walk starts at each item of ``start_A``.

    The result is Σ_l sᵀ P^l for l = 0, ..., length - 1, where s is 1 at the starts and 0 elsewhere,
    and P is the transition matrix. This is exact for DeepWalk. For node2vec it is an approximation,
    because it ignores p and q, which change the visits little.
    """
    from scipy import sparse

    n_items = len(indptr) - 1
    data = np.ones(len(indices), np.float32) if weight is None else weight
    graph = sparse.csr_array((data, indices, indptr), (n_items, n_items))
    total_I = np.maximum(graph.sum(axis=1), 1e-30)
    at_I = np.bincount(start_A, minlength=n_items).astype(np.float64)
    visits_I = at_I.copy()
    for _ in range(length - 1):
        at_I = graph.T @ (at_I / total_I)
        visits_I += at_I
    return visits_I


def _vectors(
    stepper: ItemStepper, state: TrainState, data: ItemData, seen_I: Array
) -> dict[str, Array]:
    tables = stepper.current(state)
    item_ID = tables["embedding"]
    if data.side is not None:
        item_ID = _with_side(tables, data.side, seen_I)
    else:
        item_ID = jnp.where(seen_I[:, None], item_ID, 0)
    if stepper.config.model.score == "cosine":
        item_ID = unit_rows(item_ID)
    vectors = {"item": item_ID}
    if "context" in tables:
        vectors["item_context"] = tables["context"]
    if "bias" in tables:
        vectors["item_bias"] = tables["bias"]
    return vectors


def _with_side(tables: Tables, side: Side, seen_I: Array) -> Array:
    """Return the centre vectors of all items; those of unseen items use side information alone."""
    n_items = seen_I.shape[0]
    size = min(_BLOCK, n_items)
    logit_C1 = _cold_logits(tables["share"], side, seen_I) if "share" in tables else None

    def body(i: Array, vectors_ID: Array) -> Array:
        # The last block starts early, so that it is full, and recomputes some rows.
        start = jnp.minimum(i * size, n_items - size)
        item_T = start + jnp.arange(size, dtype=jnp.int32)
        some = side.take(item_T)
        feature_TKD = tables["feature"][some.code_IK]
        logit_TC1 = tables["share"][item_T] if "share" in tables else None
        own_TD = skipgram.centres(tables["embedding"][item_T], some, feature_TKD, logit_TC1)
        cold_TD = skipgram.cold(tables, some, logit_C1)
        block_TD = jnp.where(seen_I[item_T][:, None], own_TD, cold_TD)
        return jax.lax.dynamic_update_slice_in_dim(vectors_ID, block_TD, start, 0)

    shape = (n_items, tables["embedding"].shape[1])
    return jax.lax.fori_loop(0, -(-n_items // size), body, jnp.zeros(shape))


def _cold_logits(share_IC1: Array, side: Side, seen_I: Any) -> Array:
    """Return [1 + C], the logits of unseen items: for an item's own vector, and for C features.

    The first logit is 0 and is not used. The logit of a feature is its mean over the seen items
    that have the feature.
    """
    there_IC = jnp.asarray(side.there_IC) & jnp.asarray(seen_I)[:, None]
    count_C = jnp.maximum(jnp.sum(there_IC, axis=0), 1).astype(jnp.float32)
    mean_C = jnp.sum(jnp.where(there_IC, share_IC1[:, 1:], 0), axis=0) / count_C
    return jnp.concatenate([jnp.zeros(1), mean_C])


def _warm(tables: Tables, run: str, train: ItemGraph) -> Tables:
    """Copy rows from another run's tables; items that the other run lacks keep initial rows.

    Raises:
      InputError: the run has not finished, or its tables do not fit.
    """
    old, ids = read_parameters(run), read_embeddings(run).item_ids
    _, here, there = np.intersect1d(
        np.asarray(train.item_ids).astype(str), ids, return_indices=True
    )
    warmed = {}
    for name, table in tables.items():
        array = old.get(name)
        by_item = name != "feature"
        fits = array is not None and array.shape[1:] == table.shape[1:]
        if array is None or not fits or (not by_item and array.shape != table.shape):
            raise InputError(
                f"warm_start {run}: its table {name} does not fit this model; use the model "
                "options and the features of that run"
            )
        warmed[name] = written(table, here, array[there]) if by_item else jnp.asarray(array)
    return warmed
