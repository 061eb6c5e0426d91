"""Shapes of a run's arrays, computed from its sizes without reading data or allocating arrays.

Unknown degrees are assumed to be distributed exponentially. High degrees are then more frequent
than with equal degrees, and less frequent than in most real data.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh

from jaxrec import models, plan_arrays
from jaxrec.config import Config
from jaxrec.errors import InputError
from jaxrec.graph import buckets
from jaxrec.graph.csr import DeviceCsr
from jaxrec.graph.neighbors import all_most_visited
from jaxrec.graph.partition import Shard, graph_of
from jaxrec.graph.spmm import resolve
from jaxrec.negatives import Popularity
from jaxrec.plan import Sizes as Planned
from jaxrec.training.batch import Pairs, TrainData
from jaxrec.training.device_data import Inputs
from jaxrec.training.memory import Counts
from jaxrec.training.optimizers import optimizer, rest_optimizer
from jaxrec.training.placement.mesh import kernel_of
from jaxrec.training.placement.mesh_data import MeshData
from jaxrec.training.placement.mesh_data import Sizes as MeshSizes
from jaxrec.training.placement.mesh_step import MeshStepper
from jaxrec.training.schedule import Cadence
from jaxrec.training.step import Stepper

MOST_STEPS = 10**6  # length of a row-sparse Adam's tables of learning-rate sums
_SLACK = 1.02  # the size of the largest part of a mesh, divided by the mean size


def degrees(counts: Counts) -> tuple[np.ndarray, np.ndarray]:
    """Return exponentially distributed degrees of users [U] and items [I]."""
    return _exponential(counts.n_users, counts.n_edges), _exponential(
        counts.n_items, counts.n_edges
    )


def _exponential(n: int, edges: int) -> np.ndarray:
    """Return n exponentially distributed degrees, ascending, whose sum is about ``edges``."""
    degree = np.array(plan_arrays.quantiles(n, edges), np.int64)
    return degree[np.arange(n) * len(degree) // n]


def array(*shape: int, kind: Any = jnp.int32) -> Any:
    """Return the shape and type of an array."""
    return jax.ShapeDtypeStruct(shape, kind)


def as_shapes(tree: Any) -> Any:
    """Replace a tree's arrays by their shapes and types."""
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), tree)


def refuse(config: Config) -> None:
    """Raise InputError if a configuration's shapes depend on more than the sizes of the data."""
    negatives, reason = config.negatives, None
    if not config.objective.users:
        reason = "an item model needs an item graph"
    elif config.objective.reads:
        reason = f"loss.name {config.loss.name} needs {config.objective.reads[0]}s"
    elif not config.model.ids:
        reason = "a model without model.ids needs features"
    elif negatives.hard or negatives.name == "exposed" or negatives.pick == "same-features":
        reason = "the configured negatives depend on the data"
    elif config.model.frozen_items is not None or config.warm_start is not None:
        reason = "the model starts with vectors from a file"
    if reason is not None:
        raise InputError(f"{reason}; give --data PATH instead of sizes")


def stepper_of(config: Config, counts: Counts, mesh: Mesh | None = None, **more: Any) -> Stepper:
    """Build the static part of a train step for data with the given counts."""
    total = min(Cadence.of(config, counts.n_edges).total, MOST_STEPS)
    key = jax.random.key(0)
    sizes = counts.n_users, counts.n_items
    shape = nnx.eval_shape(lambda: models.build(config.model, *sizes, key, Inputs().sizes, 1, 0))
    tx = optimizer(config, counts.n_users + counts.n_items, total)
    args = config, shape, tx, counts.n_users, counts.n_items, rest_optimizer(config, total)
    return Stepper(*args) if mesh is None else MeshStepper(*args, mesh=mesh, **more)


def _popularity(config: Config, n_items: int) -> Popularity | None:
    power = 1.0 if config.negatives.name == "in-batch" else config.negatives.popularity
    if power == 0 and not (config.corrects or config.draws_some_items):
        return None
    return Popularity(array(n_items, kind=jnp.uint32), array(n_items, kind=jnp.float32))


def key_shape() -> Any:
    """Return the shape of a random key."""
    return as_shapes(jax.eval_shape(lambda: jax.random.key(0)))


