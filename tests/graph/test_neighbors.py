from collections import Counter
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrec.graph import neighbors
from jaxrec.graph.csr import DeviceCsr

# Node 0 is isolated, 1 and 2 are neighbours, and 3 is the hub of the cycle 4 to 9.
EDGES = [(1, 2), *((3, n) for n in range(4, 10)), *((n, n + 1) for n in range(4, 9)), (9, 4)]


def near(edges) -> list[list[int]]:
    nodes = 1 + max(max(edge) for edge in edges)
    found = [[] for _ in range(nodes)]
    for a, b in edges:
        found[a].append(b)
        found[b].append(a)
    return [sorted(row) for row in found]


def csr(rows: list[list[int]]) -> DeviceCsr:
    indptr = np.cumsum([0, *map(len, rows)])
    return DeviceCsr(
        jnp.asarray(indptr, jnp.int32), jnp.asarray([n for row in rows for n in row], jnp.int32)
    )


GRAPH, NEAR = csr(near(EDGES)), near(EDGES)
most_visited = jax.jit(
    neighbors.most_visited, static_argnums=2, static_argnames=("walks", "length")
)
ALL = jnp.arange(10, dtype=jnp.int32)


@partial(jax.jit, static_argnums=(1, 2))
def many(node_R, count: int, draws: int) -> neighbors.Neighbors:
    """Draw neighbours once with each of many keys, [draws, R, F]."""
    keys = jax.random.split(jax.random.key(0), draws)
    return jax.vmap(lambda key: neighbors.uniform(GRAPH, node_R, count, key))(keys)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 8])
def test_uniform_neighbours_are_different_and_each_is_as_likely_as_the_others(count):
    draws = 4000
    node_TRF, weight_TRF = map(np.asarray, many(ALL, count, draws))
    for node, known in enumerate(NEAR):
        size, drawn, weight = min(len(known), count), node_TRF[:, node], weight_TRF[:, node]
        expected = np.where(np.arange(count) < size, 1 / max(size, 1), 0)
        np.testing.assert_allclose(weight, np.broadcast_to(expected, weight.shape))
        ranked = np.sort(drawn[:, :size], axis=1)
        assert np.isin(ranked, known).all()
        assert (np.diff(ranked, axis=1) > 0).all()
        assert ((drawn >= 0) & (drawn < 10)).all()
        if size == len(known):
            continue
        share = np.array([(ranked == other).sum() for other in known]) / draws
        chance = count / len(known)
        # The tolerance is five standard deviations of a share of this many draws.
        np.testing.assert_allclose(share, chance, atol=5 * np.sqrt(chance * (1 - chance) / draws))


def test_uniform_neighbours_are_a_function_of_key_and_node():
    key, count = jax.random.key(5), 3
    whole = neighbors.uniform(GRAPH, ALL, count, key)
    some = jnp.array([7, 3, 3, 0], jnp.int32)
    for draw in (neighbors.uniform, jax.jit(neighbors.uniform, static_argnums=2)):
        for ours, of_all in zip(draw(GRAPH, some, count, key), whole, strict=True):
            np.testing.assert_array_equal(ours, of_all[some])
    other = neighbors.uniform(GRAPH, ALL, count, jax.random.key(6))
    assert not np.array_equal(whole.node_RF[3], other.node_RF[3])
    # The rows of one draw are independent.
    starts = np.asarray(many(ALL, 1, 2000).node_RF[:, 4:10, 0]) - np.arange(4, 10)
    assert abs(np.corrcoef(starts.T)[np.triu_indices(6, 1)]).max() < 5 / np.sqrt(2000)


def test_visits_are_those_of_walks_along_the_edges_each_way_as_likely():
    walks, length = 6000, 3
    visit_RV = neighbors._visits(GRAPH, ALL, walks, length, jax.random.key(1))
    path_RSW = np.asarray(visit_RV).reshape(10, length, walks)
    assert (path_RSW[0] == -1).all()
    for start in range(1, 10):
        at_W = np.full(walks, start)
        for next_W in path_RSW[start]:
            for node in set(at_W.tolist()):
                here = next_W[at_W == node]
                times = np.array([(here == other).sum() for other in NEAR[node]])
                assert times.sum() == len(here)
                expected = len(here) / len(NEAR[node])
                assert abs(times - expected).max() <= 5 * np.sqrt(expected)
            at_W = next_W
    # Walks from one node are independent, and so are the steps of a walk.
    step_WS = path_RSW[3].T[:, [0, 2]]
    assert abs(np.corrcoef(step_WS[:-1, 0], step_WS[1:, 0])[0, 1]) < 5 / np.sqrt(walks)
    assert len({tuple(path) for path in path_RSW[3].T}) > 50


