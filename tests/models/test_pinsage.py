import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from made_graph import SIZES, features, flat, nodes, random_data, renamed, shaken, taken

import oracle
from jaxrec import models
from jaxrec.config import (
    Config,
    EvalConfig,
    ModelConfig,
    NegativesConfig,
    OptimConfig,
    SplitConfig,
    TrainConfig,
)
from jaxrec.data import synthetic
from jaxrec.data.split import split
from jaxrec.graph import bipartite, neighbors
from jaxrec.graph.csr import DeviceCsr
from jaxrec.models import pinsage
from jaxrec.models.pinsage import PinSAGE
from jaxrec.rowwise import RowOptimizer
from jaxrec.training.problem import Problem

FULL = (8, 9)  # more than the neighbours of any node in the data


def build(fan_outs=(3, 2), with_features=False, **options) -> PinSAGE:
    config = ModelConfig(
        "pinsage",
        dim=3,
        hidden_dim=4,
        layers=len(fan_outs),
        fan_outs=fan_outs,
        init_std=1.0,
        **options,
    )
    sizes = SIZES if with_features else (None, None)
    model = models.build(config, 6, 8, jax.random.key(0), sizes)
    assert isinstance(model, PinSAGE)
    return shaken(model)


def graph_of(data=None, with_features=False) -> bipartite.Bipartite:
    graph = bipartite.build(random_data() if data is None else data)
    csr = DeviceCsr(graph.indptr, graph.senders)
    how = {"walks": 8, "length": 3, "key": jax.random.key(3)}
    table = neighbors.all_most_visited(csr, 3, **how)
    return graph._replace(neighbors=table, features=features() if with_features else None)


def shares(graph: bipartite.Bipartite, fan_outs: tuple[int, ...], uniform: bool) -> list:
    """Return each layer's shares of neighbours as a dense matrix [N, N], first layer first."""
    found = []
    for count in reversed(fan_outs):
        share = np.zeros((graph.n_nodes,) * 2)
        for node in range(graph.n_nodes):
            if uniform:
                near = graph.senders[graph.indptr[node] : graph.indptr[node + 1]]
                np.add.at(share[node], np.asarray(near), 1 / max(len(near), 1))
                continue
            assert graph.neighbors is not None
            near, weight = (np.asarray(x)[node, :count] for x in graph.neighbors)
            np.add.at(share[node], near, weight / max(weight.sum(), 1e-9))
        found.append(share)
    return found


CASES = {
    "one hop": {"fan_outs": (2,)},
    "two hops": {},
    "two hops, uniform": {"neighbors": "uniform"},
    "features beside ids": {"fan_outs": (2, 3), "with_features": True},
    "features alone, uniform": {"with_features": True, "ids": False, "neighbors": "uniform"},
}
cases = pytest.mark.parametrize("options", CASES.values(), ids=CASES)


