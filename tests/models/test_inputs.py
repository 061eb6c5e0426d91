import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from made_graph import SIZES, features, flat, shaken

import oracle
from jaxrec.graph.bipartite import NodeFeatures
from jaxrec.models.inputs import FeatureEncoder, NodeInput


@pytest.mark.parametrize("side", ["user", "item"])
def test_features_are_encoded_as_loops_over_columns_and_names_do(side):
    x = getattr(features(), side)
    sizes = SIZES[side == "item"]
    encoder = shaken(FeatureEncoder(sizes, 5, 0.5, nnx.Rngs(params=1)))
    params = {f"{side}/{name}": value for name, value in flat(nnx.state(encoder)).items()}
    assert (f"{side}/number" in params) == (sizes.numbers > 0)
    np.testing.assert_allclose(encoder(x), oracle.encoded(params, side, x), rtol=1e-5, atol=1e-6)


def test_a_bag_is_the_mean_of_its_names_and_an_empty_one_the_name_0():
    x = features().item
    assert x is not None
    encoder = FeatureEncoder(SIZES[1], 5, 1.0, nnx.Rngs(params=0))
    encoder.category[0][...] = jnp.zeros((4, 5))
    encoder.bag[1][...] = jnp.zeros((3, 5))
    table, made = encoder.bag[0][...], encoder(x)
    used = np.asarray(x.bag[0])
    assert used[0].tolist() == [0, 0, 0, 0]
    np.testing.assert_allclose(made[0], table[0], rtol=1e-6)
    assert (used[4] > 0).all()
    np.testing.assert_allclose(made[4], table[used[4]].mean(0), rtol=1e-5)

    # The name used as padding gets no gradient from bags that hold other names.
    graphdef, params = nnx.split(encoder)
    held = jax.tree.map(lambda array: array[1:5], x)
    gradient = jax.grad(lambda params: jnp.sum(nnx.merge(graphdef, params)(held)))(params)
    of_name = np.any(flat(gradient)["bag/0"] != 0, axis=1)
    assert of_name.tolist() == [False, True, True, True, True]


@pytest.mark.parametrize("ids", [True, False])
@pytest.mark.parametrize("sides", ["both", "user", "item", "none"])
def test_rows_of_the_input_and_their_gradient_are_those_of_all_of_it(ids, sides):
    x = features()
    held = NodeFeatures(*(x[i] if sides in ("both", x._fields[i]) else None for i in (0, 1)))
    given = None if sides == "none" else held
    sizes = (held.user and SIZES[0], held.item and SIZES[1])
    graphdef, params = nnx.split(shaken(NodeInput(6, sizes, 3, 0.5, nnx.Rngs(params=2))))
    table = jnp.asarray(np.random.default_rng(0).normal(size=(14, 3)), jnp.float32)
    row_M = jnp.array([5, 6, 13, 0, 6], jnp.int32)

    def by_rows(params, table):
        taken = table[row_M] if ids else None
        return nnx.merge(graphdef, params).rows(given, row_M, taken)

    def of_all(params, table):
        made = nnx.merge(graphdef, params).all(given, 14, table if ids else None)
        return made[row_M]

    np.testing.assert_allclose(by_rows(params, table), of_all(params, table), rtol=1e-5, atol=1e-6)
    ours, plain = (
        jax.grad(lambda *at, of=of: jnp.sum(jnp.sin(of(*at))), (0, 1))(params, table)
        for of in (by_rows, of_all)
    )
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(plain), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
    numbers = {"embedding": np.asarray(table)}
    numbers |= {f"inputs/{name}": value for name, value in flat(params).items()}
    if sides == "both":
        expected = oracle.node_input(numbers, given, ids)[row_M]
        np.testing.assert_allclose(by_rows(params, table), expected, rtol=1e-5, atol=1e-6)
