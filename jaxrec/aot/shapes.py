"""The arrays of a run as shapes, from its sizes: no data is read and nothing is allocated.

Where degrees are not known they are taken to spread as an exponential distribution does about their
mean, which has more long rows than equal degrees have and fewer than most real data.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh

from jaxrec import models
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

_MOST_STEPS = 10**6  # that a row-sparse Adam keeps sums of learning rates for
_QUANTILES = 1024
_SLACK = 1.02  # of a part of a mesh over the mean one


def degrees(of: Counts) -> tuple[np.ndarray, np.ndarray]:
    """Of users [U] and items [I], as the module says."""
    return _spread(of.n_users, of.n_edges), _spread(of.n_items, of.n_edges)


def _spread(n: int, edges: int) -> np.ndarray:
    """n degrees, ascending, of about so many edges in all."""
    level = -np.log1p(-(np.arange(_QUANTILES) + 0.5) / _QUANTILES)
    degree = np.maximum(np.round(level * (edges / n / level.mean())), 1).astype(np.int64)
    return degree[np.arange(n) * _QUANTILES // n]


def array(*shape: int, kind: Any = jnp.int32) -> Any:
    """An array's shape and type."""
    return jax.ShapeDtypeStruct(shape, kind)


def as_shapes(tree: Any) -> Any:
    """The shapes and types of a tree's arrays."""
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), tree)


def refuse(config: Config) -> None:
    """Raise InputError for what has shapes that sizes do not tell."""
    how, lacks = config.negatives, None
    if not config.objective.users:
        lacks = "a model of items reads an item graph"
    elif config.objective.reads:
        lacks = f"loss.name {config.loss.name} reads {config.objective.reads[0]}s"
    elif not config.model.ids:
        lacks = "without model.ids a model reads features"
    elif how.hard or how.name == "exposed" or how.pick == "same-features":
        lacks = "these negatives are drawn from the data"
    elif config.model.frozen_items is not None or config.warm_start is not None:
        lacks = "it begins with vectors of a file"
    if lacks is not None:
        raise InputError(f"{lacks}: give --data PATH instead of sizes")


def stepper_of(config: Config, of: Counts, mesh: Mesh | None = None, **more: Any) -> Stepper:
    """The static half of a step for data of these sizes."""
    total = min(Cadence.of(config, of.n_edges).total, _MOST_STEPS)
    key = jax.random.key(0)
    sizes = of.n_users, of.n_items
    shape = nnx.eval_shape(lambda: models.build(config.model, *sizes, key, Inputs().sizes, 1, 0))
    tx = optimizer(config, of.n_users + of.n_items, total)
    every = config, shape, tx, of.n_users, of.n_items, rest_optimizer(config, total)
    return Stepper(*every) if mesh is None else MeshStepper(*every, mesh=mesh, **more)


def _popularity(config: Config, n_items: int) -> Popularity | None:
    power = 1.0 if config.negatives.name == "in-batch" else config.negatives.popularity
    if power == 0 and not (config.corrects or config.draws_some_items):
        return None
    return Popularity(array(n_items, kind=jnp.uint32), array(n_items, kind=jnp.float32))


def key_shape() -> Any:
    """Of a key of random numbers."""
    return as_shapes(jax.eval_shape(lambda: jax.random.key(0)))


def _graph(config: Config, rows: int, edges: int, place: bool) -> Any:
    made = graph_of(
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
    return made._replace(place_N=array(rows) if place else None)


def train_data(config: Config, of: Counts) -> TrainData:
    """The arrays of :func:`jaxrec.training.device_data.train_data`, of data without features.

    Raises:
      InputError: their shapes depend on more than sizes.
    """
    refuse(config)
    how, n_nodes = config.model, of.n_users + of.n_items
    graph = _graph(config, n_nodes, 2 * of.n_edges, not how.sampled)
    if resolve(how.kernel) == "buckets":
        degree = np.concatenate(degrees(of))
        graph = graph._replace(buckets=as_shapes(buckets.of_sizes(buckets.sizes(degree))))
    if how.sampled and how.neighbors != "uniform":
        near = jax.eval_shape(
            lambda csr, key: all_most_visited(
                csr, max(how.hops), walks=how.walks, length=how.walk_length, key=key
            ),
            DeviceCsr(graph.indptr, graph.graph.senders),
            key_shape(),
        )
        if how.init != "spectral":
            graph = graph._replace(graph=graph.graph._replace(edges=None, receivers=None))
        graph = graph._replace(neighbors=near)
    edges = array(of.n_edges)
    pairs = Pairs(edges, edges, None, array(of.n_users + 1), array(of.n_users))
    known = DeviceCsr(array(of.n_users + 1), edges)
    return TrainData(graph, pairs, known, key_shape(), _popularity(config, of.n_items))


def mesh_data(config: Config, of: Counts) -> tuple[MeshData, MeshSizes, int]:
    """The arrays of :func:`jaxrec.training.placement.mesh_data.mesh_data`, and the rows of a part.

    A part has the mean number of edges and 2 % more; rows come by one exchange, as many as
    :mod:`jaxrec.plan` counts, or all of them where that is fewer.
    """
    refuse(config)
    parts = config.mesh.table
    users, items = -(-of.n_users // parts), -(-of.n_items // parts)
    rows, edges = users + items, math.ceil(2 * of.n_edges / parts * _SLACK)
    graph = _graph(config, rows, edges, False)
    if kernel_of(config) == "buckets":
        degree = np.concatenate([_spread(n, of.n_edges)[::parts] for n in of[:2]])
        graph = graph._replace(buckets=as_shapes(buckets.of_sizes(buckets.sizes(degree))))
    planned = Planned(*of, layers=config.model.layers, table=parts)
    got = math.ceil(planned.got_rows() * _SLACK)
    send: tuple = ()
    if config.model.layers and parts > 1 and got < (parts - 1) * rows:
        send = (array(parts, -(-got // (parts - 1))),)
    each = math.ceil(of.n_edges / parts)
    known = math.ceil(each * _SLACK)
    pairs = Pairs(
        *(array(each), array(each), None),
        array(-(-(of.n_users + 1) // parts)),
        array(-(-of.n_users // parts)),
    )

    def stacked(tree: Any) -> Any:
        return jax.tree.map(lambda x: array(parts, *x.shape, kind=x.dtype), tree)

    held = Shard(graph, send), pairs, DeviceCsr(array(users + 1), array(known)), array(2)
    whole = key_shape(), array(of.n_users + of.n_items), _popularity(config, of.n_items)
    sizes = MeshSizes(of.n_edges, of.n_users + 1, of.n_users)
    return MeshData(*map(stacked, held), *whole), sizes, rows  # type: ignore[arg-type]
