import dataclasses

import jax
import jax.numpy as jnp
import jraph
import numpy as np
import pytest

import oracle
from jaxrec.data.dataset import Dataset
from jaxrec.errors import InputError
from jaxrec.graph import bipartite, spmm


def make(user, item, n_users, n_items, weight=None) -> Dataset:
    return Dataset(
        np.array(user, np.int32),
        np.array(item, np.int32),
        np.arange(n_users),
        np.arange(n_items),
        weight=None if weight is None else np.array(weight, np.float32),
    )


def dense(graph: bipartite.Bipartite) -> np.ndarray:
    g = graph.graph
    out = np.zeros((graph.n_nodes,) * 2)
    np.add.at(out, (np.asarray(g.receivers), np.asarray(g.senders)), np.asarray(g.edges))
    return out


def test_the_graph_is_jraphs_sorted_by_receiver_with_users_first():
    built = bipartite.build(make([2, 0, 0, 1], [1, 1, 0, 2], 3, 3))
    g = built.graph
    assert isinstance(g, jraph.GraphsTuple)
    assert g.n_node.tolist() == [6]
    assert g.n_edge.tolist() == [8]
    assert g.receivers.tolist() == [0, 0, 1, 2, 3, 4, 4, 5]
    assert g.senders.tolist() == [3, 4, 5, 4, 0, 0, 2, 1]
    assert built.indptr.tolist() == [0, 2, 3, 4, 5, 7, 8]


@pytest.mark.parametrize("weighted", [False, True])
def test_weights_are_the_symmetric_normalisation(weighted):
    rng = np.random.default_rng(0)
    pairs = np.unique(rng.integers(0, [7, 9], (25, 2)), axis=0)
    weight = rng.uniform(0.5, 3, len(pairs)) if weighted else None
    data = make(pairs[:, 0], pairs[:, 1], 7, 9, weight)
    expected = oracle.normalised_adjacency(data)
    np.testing.assert_allclose(dense(bipartite.build(data)), expected, rtol=1e-6)
    np.testing.assert_allclose(expected, expected.T)


def test_nodes_without_pairs_have_no_edges_and_repeated_pairs_weigh_together():
    twice = bipartite.build(make([0, 0, 1], [0, 0, 1], 3, 2))
    once = bipartite.build(make([0, 1], [0, 1], 3, 2, weight=[2, 1]))
    np.testing.assert_allclose(dense(twice), dense(once))
    assert np.diff(twice.indptr)[2] == 0


def test_reordering_for_locality_renames_the_nodes_and_nothing_else():
    rng = np.random.default_rng(3)
    # The graph has two disconnected blocks, whose members have mixed row numbers.
    user, item = rng.permutation(40), rng.permutation(30)
    pairs = np.unique(rng.integers(0, [20, 15], (150, 2)), axis=0)
    pairs = np.concatenate([pairs, pairs + np.array([20, 15])])
    data = make(user[pairs[:, 0]], item[pairs[:, 1]], 42, 30)
    plain, moved = bipartite.build(data), bipartite.build(data, reorder=True)
    place = np.asarray(moved.place_N)
    assert sorted(place[:42]) == list(range(42))
    assert sorted(place[42:]) == list(range(42, 72))
    np.testing.assert_allclose(dense(moved)[np.ix_(place, place)], dense(plain))
    assert np.all(np.diff(np.asarray(moved.graph.receivers)) >= 0)
    where = np.sort(place[user[:20]])
    # Users of a block are adjacent, except for users without pairs.
    assert where.max() - where.min() < 23
    rows = moved.in_data_order(jnp.arange(72.0)[:, None])
    np.testing.assert_array_equal(rows[:, 0], place)
    np.testing.assert_array_equal(moved.places(jnp.array([41, 3])), place[[41, 3]])
    np.testing.assert_array_equal(plain.places(jnp.array([41, 3])), [41, 3])


def test_dropped_pairs_go_in_both_directions_and_the_rest_stands_for_them():
    rng = np.random.default_rng(0)
    pairs = np.unique(rng.integers(0, [300, 400], (9000, 2)), axis=0).astype(np.int32)
    data = make(pairs[:, 0], pairs[:, 1], 300, 400)
    graph = bipartite.build(data, reorder=True, buckets=True)
    whole, rate = dense(graph), 0.3
    share = []
    for seed in range(4):
        left = dense(bipartite.drop_edges(graph, jax.random.key(seed), rate))
        np.testing.assert_array_equal(left, left.T)
        kept = left != 0
        np.testing.assert_allclose(left[kept], whole[kept] / (1 - rate), rtol=1e-6)
        share.append(kept.sum() / (whole != 0).sum())
    # The tolerance is four standard deviations of a share of some 9,000 pairs.
    np.testing.assert_allclose(share, 1 - rate, atol=4 * np.sqrt(rate * (1 - rate) / 8500))
    assert len(set(share)) == 4


