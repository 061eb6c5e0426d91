"""A configuration and its data on a mesh: the counterpart of :mod:`jaxrec.training.problem`."""

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
    """The place of each node in the order that was cut; None where it is the data set's own."""
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
        """Cut the train part and put each device's share on it.

        Raises:
          InputError: nothing to train on, too few devices, or an optax chain, whose sums over
            rows would be those of one device.
        """
        assert window is None, "the configuration refuses hard negatives on a mesh"
        train, order = splits.train, "data" if config.mesh.order == "data" else "locality"
        cadence = Cadence.checked(config, train, total)
        mesh = make_mesh(config.mesh)
        began = time.perf_counter()
        order_N = node_order(train, order)
        cut = layout(train, order_N, config.mesh.table)
        made = partition(train, cut, config.mesh.exchange, buckets=kernel_of(config) == "buckets")
        seconds = time.perf_counter() - began
        data, sizes = mesh_data(train, made, keys(config, phase)[1], popularity(config, train))
        more = {"order": order, "order_N": order_N, "partition_seconds": seconds}
        return cls.on(mesh, config, splits, made, data, sizes, cadence, phase, tx, **more)

    @classmethod
    def on(
        cls,
        mesh: Mesh,
        config: Config,
        splits: Splits,
        made: Partition,
        data: MeshData,
        sizes: Sizes,
        cadence: Cadence,
        phase: str,
        tx: optax.GradientTransformation | RowOptimizer | None,
        **more: Any,
    ) -> Any:
        """The problem of a graph that is cut. ``more`` are other fields.

        Raises:
          InputError: an optax chain, or more than a device has room for.
        """
        if tx is not None:
            raise InputError(
                "an optax chain given in Python is not there on a mesh of devices; "
                "set mesh.data and mesh.table to 1, or configure optim"
            )
        train, init_key = splits.train, keys(config, phase)[0]
        # Clipping is by the norm over all devices, which no optimizer of one device knows.
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
            rows=made.layout.rows,
            sizes=sizes,
            kernel=kernel_of(config),
        )
        placed = put(mesh, data, data.specs())
        every = config, splits, stepper, placed, cadence, init_key, Inputs(), False
        problem = cls(*every, mesh=mesh, partition=made, **more)
        limit = device_memory()
        if limit is not None:
            plans.check(problem.plan(), limit)
        return problem

    @property
    def _stepper(self) -> MeshStepper:
        assert isinstance(self.stepper, MeshStepper)
        return self.stepper

    def _params(self) -> nnx.State:
        """Initial parameters, as on one device but for where the rows are."""
        params, cut = nnx.state(self._model()), self.partition.layout
        table_ND, others = split_table(params)
        if self.order_N is not None:
            table_ND = table_ND[self.order_N]
        table_SD = jnp.zeros((cut.size, table_ND.shape[1])).at[cut.place_N].set(table_ND)
        return joined_table(params, table_SD, others)

    def state_shape(self) -> TrainState:
        """The shapes and types of a state, without an array of it."""
        return jax.eval_shape(lambda: self.stepper.init(self._params()))

    def placed_shape(self) -> TrainState:
        """The shapes, types and places of a state, to restore a checkpoint by."""
        shape = self.state_shape()
        return jax.tree.map(placed_at, self._shardings(shape), shape)

    def _shardings(self, shape: TrainState) -> Any:
        specs = self._stepper.specs(shape)
        return jax.tree.map(lambda spec: NamedSharding(self.mesh, spec), specs)

    def initial_state(self) -> TrainState:
        """The state before step 0, each device's rows on it."""
        shape = self.state_shape()
        here = jax.local_devices(backend="cpu")[0]
        with jax.default_device(here):  # no device has room for all rows
            params = self._params()
        params = put(self.mesh, params, self._stepper.specs(shape).params)
        # Donated, for there is room for one table.
        init = jax.jit(self.stepper.init, out_shardings=self._shardings(shape), donate_argnums=0)
        return init(params)

    def placed(self, state: Any) -> TrainState:
        """A state in NumPy, on the mesh."""
        return put(self.mesh, state, self._stepper.specs(state))

    def rows(self) -> Rows:
        """How tables hold the nodes."""
        return Rows(self.partition.layout.place_N, self.partition.layout.size)

    def notes(self) -> dict[str, Any]:
        """How tables hold the nodes, for a checkpoint."""
        return {"layout": {"table": self.mesh.shape[TABLE], "order": self.order}}

    def number(self, n: int) -> jax.Array:
        """A number on every device."""
        return put(self.mesh, np.int32(n), _WHOLE)

    def cleared(self, totals: Totals) -> Totals:
        """Empty sums on every device."""
        zeros = jax.tree.map(np.asarray, cleared(totals))
        return put(self.mesh, zeros, jax.tree.map(lambda _: _WHOLE, zeros))

    @property
    def examine(self) -> Callable[[TrainState], dict[str, float] | None]:
        """Nothing: the doctor looks at one device."""
        return lambda _: None

    def look_back(self) -> None:
        """Nothing either."""

    @cached_property
    def _mesh_nodes(self) -> Any:
        return jax.jit(self._stepper.embedded)

    def _embedded(self, state: TrainState) -> tuple[Any, None]:
        """Embeddings of all nodes, on the host."""
        return self._in_data_order(self._mesh_nodes(state, self.data)), None

    def _in_data_order(self, x_SD: jax.Array) -> np.ndarray:
        return to_host(x_SD)[self.partition.layout.place_N]

    def scorer(self, state: TrainState) -> Scorer:
        """What ranks items for users, its factors in parts."""
        emb_SD = self._mesh_nodes(state, self.data)
        return sharded_scorer(self.mesh, self.partition.layout, self.stepper.n_users, emb_SD)

    def parameters(self, state: TrainState) -> dict[str, np.ndarray]:
        """Every parameter by its path, the table's rows in the data set's order."""
        found = {}
        for path, value in nnx.to_flat_state(self._current(state)):
            array = value[...]
            name = "/".join(map(str, path))
            found[name] = self._in_data_order(array) if name == TABLE_NAME else to_host(array)
        return found

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
        """What the run needs and moves, by arithmetic; with the rows that the cut graph needs, or
        by the degrees of its nodes alone."""
        made = self.partition
        how: dict[str, Any] = {"sparse": isinstance(self.stepper.tx, RowOptimizer)}
        how["buckets"] = made.shard.graph.buckets is not None
        how["parted"] = not isinstance(self.splits.train, Dataset)
        how["got"] = made.traffic.rows[made.exchange] if counted else None
        return plans.plan(sizes_of(self.config, self.splits.train, **how))

    def prepared(self) -> tuple[list[str], dict[str, dict[str, Any]]]:
        """How the graph was cut, and the plan."""
        cut, made = self.partition.traffic, self.partition
        wide = self.config.model.dim * np.dtype(self.config.model.dtype).itemsize
        n_bytes = {name: rows * wide for name, rows in cut.rows.items()}
        facts = {
            "edge_cut": round(cut.edge_cut, 6),
            "exchange": made.exchange,
            "bytes_a_layer": n_bytes,
            "rows_a_device": made.layout.rows,
            "most_edges": cut.edges,
            "partition_seconds": round(self.partition_seconds, 3),
        }
        others = ", ".join(f"{k} {v:,}" for k, v in n_bytes.items() if k != made.exchange)
        text = (
            f"mesh of {self.config.mesh.data} x {self.config.mesh.table} (data x table): "
            f"{cut.edge_cut:.1%} of the edges join two parts; a device gets "
            f"{n_bytes[made.exchange]:,} bytes a layer by {made.exchange} ({others})"
        )
        planned = self.plan()
        facts |= {"plan": {"device": planned.device, "step": planned.step}}
        return [text, *planned.lines()], {"partitioned": facts}


def kernel_of(config: Config) -> Kernel:
    """What multiplies by the graph."""
    return default_kernel() if config.model.kernel == "auto" else config.model.kernel


def to_host(x: jax.Array) -> np.ndarray:
    """The whole of an array, on every process."""
    if x.is_fully_addressable or x.is_fully_replicated:
        return np.asarray(x)
    return np.asarray(multihost_utils.process_allgather(x, tiled=True))
