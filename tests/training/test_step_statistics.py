"""Test the statistics of steps against gradients and counts computed by hand."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrec.config import (
    Config,
    LogConfig,
    ModelConfig,
    NegativesConfig,
    OptimConfig,
    SplitConfig,
    TrainConfig,
)
from jaxrec.data import synthetic
from jaxrec.data.split import split
from jaxrec.training import step_statistics
from jaxrec.training.problem import Problem

CONFIG = Config(
    split=SplitConfig("random"),
    model=ModelConfig("gcmc", dim=8, layers=1, hidden_dim=6, features=False),
    negatives=NegativesConfig("shared", 12),
    optim=OptimConfig(learning_rate=0.02),
    train=TrainConfig(epochs=4, batch_size=64, l2=1e-3),
)
DATA = synthetic.make(60, 50, 700, seed=2, features=True)


def problem(config: Config = CONFIG) -> Problem:
    return Problem.build(config, split(DATA, config.split, config.seed))


def after(made: Problem, steps: int):
    """Return the state and the totals after the given number of steps."""
    dispatch = jax.jit(made.stepper.dispatch)
    return dispatch(made.initial_state(), made.data, jnp.int32(steps))


@pytest.mark.long
def test_norms_are_those_of_the_gradient_by_part():
    made = problem()
    state = made.initial_state()
    feed = made.stepper.feed(made.data, state.step)
    grad = jax.grad(lambda p: made.stepper.loss(p, made.data.graph, feed)[0])(state.params)
    _, totals = after(made, 1)
    found = step_statistics.record(jax.device_get(totals.signs), made.stepper.parts)
    parts = {"embedding", "convs", "out"}
    assert {n.removeprefix("gradient/") for n in found if n.startswith("gradient/")} == parts
    for part in parts:
        leaves = jax.tree.leaves(grad[part])
        norm = np.sqrt(sum(float(np.square(np.asarray(x)).sum()) for x in leaves))
        assert found[f"gradient/{part}"] == pytest.approx(norm, rel=1e-4)
    square = sum(found[f"gradient/{part}"] ** 2 for part in parts)
    assert found["gradient"] == pytest.approx(square**0.5, rel=1e-5)
    assert found["fed_gradient"] == found["gradient"]


def test_one_step_in_so_many_is_watched():
    _, totals = after(problem(), step_statistics.EVERY + 1)
    assert int(totals.signs.steps) == 2


def test_gradients_that_add_up_are_seen_to():
    made = problem(dataclasses.replace(CONFIG, mistakes=("accumulated-gradients",)))
    _, totals = after(made, step_statistics.EVERY + 1)
    found = step_statistics.record(jax.device_get(totals.signs), made.stepper.parts)
    assert found["fed_gradient"] > 1.5 * found["gradient"]


@pytest.mark.parametrize("negatives", [NegativesConfig("shared", 8), NegativesConfig(count=3)])
def test_negatives_are_counted_one_by_one(negatives):
    made = problem(dataclasses.replace(CONFIG, negatives=negatives))
    batch = made.stepper.batch(made.data, jnp.int32(0))
    seen = step_statistics.look(batch, made.data, jnp.int32(0))
    neg_BN, _ = batch.negatives()
    train = made.splits.train
    known = set(zip(train.user.tolist(), train.item.tolist(), strict=True))
    users, items = (np.asarray(x).tolist() for x in batch.positives[:2])
    of_known = of_same = 0
    for user, item, row in zip(users, items, np.asarray(neg_BN).tolist(), strict=True):
        of_known += sum((user, n) in known for n in row)
        of_same += sum(n == item for n in row)
    assert (int(seen.negatives), int(seen.known)) == (neg_BN.size, of_known)
    assert int(seen.alike) == of_same
    assert int(step_statistics.look(batch, made.data, jnp.int32(1)).negatives) == 0


def test_items_of_equal_features_are_alike_to_a_model_without_ids():
    model = ModelConfig("two-tower", dim=8, layers=0, ids=False, columns=("group",))
    config = dataclasses.replace(CONFIG, model=model, negatives=NegativesConfig(count=4))
    made = problem(config)
    batch = made.stepper.batch(made.data, jnp.int32(0))
    seen = step_statistics.look(batch, made.data, jnp.int32(0))
    assert DATA.item_features is not None
    group_I = np.asarray(DATA.item_features.columns["group"].code)
    item_B, neg_BN = np.asarray(batch.positives.item_B), np.asarray(batch.neg)
    assert int(seen.alike) == int((group_I[neg_BN] == group_I[item_B][:, None]).sum())
    assert int(seen.alike) > 0


def test_a_row_wise_optimizer_is_watched_as_well():
    mf = dataclasses.replace(CONFIG, model=ModelConfig("mf", dim=8, layers=0))
    sparse = dataclasses.replace(mf, optim=OptimConfig(learning_rate=0.02, sparse=True))
    of = []
    for config in (mf, sparse):
        made = problem(config)
        _, totals = after(made, 1)
        of.append(step_statistics.record(jax.device_get(totals.signs), made.stepper.parts))
    assert of[0]["gradient/embedding"] == pytest.approx(of[1]["gradient/embedding"], rel=1e-4)


def test_nothing_is_watched_where_the_doctor_is_off_and_training_is_the_same():
    sgd = dataclasses.replace(CONFIG, optim=OptimConfig("sgd", learning_rate=0.1))
    made = problem(sgd)
    off = problem(dataclasses.replace(sgd, log=LogConfig(doctor=False)))
    (state, _), (other, totals) = after(made, 5), after(off, 5)
    assert totals.signs is None
    assert step_statistics.record(None, ()) == {}
    for a, b in zip(jax.tree.leaves(state.params), jax.tree.leaves(other.params), strict=True):
        np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=1e-3, atol=1e-5)


def test_a_state_that_has_not_moved_is_seen_to_on_a_resumed_run_too():
    made, again = problem(), problem()
    state, _ = after(made, 20)
    assert made.examine(made.initial_state())["moved"] == 0
    assert made.examine(state)["moved"] > 0.1
    # Another process, which has not seen step 0, finds the same figures.
    assert again.examine(state) == made.examine(state)
