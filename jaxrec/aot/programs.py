"""The programs of a configuration, with the shapes of what they take: nothing of them is run.

``step`` is what the trainer dispatches: a loop of train steps, its state donated. ``embed`` makes
the final embeddings, ``rank`` ranks all items for a block of users, ``start`` makes the spectral
start, ``pagerank`` pushes from 64 users at once.
"""

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxrec import plan as plans
from jaxrec.aot import shapes
from jaxrec.aot.shapes import array, as_shapes
from jaxrec.aot.targets import Target
from jaxrec.config import Config
from jaxrec.errors import InputError
from jaxrec.evaluation.scorers import fn_of
from jaxrec.evaluation.topk import Rows, power_of_two, rank
from jaxrec.graph.halo import DATA, TABLE
from jaxrec.graph.pagerank import push
from jaxrec.graph.spectral import spectral_table
from jaxrec.rowwise import RowOptimizer
from jaxrec.training.memory import Counts, sizes_of
from jaxrec.training.placement.mesh import MeshProblem, kernel_of
from jaxrec.training.placement.mesh_step import MeshStepper
from jaxrec.training.run import task_of
from jaxrec.training.step import Stepper

NAMES = ("step", "embed", "rank", "start", "pagerank")


@dataclass(frozen=True)
class Program:
    """A function to be compiled.

    Attributes:
      args: shapes, and after :func:`placed` where each of them lies.
      donated: whether the first argument's buffers are taken for the result.
    """

    name: str
    fn: Callable
    args: tuple
    donated: bool = False


@dataclass(frozen=True)
class Problem:
    """A configuration and the shapes of what it trains on.

    Attributes:
      specs: of state and data, how they lie on a mesh; None on one device.
      degrees: of users and of items; None where they are not known.
    """

    config: Config
    counts: Counts
    stepper: Any
    state: Any
    data: Any
    mesh: Mesh | None = None
    specs: tuple[Any, Any] | None = None
    degrees: tuple[np.ndarray, np.ndarray] | None = None


def of_sizes(config: Config, counts: Counts, devices: Any) -> Problem:
    """From sizes alone; on ``devices`` where the configuration has a mesh."""
    if config.mesh.devices == 1:
        stepper, data = shapes.stepper_of(config, counts), shapes.train_data(config, counts)
        state = _state(stepper, counts)
        return Problem(config, counts, stepper, state, data)
    if not config.model.kind.mesh:
        raise InputError(f"model.name {config.model.name} is not there on a mesh")
    data, sizes, rows = shapes.mesh_data(config, counts)
    mesh = mesh_of(config, devices)
    how: dict[str, Any] = {"rows": rows, "sizes": sizes, "kernel": kernel_of(config)}
    stepper = shapes.stepper_of(config, counts, mesh, **how)
    assert isinstance(stepper, MeshStepper)
    state = _state(stepper, Counts(rows * config.mesh.table, 0, counts.n_edges))
    return Problem(config, counts, stepper, state, data, mesh, (stepper.specs(state), data.specs()))


def _state(stepper: Stepper, counts: Counts) -> Any:
    """The shapes of a state; tables have as many rows as the counts have nodes."""
    n_nodes = counts.n_users + counts.n_items
    own = stepper.n_users + stepper.n_items
    params = nnx.state(stepper.encoder)

    def sized(x: Any) -> Any:
        of_nodes = len(x.shape) and x.shape[0] == own and own != n_nodes
        return array(n_nodes, *x.shape[1:], kind=x.dtype) if of_nodes else x

    return as_shapes(jax.eval_shape(stepper.init, jax.tree.map(sized, params)))


def of_data(config: Config, data: Any, devices: Any) -> Problem:
    """From a data set, which is split and laid out on the host as for a run.

    A mesh needs as many virtual devices here (``JAX_NUM_CPU_DEVICES``) as it has there.
    """
    task = task_of(config, data)
    task.check()
    made = task.problem("search", None, None)
    train: Any = made.splits.train
    counts, degrees = Counts(0, train.n_items, 0), None
    if not config.objective.users:
        counts = counts._replace(n_edges=train.n_pairs)
    else:
        counts = Counts(train.n_users, train.n_items, train.n_edges)
        degrees = train.user_counts(), train.item_counts()
    if isinstance(made, MeshProblem):
        mesh = mesh_of(config, devices)
        stepper: Any = dataclasses.replace(made.stepper, mesh=mesh)
        state = as_shapes(made.state_shape())
        specs = stepper.specs(state), made.data.specs()
        data = as_shapes(made.data)
        return Problem(config, counts, stepper, state, data, mesh, specs, degrees)
    state, data = as_shapes(made.state_shape()), as_shapes(made.data)
    return Problem(config, counts, made.stepper, state, data, degrees=degrees)


