"""Test that tables in the host's memory train and resume exactly like tables on the device."""

import dataclasses
import json
import shutil
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxrec
from jaxrec import plan as plans
from jaxrec import rowwise
from jaxrec.config import (
    CheckpointConfig,
    Config,
    EvalConfig,
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
from jaxrec.training.memory import sizes_of
from jaxrec.training.placement import host_rows, host_table
from jaxrec.training.placement.host_table import HostProblem
from jaxrec.training.problem import Problem
from jaxrec.training.run import Run

STEPS = 300
CONFIG = Config(
    model=ModelConfig("mf", dim=4, layers=0),
    optim=OptimConfig("adam", 0.05, schedule="cosine", sparse=True),
    train=TrainConfig(batch_size=16, steps=STEPS, l2=0.01),
)


@pytest.fixture(autouse=True, scope="module")
def _compiled_as_for_users():
    """Enable all optimisations; only then do different programs of the same steps agree exactly."""
    before = jax.config.values["jax_disable_most_optimizations"]
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


@cache
def splits() -> Splits:
    """Return a split with few items, so that a batch of 16 shares items with earlier batches."""
    return split(synthetic.make(60, 50, 700, communities=3, seed=3), CONFIG.split, 0)


def changed(**changes) -> Config:
    return dataclasses.replace(CONFIG, **changes)


def on_host(config: Config) -> Config:
    return dataclasses.replace(config, mesh=MeshConfig(memory="host"))


def trained(config: Config, cuts: tuple[int, ...], ahead: int = 2):
    """Train on the host with dispatches of ``cuts`` steps; return the problem and its state."""
    made = HostProblem.build(on_host(config), splits())
    state = made.initial_state()
    dispatch = host_rows.RowDispatch(made.stepper, state, made.data, 0, STEPS, ahead)
    for n in cuts:
        state, _ = dispatch(state, made.data, made.number(n))
    dispatch.close()
    return made, state


def equal(ours, theirs) -> bool:
    pairs = zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True)
    return all(np.array_equal(np.asarray(a), np.asarray(b)) for a, b in pairs)


SHARED = {"negatives": NegativesConfig("shared", 24), "loss": LossConfig("softmax")}
COSINE = SHARED | {"model": ModelConfig("mf", dim=4, layers=0, score="cosine")}
DYNAMIC = {"negatives": NegativesConfig("uniform", 2, popularity=0.5, candidates=3)}
VARIANTS = {
    **{name: {"optim": OptimConfig(name, 0.05)} for name in ("sgd", "rowwise_adagrad")},
    "adagrad, dynamic": {"optim": OptimConfig("adagrad", 0.05)} | DYNAMIC,
    "adam, cosine": COSINE,
}


@pytest.mark.long_but("rowwise_adagrad")
@pytest.mark.parametrize("name", VARIANTS)
def test_a_table_on_the_host_has_the_bits_of_one_on_the_device(name):
    config = changed(**VARIANTS[name])
    one = Problem.build(
        dataclasses.replace(config, optim=dataclasses.replace(config.optim, sparse=True)), splits()
    )
    state, run = one.initial_state(), jax.jit(one.stepper.dispatch)
    for n in (128, 128, STEPS - 256):
        state, _ = run(state, one.data, one.number(n))
    made, ours = trained(config, (1, 130, 2, STEPS - 133))
    assert isinstance(ours.params["embedding"][...], np.ndarray)
    assert equal(ours, state)
    assert equal(made.parameters(ours), one.parameters(state))


@pytest.mark.long
def test_a_table_is_read_in_blocks_to_the_same_bits(monkeypatch):
    """With 110 rows, the last block of 32 overlaps the one before it."""
    one, (made, ours) = Problem.build(CONFIG, splits()), trained(CONFIG, (40,))
    for module in (rowwise, host_table):
        monkeypatch.setattr(module, "BLOCK", 32)
    state, _ = jax.jit(one.stepper.dispatch)(one.initial_state(), one.data, one.number(40))
    assert equal(made.learned(ours), one.learned(state))
    assert made.finite(ours)


@pytest.mark.long
@pytest.mark.parametrize("ahead", [1, 5])
def test_the_bits_do_not_depend_on_how_far_ahead_rows_are_gathered(ahead):
    _, expected = trained(CONFIG, (STEPS,))
    assert equal(trained(CONFIG, (150, STEPS - 150), ahead)[1], expected)


def test_rows_that_recent_steps_wrote_are_what_these_left():
    row_R, rows = jnp.array([1, 4, 7, 9], jnp.int32), {"x": jnp.zeros((4, 2)), "n": jnp.zeros(4)}

    def written(at: list[int], value: float) -> host_rows.Written:
        of = {"x": jnp.full((len(at), 2), value), "n": jnp.full(len(at), value)}
        return host_rows.Written(jnp.array(at, jnp.int32), of)

    older, newer = written([0, 4, 7, 9], 1.0), written([3, 7, 8, 9], 2.0)
    found = host_rows.patched(row_R, rows, (older, newer))
    assert found["n"].tolist() == [0, 1, 2, 2]
    assert found["x"][:, 1].tolist() == [0, 1, 2, 2]


