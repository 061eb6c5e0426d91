"""Test graphs split into parts: the cut, the exchange, and products over eight devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from jaxrec.config import MeshConfig
from jaxrec.data import synthetic
from jaxrec.errors import InputError
from jaxrec.graph import bipartite, halo
from jaxrec.graph.partition import cut, layout, node_order, partition
from jaxrec.graph.spmm import propagate

PARTS = 4


@pytest.fixture(scope="module")
def data():
    return synthetic.make(50, 40, 500, seed=3)


@pytest.fixture(scope="module")
def laid_out(data):
    return layout(data, node_order(data, "locality"), PARTS)


def test_stretches_are_cut_where_the_load_is_even():
    np.testing.assert_array_equal(cut(np.ones(8), 4), [0, 2, 4, 6, 8])
    np.testing.assert_array_equal(cut(np.array([6, 1, 1, 1, 1, 1, 1]), 2), [0, 1, 7])
    load = np.random.default_rng(0).pareto(1.5, 1000) + 1
    sums = np.add.reduceat(load, cut(load, 5)[:-1])
    assert sums.max() - sums.min() <= 2 * load.max()


def test_every_node_has_a_row_of_its_side_and_padding_is_told_apart(data, laid_out):
    assert len(np.unique(laid_out.place_N)) == 90
    node_TR = laid_out.nodes()
    users, items = node_TR[:, : laid_out.users], node_TR[:, laid_out.users :]
    assert set(users[users >= 0]) == set(range(50))
    assert set(items[items >= 0]) == set(range(50, 90))
    x_N = np.arange(1, 91)
    np.testing.assert_array_equal(laid_out.padded(x_N)[laid_out.place_N], x_N)
    assert laid_out.padded(x_N).sum() == x_N.sum()


def test_parts_hold_the_edges_into_their_own_rows_and_count_what_they_need(data, laid_out):
    made = partition(data, laid_out, "all_gather")
    graph = made.shard.graph
    found = []
    for t in range(PARTS):
        n = graph.indptr[t, -1]
        receiver = graph.graph.receivers[t, :n] + t * laid_out.rows
        found += list(zip(graph.graph.senders[t, :n], receiver, strict=True))
    user, item = laid_out.place_N[data.user], laid_out.place_N[data.item + 50]
    assert sorted(found) == sorted([*zip(user, item), *zip(item, user)])  # noqa: B905
    part = np.array(found) // laid_out.rows
    apart = part[:, 0] != part[:, 1]
    assert made.traffic.edge_cut == pytest.approx(apart.mean())
    needs = {(s, r // laid_out.rows) for (s, r), cut in zip(found, apart, strict=True) if cut}
    assert made.traffic.needed == len(needs) / PARTS
    rows = made.traffic.rows
    assert rows["all_gather"] == (PARTS - 1) * laid_out.rows
    assert len(needs) / PARTS <= rows["ring"] <= rows["all_to_all"]
    assert partition(data, laid_out).exchange == made.traffic.least()


@pytest.mark.parametrize("exchange", ["all_gather", "all_to_all", "ring"])
@pytest.mark.parametrize("kernel", ["csr", "segment_sum", "buckets"])
def test_a_product_over_parts_is_that_of_the_whole_graph(data, laid_out, exchange, kernel):
    mesh = halo.make_mesh(MeshConfig(2, PARTS))
    made = partition(data, laid_out, exchange, buckets=kernel == "buckets")
    over = PartitionSpec("table")
    shard = halo.put(mesh, made.shard, jax.tree.map(lambda _: over, made.shard))
    x_ND = np.random.default_rng(1).normal(size=(90, 3)).astype(np.float32)

    def body(shard, x_RD):
        return halo.propagate_all(kernel, jax.tree.map(lambda x: x[0], shard), x_RD)

    product = jax.jit(halo.on_mesh(mesh, body, (over, over), over))
    y_SD = np.asarray(product(shard, halo.put(mesh, laid_out.padded(x_ND), over)))
    expected = propagate(bipartite.build(data), jnp.asarray(x_ND), "segment_sum")
    np.testing.assert_allclose(y_SD[laid_out.place_N], expected, rtol=1e-5, atol=1e-6)


def test_buckets_of_parts_with_very_different_degrees_stack():
    """Use one part with rows longer than the square of the widest bucket, and one without rows."""
    rng = np.random.default_rng(5)
    user = np.concatenate([np.zeros(1200, np.int32), rng.integers(1, 40, 60, np.int32)])
    item = np.concatenate([np.arange(1200, dtype=np.int32), rng.integers(0, 1200, 60, np.int32)])
    pairs = np.unique(np.stack([user, item], axis=1), axis=0)
    data = synthetic.Dataset(pairs[:, 0], pairs[:, 1], np.arange(40), np.arange(1200))
    cut = layout(data, None, 8)
    mesh, over = halo.make_mesh(MeshConfig(1, 8)), PartitionSpec("table")
    made = partition(data, cut, buckets=True)
    shard = halo.put(mesh, made.shard, jax.tree.map(lambda _: over, made.shard))
    x_ND = rng.normal(size=(1240, 2)).astype(np.float32)

    def body(shard, x_RD):
        return halo.propagate_all("buckets", jax.tree.map(lambda x: x[0], shard), x_RD)

    x_SD = halo.put(mesh, cut.padded(x_ND), over)
    y_SD = np.asarray(jax.jit(halo.on_mesh(mesh, body, (over, over), over))(shard, x_SD))
    expected = propagate(bipartite.build(data), jnp.asarray(x_ND), "segment_sum")
    np.testing.assert_allclose(y_SD[cut.place_N], expected, rtol=1e-4, atol=1e-5)


def test_a_mesh_of_more_devices_than_there_are_is_refused_with_the_fix():
    with pytest.raises(InputError, match="needs 16 devices, and there are 8"):
        halo.make_mesh(MeshConfig(2, 8))
