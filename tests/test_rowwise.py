from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxrec import rowwise

N, D = 40, 3


def stream(steps: int, seed: int = 0, size: int = 8):
    """Yield batches with repeated rows and gradients over ten decades.

    Some rows are not touched for many steps, and some never.
    """
    rng = np.random.default_rng(seed)
    chance = 1 / np.arange(1, N + 1) ** 2.5
    chance[-1] = 0
    for _ in range(steps):
        row = rng.choice(N, size, p=chance / chance.sum()).astype(np.int32)
        scale = 10.0 ** rng.uniform(-10, 0, (size, 1))
        yield row, (rng.normal(size=(size, D)) * scale).astype(np.float32)


def table() -> np.ndarray:
    return np.random.default_rng(9).normal(size=(N, D)).astype(np.float32)


def dense(row: np.ndarray, grad: np.ndarray) -> np.ndarray:
    out = np.zeros((N, D), grad.dtype)
    np.add.at(out, row, grad)
    return out


def step(optimizer, x, state, row_B, grad_BD):
    """Take one step with a gradient for each entry of the batch; repeats are summed."""
    row_R, slot_B = rowwise.distinct(row_B, len(x))
    grad_RD = jnp.zeros((len(row_R), x.shape[1])).at[slot_B].add(grad_BD)
    return optimizer.write(x, state, row_R, optimizer.read(x, state, row_R), grad_RD)


def run(optimizer: rowwise.RowOptimizer, steps: int, seed: int = 0):
    x, update = jnp.asarray(table()), jax.jit(partial(step, optimizer))
    state = optimizer.init(x)
    for row, grad in stream(steps, seed):
        x, state = update(x, state, jnp.asarray(row), jnp.asarray(grad))
    return x, state


def test_distinct_rows_are_padded_with_one_that_does_not_exist():
    row_R, slot_B = rowwise.distinct(jnp.array([4, 1, 4, 4, 0], jnp.int32), 6)
    assert row_R.tolist() == [0, 1, 4, 6, 6]
    assert slot_B.tolist() == [2, 1, 2, 2, 0]


@pytest.mark.parametrize("name", ["sgd", "adagrad"])
def test_sgd_and_adagrad_equal_the_dense_optimizer(name):
    rate = optax.linear_schedule(0.1, 0.02, 200)
    x, state = run(getattr(rowwise, name)(rate), 200)
    with jax.numpy_dtype_promotion("standard"):
        tx, y = getattr(optax, name)(rate), jnp.asarray(table())
        kept = tx.init(y)
        dense_step = jax.jit(tx.update)
        for row, grad in stream(200):
            update, kept = dense_step(jnp.asarray(dense(row, grad)), kept, y)
            y = optax.apply_updates(y, update)
    np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6)
    assert state.step == 200


def test_rowwise_adagrad_equals_its_definition():
    x, state = run(rowwise.adagrad(optax.constant_schedule(0.1), rowwise=True), 60)
    y, total = table().astype(np.float64), np.full(N, 0.1)
    for row, grad in stream(60):
        g = dense(row, grad).astype(np.float64)
        total += (g**2).mean(axis=1)
        y -= 0.1 * g / np.sqrt(total + 1e-7)[:, None]
    np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6)
    assert state.kept["sum"].shape == (N,)


def adam64(rate, steps: int, seed: int = 0, b1=0.9, b2=0.999, eps=1e-8):
    """Run dense Adam in float64, and also return how far each element travelled."""
    x = table().astype(np.float64)
    m, v, path = np.zeros_like(x), np.zeros_like(x), np.zeros_like(x)
    with jax.numpy_dtype_promotion("standard"):
        rates = np.broadcast_to(np.asarray(rate(np.arange(steps)), np.float64), steps)
    for t, (row, grad) in enumerate(stream(steps, seed), 1):
        g = dense(row, grad.astype(np.float64))
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g**2
        move = rates[t - 1] * m / (1 - b1**t) / (np.sqrt(v / (1 - b2**t)) + eps)
        x, path = x - move, path + abs(move)
    return x, path


RATES = {
    "constant": optax.constant_schedule(0.01),
    "cosine": optax.cosine_decay_schedule(0.01, 1500),
    "warm-up": optax.join_schedules(
        [optax.linear_schedule(0, 0.01, 30), optax.linear_schedule(0.01, 0, 1470)], [30]
    ),
    # Panels of steps with equal rates share their sums; the third one here differs.
    "steps": optax.piecewise_constant_schedule(0.01, {1000: 0.1, 1100: 10.0}),
}


