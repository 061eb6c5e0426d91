"""Tables in the host's memory: the bits of a table on the device, whatever trains and resumes."""

import dataclasses
import json
from functools import cache
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrec
from jaxrec.config import (
    CheckpointConfig,
    Config,
    EvalConfig,
    LogConfig,
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
from jaxrec.train import host_problem, host_rows
from jaxrec.train.host_problem import HostProblem
from jaxrec.train.problem import Problem
from jaxrec.train.run import Run

STEPS = 300
CONFIG = Config(
    model=ModelConfig("mf", dim=4, layers=0),
    optim=OptimConfig("adam", 0.05, schedule="cosine", sparse=True),
    train=TrainConfig(batch_size=16, steps=STEPS, l2=0.01),
)


@cache
def splits() -> Splits:
    """Few items: a batch of 16 has some of most batches before it."""
    return split(synthetic.make(60, 50, 700, communities=3, seed=3), CONFIG.split, 0)


def changed(**changes) -> Config:
    return dataclasses.replace(CONFIG, **changes)


def on_host(config: Config) -> Config:
    return dataclasses.replace(config, mesh=MeshConfig(memory="host"))


def trained(config: Config, cuts: tuple[int, ...], ahead: int = 2):
    """The problem on the host and its state after steps in such dispatches."""
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
    **{name: {"optim": OptimConfig(name, 0.05)} for name in ("sgd", "adagrad", "rowwise_adagrad")},
    "adam": {},
    "adam, cosine": COSINE,
    "adagrad, dynamic": {"optim": OptimConfig("adagrad", 0.05)} | DYNAMIC,
    "adam, mlp": {"model": ModelConfig("mf", dim=4, layers=0, score="mlp")},
}


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
    assert made.measure("validation", ours, lambda: False) == one.measure(
        "validation", state, lambda: False
    )


@pytest.mark.parametrize("ahead", [1, 3, 7])
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


def test_without_what_recent_steps_left_the_bits_are_others(monkeypatch):
    """So the data has rows that a step reads before the step before it is written."""
    _, expected = trained(CONFIG, (STEPS,))
    monkeypatch.setattr(host_rows, "patched", lambda row_R, rows, recent: dict(rows))
    assert not equal(trained(CONFIG, (STEPS,))[1], expected)
