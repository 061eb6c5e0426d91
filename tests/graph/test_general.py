"""Test the general graph against dense matrices: products, gradients, and constructors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse as sp

from jaxrec.graph import Graph, propagate

KERNELS = ("segment_sum", "csr")


def random_edges(seed: int = 0, shape: tuple[int, int] = (7, 5), n: int = 20):
    rng = np.random.default_rng(seed)
    return rng.integers(0, shape[1], n), rng.integers(0, shape[0], n), rng.normal(size=n)


def dense(sender, receiver, weight, shape) -> np.ndarray:
    made = np.zeros(shape)
    np.add.at(made, (receiver, sender), weight)
    return made


@pytest.mark.parametrize("kernel", KERNELS)
def test_the_product_and_both_gradients_are_those_of_the_dense_matrix(kernel):
    shape = (7, 5)
    graph = Graph.from_edges(*random_edges(), shape=shape)
    matrix = dense(*random_edges(), shape)
    x = np.random.default_rng(1).normal(size=(5, 3)).astype(np.float32)
    g = np.random.default_rng(2).normal(size=(7, 3)).astype(np.float32)

    def value(x, weights):
        return jnp.sum(propagate(graph, x, weights, kernel=kernel) * g)

    assert np.allclose(propagate(graph, x, kernel=kernel), matrix @ x, atol=1e-5)
    of_x, of_w = jax.jit(jax.grad(value, (0, 1)))(jnp.asarray(x), graph.weights)
    assert np.allclose(of_x, matrix.T @ g, atol=1e-5)
    sender, receiver = np.asarray(graph.senders), np.asarray(graph.receivers)
    assert np.allclose(of_w, np.sum(x[sender] * g[receiver], axis=1), atol=1e-5)


def test_the_gradient_in_the_weights_is_that_of_finite_differences():
    graph = Graph.from_edges(*random_edges(3), shape=(7, 5))
    x = jnp.asarray(np.random.default_rng(4).normal(size=(5, 2)), jnp.float32)

    def value(weights):
        return jnp.sum(jnp.sin(propagate(graph, x, weights)))

    found, step = jax.grad(value)(graph.weights), 1e-2
    for edge in range(graph.n_edges):
        up, down = (value(graph.weights.at[edge].add(s)) for s in (step, -step))
        assert np.isclose(found[edge], (up - down) / (2 * step), atol=2e-3)


@pytest.mark.parametrize("how", ["symmetric", "receiver", "sender"])
def test_normalisation_divides_by_degrees_and_leaves_lone_nodes_alone(how):
    full = sp.random(8, 8, 0.3, random_state=0).toarray()
    full[3], full[:, 5] = 0, 0
    made = Graph.from_scipy(sp.csr_array(full), normalise=how)
    into, sent = full.sum(1, keepdims=True), full.sum(0, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        by = {"symmetric": np.sqrt(into * sent), "receiver": into, "sender": sent}[how]
        expected = np.nan_to_num(full / by, posinf=0)
    assert np.allclose(propagate(made, jnp.eye(8)), expected, atol=1e-6)


def test_both_ways_makes_an_undirected_graph_and_repeats_add_up():
    graph = Graph.from_edges([0, 0, 0], [1, 1, 2], [1, 2, 5], both_ways=True)
    assert np.array_equal(propagate(graph, jnp.eye(3)), [[0, 3, 5], [3, 0, 0], [5, 0, 0]])


class Networkx:
    """A stand-in for a networkx graph, so that networkx need not be installed."""

    def __init__(self, nodes, edges, directed):
        self.nodes, self._edges, self._directed = nodes, edges, directed

    def is_directed(self):
        return self._directed

    def edges(self, data):
        assert data
        return self._edges


@pytest.mark.parametrize("directed", [False, True])
def test_a_networkx_graph_keeps_its_order_weights_and_directions(directed):
    edges = [("b", "a", {"weight": 2.0}), ("a", "c", {}), ("c", "c", {"weight": 3.0})]
    made = Graph.from_networkx(Networkx(["a", "b", "c"], edges, directed))
    expected = np.array([[0, 2, 0], [0, 0, 0], [1, 0, 3]])
    if not directed:
        expected = np.array([[0, 2, 1], [2, 0, 0], [1, 0, 3]])
    assert np.array_equal(propagate(made, jnp.eye(3)), expected)


def test_an_empty_graph_propagates_nothing():
    graph = Graph.from_edges([], [], n_nodes=3)
    assert np.array_equal(propagate(graph, jnp.ones((3, 2))), np.zeros((3, 2)))
    assert Graph.from_networkx(Networkx(["a"], [], False)).shape == (1, 1)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Graph.from_edges([0], [1, 2]), "1 senders, 2 receivers"),
        (lambda: Graph.from_edges([0], [5], n_nodes=3), "receiver is outside 0 to 2"),
        (lambda: Graph.from_edges([-1], [0]), "sender is outside"),
        (lambda: Graph.from_edges([0.5], [0]), "one-dimensional integers"),
        (lambda: Graph.from_edges([0], [0], [np.nan]), "not finite"),
        (lambda: Graph.from_edges([0], [1], [-1.0], normalise="receiver"), "negative"),
        (lambda: Graph.from_edges([0], [1], normalise="rows"), "normalise must be"),
        (lambda: Graph.from_edges([0], [1], shape=(2, 3), both_ways=True), "square"),
        (lambda: propagate(Graph.from_edges([0], [1]), jnp.ones((3, 1))), "2 senders"),
        (
            lambda: propagate(Graph.from_edges([0], [1]), jnp.ones((2, 1)), jnp.ones(2)),
            "the graph has 1 edges",
        ),
        (
            lambda: propagate(Graph.from_edges([0], [1]), jnp.ones((2, 1)), kernel="buckets"),
            "csr or segment_sum",
        ),
    ],
)
def test_what_cannot_be_is_a_value_error(make, message):
    with pytest.raises(ValueError, match=message):
        make()
