import jraph
import numpy as np
import pytest

import oracle
from jaxrec.data.dataset import Dataset
from jaxrec.graph import bipartite


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