def mesh_of(config: Config, devices: Any) -> Mesh:
    """The mesh of a configuration on the devices of a target."""
    shape = config.mesh.data, config.mesh.table
    if math.prod(shape) > len(devices):
        raise InputError(
            f"a mesh of {shape[0]} x {shape[1]} needs more than {len(devices)} devices"
        )
    kinds = (jax.sharding.AxisType.Auto,) * 2
    devices = np.array(devices[: math.prod(shape)]).reshape(shape)
    return Mesh(devices, (DATA, TABLE), axis_types=kinds)


def program(name: str, problem: Problem, target: Target) -> Program:
    """One of :data:`NAMES`.

    Raises:
      InputError: this configuration has no such program.
    """
    if name not in NAMES:
        raise InputError(f"no program {name!r}; there are {', '.join(NAMES)}")
    config, n_users = problem.config, problem.counts.n_users
    if name == "step":
        args = problem.state, problem.data, array()
        return Program(name, problem.stepper.dispatch, args, donated=True)
    if problem.mesh is not None or not config.objective.users:
        raise InputError(f"the program {name!r} is compiled for one device and for users and items")
    if name == "embed":

        def embed(state: Any, graph: Any) -> Any:
            params = problem.stepper.current(state)
            return problem.stepper.nodes(params, graph).emb_ND

        return Program(name, embed, (problem.state, problem.data.graph))
    if name == "rank":
        return _ranking(config, problem, target)
    graph = problem.data.graph
    if graph.graph.edges is None:
        raise InputError(f"the program {name!r} reads all edges, and this model keeps none")
    if name == "start":
        dim, smoothing = config.model.dim, config.model.layers
        made = partial(
            spectral_table, n_users=n_users, dim=dim, layers=smoothing, rms=config.model.init_std
        )
        return Program(name, lambda graph, key: made(graph, key=key), (graph, shapes.key_shape()))
    return Program(name, lambda graph, source: push(graph, n_users, source), (graph, array(64)))


def _ranking(config: Config, problem: Problem, target: Target) -> Program:
    n_users, n_items, n_edges = problem.counts
    dim = jax.eval_shape(problem.stepper.nodes, problem.state.params, problem.data.graph)
    width = dim.emb_ND.shape[1]
    params = {"user": array(n_users, width, kind=jnp.float32)}
    params["item"] = array(n_items, width, kind=jnp.float32)
    budget = target.device.memory // 32 // (4 * min(n_items, 2**17))
    block = max(1, min(power_of_two(n_users), 4096, max(budget, 32)))
    seen = power_of_two(math.ceil(block * n_edges / n_users))
    k = min(power_of_two(max(config.eval.k)), n_items)
    fn = partial(rank, fn_of(params), k)
    return Program("rank", fn, (params, array(block), Rows(array(block + 1), array(seen))))


def placed(program: Program, problem: Problem, devices: Any) -> Program:
    """The program with where its arguments lie: on the mesh, or on the first device."""
    if problem.mesh is None:
        one = Mesh(np.array(devices[:1]), ("one",), axis_types=(jax.sharding.AxisType.Auto,))
        whole = NamedSharding(one, PartitionSpec())
        made = jax.tree.map(lambda x: _at(x, whole), program.args)
        return dataclasses.replace(program, args=made)
    mesh, specs = problem.mesh, (*(problem.specs or ()), PartitionSpec())
    made = jax.tree.map(lambda x, spec: _at(x, NamedSharding(mesh, spec)), program.args, specs)
    return dataclasses.replace(program, args=made)


def _at(x: Any, sharding: NamedSharding) -> Any:
    return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)


def planned(problem: Problem) -> dict[str, int] | None:
    """Bytes of a device in a step, as :mod:`jaxrec.plan` counts them; None where it has no model of
    the configuration."""
    config, counts = problem.config, problem.counts
    if not config.objective.users:
        return None
    sparse = isinstance(problem.stepper.tx, RowOptimizer)
    sides = shapes.degrees(counts) if problem.degrees is None else problem.degrees
    made = plans.plan(sizes_of(config, counts, sparse=sparse, sides=sides))
    return {name: n for name, n in made.device.items() if not name.startswith("evaluation")}


def state_bytes(problem: Problem) -> int:
    """Of a device's part of the state."""
    parts = problem.specs[0] if problem.specs else None

    def one(x: Any, spec: Any = None) -> int:
        cut = problem.config.mesh.table if spec is not None and TABLE in tuple(spec) else 1
        return math.prod(x.shape) * x.dtype.itemsize // cut

    of = problem.state
    trees = (of,) if parts is None else (of, parts)
    return sum(jax.tree.leaves(jax.tree.map(one, *trees)))