@pytest.mark.long_but("two hops, uniform", "two hops")
@cases
def test_embeddings_and_their_gradient_are_those_of_the_definition(options):
    model, graph = build(**options), graph_of(with_features=options.get("with_features", False))
    graphdef, state = nnx.split(model)
    params, ids = flat(state), options.get("ids", True)
    share = shares(graph, model.fan_outs, model.uniform)

    def definition(params):
        return oracle.pinsage(params, oracle.node_input(params, graph.features, ids), share)

    def value(state):
        emb_ND, base_ND = nnx.merge(graphdef, state)(graph)
        return jnp.sum(jnp.sin(emb_ND)), (emb_ND, base_ND)

    gradient, (emb_ND, base_ND) = jax.jit(jax.grad(value, has_aux=True))(state)
    np.testing.assert_allclose(emb_ND, definition(params), rtol=1e-4, atol=1e-5)
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
def test_rows_over_all_neighbours_and_their_gradient_equal_those_of_the_whole(options):
    uniform = options.get("neighbors") == "uniform"
    options = options | ({"fan_outs": FULL} if uniform else {})
    graph = graph_of(with_features=options.get("with_features", False))
    graphdef, state = nnx.split(build(**options))
    row_R, key = jnp.array([0, 13, 3, 3, 5, 9], jnp.int32), jax.random.key(1)

    def value(state, by_rows: bool):
        model = nnx.merge(graphdef, state)
        if by_rows:
            found = model.rows(graph, row_R, key if uniform else None)
        else:
            found = [x_ND[row_R] for x_ND in model(graph)]
        return sum(jnp.sum(jnp.sin(x)) for x in found), found[0]

    slope = jax.jit(jax.grad(value, has_aux=True), static_argnums=1)
    (ours, emb_RD), (plain, expected) = slope(state, True), slope(state, False)
    np.testing.assert_allclose(emb_RD, expected, rtol=1e-5, atol=1e-5)
    for x, y in zip(jax.tree.leaves(ours), jax.tree.leaves(plain), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5)
    if uniform:  # without a key, nothing is drawn, whatever the fan-outs are
        few = build(**options | {"fan_outs": (1, 1)})
        ours = nodes(few, graph, row_R).emb_ND
        np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-5)


