"""Test training on a mesh of virtual devices: equal to one device, and resumed on other meshes."""

import dataclasses
import json
from functools import cache
from pathlib import Path

import jax
import numpy as np
import optax
import pytest

import jaxrec
from jaxrec.config import (
    CheckpointConfig,
    Config,
    LossConfig,
    MeshConfig,
    ModelConfig,
    NegativesConfig,
    OptimConfig,
    TrainConfig,
)
from jaxrec.data import synthetic
from jaxrec.data.split import Splits, split
from jaxrec.errors import InputError
from jaxrec.training import results
from jaxrec.training.checkpoint import Checkpoints
from jaxrec.training.placement.mesh import MeshProblem
from jaxrec.training.placement.relayout import of_table
from jaxrec.training.problem import Problem

CONFIG = Config(
    model=ModelConfig(dim=4, layers=2),
    optim=OptimConfig(learning_rate=0.02),
    train=TrainConfig(epochs=2, batch_size=32),
)
MF = ModelConfig("mf", dim=4, layers=0)
STEPS = 20  # an epoch has 12 steps, and its last batch is padded
# The tolerance allows for float32 sums in another order over 20 steps of Adam (measured: 6e-8 where
# |x| is 0.3).
TOLERANCE = {"rtol": 0, "atol": 2e-6}


@cache
def splits() -> Splits:
    return split(synthetic.make(50, 41, 500, seed=3), CONFIG.split, 0)


@cache
def problem(config: Config) -> Problem:
    kind = MeshProblem if config.mesh.devices > 1 else Problem
    return kind.build(config, splits())


@cache
def dispatch(config: Config):
    return jax.jit(problem(config).stepper.dispatch)


@cache
def trained(config: Config, steps: int = STEPS):
    """Train some steps, and return the problem, its state and the losses; cached."""
    made = problem(config)
    state, totals = dispatch(config)(made.initial_state(), made.data, made.number(steps))
    return made, state, jax.device_get(totals)


def tables(made: Problem, state) -> list[np.ndarray]:
    """Return all arrays of a state, with the rows of tables in the data set's order.

    The doctor's records are left out, since the doctor looks at one device only.
    """
    state = state._replace(totals=state.totals._replace(signs=None))
    rows, found = made.rows(), jax.tree_util.tree_leaves_with_path(state)
    return [
        np.asarray(x)[rows.place_N] if of_table(path, x, rows.size) else np.asarray(x)
        for path, x in found
    ]


def on(mesh: tuple[int, int], config: Config = CONFIG) -> Config:
    return dataclasses.replace(config, mesh=MeshConfig(*mesh))


def assert_equal_training(config: Config, *meshes: tuple[int, int]) -> None:
    one, state, totals = trained(config)
    expected = one.parameters(state)
    for mesh in meshes:
        made, state, found = trained(on(mesh, config))
        assert int(found.steps) == STEPS
        np.testing.assert_allclose(found.loss, totals.loss, rtol=1e-6)
        np.testing.assert_allclose(found.l2, totals.l2, rtol=1e-6)
        parameters = made.parameters(state)
        assert parameters.keys() == expected.keys()
        for name, array in parameters.items():
            np.testing.assert_allclose(array, expected[name], err_msg=f"{mesh}", **TOLERANCE)


def test_a_batch_is_drawn_to_the_same_numbers():
    negatives = NegativesConfig("uniform", 3, popularity=0.5)
    config = dataclasses.replace(CONFIG, negatives=negatives)
    config = dataclasses.replace(config, train=TrainConfig(batch_size=32, positives="users"))
    one, many = problem(config), problem(on((2, 4), config))
    for step in (0, 7):
        expected, found = (
            jax.device_get(jax.jit(made.stepper.batch)(made.data, made.number(step)))
            for made in (one, many)
        )
        jax.tree.map(np.testing.assert_array_equal, expected, found)


def test_lightgcn_on_any_mesh_trains_as_on_one_device():
    meshes = (2, 1), (1, 2), (2, 2), (2, 4), (1, 8)
    assert_equal_training(CONFIG, *meshes)


@pytest.mark.long_but("mf")
@pytest.mark.parametrize(
    "changes",
    [
        {"model": ModelConfig(dim=4, layers=2, layer_weights="learned", kernel="buckets")},
        {
            "model": ModelConfig(dim=4, layers=1, score="cosine", kernel="segment_sum"),
            "negatives": NegativesConfig("in-batch"),
            "loss": LossConfig("softmax", temperature=0.2),
            "optim": OptimConfig(learning_rate=0.02, clip_norm=0.05),
        },
        {"model": MF, "negatives": NegativesConfig("shared", 8, reject_known=True)},
        {"model": MF, "optim": OptimConfig("adam", 0.02, sparse=True)},
        {"model": MF, "optim": OptimConfig("rowwise_adagrad", 0.05)},
    ],
    ids=["learned", "softmax-clipped", "mf", "mf-rows", "mf-adagrad"],
)
def test_other_configurations_train_as_on_one_device(changes):
    assert_equal_training(dataclasses.replace(CONFIG, **changes), (2, 4))