@pytest.mark.long
def test_without_what_recent_steps_left_the_bits_are_others(monkeypatch):
    """The data must have rows that a step reads before the previous step has been written."""
    _, expected = trained(CONFIG, (STEPS,))
    monkeypatch.setattr(host_rows, "patched", lambda row_R, rows, recent: dict(rows))
    assert not equal(trained(CONFIG, (STEPS,))[1], expected)


RUN = changed(
    optim=OptimConfig("adam", 0.02, sparse=True),
    train=TrainConfig(batch_size=32, epochs=3),
    eval=EvalConfig(k=(5, 20)),
    checkpoint=CheckpointConfig(every=1, keep=9),
)


def arrays(run: Run) -> dict[str, np.ndarray]:
    files = [np.load(run.folder / f"{name}.npz") for name in ("embeddings", "parameters")]
    return {name: file[name] for file in files for name in file.files}


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> dict[str, Run]:
    """Train the same run with the table on the device and on the host."""
    data, parent = synthetic.make(60, 50, 700, communities=3, seed=3), tmp_path_factory.mktemp("r")
    return {
        where: jaxrec.train(
            dataclasses.replace(RUN, mesh=MeshConfig(memory=where)),
            data=data,
            run=parent / where,
            quiet=True,
        )
        for where in ("device", "host")
    }


@pytest.mark.long
def test_a_run_leaves_the_same_behind(runs):
    lines = [(run.folder / "metrics.jsonl").read_bytes() for run in runs.values()]
    assert lines[0] == lines[1]
    assert equal(*map(arrays, runs.values()))
    told = [json.loads((run.folder / "eval.json").read_text()) for run in runs.values()]
    assert told[0] == told[1]
    slices = [(run.folder / "slices.json").read_bytes() for run in runs.values()]
    assert slices[0] == slices[1]
    text = (runs["host"].folder / "timing.jsonl").read_text()
    timing = [json.loads(line) for line in text.splitlines()]
    shares = [line["wait_share"] for line in timing if "wait_share" in line]
    assert len(shares) >= 3
    assert all(0 <= share <= 1 for share in shares)
    planned = [line for line in timing if line.get("event") == "planned"]
    assert planned[0]["plan"]["host"]["table and optimizer"] == 110 * (12 * 4 + 4)


@pytest.mark.long
@pytest.mark.parametrize(
    ("began", "goes_on"), [("device", "host"), ("host", "host"), ("host", "device")]
)
def test_a_checkpoint_is_gone_on_with_wherever_the_table_lies(runs, began, goes_on, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(runs[began].folder, run)
    (run / "eval.json").unlink()
    steps = sorted(int(path.name) for path in (run / "checkpoints").iterdir())
    for step in steps[2:]:
        shutil.rmtree(run / "checkpoints" / str(step))
    data = synthetic.make(60, 50, 700, communities=3, seed=3)
    resumed = jaxrec.resume(run, data=data, mesh=MeshConfig(memory=goes_on), quiet=True)
    assert equal(arrays(resumed), arrays(runs["device"]))
    expected = (runs["device"].folder / "metrics.jsonl").read_bytes()
    assert (run / "metrics.jsonl").read_bytes() == expected


def test_the_host_has_the_table_where_the_device_lacks_room(monkeypatch):
    auto, train = CONFIG, splits().train
    assert not host_table.on_host(auto, train)  # a CPU does not report its memory
    needs = plans.plan(sizes_of(auto, train, sparse=True)).device_bytes
    for limit, there in ((2 * needs, False), (needs, True)):
        monkeypatch.setattr(host_table, "device_memory", lambda limit=limit: limit)
        assert host_table.on_host(auto, train) == there
        assert not host_table.on_host(auto, train, custom_tx=True)
        assert not host_table.on_host(changed(mesh=MeshConfig(memory="device")), train)
        dense = changed(optim=OptimConfig(sparse=False))
        assert not host_table.on_host(dense, train)
    with pytest.raises(InputError, match=r"--mesh\.table 2"):
        host_table.check_device(auto, train)


def test_what_the_host_cannot_have_is_refused(monkeypatch):
    with pytest.raises(InputError, match=r"set mesh\.memory device"):
        HostProblem.build(on_host(CONFIG), splits(), tx=optax.sgd(0.1))
    monkeypatch.setattr(host_table, "device_memory", lambda: 1000)
    with pytest.raises(InputError, match="a device would need"):
        HostProblem.build(on_host(CONFIG), splits())


def test_a_row_that_is_not_finite_is_seen():
    made = HostProblem.build(on_host(CONFIG), splits())
    state = made.initial_state()
    assert made.finite(state)
    state.params["embedding"][...][70, 1] = np.inf
    assert not made.finite(state)
