"""Test that the device holds only one state at a time, as the plan says, by bytes of arrays."""

import dataclasses
import gc

import jax
import numpy as np
import pytest
from meter import live, metered

import jaxrec
from jaxrec import plan as plans
from jaxrec.config import (
    Config,
    EvalConfig,
    MeshConfig,
    ModelConfig,
    OptimConfig,
    SplitConfig,
    TrainConfig,
)
from jaxrec.data.dataset import Dataset
from jaxrec.data.split import split
from jaxrec.training.checkpoint import Checkpoints, release
from jaxrec.training.loop import Best, Loop
from jaxrec.training.memory import sizes_of
from jaxrec.training.placement.mesh import MeshProblem
from jaxrec.training.problem import Problem
from jaxrec.training.results import write_arrays

USERS, ITEMS, DIM = 3000, 2000, 64
TABLE = (USERS + ITEMS) * DIM * 4
MF = ModelConfig("mf", dim=DIM, layers=0)
BASE = Config(
    split=SplitConfig(test=0.1, validation=0.1),
    model=MF,
    train=TrainConfig(batch_size=512, epochs=2),
    eval=EvalConfig(k=(20,), every=1),
)
VARIANTS = {
    "mf, adam": {},
    "mf, rows of adam": {"optim": OptimConfig("adam", sparse=True)},
    "mf, rows of adagrad": {"optim": OptimConfig("adagrad", sparse=True)},
    "mf, row-wise adagrad": {"optim": OptimConfig("rowwise_adagrad")},
    "mf, rows of sgd": {"optim": OptimConfig("sgd", sparse=True)},
    "mf, spectral": {
        "model": dataclasses.replace(MF, init="spectral"),
        "optim": OptimConfig("sgd", sparse=True),
    },
    "lightgcn, adam": {"model": ModelConfig(dim=DIM, layers=2)},
}


@pytest.fixture(scope="module")
def data() -> Dataset:
    """Return few pairs of many nodes, so that tables dominate the memory."""
    pair = np.sort(np.random.default_rng(0).choice(USERS * ITEMS, 6000, replace=False))
    user, item = (x.astype(np.int32) for x in np.divmod(pair, ITEMS))
    return Dataset(user, item, np.arange(USERS), np.arange(ITEMS))


def state_bytes(state) -> int:
    return sum(leaf.nbytes for leaf in jax.tree.leaves(state))


def planned(config: Config, train: Dataset) -> plans.Plan:
    sparse = config.sparse_updates(train.n_users + train.n_items)
    return plans.plan(sizes_of(config, train, sparse=sparse))


@pytest.mark.long_but("mf, row-wise adagrad", "mf, rows of adagrad", "mf, rows of sgd")
@pytest.mark.parametrize("name", VARIANTS)
def test_a_state_is_made_saved_restored_and_measured_in_what_the_plan_says(name, data, tmp_path):
    config = dataclasses.replace(BASE, **VARIANTS[name])
    splits = split(data, config.split, 0)
    gc.collect()
    before = live()
    problem = Problem.build(config, splits)
    of_data, plan = live() - before, planned(config, splits.train)
    device = plan.device
    counted = sum(device[part] for part in ("graph", "pairs", "places"))
    assert counted == pytest.approx(of_data, abs=0.05 * TABLE)
    checkpoints = Checkpoints(tmp_path, keep=1)
    with metered() as meter:
        state = problem.initial_state()
        own = state_bytes(state)
        checkpoints.save(0, state, {})
        checkpoints.wait()
        release(state)
        state = problem.restore(checkpoints, 0)
        problem.measure("validation", state, lambda: False)
        problem.parameters(state)
    checkpoints.close()
    peak = {name: most - before - of_data for name, most in meter.by.items()}
    assert device["table and optimizer"] == pytest.approx(own, rel=0.05)
    assert peak["save"] == pytest.approx(own, rel=0.05)
    assert peak["restore"] == pytest.approx(own, rel=0.05)
    evaluation = plan.sizes.evaluation_bytes()
    if config.model.layers == 0:  # arrays inside a program, as of layers, are not counted
        assert peak["measure"] == pytest.approx(own + evaluation, rel=0.1)
    assert peak["initial_state"] <= max(own * 1.02, plan.sizes.start_bytes(), 2 * TABLE)
    # The plan must allow for everything that was measured.
    assert meter.most - before <= 1.02 * plan.device_bytes
    assert peak["parameters"] <= 1.02 * (own + evaluation)