def test_unsorted_and_repeated_pairs_with_weights_make_the_same_graph_in_any_order():
    rng = np.random.default_rng(6)
    user, item = rng.integers(0, [[6], [8]], (2, 40))  # some pairs repeat
    weight = rng.uniform(0.5, 3, 40)
    for reorder in (False, True):
        built = bipartite.build(make(user, item, 7, 9, weight), reorder=reorder)
        place = np.arange(16) if built.place_N is None else np.asarray(built.place_N)
        expected = oracle.normalised_adjacency(make(user, item, 7, 9, weight))
        np.testing.assert_allclose(dense(built)[np.ix_(place, place)], expected, rtol=1e-5)
        keys = np.asarray(built.receivers) * 16 + np.asarray(built.senders)
        assert np.all(np.diff(keys) >= 0)
        assert len(keys) == 80
        np.testing.assert_array_equal(
            built.indptr, np.searchsorted(np.asarray(built.receivers), np.arange(17))
        )


@pytest.mark.parametrize("reorder", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_levels_share_out_the_edges_by_their_ratings(reorder, weighted):
    rng = np.random.default_rng(7)
    user, item = rng.integers(0, [[6], [8]], (2, 40))
    weight = rng.uniform(0.5, 3, 40) if weighted else None
    rating = rng.choice([0.5, 3, 4.5], 40).astype(np.float32)
    rating[11] = 5  # a level with a single pair
    data = dataclasses.replace(make(user, item, 7, 9, weight), rating=rating)
    built = bipartite.build(data, reorder=reorder, levels=True, buckets=True)
    assert built.levels is not None
    assert len(built.levels) == 4
    place = np.arange(16) if built.place_N is None else np.asarray(built.place_N)
    total = np.zeros((16, 16))
    degree = np.asarray(built.degree_N, np.float64)
    for rating_of, level in zip([0.5, 3, 4.5, 5], built.levels, strict=True):
        mine = rating == rating_of
        assert level.senders.shape == (2 * mine.sum(),)
        expected = np.zeros((16, 16))
        of_pair = np.ones(40) if weight is None else weight
        for u, i, w in zip(place[user[mine]], place[item[mine] + 7], of_pair[mine], strict=True):
            expected[u, i] += w / np.sqrt(degree[u] * degree[i])
            expected[i, u] += w / np.sqrt(degree[u] * degree[i])
        np.testing.assert_allclose(dense(level), expected, rtol=1e-5)
        np.testing.assert_array_equal(level.degree_N, built.degree_N)
        x = rng.normal(size=(16, 3)).astype(np.float32)
        for kernel in ("segment_sum", "csr", "buckets"):
            y = spmm.propagate_rows(level, jnp.asarray(x), jnp.array([2, 9, 2]), kernel)
            np.testing.assert_allclose(y, (expected @ x)[[2, 9, 2]], rtol=1e-4, atol=1e-5)
        total += dense(level)
    np.testing.assert_allclose(total, dense(built), rtol=1e-6)


def test_levels_are_the_ratings_in_order_and_need_some_but_not_too_many():
    plain = make([0, 1, 0], [1, 1, 0], 2, 2)
    with pytest.raises(InputError, match=r"model\.levels needs ratings"):
        bipartite.rating_levels(plain)
    with pytest.raises(InputError, match="data has none"):
        bipartite.build(plain, levels=True)
    rated = dataclasses.replace(plain, rating=np.array([4, 1, 4], np.float32))
    values, level = bipartite.rating_levels(rated)
    assert values.tolist() == [1, 4]
    assert level.tolist() == [1, 0, 1]
    user, item = np.divmod(np.arange(21), 7)
    many = dataclasses.replace(make(user, item, 3, 7), rating=np.arange(21, dtype=np.float32))
    with pytest.raises(InputError, match=r"21 different ratings.*model\.levels False"):
        bipartite.rating_levels(many)
    assert len(bipartite.rating_levels(many.take(np.arange(20)))[0]) == 20