def _graph(rows: int, edges: int, place: bool) -> Any:
    """Return the shapes of a graph; if ``place`` is True, it has the array ``place_N``."""
    graph = graph_of(
        {
            "edges": array(edges, kind=jnp.float32),
            "senders": array(edges),
            "receivers": array(edges),
            "n_node": array(1),
            "n_edge": array(1),
            "indptr": array(rows + 1),
            "degree": array(rows, kind=jnp.float32),
        }
    )
    return graph._replace(place_N=array(rows) if place else None)


def train_data(config: Config, counts: Counts) -> TrainData:
    """Return the shapes of :func:`jaxrec.training.device_data.train_data` without features.

    Raises:
      InputError: the shapes depend on more than the sizes.
    """
    refuse(config)
    model, n_nodes = config.model, counts.n_users + counts.n_items
    graph = _graph(n_nodes, 2 * counts.n_edges, not model.sampled)
    if resolve(model.kernel) == "buckets":
        degree = np.concatenate(degrees(counts))
        graph = graph._replace(buckets=as_shapes(buckets.of_sizes(buckets.sizes(degree))))
    if model.sampled and model.neighbors != "uniform":
        near = jax.eval_shape(
            lambda csr, key: all_most_visited(
                csr, max(model.hops), walks=model.walks, length=model.walk_length, key=key
            ),
            DeviceCsr(graph.indptr, graph.graph.senders),
            key_shape(),
        )
        if model.init != "spectral":
            graph = graph._replace(graph=graph.graph._replace(edges=None, receivers=None))
        graph = graph._replace(neighbors=near)
    edges = array(counts.n_edges)
    pairs = Pairs(edges, edges, None, array(counts.n_users + 1), array(counts.n_users))
    known = DeviceCsr(array(counts.n_users + 1), edges)
    return TrainData(graph, pairs, known, key_shape(), _popularity(config, counts.n_items))


def received(shard: Any, parts: int) -> int:
    """Return the number of rows that a device receives per layer, by the shapes of its shard."""
    if not shard.send:  # all rows are gathered
        return (parts - 1) * (shard.graph.indptr.shape[-1] - 1)
    first = shard.send[0].shape  # [parts, parts, H] for an all-to-all exchange, else [parts, H]
    return (parts - 1) * first[-1] if len(first) == 3 else sum(x.shape[-1] for x in shard.send)


def mesh_data(config: Config, counts: Counts) -> tuple[MeshData, MeshSizes, int]:
    """Return the shapes of a mesh's data, its sizes, and the number of rows per part.

    The shapes are those of ``jaxrec.training.placement.mesh_data.mesh_data``. A part is assumed to
    have 2 % more edges than the mean, and a layer to receive the number of rows that
    :mod:`jaxrec.plan` estimates plus 2 %, or all rows if they are fewer.
    """
    refuse(config)
    parts = config.mesh.table
    users, items = -(-counts.n_users // parts), -(-counts.n_items // parts)
    rows, edges = users + items, math.ceil(2 * counts.n_edges / parts * _SLACK)
    graph = _graph(rows, edges, False)
    if kernel_of(config) == "buckets":
        degree = np.concatenate([_exponential(n, counts.n_edges)[::parts] for n in counts[:2]])
        graph = graph._replace(buckets=as_shapes(buckets.of_sizes(buckets.sizes(degree))))
    planned = Planned(*counts, layers=config.model.layers, table=parts)
    got = math.ceil(planned.got_rows() * _SLACK)
    send: tuple = ()
    if config.model.layers and parts > 1 and got < (parts - 1) * rows:
        send = (array(parts, -(-got // (parts - 1))),)
    n_pairs = math.ceil(counts.n_edges / parts)
    n_known = math.ceil(n_pairs * _SLACK)
    pairs = Pairs(
        *(array(n_pairs), array(n_pairs), None),
        array(-(-(counts.n_users + 1) // parts)),
        array(-(-counts.n_users // parts)),
    )

    def stacked(tree: Any) -> Any:
        return jax.tree.map(lambda x: array(parts, *x.shape, kind=x.dtype), tree)

    sharded = Shard(graph, send), pairs, DeviceCsr(array(users + 1), array(n_known)), array(2)
    n_nodes = counts.n_users + counts.n_items
    replicated = key_shape(), array(n_nodes), _popularity(config, counts.n_items)
    sizes = MeshSizes(counts.n_edges, counts.n_users + 1, counts.n_users)
    return MeshData(*map(stacked, sharded), *replicated), sizes, rows  # type: ignore[arg-type]