@pytest.mark.long
def test_metrics_are_those_of_one_device_on_any_mesh():
    one, state, _ = trained(CONFIG)
    expected = one.measure("validation", state, lambda: False)
    detail = one.evaluator("validation").breakdown(one.scorer(state), 5)
    for mesh in ((1, 2), (2, 2), (2, 4), (1, 8)):
        made, state, _ = trained(on(mesh))
        found = made.measure("validation", state, lambda: False)
        assert found == pytest.approx(expected, abs=1e-6)
        theirs = made.evaluator("validation").breakdown(made.scorer(state), 5)
        jax.tree.map(np.testing.assert_array_equal, detail, theirs)


def test_ties_over_parts_go_to_the_lower_item():
    """With all scores 0, every list holds the lowest ids that the user has not seen."""
    one, many = problem(CONFIG), problem(on((2, 4)))
    ranked = []
    for made in (one, many):
        state = jax.tree.map(lambda x: x * 0, made.initial_state())
        ranked.append(made.evaluator("test").breakdown(made.scorer(state), 20))
    jax.tree.map(np.testing.assert_array_equal, *ranked)


def saved(made: Problem, state, folder: Path) -> None:
    checkpoints = Checkpoints(folder, 3)
    checkpoints.save(STEPS, state, made.notes())
    checkpoints.close()


@pytest.mark.parametrize("model", ["lightgcn", "mf"])
def test_a_checkpoint_goes_from_any_mesh_to_any_other_to_the_bit(tmp_path, model):
    config = CONFIG
    if model == "mf":
        config = dataclasses.replace(CONFIG, model=MF, optim=OptimConfig("adam", 0.02, sparse=True))
    meshes = {"lightgcn": ((1, 8), (1, 1), (2, 4)), "mf": ((2, 4), (1, 1))}[model]
    for source in meshes[:2]:
        made, state, _ = trained(on(source, config))
        folder = tmp_path / str(source)
        saved(made, state, folder)
        checkpoints = Checkpoints(folder, 3)
        for target in set(meshes) - {source}:
            other = problem(on(target, config))
            restored = other.restore(checkpoints, STEPS)
            jax.tree.map(
                np.testing.assert_array_equal, tables(made, state), tables(other, restored)
            )
            # The optimizer's state was restored too, so the next steps equal those of an unbroken
            # run.
            after, _ = dispatch(on(target, config))(restored, other.data, other.number(5))
            unbroken = trained(on(target, config), STEPS + 5)[1]
            for ours, theirs in zip(tables(other, after), tables(other, unbroken), strict=True):
                np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=2e-6)
        checkpoints.close()


def test_a_checkpoint_resumes_to_the_bit_on_its_own_mesh(tmp_path):
    config = on((2, 4))
    made, state, _ = trained(config)
    saved(made, state, tmp_path)
    checkpoints = Checkpoints(tmp_path, 3)
    restored = made.restore(checkpoints, STEPS)
    checkpoints.close()
    resumed, _ = dispatch(config)(restored, made.data, made.number(5))
    jax.tree.map(np.testing.assert_array_equal, resumed, trained(config, STEPS + 5)[1])


def test_an_optax_chain_of_ones_own_is_refused_on_a_mesh():
    with pytest.raises(InputError, match=r"set mesh\.data and mesh\.table to 1"):
        MeshProblem.build(on((1, 2)), splits(), tx=optax.sgd(0.1))


@pytest.mark.long
def test_a_run_on_a_mesh_goes_on_with_one_device(tmp_path, capsys):
    """Interrupt a run on 2 x 2 and end it on 1 x 1; its metrics equal those of one device."""
    data = synthetic.make(50, 41, 500, seed=3)
    config = dataclasses.replace(on((2, 2)), checkpoint=CheckpointConfig(every=1))
    one = jaxrec.train(
        dataclasses.replace(config, mesh=MeshConfig()), data=data, run=tmp_path / "1"
    )
    run = tmp_path / "many"
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(results, "write_arrays", _stop)
        with pytest.raises(KeyboardInterrupt):
            jaxrec.train(config, data=data, run=run)
    told = capsys.readouterr().out
    assert "of the edges join two parts" in told
    assert "received by a device per step" in told
    (partitioned,) = [
        line
        for line in map(json.loads, (run / "timing.jsonl").read_text().splitlines())
        if line.get("event") == "partitioned"
    ]
    assert {"edge_cut", "exchange", "bytes_a_layer", "plan"} <= partitioned.keys()
    done = jaxrec.resume(run, data=data, mesh=MeshConfig(), quiet=True)
    assert done.metrics == pytest.approx(one.metrics, abs=1e-6)
    with np.load(run / "embeddings.npz") as ours, np.load(one.folder / "embeddings.npz") as theirs:
        for name in ("user", "item"):
            np.testing.assert_allclose(ours[name], theirs[name], **TOLERANCE)


def _stop(*_) -> None:
    raise KeyboardInterrupt
