"""Test that runs trained together equal the same runs trained alone."""

import json
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrec import presets
from jaxrec.config import ModelConfig
from jaxrec.data import synthetic
from jaxrec.data.split import split
from jaxrec.training import together as rooms
from jaxrec.training.problem import Problem
from jaxrec.training.run import Member, train, train_together
from jaxrec.training.together import TrainedAloneError, program, why_alone

DATA = synthetic.make(60, 40, 500, communities=2, seed=1)
DIFFERENT = [
    {"seed": 0, "optim.learning_rate": 0.02, "train.l2": 1e-3, "loss.temperature": 1.0},
    {"seed": 1, "optim.learning_rate": 0.3, "train.l2": 1e-5, "loss.temperature": 0.2},
]
SHARED = {"loss.name": "softmax", "negatives.name": "shared", "negatives.count": 7}
CASES = {
    "mf": ("mf", {}),
    "mf, in-batch softmax": ("mf", {"loss.name": "softmax", "negatives.name": "in-batch"}),
    "lightgcn": ("lightgcn", {"model.layers": 2}),
    "lightgcn, softmax, adamw, cosine": (
        "lightgcn",
        {**SHARED, "optim.name": "adamw", "optim.weight_decay": 0.1, "optim.schedule": "cosine"},
    ),
}


def base_of(preset: str, changes: dict):
    small = {"model.dim": 4, "train.batch_size": 64, "train.epochs": 3, "log.doctor": False}
    small |= {"split.seed": 0, "eval.k": (5,), "eval.every": 1}
    return presets.get(preset).replace(small | changes)


@pytest.mark.parametrize("case", CASES)
def test_each_of_the_runs_has_the_parameters_that_it_has_alone(case):
    base = base_of(*CASES[case])
    configs = [base.replace(changes) for changes in DIFFERENT]
    assert len({repr(program(config)) for config in configs}) == 1
    first = Problem.build(configs[0], split(DATA, base.split, 0))
    problems = [first.sibling(config) for config in configs]
    steps = jnp.int32(9)
    inputs = rooms._inputs([p.stepper for p in problems], [p.data.key for p in problems])
    assert set(inputs.numbers) == {"optim.learning_rate", "train.l2", "loss.temperature"}
    whole = rooms.Program(first.stepper, first.cadence.total)
    starts = [p.initial_state() for p in problems]
    states, _ = jax.jit(whole.dispatch)(rooms._stacked(starts), first.data, inputs, steps)
    problem, start = problems[1], starts[1]
    alone, _ = jax.jit(problem.stepper.dispatch)(start, problem.data, steps)
    ours = rooms._of_run(states, 1)
    assert int(ours.step) == int(alone.step) == 9
    moved = jnp.abs(alone.params["embedding"][...] - start.params["embedding"][...])
    assert float(moved.max()) > 0.01
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(alone), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.long
def test_each_leaves_the_run_folder_that_it_leaves_alone(tmp_path):
    DATA.save(tmp_path / "data")
    stops = {"train.patience": 1, "train.epochs": 5}
    base = base_of("mf", {"data": str(tmp_path / "data"), **stops})
    heard: list[int] = []

    def fails(step: int, metrics: dict[str, float]) -> None:
        heard.append(step)
        raise ValueError("no more of this")

    still = {"seed": 1, "optim.learning_rate": 1e-9}  # a run that never improves
    configs = [base.replace(changes) for changes in (DIFFERENT[0], still, {"seed": 2})]
    hooks = None, None, fails
    runs = [tmp_path / f"together-{n}" for n in range(3)]
    *ends, failed = train_together([Member(*of) for of in zip(configs, runs, hooks, strict=True)])
    assert isinstance(failed, ValueError)
    assert len(heard) == 1
    assert (runs[2] / "checkpoints").is_dir()
    assert not (runs[2] / "eval.json").exists()
    end, short = ends
    assert short.evaluation["steps"] < end.evaluation["steps"]
    alone = train(configs[0], run=tmp_path / "alone", quiet=True)
    assert {p.name for p in alone.folder.iterdir()} == {p.name for p in end.folder.iterdir()}
    config, other = (json.loads((r.folder / "config.json").read_text()) for r in (end, alone))
    assert config == other
    for name in ("steps", "best_step", "users", "protocol"):
        assert end.evaluation[name] == alone.evaluation[name]
    assert end.evaluation["metrics"] == pytest.approx(alone.evaluation["metrics"], abs=1e-5)
    baselines, of_other_seed = end.evaluation["baselines"], short.evaluation["baselines"]
    assert baselines == alone.evaluation["baselines"]
    assert baselines["popularity"] == of_other_seed["popularity"]
    assert baselines["random"] != of_other_seed["random"]
    ours, theirs = (np.load(r.folder / "embeddings.npz") for r in (end, alone))
    for side in ("user", "item"):
        np.testing.assert_allclose(ours[side], theirs[side], rtol=1e-5, atol=1e-5)


def test_what_cannot_be_trained_together_is_told_before_a_folder_is_made(tmp_path):
    alone = {
        "edge_dropout": base_of("lightgcn", {"model.edge_dropout": 0.1}),
        "ngcf": presets.get("ngcf"),
        "mse": presets.get("biased-mf"),
        "biases": base_of("mf", {"model.biases": True}),
        "mesh": base_of("mf", {"mesh.data": 2}),
    }
    for word, config in alone.items():
        reason = why_alone(config)
        assert reason is not None
        assert word in reason
    assert why_alone(base_of("lightgcn", SHARED)) is None
    sparse = base_of("mf", {"optim.sparse": True})
    DATA.save(tmp_path / "data")
    sparse = replace(sparse, data=str(tmp_path / "data"))
    members = [Member(replace(sparse, seed=n), tmp_path / f"run-{n}") for n in range(2)]
    with pytest.raises(TrainedAloneError, match=r"optim\.sparse"):
        train_together(members)
    assert not (tmp_path / "run-0").exists()


def test_what_a_program_depends_on_parts_runs():
    base = base_of("mf", {})
    for other in ({"model.dim": 8}, {"train.l2": 0.0}, {"split.seed": 1}, {"train.epochs": 4}):
        assert program(base.replace(other)) != program(base)
    free = {"model.init_std": ModelConfig().init_std / 2, "optim.learning_rate": 0.5, "seed": 9}
    assert program(base.replace(free)) == program(base)
    half = base.replace({"model.dtype": "bfloat16"})
    assert program(half.replace({"loss.temperature": 0.5})) != program(half)
