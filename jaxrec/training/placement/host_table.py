"""The training problem of a run whose embedding table is in host memory."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from jaxrec import machine
from jaxrec import plan as plans
from jaxrec.config import Config
from jaxrec.data.dataset import Dataset
from jaxrec.data.split import Splits
from jaxrec.diagnosis.sample_measures import program
from jaxrec.errors import InputError
from jaxrec.evaluation.scorers import Scorer, host_scorer
from jaxrec.graph.pagerank import Window
from jaxrec.models.encoder import unit_rows
from jaxrec.rowwise import BLOCK, RowOptimizer
from jaxrec.training.checkpoint import placed_at
from jaxrec.training.memory import device_memory, sizes_of
from jaxrec.training.monitor import Examiner
from jaxrec.training.placement.device import all_finite
from jaxrec.training.placement.host_rows import (
    RowDispatch,
    Rows,
    gathered,
    has_rows,
    put_in,
    taken_out,
)
from jaxrec.training.problem import Problem
from jaxrec.training.step import TABLE, TrainState, split_table

Current = Callable[[TrainState, Rows], jax.Array]


def _sparse(config: Config, train: Dataset) -> bool:
    return config.sparse_updates(train.n_users + train.n_items)


def on_host(config: Config, train: Dataset, custom_tx: bool = False) -> bool:
    """Return whether the table is in host memory, as configured or for lack of device memory.

    Args:
      custom_tx: whether the caller gave an optax chain, which needs the whole table.
    """
    limit = device_memory()
    if config.mesh.memory != "auto" or config.needs_whole_table() or custom_tx:
        return config.mesh.memory == "host"
    if limit is None or not _sparse(config, train):
        return False
    return not plans.fits(plans.plan(sizes_of(config, train, sparse=True)).device_bytes, limit)


def check_device(config: Config, train: Dataset) -> None:
    """Raise InputError if the device has too little memory, for models with a memory plan."""
    limit = device_memory()
    if limit is not None and config.model.kind.mesh and config.mesh.devices == 1:
        planned = plans.plan(sizes_of(config, train, sparse=_sparse(config, train)))
        plans.check(planned, limit)


@dataclass(frozen=True)
class HostProblem(Problem):
    """One phase of a run whose table is in host memory."""

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
    ) -> "HostProblem":
        """Put everything except the table on the device.

        Raises:
          InputError: there are no train pairs, the machine has too little memory, or ``tx`` is an
            optax chain, which updates whole tables.
        """
        if tx is not None and not isinstance(tx, RowOptimizer):
            raise InputError(
                "an optax chain given in Python updates the whole table, which is in host memory "
                "here; set mesh.memory device, or configure optim instead"
            )
        planned = plans.plan(sizes_of(config, splits.train, sparse=True, host=True))
        plans.check(planned, device_memory(), machine.memory())
        how: dict[str, Any] = {"phase": phase, "total": total, "tx": tx, "window": window}
        built = super().build(config, splits, **how)
        assert isinstance(built, HostProblem)
        # Steps on the device read the pairs and the nodes' row numbers, but no edges.
        graph = built.data.graph
        lean = jax.tree.map(lambda _: np.zeros(0, np.float32), graph)._replace(
            indptr=graph.indptr, degree_N=graph.degree_N, place_N=graph.place_N
        )
        data = jax.device_put(built.data._replace(graph=lean), jax.local_devices()[0])
        return replace(built, data=data)

    @classmethod
    def _data_device(cls, host: bool) -> Any:
        """Return the CPU device, because the graph is built in host memory."""
        return jax.local_devices(backend="cpu")[0]

    def fed_by_host(self, state: TrainState, step: int) -> RowDispatch:
        """Return the dispatch that trains with rows gathered from host memory."""
        return RowDispatch(self.stepper, state, self.data, step, self.cadence.total)

    def finite(self, state: TrainState) -> bool:
        """Return whether all parameters are finite."""
        others, host = taken_out(state)
        (table_ND,) = (x for name, x in host.items() if TABLE in name)
        if not bool(jax.device_get(all_finite(others.params))):
            return False
        starts = range(0, len(table_ND), BLOCK)
        return all(bool(np.isfinite(table_ND[i : i + BLOCK]).all()) for i in starts)

    def initial_state(self) -> TrainState:
        """Return the state before step 0; every row starts with the same optimizer state."""
        with jax.default_device(jax.local_devices(backend="cpu")[0]):
            params = self._initial_params()
        table_ND = split_table(params)[0]
        one = jax.tree.map(lambda x: x if x is not table_ND else x[:1], params)
        state = self.stepper.init(jax.device_put(one, jax.local_devices()[0]))

        def whole(path: Any, leaf: jax.Array) -> Any:
            if not has_rows(path):
                return leaf
            if jax.tree_util.keystr(path).startswith(".params"):
                return np.array(table_ND)
            rows, row = np.zeros((len(table_ND), *leaf.shape[1:]), leaf.dtype), np.asarray(leaf[0])
            if row.any():
                rows[:] = row
            return rows

        return jax.tree_util.tree_map_with_path(whole, state)

    def placed_shape(self) -> TrainState:
        """Return the shapes, types and devices of a state, to restore a checkpoint with."""
        return jax.tree_util.tree_map_with_path(
            lambda path, leaf, shape: shape if has_rows(path) else leaf,
            super().placed_shape(),
            placed_at(None, self.state_shape()),
        )

    def placed(self, state: Any) -> TrainState:
        """Put a state of NumPy arrays on the device, except for the arrays with table rows."""
        return jax.tree_util.tree_map_with_path(
            lambda path, x: x if has_rows(path) else jnp.asarray(x), state
        )

    def _current(self, state: TrainState, rows: Rows) -> jax.Array:
        return split_table(self.stepper.current(put_in(state, rows)))[0]

    @cached_property
    def _current_block(self) -> Current:
        return jax.jit(self._current)

    @cached_property
    def _current_sample(self) -> Current:
        return program(self._current)

    def _rows_of(self, state: TrainState, node_R: np.ndarray) -> np.ndarray:
        """Return the table rows of nodes ``node_R``, which are numbered as in the data set."""
        others, host = taken_out(state)
        return np.asarray(self._current_sample(others, gathered(host, self._place_N[node_R])))

    def _table(self, state: TrainState) -> np.ndarray:
        """Return the table in the data set's order, with pending row-wise updates applied."""
        others, host = taken_out(state)
        n_nodes = len(self._place_N)
        node_N = np.empty_like(self._place_N)  # the node in each row
        node_N[self._place_N] = np.arange(n_nodes)
        table_ND = np.empty((n_nodes, self.config.model.dim), np.float32)
        # These are the blocks in which a table on the device is read, so the result is the same to
        # the last bit.
        size = min(BLOCK, n_nodes)
        for start in range(0, n_nodes, size):
            first = min(start, n_nodes - size)
            part = slice(first, first + size)
            rows = {name: jax.device_put(array[part]) for name, array in host.items()}
            table_ND[node_N[part]] = self._current_block(others, rows)
        return table_ND

    @cached_property
    def _place_N(self) -> np.ndarray:
        return self.rows().place_N

    def _embedded(self, state: TrainState) -> tuple[Any, None]:
        """Return the embeddings of all nodes, in host memory."""
        emb_ND = self._table(state)
        if self.config.model.score == "cosine":
            for start in range(0, len(emb_ND), BLOCK):
                part = slice(start, start + BLOCK)
                emb_ND[part] = jax.jit(unit_rows)(emb_ND[part])
        return emb_ND, None

    def scorer(self, state: TrainState) -> Scorer:
        """Return the scorer that ranks items for users; its factors are in host memory."""
        return host_scorer(jax.device_get(self.learned(state)))

    @cached_property
    def _examiner(self) -> Examiner:
        return replace(super()._examiner, table_rows=self._rows_of)

    def parameters(self, state: TrainState) -> dict[str, np.ndarray]:
        """Return all parameters by path, with table rows in the data set's order."""
        by_path = {}
        for path, value in nnx.to_flat_state(state.params):
            name = "/".join(map(str, path))
            array = self._table(state) if name == TABLE else jax.device_get(value[...])
            by_path[name] = np.asarray(array)
        return by_path

    def plan(self) -> plans.Plan:
        """Estimate the memory that the run needs, and the bytes that a device receives per step."""
        return plans.plan(sizes_of(self.config, self.splits.train, sparse=True, host=True))

    def prepared(self) -> tuple[list[str], dict[str, dict[str, Any]]]:
        """Return lines for the console and fields for timing.jsonl, including the memory plan."""
        lines, events = super().prepared()
        planned = self.plan()
        facts = {"device": planned.device, "host": planned.host, "step": planned.step}
        return [*lines, *planned.lines()], events | {"planned": {"plan": facts}}