def test_many_nodes_are_pooled_in_blocks(monkeypatch):
    graph, model = graph_of(), build()
    expected = nodes(model, graph).emb_ND
    for block in (3, 13):
        monkeypatch.setattr(pinsage, "_BLOCK", block)
        ours = jax.jit(lambda: model(graph).emb_ND)()
        np.testing.assert_allclose(ours, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("how", ["importance", "uniform"])
def test_a_block_is_a_tree_of_neighbours_and_gives_what_one_computes_along_it(how):
    graph, model = graph_of(), build((2, 3), neighbors=how)
    key = jax.random.key(4) if how == "uniform" else None
    row_R = jnp.array([4, 0, 13, 0, 7], jnp.int32)
    node_M, weight = model.plan(graph, row_R, key)
    assert node_M.shape == (5 * 3 * 4,)
    assert [w.shape for w in weight] == [(5, 2), (15, 3)]
    np.testing.assert_array_equal(node_M[:5], row_R)
    near = np.abs(oracle.normalised_adjacency(random_data())) > 0
    params = flat(nnx.state(model))
    assert graph.neighbors is not None

    def children(place: int, hop: int) -> list[tuple[int, float]]:
        first, count = (5, 2) if hop == 0 else (15, 3)
        start = first + place * count
        return [(start + i, float(weight[hop][place, i])) for i in range(count)]

    def embedded(place: int, layer: int) -> np.ndarray:
        """Return the output of a layer at a place of the block; layer 0 is the input."""
        if layer == 0:
            return params["embedding"][int(node_M[place])]
        of = {name: params[f"convs/{layer - 1}/{name}"] for name in ("message", "update")}
        of |= {f"{name}_bias": params[f"convs/{layer - 1}/{name}_bias"] for name in of}
        pooled = 0
        for child, share in children(place, 2 - layer):
            sent = embedded(child, layer - 1) @ of["message"] + of["message_bias"]
            pooled = pooled + share * np.maximum(sent, 0)
        both = np.concatenate([embedded(place, layer - 1), pooled])
        h = np.maximum(both @ of["update"] + of["update_bias"], 0)
        return h / (np.linalg.norm(h) or 1)

    for place in range(15):
        for hop in (0, 1) if place < 5 else (1,):
            node, shares = int(node_M[place]), [share for _, share in children(place, hop)]
            beside = [int(node_M[at]) for at, share in children(place, hop) if share > 0]
            assert sum(shares) == pytest.approx(1 if near[node].any() else 0, abs=1e-6)
            if how == "uniform":
                assert len(set(beside)) == len(beside) == min(len(shares), near[node].sum())
                assert near[node, beside].all()
            else:
                top = np.asarray(graph.neighbors.node_RF)[node, : len(shares)]
                assert beside == top[: len(beside)].tolist()
    h = np.stack([embedded(place, 2) for place in range(5)])
    z = np.maximum(h @ params["head"] + params["head_bias"], 0) @ params["out"]
    block = model.plan(graph, row_R, key)
    assert model.embedding is not None
    ours = model.of_block(graph, model.embedding[...][block.node_M], block)
    np.testing.assert_allclose(ours.emb_ND, z, rtol=1e-4, atol=1e-5)
    for x, y in zip(ours, nodes(model, graph, row_R, key), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6)


def test_a_draw_is_a_function_of_the_key_and_hops_draw_apart():
    graph, model = graph_of(), build((1, 1), neighbors="uniform")
    row_R = jnp.repeat(jnp.arange(5, dtype=jnp.int32), 2)
    one, again, other = (model.plan(graph, row_R, jax.random.key(n)) for n in (1, 1, 2))
    np.testing.assert_array_equal(one.node_M, again.node_M)
    assert not np.array_equal(one.node_M, other.node_M)
    first, second = np.asarray(one.node_M)[10:20], np.asarray(one.node_M)[20:30]
    assert not np.array_equal(first, second)


def test_the_gradient_of_two_layers_reaches_exactly_the_neighbourhood_of_two_hops():
    data = random_data(5)
    graph, dense = bipartite.build(data), oracle.normalised_adjacency(data)
    near = np.linalg.matrix_power((dense != 0) + np.eye(14), 2) > 0
    graphdef, state = nnx.split(build(FULL, neighbors="uniform"))
    positive = jax.tree.map(jnp.abs, state)  # every ReLU is active

    def at_node(table, node):
        changed = nnx.State({**positive, "embedding": positive["embedding"].replace(table)})
        model = nnx.merge(graphdef, changed)
        return jnp.sum(jnp.sin(model.rows(graph, node[None], jax.random.key(0)).emb_ND))

    table = positive["embedding"][...]
    node_N = jnp.arange(14, dtype=jnp.int32)
    gradient = jax.jit(jax.vmap(jax.grad(at_node), (None, 0)))(table, node_N)
    np.testing.assert_array_equal(np.any(np.asarray(gradient) != 0, axis=-1), near)


def test_permuting_node_ids_permutes_the_embeddings():
    data, rng = random_data(), np.random.default_rng(0)
    to_user, to_item = rng.permutation(6), rng.permutation(8)
    to_node = np.concatenate([to_user, 6 + to_item])
    model = build(FULL, True, neighbors="uniform")
    row_N, key = jnp.arange(14, dtype=jnp.int32), jax.random.key(0)
    graph = graph_of(data, True)
    before = np.asarray(nodes(model, graph, row_N, key).emb_ND)
    assert graph.features is not None
    assert model.embedding is not None
    mine = taken(graph.features, np.argsort(to_user), np.argsort(to_item))
    moved = bipartite.build(renamed(data, to_user, to_item))._replace(features=mine)
    model.embedding[...] = model.embedding[...][np.argsort(to_node)]
    for after in (nodes(model, moved), nodes(model, moved, row_N, key)):
        np.testing.assert_allclose(after.emb_ND[to_node], before, rtol=1e-4, atol=1e-5)


def problem(data=None, **parts) -> Problem:
    base = Config(
        split=SplitConfig(test=0.1, validation=0.1),
        model=ModelConfig("pinsage", dim=4, layers=2, fan_outs=(3, 2)),
        negatives=NegativesConfig("uniform", 2),
        train=TrainConfig(batch_size=4, l2=0.01),
        eval=EvalConfig(k=(20,)),
    )
    config = dataclasses.replace(base, **parts)
    if data is None:
        data = synthetic.make(30, 45, 300, communities=3, seed=3, features=True)
    return Problem.build(config, split(data, config.split, 0))


def test_the_steps_of_a_run_draw_blocks_of_their_own_and_repeat_them():
    model = ModelConfig("pinsage", dim=4, layers=1, neighbors="uniform", features=False)
    p, q = problem(model=model), problem(model=model, seed=1)
    encoder = nnx.merge(p.stepper.graphdef, p.initial_state().params)
    row_R = jnp.arange(75, dtype=jnp.int32)

    def block(p, step):
        key = p.stepper._model_key(p.data, jnp.int32(step))
        return np.asarray(encoder.plan(p.data.graph, row_R, key).node_M)

    np.testing.assert_array_equal(block(p, 3), block(p, 3))
    assert not np.array_equal(block(p, 3), block(p, 4))
    assert not np.array_equal(block(p, 3), block(q, 3))


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("sgd", {}),
        ("adagrad", {"neighbors": "uniform", "features": False}),
        ("adam", {"neighbors": "uniform", "score": "mlp", "score_width": 3}),
    ],
)
def test_training_with_sparse_updates_equals_training_with_dense_ones(name, options):
    # The layers are wide enough for each row to have several active units. With one active unit,
    # the gradient through the length is 0 except for rounding, from which Adam would take full
    # steps.
    model = dataclasses.replace(problem().config.model, hidden_dim=16, **options)

    def trained(sparse: bool) -> tuple[dict[str, np.ndarray], float]:
        p = problem(
            model=model,
            optim=OptimConfig(name, learning_rate=0.02, schedule="linear", sparse=sparse),
        )
        assert isinstance(p.stepper.tx, RowOptimizer) == sparse
        state, totals = jax.jit(p.stepper.dispatch)(p.initial_state(), p.data, jnp.int32(40))
        began, ended = p.parameters(p.initial_state()), p.parameters(state)
        assert all(np.abs(ended[path] - began[path]).max() > 1e-4 for path in began)
        return ended, float(totals.loss)

    (ours, loss), (dense, dense_loss) = trained(True), trained(False)
    assert loss == pytest.approx(dense_loss, rel=1e-5)
    assert ours.keys() == dense.keys()
    for path, value in dense.items():
        np.testing.assert_allclose(ours[path], value, atol=3e-5, err_msg=path)


