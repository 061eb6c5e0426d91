import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from made_graph import SIZES, features, flat, nodes, random_data, shaken

import oracle
from jaxrec import models
from jaxrec.config import ModelConfig
from jaxrec.graph import bipartite
from jaxrec.graph.csr import DeviceCsr
from jaxrec.models import NewEdges
from jaxrec.models.towers import Towers

NO_EDGES = NewEdges(DeviceCsr(jnp.zeros(2, jnp.int32), jnp.zeros(0, jnp.int32)), jnp.zeros(0, int))


def build(*, with_features=True, **options) -> Towers:
    config = ModelConfig("two-tower", dim=3, layers=0, init_std=1.0, **options)
    sizes = SIZES if with_features else (None, None)
    model = models.build(config, 6, 8, jax.random.key(0), sizes)
    assert isinstance(model, Towers)
    return shaken(model)


def graph_of(*, with_features=True, **options) -> bipartite.Bipartite:
    graph = bipartite.build(random_data(), **options)
    return graph._replace(features=features() if with_features else None)


def definition(params: dict, graph, final="linear", bags="mean", rows=None) -> np.ndarray:
    """Compute all nodes by definition, users first; ``rows`` replace those of the table."""
    sides = []
    table = params.get("embedding") if rows is None else rows
    for side, part in (("user", slice(0, 6)), ("item", slice(6, None))):
        x = None
        if graph.features is not None:
            encoder = {n.removeprefix(f"{side}/features/"): p for n, p in params.items()}
            encoder = {f"x/{name}": p for name, p in encoder.items()}
            x = oracle.encoded(encoder, "x", getattr(graph.features, side), sum_bags=bags == "sum")
        own = None if table is None else table[part]
        sides.append(oracle.tower(params, side, own, x, final))
    return np.concatenate(sides)


def unknown_rows(params: dict, graph) -> np.ndarray:
    """Return the table, with the rows that represent users and items without pairs put in."""
    met = np.asarray(graph.degree_N) > 0
    rows = params["embedding"].copy()
    for side, part in enumerate((slice(0, 6), slice(6, None))):
        mean = params["embedding"][part][met[part]].mean(0)
        rows[part][~met[part]] = params["unknown"][side] if "unknown" in params else mean
    return rows


CASES = {
    "one layer": {},
    "hidden layers, narrow ids": {"tower_dims": (5, 4), "id_dim": 2},
    "ids alone": {"with_features": False, "tower_dims": (4,)},
    "features alone": {"ids": False, "tower_dims": (4,)},
    "the question's": {"id_dim": 2, "final": "relu", "bags": "sum"},
    "softmax": {"ids": False, "final": "softmax"},
}
cases = pytest.mark.parametrize("options", CASES.values(), ids=CASES)


@pytest.mark.long_but("ids alone")
@cases
def test_embeddings_and_their_gradient_are_those_of_the_definition(options):
    form = {name: options[name] for name in ("final", "bags") if name in options}
    model, graph = build(**options), graph_of(with_features=options.get("with_features", True))
    graphdef, state = nnx.split(model)
    params = flat(state)
    every_row = jnp.arange(14, dtype=jnp.int32)
    mixed = jnp.asarray(np.random.default_rng(1).normal(size=(14, 3)), jnp.float32)

    def value(state):
        emb_ND = nnx.merge(graphdef, state).rows(graph, every_row).emb_ND
        return jnp.sum(jnp.square(emb_ND + mixed))

    slow = definition(params, graph, **form)
    np.testing.assert_allclose(model.rows(graph, every_row).emb_ND, slow, rtol=1e-4, atol=1e-5)
    ours = flat(jax.jit(jax.grad(value))(state))
    expected = oracle.slopes(
        lambda p: float(((definition(p, graph, **form) + np.asarray(mixed)) ** 2).sum()), params
    )
    for name, slope in expected.items():
        seen = ~np.isnan(slope)
        np.testing.assert_allclose(ours[name][seen], slope[seen], rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_who_was_never_met_has_no_id(dropout):
    model, graph = build(id_dropout=dropout, tower_dims=(4,)), graph_of()
    params = flat(nnx.state(model))
    assert ("unknown" in params) == (dropout > 0)
    rows = unknown_rows(params, graph)
    assert (rows != params["embedding"]).any(axis=1).sum() == 2  # those of user 5 and item 7
    slow = definition(params, graph, rows=rows)
    np.testing.assert_allclose(nodes(model, graph).emb_ND, slow, rtol=1e-4, atol=1e-5)
    x = jax.tree.map(lambda x: x[7:], graph.features.item)
    new = model.embed_items(graph, x, NO_EDGES, jax.random.key(0))
    np.testing.assert_allclose(new, slow[13:], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("options", [{}, {"ids": False}, {"tower_dims": (4,), "id_dim": 2}])
@pytest.mark.parametrize("reorder", [False, True])
def test_rows_are_those_of_a_call_whoever_asks(options, reorder):
    model, graph = build(**options), graph_of(reorder=reorder)
    every = nodes(model, graph)
    met = np.flatnonzero(np.asarray(graph.degree_N) > 0)
    few = jnp.asarray([met[3], met[0], met[-1], met[3]], jnp.int32)
    many = jnp.asarray(np.tile(met, 3), jnp.int32)
    for row_R in (few, many):
        for some, whole in zip(nodes(model, graph, row_R), every, strict=True):
            np.testing.assert_allclose(some, whole[row_R], rtol=1e-5, atol=1e-6)
    planned = model.plan(graph, few, None)
    table = None if model.embedding is None else model.embedding[...][planned.node_M]
    some = model.of_block(graph, table, planned)
    np.testing.assert_allclose(some.emb_ND, every.emb_ND[few], rtol=1e-5, atol=1e-6)


def test_dropped_ids_are_the_share_asked_for_and_become_the_learned_row():
    model, graph = build(id_dropout=0.3), graph_of()
    params = flat(nnx.state(model))
    rows, hidden = unknown_rows(params, graph), 0
    gone = definition(params, graph, rows=np.repeat(params["unknown"], (6, 8), axis=0))
    shown = definition(params, graph, rows=rows)
    for seed in range(40):
        key = jax.random.key(seed)
        drawn = np.asarray(nodes(model, graph, key=key).emb_ND)
        is_shown, is_gone = (
            np.isclose(drawn, x, rtol=1e-4, atol=1e-5).all(axis=1) for x in (shown, gone)
        )
        assert (is_shown | is_gone).all()
        hidden += (is_gone & ~is_shown).sum()
        few = jnp.asarray([0, 7, 3], jnp.int32)  # a few rows hide the same ids
        part = nodes(model, graph, few, key).emb_ND
        np.testing.assert_allclose(part, drawn[few], rtol=1e-4, atol=1e-5)
    assert 0.2 < hidden / (40 * 12) < 0.4
