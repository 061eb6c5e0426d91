import jax
import jax.numpy as jnp
import numpy as np
import pytest

import oracle
from jaxrec.data import synthetic
from jaxrec.data.dataset import Dataset
from jaxrec.graph import bipartite
from jaxrec.graph.spectral import singular_vectors, spectral_table


@pytest.fixture(scope="module")
def data() -> Dataset:
    made = synthetic.make(70, 50, 800, communities=4, seed=2)
    # A user and an item without interactions.
    return Dataset(made.user, made.item, np.arange(71), np.arange(51))


def test_the_triplets_are_numpys(data):
    block = oracle.normalised_adjacency(data)[:71, 71:]
    user, sigma, item = np.linalg.svd(block)
    found = singular_vectors(bipartite.build(data), 71, 6, jax.random.key(0))
    np.testing.assert_allclose(found.sigma_D, sigma[:6], atol=1e-4)
    for ours, theirs in ((found.user_UD, user[:, :6]), (found.item_ID, item[:6].T)):
        np.testing.assert_allclose(np.abs(np.sum(ours * theirs, axis=0)), 1, atol=0.02)
    np.testing.assert_allclose(found.user_UD.T @ found.user_UD, np.eye(6), atol=1e-4)


def test_triplets_beyond_the_rank_are_zero_and_never_nan():
    one = np.zeros(1, np.int32)
    found = singular_vectors(
        bipartite.build(Dataset(one, one, np.arange(4), np.arange(3))), 4, 3, jax.random.key(0)
    )
    np.testing.assert_allclose(found.sigma_D, [1, 0, 0], atol=1e-5)
    np.testing.assert_array_equal(found.user_UD[:, 1:], 0)
    assert bool(jnp.all(jnp.isfinite(found.item_ID)))


@pytest.mark.parametrize("layers", [0, 2])
@pytest.mark.parametrize("reorder", [False, True])
def test_the_tables_embeddings_score_like_the_rank_d_approximation(data, layers, reorder):
    graph = bipartite.build(data, reorder=reorder)
    table = spectral_table(graph, 71, 5, layers, 0.2, jax.random.key(1))
    for part in (table[:71], table[71:]):
        assert float(jnp.sqrt(jnp.mean(part**2))) == pytest.approx(0.2, rel=1e-5)
    emb = oracle.lightgcn(data, np.asarray(graph.in_data_order(table), np.float64), layers)
    block = oracle.normalised_adjacency(data)[:71, 71:]
    user, sigma, item = np.linalg.svd(block)
    scores = emb[:71] @ emb[71:].T
    expected = (user[:, :5] * sigma[:5]) @ item[:5] * np.sqrt(data.item_counts())
    # Layers leave the users' part unchanged, and also the items' part if degrees are similar.
    assert np.corrcoef(scores.ravel(), expected.ravel())[0, 1] > (0.999 if layers == 0 else 0.9)


def test_more_columns_than_users_or_items_are_filled_with_noise(data):
    table = spectral_table(bipartite.build(data), 71, 60, 1, 0.1, jax.random.key(1))
    assert table.shape == (122, 60)
    assert float(jnp.std(table[:, 51:])) == pytest.approx(0.1, rel=0.1)