def test_pairs_of_any_weight_count_the_same_in_training_and_in_ranking():
    data = synthetic.make(30, 45, 300, communities=3, seed=3)
    data = dataclasses.replace(data, weight=np.linspace(0.2, 5, 300, dtype=np.float32))
    model = ModelConfig("pinsage", dim=4, layers=1, fan_outs=(45,), neighbors="uniform")
    p = problem(data, model=model)
    state = p.initial_state()
    encoder = nnx.merge(p.stepper.graphdef, state.params)
    rows = nodes(encoder, p.data.graph, jnp.arange(75, dtype=jnp.int32), jax.random.key(0))
    whole = np.concatenate([np.asarray(x) for x in p.embeddings(state)])
    np.testing.assert_allclose(rows.emb_ND, whole, rtol=1e-4, atol=1e-5)


def test_a_linear_start_averages_a_node_and_its_neighbours():
    config = ModelConfig(
        "pinsage", dim=3, hidden_dim=6, layers=2, fan_outs=(3, 2), matrices="linear"
    )
    model, graph = models.build(config, 6, 8, jax.random.key(0)), graph_of()
    h_ND = np.asarray(model.embedding[...])
    for share in shares(graph, (3, 2), uniform=False):
        h_ND = (h_ND + share @ h_ND) / 2
        # Mirroring keeps the length of a vector, since one of x and -x passes ReLU.
        h_ND = h_ND / np.linalg.norm(h_ND, axis=1, keepdims=True)
    np.testing.assert_allclose(model(graph).emb_ND, h_ND, rtol=1e-4, atol=1e-5)
    leaves = jax.tree.leaves(nnx.state(model))
    assert len({leaf.unsafe_buffer_pointer() for leaf in leaves}) == len(leaves)
