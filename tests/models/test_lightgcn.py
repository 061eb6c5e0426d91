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


def test_learned_shares_weigh_the_layers_and_get_a_gradient():
    data, config = random_data(), ModelConfig(dim=4, layers=2, layer_weights="learned")
    model, graph = models.build(config, 6, 8, jax.random.key(0)), bipartite.build(data)
    expected = oracle.lightgcn(data, np.asarray(model.embedding[...]), 2)
    np.testing.assert_allclose(model(graph).emb_ND, expected, rtol=1e-4, atol=1e-6)
    model.share[...] = jnp.array([1.0, 0.0, 0.0])
    np.testing.assert_allclose(model(graph).emb_ND, model.embedding[...])
    graphdef, params = nnx.split(model)

    def value(params, at_rows):
        model = nnx.merge(graphdef, params)
        emb_ND = model.rows(graph, jnp.arange(14)).emb_ND if at_rows else model(graph).emb_ND
        return jnp.sum(jnp.sin(emb_ND))

    ours, plain = (jax.grad(value)(params, at_rows) for at_rows in (True, False))
    np.testing.assert_allclose(ours["share"][...], plain["share"][...], rtol=1e-4)
    assert np.all(np.abs(np.asarray(ours["share"][...])) > 1e-4)


def test_edges_are_dropped_where_a_key_is_given_and_alike_for_rows_and_whole():
    graph = bipartite.build(random_data())
    model = models.build(ModelConfig(dim=4, edge_dropout=0.5), 6, 8, jax.random.key(0))
    key, row_R = jax.random.key(1), jnp.array([3, 3, 12])
    dropped = model(graph, key).emb_ND
    assert not np.allclose(dropped, model(graph).emb_ND)
    np.testing.assert_allclose(model.rows(graph, row_R, key).emb_ND, dropped[row_R], rtol=1e-5)
