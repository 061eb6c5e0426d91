import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from made_graph import SIZES, features, flat, nodes, random_data, renamed, shaken, taken

import oracle
from jaxrec import models
from jaxrec.config import ModelConfig
from jaxrec.data.dataset import Dataset
from jaxrec.graph import bipartite
from jaxrec.models.gcmc import GCMC


def build(layers=1, levels=1, with_features=False, **options) -> GCMC:
    config = ModelConfig("gcmc", dim=3, hidden_dim=4, layers=layers, init_std=1.0, **options)
    sizes = SIZES if with_features else (None, None)
    model = models.build(config, 6, 8, jax.random.key(0), sizes, levels)
    assert isinstance(model, GCMC)
    return shaken(model)


def graph_of(levels=1, with_features=False, **options) -> bipartite.Bipartite:
    graph = bipartite.build(random_data(levels=levels), levels=levels > 1, **options)
    return graph._replace(features=features() if with_features else None)


CASES = {
    "one layer": {},
    "two layers of three levels": {"layers": 2, "levels": 3},
    "features beside ids": {"layers": 2, "with_features": True},
    "features alone, three levels": {"levels": 3, "with_features": True, "ids": False},
    "normalised": {"batch_norm": True},
    "normalised, all at once": {
        "layers": 2,
        "levels": 3,
        "with_features": True,
        "batch_norm": True,
    },
}
cases = pytest.mark.parametrize("options", CASES.values(), ids=CASES)


def shape(options: dict) -> tuple[int, bool]:
    return options.get("levels", 1), options.get("with_features", False)


@pytest.mark.long_but("normalised")
@cases
def test_embeddings_and_their_gradient_are_those_of_the_definition(options):
    levels, with_features = shape(options)
    model, graph = build(**options), graph_of(levels, with_features)
    graphdef, state = nnx.split(model)
    params, layers = flat(state), options.get("layers", 1)
    assert ("embedding" in params) == options.get("ids", True)

    def definition(params):
        return oracle.gcmc(random_data(levels=levels), params, layers, graph.features)

    def value(state):
        emb_ND, base_ND = nnx.merge(graphdef, state)(graph)
        return jnp.sum(jnp.sin(emb_ND)), (emb_ND, base_ND)

    gradient, (emb_ND, base_ND) = jax.jit(jax.grad(value, has_aux=True))(state)
    np.testing.assert_allclose(emb_ND, definition(params), rtol=1e-4, atol=1e-5)
    ids = options.get("ids", True)
    base = params["embedding"] if ids else oracle.node_input(params, graph.features, ids)
    np.testing.assert_allclose(base_ND, base, rtol=1e-5, atol=1e-6)
    expected = oracle.slopes(lambda p: float(np.sum(np.sin(definition(p)))), params)
    ours = flat(gradient)
    assert ours.keys() == expected.keys()
    for name, slope in expected.items():
        known = ~np.isnan(slope)
        np.testing.assert_allclose(
            ours[name][known], slope[known], rtol=2e-3, atol=2e-3, err_msg=name
        )


