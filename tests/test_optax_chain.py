import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxrec import optax_chain
from jaxrec.config import OptimConfig


@pytest.fixture(autouse=True)
def promotion():
    """Use standard promotion, as the train step does; optax is not written for strict promotion."""
    with jax.numpy_dtype_promotion("standard"):
        yield


def run(config: OptimConfig, gradients: list[float], steps: int = 10) -> list[float]:
    tx = optax_chain.make_optimizer(config, steps)
    x = {"w": jnp.zeros(2)}
    state, seen = tx.init(x), []
    for g in gradients:
        update, state = tx.update({"w": jnp.array([g, 0.0])}, state, x)
        x = optax.apply_updates(x, update)
        seen.append(float(x["w"][0]))
    return seen


def test_adam_equals_kingma_and_ba_by_hand():
    m = v = x = 0.0
    expected = []
    for t, g in enumerate([1.0, -2.0, 0.5, 0.0], start=1):
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        x -= 0.01 * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
        expected.append(x)
    ours = run(OptimConfig("adam", 0.01), [1.0, -2.0, 0.5, 0.0])
    np.testing.assert_allclose(ours, expected, rtol=1e-4)


def test_sgd_momentum_and_clipping():
    np.testing.assert_allclose(run(OptimConfig("sgd", 0.1), [1.0, 1.0]), [-0.1, -0.2], rtol=1e-6)
    heavy = run(OptimConfig("sgd", 0.1, momentum=0.5), [1.0, 1.0])
    np.testing.assert_allclose(heavy, [-0.1, -0.25], rtol=1e-6)
    clipped = run(OptimConfig("sgd", 0.1, clip_norm=0.5), [3.0, 0.2])
    np.testing.assert_allclose(clipped, [-0.05, -0.07], rtol=1e-5)


def test_adamw_decays_what_has_no_gradient():
    tx = optax_chain.make_optimizer(OptimConfig("adamw", 0.1, weight_decay=0.5), 10)
    x = {"w": jnp.ones(1)}
    update, _ = tx.update({"w": jnp.zeros(1)}, tx.init(x), x)
    np.testing.assert_allclose(update["w"], -0.05, rtol=1e-5)


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("constant", [0, 0.5, 1, 1, 1]),
        ("linear", [0, 0.5, 1, 0.5, 0]),
        ("cosine", [0, 0.5, 1, 0.5, 0]),
    ],
)
def test_schedules_warm_up_and_end_where_they_say(schedule, expected):
    config = OptimConfig(learning_rate=1.0, schedule=schedule, warmup_steps=2)
    rate = optax_chain.learning_rate(config, 10)
    at = [float(rate(jnp.int32(step))) for step in (0, 1, 2, 6, 10)]
    np.testing.assert_allclose(at, expected, atol=1e-6)


def test_adagrad_is_there():
    assert run(OptimConfig("adagrad", 0.1), [1.0])[0] < 0
    assert jax.tree.leaves(
        optax_chain.make_optimizer(OptimConfig("adagrad"), 3).init({"w": jnp.zeros(1)})
    )


def test_a_cosine_of_several_cycles_begins_each_at_the_peak():
    config = OptimConfig("sgd", learning_rate=0.2, schedule="cosine", cycles=3)
    rate = optax_chain.learning_rate(config, 30)
    found = np.array([float(rate(step)) for step in range(30)])
    np.testing.assert_allclose(found[[0, 10, 20]], 0.2, rtol=1e-6)
    for begin in (0, 10, 20):
        expected = 0.1 * (1 + np.cos(np.pi * np.arange(10) / 10))
        np.testing.assert_allclose(found[begin : begin + 10], expected, rtol=1e-5, atol=1e-7)


def test_the_rest_has_a_rate_of_its_own_and_the_table_keeps_the_rate():
    params = {"embedding": jnp.zeros((2, 3)), "convs": {"first": jnp.zeros((3, 3))}}
    slope = jax.tree.map(jnp.ones_like, params)
    moved = []
    for share in (1.0, 0.25):
        tx = optax_chain.make_optimizer(OptimConfig("adam", 0.1, rest_rate=share, clip_norm=1e6), 5)
        moved.append(tx.update(slope, tx.init(params), params)[0])
    np.testing.assert_array_equal(moved[0]["embedding"], moved[1]["embedding"])
    np.testing.assert_allclose(moved[1]["convs"]["first"], 0.25 * moved[0]["convs"]["first"])
    # Beside a row-wise optimizer, only the other parameters remain, by path.
    tx = optax_chain.make_optimizer(OptimConfig("sgd", 0.1, rest_rate=0.5), 5)
    rest = {"['convs'][0]['first'].value": jnp.zeros(2)}
    update = tx.update(jax.tree.map(jnp.ones_like, rest), tx.init(rest), rest)[0]
    np.testing.assert_allclose(next(iter(update.values())), -0.05)
