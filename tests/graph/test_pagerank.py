import jax.numpy as jnp
import numpy as np
import pytest

from jaxrec.data.dataset import Dataset
from jaxrec.graph import bipartite
from jaxrec.graph.pagerank import push, rank_window


def random_data(weighted: bool = False) -> Dataset:
    """Return pairs of 12 users and 15 items; the last user and the last item have none."""
    rng = np.random.default_rng(1)
    pairs = np.unique(rng.integers(0, [11, 14], (50, 2)), axis=0).astype(np.int32)
    weight = rng.uniform(0.5, 2, len(pairs)).astype(np.float32) if weighted else None
    return Dataset(pairs[:, 0], pairs[:, 1], np.arange(12), np.arange(15), weight=weight)


def dense_pagerank(data: Dataset, alpha: float) -> np.ndarray:
    """Return the matrix with columns alpha (I - (1 - alpha) P^T)^-1 e_s for each node s.

    A node without neighbours walks to itself.
    """
    adjacency = np.zeros((27, 27))
    weight = np.ones(data.n_edges) if data.weight is None else data.weight
    for user, item, w in zip(data.user, data.item, weight, strict=True):
        adjacency[user, 12 + item] += w
        adjacency[12 + item, user] += w
    degree = adjacency.sum(1)
    walk = adjacency / np.where(degree > 0, degree, 1)[:, None]
    walk[degree == 0, degree == 0] = 1
    return alpha * np.linalg.inv(np.eye(27) - (1 - alpha) * walk.T), degree


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("epsilon", [1e-2, 1e-3, 1e-5])
@pytest.mark.parametrize("alpha", [0.15, 0.5])
def test_push_is_below_the_dense_solution_by_no_more_than_it_promises(weighted, epsilon, alpha):
    data = random_data(weighted)
    truth, degree = dense_pagerank(data, alpha)
    found = push(bipartite.build(data), 12, jnp.arange(27), alpha, epsilon)
    short = truth - np.asarray(found.mass_NS)
    assert short.min() > -1e-6
    assert np.all(short <= epsilon * degree[:, None] + 1e-6)
    assert np.all(np.asarray(found.residual_NS) <= epsilon * degree[:, None] + 1e-7)
    total = np.asarray(found.mass_NS).sum(0) + np.asarray(found.residual_NS).sum(0)
    np.testing.assert_allclose(total, 1, atol=1e-5)


def test_a_larger_threshold_takes_fewer_sweeps():
    graph = bipartite.build(random_data())
    taken = [int(push(graph, 12, jnp.arange(5), 0.15, eps).sweeps) for eps in (1e-2, 1e-4, 1e-6)]
    assert taken[0] < taken[1] < taken[2]


@pytest.mark.parametrize("kernel", ["segment_sum", "buckets"])
def test_every_kernel_pushes_the_same(kernel):
    graph = bipartite.build(random_data(), buckets=True)
    ours, plain = (push(graph, 12, jnp.arange(27), 0.15, 1e-4, k) for k in (kernel, "csr"))
    np.testing.assert_allclose(ours.mass_NS, plain.mass_NS, rtol=1e-4, atol=1e-6)
    assert ours.sweeps == plain.sweeps


@pytest.mark.parametrize("reorder", [False, True])
@pytest.mark.parametrize(("first", "last"), [(0, 3), (2, 6), (4, 15)])
def test_the_window_holds_those_ranks_without_the_users_own_items(reorder, first, last):
    data = random_data()
    truth, _ = dense_pagerank(data, 0.15)
    known = data.csr()
    found = rank_window(
        bipartite.build(data, reorder=reorder),
        (np.asarray(known.indptr), np.asarray(known.indices)),
        *(12, first, last),
        epsilon=1e-7,
        block=5,
    )
    assert found.item_UW.shape == (12, last - first)
    for user in range(12):
        mass = truth[12:, user].copy()
        mass[data.item[data.user == user]] = 0
        mass[mass < 1e-9] = 0
        order = np.argsort(-mass, kind="stable")[: np.count_nonzero(mass)][first:last]
        count = int(found.count_U[user])
        assert count == len(order)
        # Ranks that differ by less than the tolerance may be swapped.
        ours = np.asarray(found.item_UW)[user, :count]
        np.testing.assert_allclose(mass[ours], mass[order], atol=1e-5)
        assert len(set(ours)) == count