@pytest.mark.parametrize("steps", [1, 2, 7, 60, 1500])
@pytest.mark.parametrize("rate", RATES.values(), ids=RATES)
def test_adam_equals_dense_adam_over_long_lags_and_small_gradients(rate, steps):
    optimizer = rowwise.adam(rate, 1500)
    x, state = run(optimizer, steps, seed=steps)
    exact, path = adam64(rate, steps, seed=steps)
    ours = np.asarray(jax.jit(optimizer.current)(x, state), np.float64)
    # Allow two parts in a million of an element's path, and the rounding of float32 additions.
    rounding = 2.0**-24 * np.abs(exact).max() * np.sqrt(steps)
    assert np.all(np.abs(ours - exact) <= 2e-6 * path + rounding)
    np.testing.assert_array_equal(ours[-1], table()[-1])
    if steps == 1500:
        lags = steps - np.asarray(state.kept["last"])
        assert lags[:-1].max() > 300, "a row that rested for longer than the sum's window"


@pytest.mark.parametrize("scale", [1e-12, 1e-9, 1e-8, 1e-6, 1.0, 1e6])
@pytest.mark.parametrize("first", [1, 2, 9, 300, 5000])
def test_one_rows_rest_is_the_sum_of_its_steps_at_every_size_of_gradient(scale, first):
    """Touch a single row once at ``first``, and read it at many later steps."""
    rate = optax.linear_schedule(0.02, 0.005, 6000)
    optimizer = rowwise.adam(rate, 6000)
    x = jnp.zeros((1, 2))
    state = optimizer.init(x)._replace(step=jnp.int32(first - 1))
    grad = np.array([[scale, -3 * scale]], np.float32)
    x, state = jax.jit(partial(step, optimizer))(x, state, jnp.array([0]), jnp.asarray(grad))
    current = jax.jit(optimizer.current)
    g = grad.astype(np.float64)
    m, v, y = np.zeros_like(g), np.zeros_like(g), np.zeros_like(g)
    for t in range(first, first + 400):
        now = g if t == first else np.zeros_like(g)
        m, v = 0.9 * m + 0.1 * now, 0.999 * v + 0.001 * now**2
        lr = 0.02 + (0.005 - 0.02) * (t - 1) / 6000
        y -= lr * m / (1 - 0.9**t) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
        if t - first in (0, 1, 2, 3, 10, 50, 184, 185, 399):
            ours = current(x, state._replace(step=jnp.int32(t)))
            np.testing.assert_allclose(ours, y, rtol=3e-6)


def bytes_of_constants(rate: optax.Schedule, steps: int) -> int:
    """Return the bytes of the arrays that a program which reads rows holds as constants."""
    optimizer, x = rowwise.adam(rate, steps), jnp.zeros((N, D))
    read = jax.make_jaxpr(optimizer.read)(x, optimizer.init(x), jnp.arange(8))
    return sum(const.nbytes for const in read.consts)


@pytest.mark.parametrize(
    ("rate", "most"),
    [
        (optax.constant_schedule(0.01), 0.3),
        (optax.join_schedules([optax.linear_schedule(0, 0.01, 500), lambda _: 0.01], [500]), 0.3),
        (optax.linear_schedule(0.01, 0, 10**6), 24.3),
    ],
    ids=["constant", "warm-up", "linear"],
)
def test_a_long_run_needs_few_bytes_of_constants_per_step(rate, most):
    assert 0.1e6 < bytes_of_constants(rate, 10**6) < most * 1e6


def test_reading_the_table_changes_no_bits():
    optimizer = rowwise.adam(optax.constant_schedule(0.01), 100)
    x, state = run(optimizer, 50)
    before = jax.tree.map(np.asarray, (x, state))
    optimizer.current(x, state)
    jax.tree.map(np.testing.assert_array_equal, before, (x, state))


@pytest.mark.parametrize("name", ["sgd", "adagrad", "adam"])
def test_a_step_copies_no_array_of_the_size_of_the_table(name):
    rate, n = optax.constant_schedule(0.01), 54_321
    optimizer = rowwise.adam(rate, 100) if name == "adam" else getattr(rowwise, name)(rate)

    def steps(carry, row_B):
        def body(_, carry):
            return step(optimizer, *carry, row_B, jnp.ones((8, 4)))

        return jax.lax.fori_loop(0, 3, body, carry)

    x = jnp.zeros((n, 4))
    lowered = jax.jit(steps, donate_argnums=0).lower((x, optimizer.init(x)), jnp.arange(8))
    lines = lowered.compile().as_text().splitlines()
    written = [line for line in lines if f"[{n}" in line and "scatter" in line]
    assert written, "rows are written by scatters"
    assert not [line for line in lines if f"[{n}" in line and " copy(" in line]


def test_slots_without_a_sort_hold_each_row_once():
    rng = np.random.default_rng(0)
    scratch_N = jnp.asarray(rng.integers(-5, 10**6, 40), jnp.int32)  # arbitrary old contents
    for _ in range(3):
        row_B = jnp.asarray(rng.integers(0, 40, 60), jnp.int32)
        scratch_N, distinct_B, slot_B = rowwise.distinct_by(scratch_N, row_B)
        np.testing.assert_array_equal(distinct_B[slot_B], row_B)
        there = np.asarray(distinct_B)[np.asarray(distinct_B) < 40]
        np.testing.assert_array_equal(np.sort(there), np.unique(row_B))
        assert (np.asarray(distinct_B) <= 40).all()
