"""Build the programs of a configuration with the shapes of their arguments, without running them.

``step`` is the loop of train steps that the trainer dispatches, with donated state. ``embed``
computes the final embeddings, ``rank`` ranks all items for a block of users, ``start`` computes the
spectral start, and ``pagerank`` runs PageRank from 64 users. ``together`` is the loop of steps of
four runs that train together (:mod:`jaxrec.training.together`); they differ in every setting that
may differ.
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
from jaxrec.evaluation.topk import Rows, list_length, power_of_two, rank
from jaxrec.graph.halo import DATA, TABLE
from jaxrec.graph.pagerank import push
from jaxrec.graph.spectral import spectral_table
from jaxrec.rowwise import RowOptimizer
from jaxrec.training import together
from jaxrec.training.memory import Counts, sizes_of
from jaxrec.training.placement.mesh import MeshProblem, kernel_of
from jaxrec.training.placement.mesh_step import MeshStepper
from jaxrec.training.run import task_of
from jaxrec.training.schedule import Cadence
from jaxrec.training.step import Stepper

NAMES = ("step", "embed", "rank", "start", "pagerank", "together")
_RUNS = 4  # number of runs of the program "together"


@dataclass(frozen=True)
class Program:
    """A function to compile.

    Attributes:
      args: shapes of the arguments; :func:`placed` adds their shardings.
      donated: whether the result may reuse the buffers of the first argument.
    """

    name: str
    fn: Callable
    args: tuple
    donated: bool = False


@dataclass(frozen=True)
class Problem:
    """A configuration with the shapes of its state and data.

    Attributes:
      specs: partition specs of state and data on a mesh; None on one device.
      degrees: degrees of users and of items; None if unknown.
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
    """Build a problem from sizes only, on ``devices`` if the configuration has a mesh."""
    if config.mesh.devices == 1:
        stepper, data = shapes.stepper_of(config, counts), shapes.train_data(config, counts)
        state = _state(stepper, counts)
        return Problem(config, counts, stepper, state, data)
    if not config.model.kind.mesh:
        raise InputError(
            f"model.name {config.model.name} cannot train on a mesh; compile for a single device"
        )
    data, sizes, rows = shapes.mesh_data(config, counts)
    mesh = mesh_of(config, devices)
    options: dict[str, Any] = {"rows": rows, "sizes": sizes, "kernel": kernel_of(config)}
    stepper = shapes.stepper_of(config, counts, mesh, **options)
    assert isinstance(stepper, MeshStepper)
    state = _state(stepper, Counts(rows * config.mesh.table, 0, counts.n_edges))
    return Problem(config, counts, stepper, state, data, mesh, (stepper.specs(state), data.specs()))


def _state(stepper: Stepper, counts: Counts) -> Any:
    """Return the shapes of a state whose tables have one row for each node in ``counts``."""
    n_nodes = counts.n_users + counts.n_items
    own = stepper.n_users + stepper.n_items
    params = nnx.state(stepper.encoder)

    def sized(x: Any) -> Any:
        of_nodes = len(x.shape) and x.shape[0] == own and own != n_nodes
        return array(n_nodes, *x.shape[1:], kind=x.dtype) if of_nodes else x

    return as_shapes(jax.eval_shape(stepper.init, jax.tree.map(sized, params)))


def of_data(config: Config, data: Any, devices: Any) -> Problem:
    """Build a problem from a data set, which is split and prepared on the host as in a run.

    For a mesh, this process needs as many virtual devices as the mesh (``JAX_NUM_CPU_DEVICES``).
    """
    task = task_of(config, data)
    task.check()
    prepared = task.problem("search", None, None)
    train: Any = prepared.splits.train
    counts, degrees = Counts(0, train.n_items, 0), None
    if not config.objective.users:
        counts = counts._replace(n_edges=train.n_pairs)
    else:
        counts = Counts(train.n_users, train.n_items, train.n_edges)
        degrees = train.user_counts(), train.item_counts()
    if isinstance(prepared, MeshProblem):
        mesh = mesh_of(config, devices)
        stepper: Any = dataclasses.replace(prepared.stepper, mesh=mesh)
        state = as_shapes(prepared.state_shape())
        specs = stepper.specs(state), prepared.data.specs()
        data = as_shapes(prepared.data)
        return Problem(config, counts, stepper, state, data, mesh, specs, degrees)
    state, data = as_shapes(prepared.state_shape()), as_shapes(prepared.data)
    return Problem(config, counts, prepared.stepper, state, data, degrees=degrees)


def mesh_of(config: Config, devices: Any) -> Mesh:
    """Build the mesh of a configuration on the devices of a target."""
    shape = config.mesh.data, config.mesh.table
    if math.prod(shape) > len(devices):
        raise InputError(
            f"a mesh of {shape[0]} x {shape[1]} needs {math.prod(shape)} devices, but the target "
            f"has {len(devices)}; choose a larger target or a smaller mesh"
        )
    kinds = (jax.sharding.AxisType.Auto,) * 2
    devices = np.array(devices[: math.prod(shape)]).reshape(shape)
    return Mesh(devices, (DATA, TABLE), axis_types=kinds)


