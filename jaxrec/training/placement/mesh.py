"""The training problem on a mesh; :mod:`jaxrec.training.problem` is for a single device."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxrec import models
from jaxrec import plan as plans
from jaxrec.config import Config
from jaxrec.data.dataset import Dataset, ItemsByUser
from jaxrec.data.split import Splits
from jaxrec.errors import InputError
from jaxrec.evaluation.cold import View
from jaxrec.evaluation.ranking import Evaluator, Scorer
from jaxrec.evaluation.sharded_ranking import MeshEvaluator, sharded_scorer
from jaxrec.graph.halo import TABLE, make_mesh, put
from jaxrec.graph.pagerank import Window
from jaxrec.graph.partition import Partition, layout, node_order, partition
from jaxrec.graph.spmm import Kernel, default_kernel
from jaxrec.rowwise import RowOptimizer
from jaxrec.training.checkpoint import placed_at
from jaxrec.training.device_data import Inputs, popularity
from jaxrec.training.memory import device_memory, sizes_of
from jaxrec.training.optimizers import optimizer, rest_optimizer
from jaxrec.training.placement.mesh_data import MeshData, Sizes, mesh_data
from jaxrec.training.placement.mesh_step import MeshStepper
from jaxrec.training.placement.relayout import Rows
from jaxrec.training.problem import Problem, keys, new_model
from jaxrec.training.schedule import Cadence
from jaxrec.training.step import TABLE as TABLE_NAME
from jaxrec.training.step import Totals, TrainState, cleared, joined_table, split_table

_WHOLE = PartitionSpec()


@dataclass(frozen=True, kw_only=True)
class MeshProblem(Problem):
    """One phase of a run on a mesh."""

    mesh: Mesh
    partition: Partition
    order: Literal["locality", "data"]
    order_N: np.ndarray | None
    """Each node's position in the order that is cut into parts; None for the data set's order."""
    partition_seconds: float

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
    ) -> Any:
        """Partition the train pairs, and put each part on its device.

        Raises:
          InputError: there are no train pairs, there are too few devices, or ``tx`` is an optax
            chain, whose sums over rows would cover one device only.
        """
        assert window is None, "the configuration refuses hard negatives on a mesh"
        train, order = splits.train, "data" if config.mesh.order == "data" else "locality"
        cadence = Cadence.checked(config, train, total)
        mesh = make_mesh(config.mesh)
        began = time.perf_counter()
        order_N = node_order(train, order)
        cut = layout(train, order_N, config.mesh.table)
        parts = partition(train, cut, config.mesh.exchange, buckets=kernel_of(config) == "buckets")
        seconds = time.perf_counter() - began
        data, sizes = mesh_data(train, parts, keys(config, phase)[1], popularity(config, train))
        more = {"order": order, "order_N": order_N, "partition_seconds": seconds}
        return cls.on(mesh, config, splits, parts, data, sizes, cadence, phase, tx, **more)

    @classmethod
    def on(
        cls,
        mesh: Mesh,
        config: Config,
        splits: Splits,
        parts: Partition,
        data: MeshData,
        sizes: Sizes,
        cadence: Cadence,
        phase: str,
        tx: optax.GradientTransformation | RowOptimizer | None,
        **more: Any,
    ) -> Any:
        """Build the problem of a graph that is already partitioned.

        Args:
          more: the other fields of the class.

        Raises:
          InputError: ``tx`` is an optax chain, or a device has too little memory.
        """
        if tx is not None:
            raise InputError(
                "an optax chain given in Python cannot run on a mesh of devices; "
                "set mesh.data and mesh.table to 1, or configure optim instead"
            )
        train, init_key = splits.train, keys(config, phase)[0]
        # The mesh step clips gradients, because the optimizer sees those of one device only.
        unclipped = replace(config, optim=replace(config.optim, clip_norm=None))
        shape: models.Encoder = nnx.eval_shape(lambda: new_model(config, train, Inputs(), init_key))
        stepper = MeshStepper(
            config,
            shape,
            optimizer(unclipped, train.n_users + train.n_items, cadence.total),
            train.n_users,
            train.n_items,
            rest_optimizer(unclipped, cadence.total),
            mesh=mesh,
            rows=parts.layout.rows,
            sizes=sizes,
            kernel=kernel_of(config),
        )
        placed = put(mesh, data, data.specs())
        every = config, splits, stepper, placed, cadence, init_key, Inputs(), False
        problem = cls(*every, mesh=mesh, partition=parts, **more)
        limit = device_memory()
        if limit is not None:
            plans.check(problem.plan(), limit)
        return problem

    @property
    def _stepper(self) -> MeshStepper:
        assert isinstance(self.stepper, MeshStepper)
        return self.stepper

    def _params(self) -> nnx.State:
        """Return the initial parameters of a single-device run, in the mesh's row layout."""
        params, cut = nnx.state(self._model()), self.partition.layout
        table_ND, others = split_table(params)
        if self.order_N is not None:
            table_ND = table_ND[self.order_N]
        table_SD = jnp.zeros((cut.size, table_ND.shape[1])).at[cut.place_N].set(table_ND)
        return joined_table(params, table_SD, others)

    def state_shape(self) -> TrainState:
        """Return the shapes and types of a state without allocating its arrays."""
        return jax.eval_shape(lambda: self.stepper.init(self._params()))

    def placed_shape(self) -> TrainState:
        """Return the shapes, types and devices of a state, to restore a checkpoint with."""
        shape = self.state_shape()
        return jax.tree.map(placed_at, self._shardings(shape), shape)

    def _shardings(self, shape: TrainState) -> Any:
        specs = self._stepper.specs(shape)
        return jax.tree.map(lambda spec: NamedSharding(self.mesh, spec), specs)

    def initial_state(self) -> TrainState:
        """Return the state before step 0, with each device's rows on that device."""
        shape = self.state_shape()
        here = jax.local_devices(backend="cpu")[0]
        with jax.default_device(here):  # a device may have too little memory for all rows
            params = self._params()
        params = put(self.mesh, params, self._stepper.specs(shape).params)
        # The parameters are donated, because a device may lack memory for a copy of its rows.
        init = jax.jit(self.stepper.init, out_shardings=self._shardings(shape), donate_argnums=0)
        return init(params)

    def placed(self, state: Any) -> TrainState:
        """Put a state of NumPy arrays on the mesh."""
        return put(self.mesh, state, self._stepper.specs(state))

    def rows(self) -> Rows:
        """Return the row of each node in the tables, and the number of rows."""
        return Rows(self.partition.layout.place_N, self.partition.layout.size)

    def notes(self) -> dict[str, Any]:
        """Return the layout of the tables, which a checkpoint records."""
        return {"layout": {"table": self.mesh.shape[TABLE], "order": self.order}}

    def number(self, n: int) -> jax.Array:
        """Put a number on every device."""
        return put(self.mesh, np.int32(n), _WHOLE)

    def cleared(self, totals: Totals) -> Totals:
        """Return sums of zero on every device, in the structure of ``totals``."""
        zeros = jax.tree.map(np.asarray, cleared(totals))
        return put(self.mesh, zeros, jax.tree.map(lambda _: _WHOLE, zeros))

    @property
    def examine(self) -> Callable[[TrainState], dict[str, float] | None]:
        """A function that measures nothing, because the doctor works on one device only."""
        return lambda _: None

    def look_back(self) -> None:
        """Do nothing, because the doctor works on one device only."""

    @cached_property
    def _mesh_nodes(self) -> Any:
        return jax.jit(self._stepper.embedded)

    def _embedded(self, state: TrainState) -> tuple[Any, None]:
        """Return the embeddings of all nodes, in host memory."""
        return self._in_data_order(self._mesh_nodes(state, self.data)), None

    def _in_data_order(self, x_SD: jax.Array) -> np.ndarray:
        return to_host(x_SD)[self.partition.layout.place_N]

    def scorer(self, state: TrainState) -> Scorer:
        """Return the scorer that ranks items for users; its factors are sharded."""
        emb_SD = self._mesh_nodes(state, self.data)
        return sharded_scorer(self.mesh, self.partition.layout, self.stepper.n_users, emb_SD)

    def parameters(self, state: TrainState) -> dict[str, np.ndarray]:
        """Return every parameter by its path, with table rows in the data set's order."""
        by_path = {}
        for path, value in nnx.to_flat_state(self._current(state)):
            array = value[...]
            name = "/".join(map(str, path))
            by_path[name] = self._in_data_order(array) if name == TABLE_NAME else to_host(array)
        return by_path

    @cached_property
    def _current(self) -> Any:
        return jax.jit(self._stepper.current)

    def _ranking(self, view: View, seen: ItemsByUser) -> Evaluator:
        return MeshEvaluator(
            self.mesh,
            view.relevant,
            seen,
            self.config.eval.k,
            self.stepper.n_items,
            allowed=view.allowed,
            block=self.config.eval.block,
        )

    def plan(self, *, counted: bool = True) -> plans.Plan:
        """Estimate the memory that the run needs, and the bytes that a device receives per step.

        Args:
          counted: whether to use the row counts of the partitioned graph; if not, they are
            estimated from the degrees of the nodes.
        """
        parts = self.partition
        how: dict[str, Any] = {"sparse": isinstance(self.stepper.tx, RowOptimizer)}
        how["buckets"] = parts.shard.graph.buckets is not None
        how["parted"] = not isinstance(self.splits.train, Dataset)
        how["got"] = parts.traffic.rows[parts.exchange] if counted else None
        return plans.plan(sizes_of(self.config, self.splits.train, **how))

    def prepared(self) -> tuple[list[str], dict[str, dict[str, Any]]]:
        """Return lines for the console and fields for timing.jsonl: the partition and the plan."""
        traffic, exchange = self.partition.traffic, self.partition.exchange
        row_bytes = self.config.model.dim * np.dtype(self.config.model.dtype).itemsize
        n_bytes = {name: rows * row_bytes for name, rows in traffic.rows.items()}
        facts = {
            "edge_cut": round(traffic.edge_cut, 6),
            "exchange": exchange,
            "bytes_a_layer": n_bytes,
            "rows_a_device": self.partition.layout.rows,
            "most_edges": traffic.edges,
            "partition_seconds": round(self.partition_seconds, 3),
        }
        others = ", ".join(f"{k} {v:,}" for k, v in n_bytes.items() if k != exchange)
        text = (
            f"mesh of {self.config.mesh.data} x {self.config.mesh.table} (data x table): "
            f"{traffic.edge_cut:.1%} of the edges join two parts; a device receives "
            f"{n_bytes[exchange]:,} bytes per layer by {exchange} ({others})"
        )
        planned = self.plan()
        facts |= {"plan": {"device": planned.device, "step": planned.step}}
        return [text, *planned.lines()], {"partitioned": facts}


def kernel_of(config: Config) -> Kernel:
    """Return the kernel for products with the graph's matrix: the configured or default one."""
    return default_kernel() if config.model.kernel == "auto" else config.model.kernel


def to_host(x: jax.Array) -> np.ndarray:
    """Return a whole array as a NumPy array, in every process."""
    if x.is_fully_addressable or x.is_fully_replicated:
        return np.asarray(x)
    return np.asarray(multihost_utils.process_allgather(x, tiled=True))
