"""Test that each mistake that can be planted on purpose has the stated effect and no other."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxrec
from jaxrec.config import (
    Config,
    EvalConfig,
    LossConfig,
    ModelConfig,
    NegativesConfig,
    OptimConfig,
    TrainConfig,
)
from jaxrec.data import synthetic
from jaxrec.data.split import split
from jaxrec.presets import mistakes
from jaxrec.training.problem import Problem
from jaxrec.training.step import Feed

BASE = Config(
    model=ModelConfig("mf", dim=5, layers=0, init_std=0.7),
    train=TrainConfig(epochs=2, batch_size=32, l2=0.0),
    optim=OptimConfig("sgd", learning_rate=0.1),
    eval=EvalConfig(k=(20,)),
)
DATA = synthetic.make(40, 30, 290, communities=3, seed=1)


def problem(**parts) -> Problem:
    config = dataclasses.replace(BASE, **parts)
    return Problem.build(config, split(DATA, config.split, 0))


def scored(p: Problem, step: int):
    """Return a batch's loss, its user, positive and negative vectors, and the pairs' weights."""
    params = p.initial_state().params
    batch = jax.jit(p.stepper.batch)(p.data, jnp.int32(step))
    loss, _ = jax.jit(p.stepper.loss)(params, p.data.graph, Feed(batch, None, None))
    table = np.asarray(p.data.graph.in_data_order(params["embedding"][...]), np.float64)
    user, item, weight = (np.asarray(x) for x in batch.positives[:3])
    return float(loss), table[user], table[item + 40], table[np.asarray(batch.neg) + 40], weight


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def test_one_sigmoid_holds_the_sum_over_the_batch():
    p = problem(mistakes=("sum-in-sigmoid",), negatives=NegativesConfig(count=3))
    for step in (0, p.cadence.per_epoch - 1):  # the last batch is filled up
        ours, user, pos, neg, weight = scored(p, step)
        assert (weight > 0).sum() == (32 if step == 0 else weight.sum())
        gap = (user * pos).sum(1) - np.einsum("bd,bnd->bn", user, neg).mean(1)
        assert ours == pytest.approx(-np.log(sigmoid((weight * gap).sum())), rel=1e-4)


@pytest.mark.parametrize("loss", ["bpr", "triplet"])
def test_every_user_is_scored_with_every_pairs_items(loss):
    p = problem(loss=LossConfig(loss, temperature=0.5), mistakes=("batch-scores",))
    for step in (0, p.cadence.per_epoch - 1):
        ours, user, pos, neg, weight = scored(p, step)
        total = 0.0
        for u, w in zip(user, weight, strict=True):
            for i, n, v in zip(pos, neg[:, 0], weight, strict=True):
                gap = (u @ i - u @ n) / 0.5
                total += w * v * (1 - sigmoid(gap) if loss == "triplet" else np.log1p(np.exp(-gap)))
        assert ours == pytest.approx(total / weight.sum() ** 2, rel=1e-4)


def test_both_at_once_sum_the_whole_product():
    p = problem(mistakes=("batch-scores", "sum-in-sigmoid"))
    ours, user, pos, neg, _ = scored(p, 0)
    total = (user @ (pos - neg[:, 0]).T).sum()
    assert ours == pytest.approx(np.log1p(np.exp(-total)), rel=1e-4)


def test_gradients_that_are_never_cleared_add_up():
    chain = optax.chain(mistakes.never_cleared(), optax.sgd(1.0))
    params = {"x": jnp.zeros(3)}
    state, seen = chain.init(params), []
    for step in range(1, 5):
        updates, state = chain.update({"x": jnp.full(3, float(step))}, state, params)
        seen.append(float(updates["x"][0]))
    assert seen == [-1.0, -3.0, -6.0, -10.0]


@pytest.mark.long
def test_a_run_with_gradients_never_cleared_steps_by_their_sum():
    p, healthy = problem(mistakes=("accumulated-gradients",)), problem()
    assert not p.config.sparse_updates(10**9)
    run = jax.jit(p.stepper.dispatch)
    gradient = jax.jit(jax.grad(p.stepper.loss, has_aux=True))
    state, total = p.initial_state(), np.zeros((70, 5))
    for step in range(4):
        feed = jax.jit(p.stepper.feed)(p.data, jnp.int32(step))
        total += np.asarray(gradient(state.params, p.data.graph, feed)[0]["embedding"][...])
        before = np.asarray(state.params["embedding"][...])
        state, _ = run(state, p.data, jnp.int32(1))
        moved = np.asarray(state.params["embedding"][...]) - before
        np.testing.assert_allclose(moved, -0.1 * total, atol=1e-5)
    one, _ = jax.jit(healthy.stepper.dispatch)(healthy.initial_state(), p.data, jnp.int32(4))
    assert not np.allclose(one.params["embedding"][...], state.params["embedding"][...], atol=1e-3)


@pytest.mark.long
def test_a_run_whose_optimizer_is_given_makes_the_mistake_too(tmp_path):
    config = dataclasses.replace(BASE, mistakes=("accumulated-gradients",))
    ours, given = (
        jaxrec.train(config, data=DATA, run=tmp_path / name, tx=tx, quiet=True).metrics
        for name, tx in (("a", None), ("b", optax.sgd(0.1)))
    )
    assert ours == given
