from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import oracle
from jaxrec import models
from jaxrec.config import ModelConfig
from jaxrec.data.dataset import Dataset
from jaxrec.graph import bipartite
from jaxrec.graph.spmm import Kernel


def random_data() -> Dataset:
    rng = np.random.default_rng(4)
    pairs = np.unique(rng.integers(0, [6, 8], (30, 2)), axis=0).astype(np.int32)
    return Dataset(pairs[:, 0], pairs[:, 1], np.arange(6), np.arange(8))


@pytest.mark.parametrize("kernel", get_args(Kernel))
@pytest.mark.parametrize("layers", [0, 1, 3])
def test_embeddings_are_the_mean_over_layers_of_dense_powers(kernel, layers):
    data = random_data()
    config = ModelConfig(dim=5, layers=layers, kernel=kernel)
    model = models.build(config, 6, 8, jax.random.key(0))
    nodes = model(bipartite.build(data, buckets=True))
    expected = oracle.lightgcn(data, np.asarray(model.embedding[...]), layers)
    np.testing.assert_allclose(nodes.emb_ND, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(nodes.base_ND, model.embedding[...])


def test_mf_is_the_table_itself():
    model = models.build(ModelConfig("mf", dim=3, layers=0), 6, 8, jax.random.key(0))
    nodes = model(bipartite.build(random_data()))
    np.testing.assert_array_equal(nodes.emb_ND, model.embedding[...])


def test_permuting_node_ids_permutes_the_embeddings():
    data = random_data()
    rng = np.random.default_rng(0)
    to_user, to_item = rng.permutation(6), rng.permutation(8)
    moved = Dataset(
        to_user[data.user].astype(np.int32),
        to_item[data.item].astype(np.int32),
        data.user_ids,
        data.item_ids,
    )
    model = models.build(ModelConfig(dim=4, layers=2), 6, 8, jax.random.key(1))
    to_node = np.concatenate([to_user, 6 + to_item])
    table = np.asarray(model.embedding[...])
    before = np.asarray(model(bipartite.build(data, buckets=True)).emb_ND)
    permuted = np.empty_like(table)
    permuted[to_node] = table
    model.embedding[...] = jnp.asarray(permuted)
    after = np.asarray(model(bipartite.build(moved)).emb_ND)
    np.testing.assert_allclose(after[to_node], before, rtol=1e-5, atol=1e-6)


def test_initialisation_has_the_configured_spread_and_honours_the_key():
    def table(seed: int) -> np.ndarray:
        config = ModelConfig(dim=64, init_std=0.03)
        model = models.build(config, 300, 400, jax.random.key(seed))
        return np.asarray(nnx.state(model)["embedding"][...])

    assert table(0).shape == (700, 64)
    assert abs(table(0).std() - 0.03) < 1e-3
    np.testing.assert_array_equal(table(0), table(0))
    assert not np.array_equal(table(0), table(1))


def test_bfloat16_propagation_is_close_to_float32():
    data, key = random_data(), jax.random.key(2)
    graph = bipartite.build(data)
    high = models.build(ModelConfig(dim=8), 6, 8, key)(graph).emb_ND
    low = models.build(ModelConfig(dim=8, dtype="bfloat16"), 6, 8, key)(graph).emb_ND
    assert low.dtype == jnp.float32
    assert 0 < float(jnp.max(jnp.abs(low - high))) < 0.01
