"""Test taking rows with repeats, and summing over equal rows without an adding scatter."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrec.graph import rows
from jaxrec.platforms import compiled_for


@pytest.mark.parametrize("size", [1, 31, 257, 700, 9000])
@pytest.mark.parametrize("n_rows", [1, 7, 5000])
def test_sums_over_equal_rows(size, n_rows):
    rng = np.random.default_rng(size * n_rows)
    row_R = rng.integers(0, n_rows, size).astype(np.int32)
    row_R[: size // 3] = n_rows // 2  # a row that spans many chunks
    x_RD = rng.normal(size=(size, 5)).astype(np.float32)
    of = rows.groups(jnp.asarray(row_R), n_rows)
    found = rows.table(of, rows.totals(of, jnp.asarray(x_RD)))
    expected = np.zeros((n_rows, 5))
    np.add.at(expected, row_R, x_RD.astype(np.float64))
    np.testing.assert_allclose(found, expected, atol=2e-6 * size)
    first = np.unique(row_R)
    assert (np.flatnonzero(of.there_N) == first).all()
    assert (np.asarray(of.row_P)[np.asarray(of.first_N)[first]] == first).all()


@pytest.mark.parametrize("n_rows", [2, 40])
@pytest.mark.parametrize("shape", [(), (3,)])
def test_rows_are_taken_with_the_gradient_of_a_gather(shape, n_rows):
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(n_rows, *shape)), jnp.float32)
    row = jnp.asarray(rng.integers(0, n_rows, (25, 4)), jnp.int32)
    weight = jnp.asarray(rng.normal(size=(25, 4, *shape)), jnp.float32)
    expected = jax.grad(lambda x: jnp.sum(weight * jnp.sin(x[row])))(x)
    with compiled_for("gpu"):
        found = jax.grad(lambda x: jnp.sum(weight * jnp.sin(rows.take(x, row))))(x)
        assert (rows.take(x, row) == x[row]).all()
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("platform", ["cpu", "gpu"])
def test_columns_are_taken_with_the_gradient_of_a_gather(platform):
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(20, 4)), jnp.float32)
    column = jnp.asarray([3, 0, 3, 3, 1])
    expected = jax.grad(lambda x: jnp.sum(jnp.sin(x[:, column])))(x)
    with compiled_for(platform):
        found = jax.grad(lambda x: jnp.sum(jnp.sin(rows.take_columns(x, column))))(x)
        assert (rows.take_columns(x, column) == x[:, column]).all()
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("platform", ["cpu", "gpu"])
def test_rows_are_counted(platform):
    row_R = np.random.default_rng(0).integers(0, 30, 700).astype(np.int32)
    with compiled_for(platform):
        found = rows.counts(jnp.asarray(row_R), 31)
    assert (np.asarray(found) == np.bincount(row_R, minlength=31)).all()


def test_nothing_changes_on_a_cpu():
    x, row = jnp.arange(10.0)[:, None], jnp.array([3, 3, 1])
    made = jax.make_jaxpr(jax.grad(lambda x: rows.take(x, row).sum()))(x)
    plain = jax.make_jaxpr(jax.grad(lambda x: x[row].sum()))(x)
    assert str(made) == str(plain)