def program(name: str, problem: Problem, target: Target) -> Program:
    """Build the program with one of the :data:`NAMES`.

    Raises:
      InputError: the name is unknown, or the configuration does not have the program.
    """
    if name not in NAMES:
        raise InputError(f"unknown program {name!r}; the programs are {', '.join(NAMES)}")
    config, n_users = problem.config, problem.counts.n_users
    if name == "step":
        args = problem.state, problem.data, array()
        return Program(name, problem.stepper.dispatch, args, donated=True)
    if problem.mesh is not None or not config.objective.users:
        raise InputError(
            f"the program {name!r} needs a single device and a model of users and items; compile "
            "'step' instead"
        )
    if name == "together":
        return _together(config, problem)
    if name == "embed":

        def embed(state: Any, graph: Any) -> Any:
            params = problem.stepper.current(state)
            return problem.stepper.nodes(params, graph).emb_ND

        return Program(name, embed, (problem.state, problem.data.graph))
    if name == "rank":
        return _ranking(config, problem, target)
    graph = problem.data.graph
    if graph.graph.edges is None:
        raise InputError(
            f"the program {name!r} reads all edges, which this model does not keep; compile "
            "'step' instead"
        )
    if name == "start":
        dim, smoothing = config.model.dim, config.model.layers
        start = partial(
            spectral_table, n_users=n_users, dim=dim, layers=smoothing, rms=config.model.init_std
        )
        return Program(name, lambda graph, key: start(graph, key=key), (graph, shapes.key_shape()))
    return Program(name, lambda graph, source: push(graph, n_users, source), (graph, array(64)))


def _together(config: Config, problem: Problem) -> Program:
    reason = together.why_alone(config)
    if reason is not None:
        raise InputError(f"runs are not trained together: {reason}; compile 'step' instead")

    def stacked(tree: Any) -> Any:
        return jax.tree.map(lambda x: array(_RUNS, *x.shape, kind=x.dtype), tree)

    states = stacked(problem.state)._replace(step=problem.state.step)
    numbers = {name: array(_RUNS, kind=jnp.float32) for name in together.NUMBERS}
    inputs = together.Inputs(stacked(problem.data.key), numbers)
    total = Cadence.of(config, problem.counts.n_edges).total
    steps = together.Program(problem.stepper, total)
    args = states, problem.data, inputs, array()
    return Program("together", steps.dispatch, args, donated=True)


def _ranking(config: Config, problem: Problem, target: Target) -> Program:
    n_users, n_items, n_edges = problem.counts
    dim = jax.eval_shape(problem.stepper.nodes, problem.state.params, problem.data.graph)
    width = dim.emb_ND.shape[1]
    params = {"user": array(n_users, width, kind=jnp.float32)}
    params["item"] = array(n_items, width, kind=jnp.float32)
    budget = target.device.memory // 32 // (4 * min(n_items, 2**17))
    block = max(1, min(power_of_two(n_users), 4096, max(budget, 32)))
    seen = power_of_two(math.ceil(block * n_edges / n_users))
    k = min(list_length(max(config.eval.k)), n_items)
    fn = partial(rank, fn_of(params), k)
    return Program("rank", fn, (params, array(block), Rows(array(block + 1), array(seen))))


def placed(program: Program, problem: Problem, devices: Any) -> Program:
    """Give the program's arguments shardings, on the mesh or on the first device."""
    if problem.mesh is None:
        return on_one_device(program, devices)
    mesh, specs = problem.mesh, (*(problem.specs or ()), PartitionSpec())
    args = jax.tree.map(lambda x, spec: _sharded(x, NamedSharding(mesh, spec)), program.args, specs)
    return dataclasses.replace(program, args=args)


def on_one_device(program: Program, devices: Any) -> Program:
    """Place the program's arguments on the first device."""
    one = Mesh(np.array(devices[:1]), ("one",), axis_types=(jax.sharding.AxisType.Auto,))
    replicated = NamedSharding(one, PartitionSpec())
    args = jax.tree.map(lambda x: _sharded(x, replicated), program.args)
    return dataclasses.replace(program, args=args)


def _sharded(x: Any, sharding: NamedSharding) -> Any:
    return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)


def planned(problem: Problem) -> dict[str, int] | None:
    """Return the device memory of a step by purpose, as :mod:`jaxrec.plan` estimates it.

    The result is None for item models, which the plan does not cover.
    """
    config, counts = problem.config, problem.counts
    if not config.objective.users:
        return None
    sides = shapes.degrees(counts) if problem.degrees is None else problem.degrees
    sparse, got = isinstance(problem.stepper.tx, RowOptimizer), None
    if problem.mesh is not None and config.model.layers:
        got = shapes.received(problem.data.shard, config.mesh.table)
    return of_step(config, counts, sides, sparse, got)


def of_step(
    config: Config,
    counts: Counts,
    sides: tuple[np.ndarray, np.ndarray],
    sparse: bool,
    got: int | None = None,
) -> dict[str, int]:
    """Return the plan of the arrays that the program of a step uses, on the platform in use.

    This leaves out what only an evaluation needs, and arrays of the graph that no step reads.

    Args:
      sides: degrees of users and of items.
      sparse: whether a step updates only the rows of its batch.
      got: number of rows that a layer receives from other devices; estimated if None.
    """
    steps = min(Cadence.of(config, counts.n_edges).total, shapes.MOST_STEPS)
    more = {"sparse": sparse, "sides": sides, "got": got, "steps": steps}
    plan = plans.plan(sizes_of(config, counts, **more))
    device = plan.device | {"graph": plan.device["graph"] - plans.unread(plan)}
    return {name: n for name, n in device.items() if not name.startswith("evaluation")}


def state_bytes(problem: Problem) -> int:
    """Return the bytes of a device's shard of the state."""
    specs = problem.specs[0] if problem.specs else None

    def n_bytes(x: Any, spec: Any = None) -> int:
        parts = problem.config.mesh.table if spec is not None and TABLE in tuple(spec) else 1
        return math.prod(x.shape) * x.dtype.itemsize // parts

    trees = (problem.state,) if specs is None else (problem.state, specs)
    return sum(jax.tree.leaves(jax.tree.map(n_bytes, *trees)))
