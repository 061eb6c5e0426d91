import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from made_graph import random_data, renamed

import oracle
from jaxrec import models
from jaxrec.config import ModelConfig
from jaxrec.errors import InputError
from jaxrec.graph import bipartite
from jaxrec.models.ngcf import keep_mask

FORMS = ("paper", "lecture")


def build(form, layers=2, **options):
    config = ModelConfig("ngcf", dim=3, layers=layers, form=form, init_std=1.0, **options)
    model = models.build(config, 6, 8, jax.random.key(0))
    if form == "lecture":
        for conv in model.convs:
            conv.bias[...] = jnp.array([0.3, -0.2, 0.1])
    return model


def numpy_params(model) -> dict:
    """Return a model's parameters in float64, in the form that oracle.ngcf takes."""
    made = {"table": np.array(model.embedding[...], np.float64)}
    for name in ("first", "second", "bias"):
        parts = [getattr(conv, name) for conv in model.convs]
        made[name] = [np.zeros(3) if x is None else np.array(x[...], np.float64) for x in parts]
    return made


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("layers", [1, 3])
def test_embeddings_are_those_of_the_definition(form, layers):
    data, model = random_data(), build(form, layers)
    params = {"table": np.asarray(model.embedding[...])}
    for name in ("first", "second"):
        params[name] = [np.asarray(getattr(conv, name)[...]) for conv in model.convs]
    params["bias"] = [
        0 if conv.bias is None else np.asarray(conv.bias[...]) for conv in model.convs
    ]
    nodes = model(bipartite.build(data))
    np.testing.assert_allclose(nodes.emb_ND, oracle.ngcf(data, params, form), rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(nodes.base_ND, model.embedding[...])


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("drops", [False, True])
def test_rows_and_their_gradient_equal_those_of_the_whole(form, drops):
    graph = bipartite.build(random_data())
    options = {"node_dropout": 0.3, "message_dropout": 0.2} if drops else {}
    key = jax.random.key(7) if drops else None
    graphdef, params = nnx.split(build(form, **options))
    row_R = jnp.array([0, 13, 3, 3, 5, 9])

    def by_rows(params):
        return nnx.merge(graphdef, params).rows(graph, row_R, key)

    def of_whole(params):
        return jax.tree.map(lambda x: x[row_R], nnx.merge(graphdef, params)(graph, key))

    for x, y in zip(by_rows(params), of_whole(params), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6)

    def value(of, params):
        return sum(jnp.sum(jnp.sin(x)) for x in of(params))

    ours, plain = (jax.grad(lambda p, of=of: value(of, p))(params) for of in (by_rows, of_whole))
    for x, y in zip(jax.tree.leaves(ours), jax.tree.leaves(plain), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("form", FORMS)
def test_bfloat16_and_its_gradient_are_close_to_float32(form):
    graph, row_R = bipartite.build(random_data()), jnp.array([0, 3, 3, 9])

    def gradient(dtype):
        graphdef, params = nnx.split(build(form, dtype=dtype))
        of = jax.grad(lambda p: jnp.sum(nnx.merge(graphdef, p).rows(graph, row_R).emb_ND))
        return of(params)["embedding"][...]

    high, low = gradient("float32"), gradient("bfloat16")
    assert low.dtype == jnp.float32
    assert 0 < float(jnp.max(jnp.abs(high - low))) < 0.1 * float(jnp.max(jnp.abs(high)))


@pytest.mark.parametrize("form", FORMS)
def test_the_gradient_is_that_of_finite_differences_of_the_definition(form):
    data, model = random_data(), build(form)
    graph, params = bipartite.build(data), numpy_params(model)
    graphdef, state = nnx.split(model)
    ours = jax.grad(lambda p: jnp.sum(jnp.sin(nnx.merge(graphdef, p)(graph).emb_ND)))(state)
    convs = [ours["convs"][n] for n in range(2)]
    found = {"table": [ours["embedding"][...]]}
    found |= {name: [conv[name][...] for conv in convs] for name in ("first", "second")}
    found["bias"] = [conv["bias"][...] for conv in convs] if form == "lecture" else []
    for name, gradients in found.items():
        for number, gradient in enumerate(gradients):
            x = params[name] if name == "table" else params[name][number]
            expected = np.zeros(x.shape)
            for place in np.ndindex(*x.shape):
                here, ends = x[place], []
                for step in (1e-6, -1e-6):
                    x[place] = here + step
                    ends.append(np.sum(np.sin(oracle.ngcf(data, params, form))))
                x[place] = here
                expected[place] = (ends[0] - ends[1]) / 2e-6
            np.testing.assert_allclose(gradient, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("form", FORMS)
def test_the_gradient_of_l_layers_reaches_exactly_the_l_hop_neighbourhood(form):
    data = random_data(5)
    graph, dense = bipartite.build(data), oracle.normalised_adjacency(data)
    for layers in (1, 2):
        near = np.linalg.matrix_power((dense != 0) + np.eye(14), layers) > 0
        model = build(form, layers)
        if form == "lecture":
            for conv in model.convs:
                conv.bias[...] = jnp.full(3, 20.0)  # every ReLU is active
        graphdef, params = nnx.split(model)

        def at_node(table, node, graphdef=graphdef, params=params):
            changed = nnx.State({**params, "embedding": params["embedding"].replace(table)})
            return jnp.sum(nnx.merge(graphdef, changed)(graph).emb_ND[node])

        table = params["embedding"][...]
        gradient = jax.vmap(jax.grad(at_node), (None, 0))(table, jnp.arange(14))
        np.testing.assert_array_equal(np.any(np.asarray(gradient) != 0, axis=-1), near)


@pytest.mark.parametrize("form", FORMS)
def test_permuting_node_ids_permutes_the_embeddings(form):
    data, rng = random_data(), np.random.default_rng(0)
    to_user, to_item = rng.permutation(6), rng.permutation(8)
    to_node = np.concatenate([to_user, 6 + to_item])
    model = build(form)
    before = np.asarray(model(bipartite.build(data)).emb_ND)
    moved = bipartite.build(renamed(data, to_user, to_item))
    model.embedding[...] = model.embedding[...][np.argsort(to_node)]
    after = np.asarray(model(moved).emb_ND)
    np.testing.assert_allclose(after[to_node], before, rtol=1e-5, atol=1e-6)
    assert np.abs(after - before).max() > 0.1


def test_dropout_needs_a_key_and_is_a_function_of_it():
    graph = bipartite.build(random_data())
    model = build("paper", node_dropout=0.4, message_dropout=0.4)
    whole = model(graph).emb_ND
    np.testing.assert_array_equal(whole, build("paper")(graph).emb_ND)
    one, again, other = (model(graph, jax.random.key(n)).emb_ND for n in (1, 1, 2))
    np.testing.assert_array_equal(one, again)
    assert not np.array_equal(one, other)
    assert not np.array_equal(one, whole)


def test_the_mask_keeps_the_mean_and_belongs_to_the_row():
    mask = np.asarray(keep_mask(jax.random.key(3), 0.3, jnp.arange(4000), 5))
    assert set(np.unique(mask)) == {0, np.float32(1 / 0.7)}
    np.testing.assert_allclose((mask == 0).mean(0), 0.3, atol=4 * np.sqrt(0.21 / 4000))
    # The rows are independent, and so are the columns.
    assert abs(np.corrcoef(mask.T)[np.triu_indices(5, 1)]).max() < 4 / np.sqrt(4000)
    some = keep_mask(jax.random.key(3), 0.3, jnp.array([17, 2, 17]), 5)
    np.testing.assert_array_equal(some, mask[[17, 2, 17]])


def test_a_linear_start_sums_neighbours_and_the_interaction_learns_from_nothing():
    model, data = build("paper", matrices="linear"), random_data()
    graph, dense = bipartite.build(data), oracle.normalised_adjacency(data)
    layers = [np.asarray(model.embedding[...])]
    for _ in range(2):
        total = layers[-1] + dense @ layers[-1]
        layers.append(np.where(total > 0, total, 0.2 * total))
    emb_ND = np.concatenate(layers, axis=1)
    np.testing.assert_allclose(model(graph).emb_ND, emb_ND, rtol=1e-5, atol=1e-6)
    graphdef, params = nnx.split(model)
    slope = jax.grad(lambda p: jnp.sum(nnx.merge(graphdef, p)(graph).emb_ND))(params)
    for conv in (0, 1):
        assert np.all(np.asarray(slope["convs"][conv]["second"][...]) != 0)
    # A step donates its state, so no buffer may occur twice in it.
    leaves = jax.tree.leaves(params)
    assert len({leaf.unsafe_buffer_pointer() for leaf in leaves}) == len(leaves)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"layers": 0}, "model.layers must be at least 1 for ngcf"),
        ({"edge_dropout": 0.1}, "model.edge_dropout is for lightgcn"),
        ({"layer_weights": "learned"}, "model.layer_weights is for lightgcn"),
        ({"node_dropout": 1.0}, "model.node_dropout must be a share"),
        ({"form": "lecture", "matrices": "linear"}, "model.matrices linear needs model.form paper"),
    ],
)
def test_what_ngcf_does_not_have_is_refused_by_name(options, said):
    with pytest.raises(InputError, match=said):
        ModelConfig("ngcf", **options)
