from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import oracle
from jaxrec.data.dataset import Dataset
from jaxrec.graph import bipartite, spmm

KERNELS = get_args(spmm.Kernel)


def random_data(seed: int = 0) -> Dataset:
    rng = np.random.default_rng(seed)
    pairs = np.unique(rng.integers(0, [11, 14], (60, 2)), axis=0).astype(np.int32)
    return Dataset(pairs[:, 0], pairs[:, 1], np.arange(12), np.arange(15))


@pytest.mark.parametrize("kernel", KERNELS)
def test_propagation_and_its_gradient_equal_the_dense_product(kernel):
    data = random_data()
    graph, dense = bipartite.build(data, buckets=True), oracle.normalised_adjacency(data)
    x = np.random.default_rng(1).normal(size=(27, 5)).astype(np.float32)
    g = np.random.default_rng(2).normal(size=(27, 5)).astype(np.float32)
    y, pullback = jax.vjp(lambda x: spmm.propagate(graph, x, kernel), jnp.asarray(x))
    np.testing.assert_allclose(y, dense @ x, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(pullback(jnp.asarray(g))[0], dense.T @ g, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kernel", KERNELS)
def test_the_hand_written_gradient_equals_autodiff_of_the_reference(kernel):
    graph = bipartite.build(random_data(), buckets=True)
    x = jax.random.normal(jax.random.key(0), (27, 4))

    def twice(product):
        return lambda x: jnp.sum(jnp.sin(product(product(x))))

    ours = jax.grad(twice(lambda x: spmm.propagate(graph, x, kernel)))(x)
    plain = jax.grad(twice(lambda x: spmm._segment_sum(spmm._edges(graph), x)))(x)
    np.testing.assert_allclose(ours, plain, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kernel", KERNELS)
def test_neither_direction_scatters_over_the_edges_in_the_csr_kernel(kernel):
    graph = bipartite.build(random_data(), buckets=True)
    x = jnp.zeros((27, 4))

    def value(x):
        return jnp.sum(spmm.propagate(graph, x, kernel) ** 2)

    text = str(jax.make_jaxpr(jax.grad(value))(x))
    # The reference has one sorted segment sum per direction; autodiff of its gather would add one.
    assert text.count("scatter-add") == (2 if kernel == "segment_sum" else 0)


@pytest.mark.parametrize("kernel", KERNELS)
def test_bfloat16_is_close_and_keeps_its_type(kernel):
    graph = bipartite.build(random_data(), buckets=True)
    x = jax.random.normal(jax.random.key(3), (27, 8))
    low = spmm.propagate(graph, x.astype(jnp.bfloat16), kernel)
    assert low.dtype == jnp.bfloat16
    high = spmm.propagate(graph, x, "segment_sum")
    np.testing.assert_allclose(low.astype(jnp.float32), high, atol=0.05)


def test_the_gradient_of_l_layers_reaches_exactly_the_l_hop_neighbourhood():
    data = random_data(5)
    graph, dense = bipartite.build(data, buckets=True), oracle.normalised_adjacency(data)
    hops = np.eye(27)
    for layers in range(1, 4):
        hops = (dense != 0) @ hops > 0

        def at_node(x, node, layers=layers):
            for _ in range(layers):
                x = spmm.propagate(graph, x)
            return x[node, 0]

        gradient = jax.vmap(jax.grad(at_node), (None, 0))(jnp.ones((27, 1)), jnp.arange(27))
        np.testing.assert_array_equal(np.asarray(gradient)[..., 0] != 0, hops)


ROWS = {"within a quarter of the edges": [3, 20, 3], "beyond it": [*range(27), 5, 5], "none": []}


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("layers", [0, 1, 3])
@pytest.mark.parametrize("rows", ROWS.values(), ids=ROWS)
def test_rows_of_the_sum_of_layers_equal_those_of_the_whole(kernel, layers, rows):
    data = random_data(7)
    graph, dense = bipartite.build(data, buckets=True), oracle.normalised_adjacency(data)
    rng = np.random.default_rng(3)
    x = rng.normal(size=(27, 5)).astype(np.float32)
    g, h = rng.normal(size=(2, len(rows), 5)).astype(np.float32)
    share = rng.normal(size=layers + 1).astype(np.float32)
    powers = [np.linalg.matrix_power(dense, n) for n in range(layers + 1)]
    whole = sum(a * power for a, power in zip(share, powers, strict=True))
    row_R = jnp.array(rows, jnp.int32)
    take = np.eye(27)[np.array(rows, int)]

    def ours(x, share):
        return spmm.sum_of_layers(graph, x, row_R, share, kernel=kernel)

    (total, base), pullback = jax.vjp(ours, jnp.asarray(x), jnp.asarray(share))
    np.testing.assert_allclose(total, take @ whole @ x, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(base, x[np.array(rows, int)])
    of_x, of_share = pullback((jnp.asarray(g), jnp.asarray(h)))
    np.testing.assert_allclose(of_x, whole.T @ take.T @ g + take.T @ h, rtol=1e-5, atol=1e-5)
    expected = [np.sum(g * (take @ power @ x)) for power in powers]
    np.testing.assert_allclose(of_share, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("rows", ROWS.values(), ids=ROWS)
def test_rows_of_a_propagation_and_their_gradient_equal_those_of_the_whole(kernel, rows):
    data = random_data(7)
    graph, dense = bipartite.build(data, buckets=True), oracle.normalised_adjacency(data)
    x = np.random.default_rng(1).normal(size=(27, 5)).astype(np.float32)
    g = np.random.default_rng(2).normal(size=(len(rows), 5)).astype(np.float32)
    row_R, take = jnp.array(rows, jnp.int32), np.eye(27)[np.array(rows, int)]
    y, pullback = jax.vjp(lambda x: spmm.propagate_rows(graph, x, row_R, kernel), jnp.asarray(x))
    np.testing.assert_allclose(y, take @ dense @ x, rtol=1e-5, atol=1e-6)
    of_x = pullback(jnp.asarray(g))[0]
    np.testing.assert_allclose(of_x, dense.T @ take.T @ g, rtol=1e-5, atol=1e-6)


def test_rows_of_a_graph_without_edges_are_the_table_by_its_share():
    empty = Dataset(np.zeros(0, np.int32), np.zeros(0, np.int32), np.arange(2), np.arange(3))
    graph, share = bipartite.build(empty), jnp.array([0.25, 0.5, 0.25])
    total, _ = spmm.sum_of_layers(graph, jnp.ones((5, 2)), jnp.array([0, 4]), share)
    np.testing.assert_array_equal(total, np.full((2, 2), 0.25))


@pytest.mark.parametrize("kernel", KERNELS)
def test_rows_in_bfloat16_equal_the_encoder_call_in_bfloat16(kernel):
    graph = bipartite.build(random_data(), buckets=True)
    x, row_R = jax.random.normal(jax.random.key(3), (27, 8)), jnp.array([1, 26, 1, 12])
    share = jnp.full(3, 1 / 3)
    total, _ = spmm.sum_of_layers(graph, x, row_R, share, kernel=kernel, dtype="bfloat16")
    one = spmm.propagate(graph, x.astype(jnp.bfloat16), kernel)
    two = spmm.propagate(graph, one, kernel)
    expected = (x + one.astype(jnp.float32) + two.astype(jnp.float32)) / 3
    np.testing.assert_allclose(total, expected[row_R], rtol=1e-5)
    assert total.dtype == jnp.float32


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_vmap_over_tables_is_one_product_and_equals_one_at_a_time(kernel):
    graph = bipartite.build(random_data(), buckets=True)
    rng = np.random.default_rng(1)
    x_TND = jnp.asarray(rng.normal(size=(3, 27, 4)), jnp.float32)
    row_TR = jnp.asarray(rng.integers(0, 27, (3, 9)), jnp.int32)
    share_L = jnp.array([0.2, 0.3, 0.5])

    def value(x_ND, row_R):
        total, base = spmm.sum_of_layers(graph, x_ND, row_R, share_L, kernel=kernel)
        return jnp.sum(jnp.sin(total) + base**2) + jnp.sum(
            jnp.cos(spmm.propagate(graph, x_ND, kernel))
            + jnp.sum(spmm.propagate_rows(graph, x_ND, row_R, kernel) ** 3)
        )

    together = jax.jit(jax.vmap(jax.value_and_grad(value)))
    made = together(x_TND, row_TR)
    for n in range(3):
        alone = jax.value_and_grad(value)(x_TND[n], row_TR[n])
        for a, b in zip(made, alone, strict=True):
            np.testing.assert_allclose(a[n], b, rtol=1e-5, atol=1e-5)
    if kernel == "csr":
        text = together.lower(x_TND, row_TR).as_text()
        products = [line for line in text.splitlines() if "cpu_csr_sparse_dense" in line]
        assert products
        assert all("x12xf32" in line for line in products), "a table holds all three"


def test_a_vmap_over_graphs_equals_one_at_a_time():
    graph = bipartite.build(random_data())
    keys = jax.random.split(jax.random.key(0), 3)
    x_ND = jax.random.normal(jax.random.key(1), (27, 4))

    def dropped(key):
        return spmm.propagate(bipartite.drop_edges(graph, key, 0.5), x_ND, "csr")

    alone = jnp.stack([dropped(key) for key in keys])
    np.testing.assert_allclose(jax.vmap(dropped)(keys), alone, rtol=1e-5, atol=1e-6)