@pytest.mark.long
@pytest.mark.parametrize("refit", [False, True])
def test_a_run_that_goes_back_to_its_best_step_never_holds_two_states(
    refit, data, tmp_path, monkeypatch
):
    # Make the best step differ from the last one, so that its checkpoint is read.
    monkeypatch.setattr(Loop, "best", lambda self: Best(0 if self.select_on != "none" else None, 1))
    config = dataclasses.replace(BASE, train=dataclasses.replace(BASE.train, refit=refit))
    gc.collect()
    before = live()
    with metered() as meter:
        jaxrec.train(config, data=data, run=tmp_path / "run", quiet=True)
    own, plan = 3 * TABLE, planned(config, split(data, config.split, 0).train)
    of_data = sum(plan.device[part] for part in ("graph", "pairs", "places"))
    for name in ("save", "initial_state", "_advance", *(() if refit else ("restore",))):
        assert meter.by[name] - before <= own + of_data + 0.1 * TABLE, name
    # The embeddings of an evaluation take two more tables; a second state would take three.
    assert meter.most - before <= own + of_data + 2.2 * TABLE, meter.where
    assert meter.most - before <= 1.05 * plan.device_bytes
    assert write_arrays.__name__ in meter.by


@pytest.mark.long
def test_a_resumed_run_looks_back_before_it_has_a_state(data, tmp_path, monkeypatch):
    run = tmp_path / "run"
    jaxrec.train(BASE, data=data, run=run, quiet=True)
    (run / "eval.json").unlink()
    last = max((run / "checkpoints").iterdir(), key=lambda path: int(path.name))
    for file in last.rglob("*"):
        file.unlink() if file.is_file() else None
    gc.collect()
    before = live()
    with metered() as meter:
        jaxrec.resume(run, data=data, quiet=True)
    assert "look_back" in meter.by
    assert meter.most - before <= (3 + 2 + 0.5) * TABLE, meter.where


@pytest.mark.long
def test_a_state_on_a_mesh_is_saved_and_restored_without_another(data, tmp_path):
    config = dataclasses.replace(BASE, mesh=MeshConfig(2, 4, order="data"))
    problem = MeshProblem.build(config, split(data, config.split, 0))
    gc.collect()
    before = live()
    checkpoints = Checkpoints(tmp_path, keep=1)
    with metered() as meter:
        state = problem.initial_state()
        gc.collect()  # JAX frees the host's table, which devices read, only here
        own = live() - before
        checkpoints.save(0, state, problem.notes())
        checkpoints.wait()
        release(state)
        problem.restore(checkpoints, 0)
    checkpoints.close()
    assert own == pytest.approx(problem.plan().device["table and optimizer"], rel=0.05)
    for name in ("save", "restore"):
        assert meter.by[name] - before == pytest.approx(own, rel=0.05), name


def test_the_plan_counts_an_evaluation_where_a_step_needs_less():
    sizes = plans.Sizes(10**8, 10**7, 10**8, layers=0, optimizer="rowwise_adagrad", sparse=True)
    made = plans.plan(sizes)
    table = sizes.nodes * 4 * sizes.dim
    assert made.device["evaluation, beyond a step"] == pytest.approx(2 * table, rel=0.01)
    spectral = plans.plan(dataclasses.replace(sizes, spectral=True))
    assert spectral.device_bytes > made.device_bytes
    layers = plans.plan(dataclasses.replace(sizes, layers=3, optimizer="adam", sparse=False))
    assert layers.device["evaluation, beyond a step"] == 0
    adam = plans.plan(dataclasses.replace(sizes, optimizer="adam", sparse=False))
    assert adam.host["table"] + adam.host["copy for a checkpoint"] == adam.checkpoint