@cases
def test_rows_and_their_gradient_equal_those_of_the_whole(options):
    options = options | {"node_dropout": 0.4}
    graph, key = graph_of(*shape(options)), jax.random.key(7)
    graphdef, state = nnx.split(build(**options))
    row_R = jnp.array([0, 13, 3, 3, 5, 9])

    def value(state, by_rows: bool):
        model = nnx.merge(graphdef, state)
        whole = None if by_rows else model(graph, key)
        found = model.rows(graph, row_R, key) if whole is None else [x[row_R] for x in whole]
        return sum(jnp.sum(jnp.sin(x)) for x in found), found[0]

    slope = jax.jit(jax.grad(value, has_aux=True), static_argnums=1)
    (ours, emb_RD), (plain, expected) = slope(state, True), slope(state, False)
    np.testing.assert_allclose(emb_RD, expected, rtol=1e-4, atol=1e-5)
    for x, y in zip(jax.tree.leaves(ours), jax.tree.leaves(plain), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("options", [{"levels": 3, "with_features": True}, {"batch_norm": True}])
def test_a_graph_reordered_for_locality_gives_the_same_in_the_datas_order(options):
    levels, with_features = shape(options)
    model, plain = build(**options), graph_of(levels, with_features)
    moved = bipartite.build(random_data(levels=levels), reorder=True, levels=levels > 1)
    place = np.asarray(moved.place_N)
    assert (place != np.arange(14)).any()
    assert model.embedding is not None
    node = np.argsort(place)
    if plain.features is not None:
        moved = moved._replace(features=taken(plain.features, node[:6], node[6:] - 6))
    expected, row_R = nodes(model, plain).emb_ND, jnp.array([12, 2, 5])
    model.embedding[...] = model.embedding[...][node]
    np.testing.assert_allclose(
        moved.in_data_order(nodes(model, moved).emb_ND), expected, rtol=1e-4, atol=1e-5
    )
    ours = nodes(model, moved, moved.places(row_R)).emb_ND
    np.testing.assert_allclose(ours, expected[row_R], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("layers", [1, 2])
def test_the_gradient_of_l_layers_reaches_exactly_the_nodes_l_steps_away(layers):
    data = random_data(5)
    graph, dense = bipartite.build(data), oracle.normalised_adjacency(data)
    away = np.linalg.matrix_power((dense != 0).astype(int), layers) > 0
    graphdef, state = nnx.split(build(layers))
    positive = jax.tree.map(jnp.abs, state)  # all ReLUs are active

    def at_node(table, node):
        changed = nnx.State({**positive, "embedding": positive["embedding"].replace(table)})
        return jnp.sum(nnx.merge(graphdef, changed)(graph).emb_ND[node])

    table = positive["embedding"][...]
    gradient = jax.jit(jax.vmap(jax.grad(at_node), (None, 0)))(table, jnp.arange(14))
    np.testing.assert_array_equal(np.any(np.asarray(gradient) != 0, axis=-1), away)


def test_permuting_node_ids_permutes_the_embeddings():
    data, rng = random_data(levels=3), np.random.default_rng(0)
    to_user, to_item = rng.permutation(6), rng.permutation(8)
    to_node = np.concatenate([to_user, 6 + to_item])
    model = build(2, 3, True, batch_norm=True)
    graph = graph_of(3, True)
    before = np.asarray(nodes(model, graph).emb_ND)
    moved = bipartite.build(renamed(data, to_user, to_item), levels=True)
    assert graph.features is not None
    assert model.embedding is not None
    mine = taken(graph.features, np.argsort(to_user), np.argsort(to_item))
    model.embedding[...] = model.embedding[...][np.argsort(to_node)]
    after = np.asarray(nodes(model, moved._replace(features=mine)).emb_ND)
    np.testing.assert_allclose(after[to_node], before, rtol=1e-4, atol=1e-5)


def test_batch_normalisation_is_over_the_users_and_over_the_items():
    model = build(batch_norm=True)
    unscaled, graph = build(), graph_of()
    assert model.scale is not None
    assert model.shift is not None
    model.scale[...] = jnp.ones((2, 3))
    model.shift[...] = jnp.zeros((2, 3))
    unscaled.out.weight[...] = unscaled.out.weight[...] * 3  # so that its epsilon is negligible
    model.out.weight[...] = unscaled.out.weight[...]
    z_ND = np.asarray(nodes(model, graph).emb_ND)
    for side in (z_ND[:6], z_ND[6:]):
        np.testing.assert_allclose(side.mean(0), 0, atol=1e-5)
        np.testing.assert_allclose(side.var(0), 1, atol=1e-3)
    model.scale[...] = jnp.array([[2.0, 2, 2], [3, 3, 3]])
    model.shift[...] = jnp.array([[1.0, 1, 1], [-1, -1, -1]])
    scaled = np.asarray(nodes(model, graph).emb_ND)
    np.testing.assert_allclose(scaled[:6], 2 * z_ND[:6] + 1, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(scaled[6:], 3 * z_ND[6:] - 1, rtol=1e-4, atol=1e-5)


def test_a_dropped_node_sends_nothing_and_the_others_stand_for_it():
    data, rate = random_data(), 0.4
    graphdef, state = nnx.split(build(node_dropout=rate))
    model = nnx.merge(graphdef, jax.tree.map(jnp.abs, state))  # all ReLUs are active
    graph, bias = bipartite.build(data), np.asarray(model.out.bias[...])
    sides = np.repeat([0, 1], [6, 8])
    whole = np.asarray(nodes(model, graph).emb_ND) - bias[sides]
    keys = jax.random.split(jax.random.key(1), 2000)
    drawn = jax.jit(jax.vmap(lambda key: model(graph, key).emb_ND))(keys) - bias[sides]
    drawn = np.asarray(drawn)
    alone = np.flatnonzero(np.diff(graph.indptr) == 1)
    assert len(alone)
    for node in alone:
        share = drawn[:, node] / whole[node]
        np.testing.assert_allclose(share, share[:, :1].repeat(3, 1), atol=1e-4)
        kept = share[:, 0] > 0.5
        np.testing.assert_allclose(share[:, 0], np.where(kept, 1 / (1 - rate), 0), atol=1e-4)
        assert abs(kept.mean() - (1 - rate)) < 5 * np.sqrt(rate * (1 - rate) / 2000)
    # The standard deviation of a mean of this many is at most rate / (1 - rate) of the whole.
    linked = np.diff(graph.indptr) > 0
    np.testing.assert_allclose(drawn.mean(0)[linked] / whole[linked], 1, atol=0.1)
    one, again, other = (nodes(model, graph, None, keys[n]).emb_ND for n in (0, 0, 1))
    np.testing.assert_array_equal(one, again)
    assert not np.array_equal(one, other)


def test_layers_drop_nodes_of_their_own():
    zero = np.zeros(1, np.int32)
    graph = bipartite.build(Dataset(zero, zero, np.arange(6), np.arange(8)))
    graphdef, state = nnx.split(build(2, node_dropout=0.5))
    model = nnx.merge(graphdef, jax.tree.map(jnp.abs, state))
    keys = jax.random.split(jax.random.key(2), 400)
    drawn = np.asarray(jax.jit(jax.vmap(lambda key: model(graph, key).emb_ND))(keys))
    # A message that reaches the user leaves it in one layer and returns from the item in the next;
    # for the item it is the reverse. A single draw for both layers would pass both or neither.
    of_user, of_item = (
        drawn[:, n] - np.asarray(model.out.bias[...])[i] for n, i in ((0, 0), (6, 1))
    )
    got_user, got_item = (np.abs(x).max(1) > 1e-5 for x in (of_user, of_item))
    for got, chance in ((got_user, 1 / 4), (got_item, 1 / 4), (got_user & got_item, 1 / 16)):
        assert abs(got.mean() - chance) < 5 * np.sqrt(chance * (1 - chance) / 400)


def test_a_linear_start_averages_neighbours_and_loses_nothing():
    config = ModelConfig("gcmc", dim=3, hidden_dim=6, layers=2, init_std=1.0, matrices="linear")
    model, graph = models.build(config, 6, 8, jax.random.key(0)), graph_of()
    dense = np.zeros((14, 14))
    np.add.at(dense, (graph.receivers, graph.senders), graph.weights)
    table_ND = np.asarray(model.embedding[...])
    np.testing.assert_allclose(model(graph).emb_ND, dense @ dense @ table_ND, rtol=1e-5, atol=1e-6)
    # A step donates its state, so no buffer may occur twice in it.
    leaves = jax.tree.leaves(nnx.state(model))
    assert len({leaf.unsafe_buffer_pointer() for leaf in leaves}) == len(leaves)