def by_counter(node: int, visits: list[int], count: int) -> tuple[list[int], list[float]]:
    times = Counter(v for v in visits if v not in (node, -1))
    best = sorted(times, key=lambda v: (-times[v], v))[:count]
    total = max(sum(times[v] for v in best), 1)
    padding = count - len(best)
    return best + [node] * padding, [times[v] / total for v in best] + [0.0] * padding


@pytest.mark.parametrize("count", [1, 3, 12])
def test_the_most_visited_are_those_of_a_count_with_ties_to_the_lower_row(count):
    key = jax.random.key(3)
    visit_RV = neighbors._visits(GRAPH, ALL, 6, 2, key)
    found = most_visited(GRAPH, ALL, count, walks=6, length=2, key=key)
    assert found.node_RF.shape == (10, count)
    for node in range(10):
        expected, weight = by_counter(node, np.asarray(visit_RV[node]).tolist(), count)
        assert found.node_RF[node].tolist() == expected
        np.testing.assert_allclose(found.weight_RF[node], weight, rtol=1e-6)
    tied = jnp.array([[9, 5, 9, 2, 5, 2, -1, 7]], jnp.int32)
    ours = neighbors._most_frequent(jnp.array([2], jnp.int32), tied, 3)
    assert ours.node_RF.tolist() == [[5, 9, 7]]
    np.testing.assert_allclose(ours.weight_RF, [[0.4, 0.4, 0.2]])


def test_importance_on_a_path_and_a_star_is_what_one_computes_by_hand():
    walks, key = 4000, jax.random.key(0)
    path = csr([[1], [0, 2], [1]])
    ours = most_visited(path, jnp.array([0, 1], jnp.int32), 2, walks=walks, length=2, key=key)
    # From an end, every walk visits the middle, and half of the walks then visit the other end.
    assert ours.node_RF.tolist()[0] == [1, 2]
    np.testing.assert_allclose(ours.weight_RF[0], [2 / 3, 1 / 3], atol=0.02)
    # From the middle, half of the walks visit each end; returning to the middle does not count.
    assert set(ours.node_RF.tolist()[1]) == {0, 2}
    np.testing.assert_allclose(ours.weight_RF[1], 1 / 2, atol=0.04)
    star = csr([[1, 2, 3, 4], [0], [0], [0], [0]])
    ours = most_visited(star, jnp.array([2], jnp.int32), 4, walks=walks, length=2, key=key)
    assert ours.node_RF.tolist()[0][0] == 0
    assert set(ours.node_RF.tolist()[0]) == {0, 1, 3, 4}
    np.testing.assert_allclose(ours.weight_RF[0], [4 / 7, *[1 / 7] * 3], atol=0.03)


@pytest.mark.parametrize("block", [1, 4, 5, 10, 64])
def test_the_table_of_all_nodes_has_the_rows_that_each_gets_alone(block, monkeypatch):
    monkeypatch.setattr(neighbors, "_BLOCK", block)
    how = {"walks": 5, "length": 3, "key": jax.random.key(2)}
    table = neighbors.all_most_visited(GRAPH, 4, **how)
    for ours, expected in zip(table, most_visited(GRAPH, ALL, 4, **how), strict=True):
        np.testing.assert_array_equal(ours, expected)


def test_the_foremost_of_a_table_have_shares_that_sum_to_one_again():
    table = neighbors.Neighbors(
        jnp.array([[4, 2, 7], [1, 1, 1], [5, 2, 2]], jnp.int32),
        jnp.array([[0.5, 0.3, 0.2], [0, 0, 0], [1, 0, 0]], jnp.float32),
    )
    ours = neighbors.first_of(table, jnp.array([2, 0, 1, 0], jnp.int32), 2)
    assert ours.node_RF.tolist() == [[5, 2], [4, 2], [1, 1], [4, 2]]
    shares = [[1, 0], [0.625, 0.375], [0, 0], [0.625, 0.375]]
    np.testing.assert_allclose(ours.weight_RF, shares, rtol=1e-6)
