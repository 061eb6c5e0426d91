import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxrec.data import synthetic_items
from jaxrec.graph import walks

LEVEL = 1e-4  # of every chi-square test here; as seeds are fixed, a test fails always or never
# The graph has two triangles that share node 2, a tail 4 - 5, and the isolated node 6.
EDGES = {(0, 1): 1.0, (0, 2): 3.0, (1, 2): 0.5, (2, 3): 2.0, (2, 4): 1.0, (3, 4): 4.0, (4, 5): 0.25}


def dense(edges=EDGES, n=7, directed=False) -> np.ndarray:
    weight_NN = np.zeros((n, n))
    for (a, b), weight in edges.items():
        weight_NN[a, b] = weight
        if not directed:
            weight_NN[b, a] = weight
    return weight_NN


def on_device(weight_NN: np.ndarray, weighted=True) -> walks.WalkGraph:
    row, column = np.nonzero(weight_NN)
    indptr = np.append(0, np.cumsum(np.bincount(row, minlength=len(weight_NN))))
    return walks.walk_graph(indptr, column, weight_NN[row, column] if weighted else None)


walk = jax.jit(walks.walk, static_argnums=3, static_argnames=("p", "q"))


def many(graph, node: int, count: int, length: int, key=0, **pq) -> np.ndarray:
    """Draw walks from one node, [count, length]."""
    numbers = jnp.arange(count, dtype=jnp.int32)
    nodes = jnp.full(count, node, jnp.int32)
    return np.asarray(walk(graph, nodes, numbers, length, jax.random.key(key), **pq)).T


def agrees(count_N: np.ndarray, share_N: np.ndarray) -> bool:
    """Return whether counts fit the probabilities, by a chi-square test at LEVEL."""
    assert count_N[share_N == 0].sum() == 0
    there = share_N > 0
    if there.sum() == 1:
        return True
    expected = share_N[there] / share_N[there].sum() * count_N.sum()
    return stats.chisquare(count_N[there], expected).pvalue > LEVEL


@pytest.mark.parametrize("weighted", [True, False])
def test_steps_go_by_the_weights(weighted):
    weight_NN = dense()
    if not weighted:
        weight_NN = (weight_NN > 0).astype(float)
    graph = on_device(weight_NN)
    assert (graph.cumulative_E is None) == (not weighted)
    made = many(graph, 2, 40_000, 6)
    for step in range(1, 6):
        for node in range(6):
            at = made[:, step - 1] == node
            if at.any():
                count_N = np.bincount(made[at, step], minlength=7)
                assert agrees(count_N, weight_NN[node])


def second_order(weight_NN: np.ndarray, p: float, q: float) -> np.ndarray:
    """Compute the probability of x after (t, v) by definition, [N, N, N]."""
    n = len(weight_NN)
    share = np.zeros((n, n, n))
    for t, v in zip(*np.nonzero(weight_NN), strict=True):
        for x in np.flatnonzero(weight_NN[v]):
            alpha = 1 / p if x == t else (1.0 if weight_NN[t, x] > 0 else 1 / q)
            share[t, v, x] = weight_NN[v, x] * alpha
        share[t, v] /= share[t, v].sum()
    return share


@pytest.mark.long_but("False-1.0-0.5")
@pytest.mark.parametrize(("p", "q"), [(0.25, 4.0), (4.0, 0.25), (1.0, 0.5), (0.5, 1.0), (2.0, 2.0)])
@pytest.mark.parametrize("weighted", [True, False])
def test_node2vec_takes_the_exact_second_order_probabilities(p, q, weighted):
    weight_NN = dense() if weighted else (dense() > 0).astype(float)
    share = second_order(weight_NN, p, q)
    made = np.concatenate(
        [many(on_device(weight_NN), node, 8_000, 5, key=node, p=p, q=q) for node in range(6)]
    )
    first = np.bincount(made[made[:, 0] == 2][:, 1], minlength=7)
    assert agrees(first, weight_NN[2])
    for step in range(2, 5):
        for t, v in zip(*np.nonzero(weight_NN), strict=True):
            at = (made[:, step - 2] == t) & (made[:, step - 1] == v)
            if at.sum() > 200:
                assert agrees(np.bincount(made[at, step], minlength=7), share[t, v])


@pytest.mark.parametrize("pq", [{}, {"p": 0.5, "q": 2.0}, {"p": 2.0, "q": 0.5}])
def test_walks_end_where_no_edge_leaves(pq):
    alone = many(on_device(dense()), 6, 300, 4, **pq)
    np.testing.assert_array_equal(alone, np.tile([6, -1, -1, -1], (300, 1)))
    if pq.get("p", 1) < 1:  # then edges must lead in both directions
        return
    chain = on_device(dense({(0, 1): 1.0, (1, 2): 2.0}, 3, directed=True))
    np.testing.assert_array_equal(
        many(chain, 0, 300, 5, **pq), np.tile([0, 1, 2, -1, -1], (300, 1))
    )


def test_a_graph_without_edges_can_be_walked_on():
    nothing = walks.walk_graph(np.zeros(4, int), np.zeros(0, int), np.zeros(0, np.float32))
    assert many(nothing, 1, 5, 3).tolist() == [[1, -1, -1]] * 5


@pytest.mark.parametrize("pq", [{}, {"p": 0.5, "q": 2.0}])
def test_a_walk_does_not_depend_on_those_beside_it(pq):
    around = synthetic_items.make(300, 2_000, seed=1).adjacency()
    graph = walks.walk_graph(around.indptr, around.indices, around.weight)
    node_W = jnp.asarray(np.random.default_rng(0).integers(0, 300, 1_000), jnp.int32)
    number_W = jnp.arange(1_000, dtype=jnp.int32)
    whole = np.asarray(walk(graph, node_W, number_W, 8, jax.random.key(3), **pq))
    some = np.random.default_rng(1).permutation(1_000)[:130]
    part = walk(graph, node_W[some], number_W[some], 8, jax.random.key(3), **pq)
    np.testing.assert_array_equal(part, whole[:, some])
    other = walk(graph, node_W, number_W, 8, jax.random.key(4), **pq)
    assert (np.asarray(other)[1:] != whole[1:]).mean() > 0.5
    followed = zip(whole[:-1].ravel(), whole[1:].ravel(), strict=True)
    joined = set(zip(np.repeat(np.arange(300), around.degree), around.indices, strict=True))
    assert set(followed) <= joined


def test_more_edges_than_can_be_numbered_are_refused():
    from jaxrec.errors import InputError

    endless = np.broadcast_to(np.int32(0), 2**31)
    with pytest.raises(InputError, match="directed edges"):
        walks.walk_graph(np.array([0, 2**31]), endless)
