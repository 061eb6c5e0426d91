import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import PartitionSpec as P

import oracle
from jaxrec.data.dataset import Csr, Dataset
from jaxrec.errors import InputError, RunError
from jaxrec.evaluation.ranking import (
    Evaluator,
    Scorer,
    dot_scorer,
    empty_csr,
    popularity_scorer,
    random_scorer,
    rank_block,
    union,
)
from jaxrec.graph import bipartite
from jaxrec.graph.spmm import propagate


def csr_of(rows: list[set[int]]) -> Csr:
    indptr = np.cumsum([0, *map(len, rows)]).astype(np.int32)
    return Csr(indptr, np.array([i for row in rows for i in sorted(row)], np.int32))


def table(params, user_B):
    return params[user_B]


def table_scorer(score_UI: np.ndarray) -> Scorer:
    return Scorer(table, jnp.asarray(score_UI, jnp.float32), score_UI.shape[1])


def random_case(seed: int, users: int, items: int):
    """Return a case with many ties, as scores have few values.

    Some users have no relevant items or no seen items.
    """
    rng = np.random.default_rng(seed)
    score_UI = rng.integers(0, 6, (users, items)).astype(np.float32)
    relevant, seen = [], []
    for _ in range(users):
        order = rng.permutation(items)
        n_seen, n_relevant = rng.integers(0, items, 2) * (rng.random(2) < 0.8)
        seen.append(set(order[:n_seen].tolist()))
        relevant.append(set(order[n_seen : n_seen + n_relevant].tolist()))
    relevant[0] = relevant[0] or {0}
    return score_UI, relevant, seen


@settings(max_examples=12)
@given(
    seed=st.integers(0, 2**16),
    size=st.sampled_from([(1, 2, 1, 1), (17, 30, 3, 2), (25, 12, 32, 1)]),
)
def test_equals_the_oracle(seed: int, size: tuple[int, int, int, int]):
    users, items, block, devices = size
    score_UI, relevant, seen = random_case(seed, users, items)
    ks = (1, 5, 20)
    evaluator = Evaluator(
        csr_of(relevant),
        csr_of(seen),
        ks,
        items,
        block=block,
        devices=jax.devices()[:devices],
    )
    found = evaluator(table_scorer(score_UI))
    expected = oracle.ranking_metrics(score_UI, relevant, seen, ks)
    assert found == pytest.approx(expected, abs=1e-6)
    assert evaluator.users == sum(map(bool, relevant))


@pytest.mark.parametrize("devices", [1, 3])
def test_only_allowed_items_are_ranked(devices):
    score_UI, relevant, seen = random_case(5, 19, 30)
    allowed = np.random.default_rng(1).random(30) < 0.4
    relevant = [row & set(np.flatnonzero(allowed).tolist()) for row in relevant]
    evaluator = Evaluator(
        *(csr_of(relevant), csr_of(seen), (5, 20), 30),
        allowed=allowed,
        block=4,
        devices=jax.devices()[:devices],
    )
    barred = [row | set(np.flatnonzero(~allowed).tolist()) for row in seen]
    expected = oracle.ranking_metrics(score_UI, relevant, barred, (5, 20))
    assert evaluator(table_scorer(score_UI)) == pytest.approx(expected, abs=1e-6)


@pytest.fixture(scope="module")
def wide():
    """Return a case with many ties and enough items that top k searches runs of items."""
    rng = np.random.default_rng(0)
    users, items = 90, 1500
    score_UI = np.round(rng.normal(size=(users, items)), 1).astype(np.float32)
    relevant, seen = [], []
    for u in range(users):
        order = np.argsort(-score_UI[u] + rng.normal(size=items))[: 20 + 2 * u]
        seen.append(set(order[: 2 * u].tolist()))
        relevant.append(set(order[2 * u :].tolist()) if u % 7 else set())
    return score_UI, relevant, seen, oracle.ranking_metrics(score_UI, relevant, seen, (3, 10))


@pytest.mark.parametrize("devices", [1, 8])
@pytest.mark.parametrize("block", [None, 4, 33])
def test_the_same_on_any_number_of_devices_and_any_block_size(wide, devices, block):
    score_UI, relevant, seen, expected = wide
    evaluator = Evaluator(
        csr_of(relevant),
        csr_of(seen),
        (3, 10),
        score_UI.shape[1],
        block=block,
        devices=jax.devices()[:devices],
    )
    assert evaluator(table_scorer(score_UI)) == pytest.approx(expected, abs=1e-6)


def test_the_same_body_under_shard_map(wide):
    score_UI, relevant, seen, expected = wide
    ks = (3, 10)
    evaluator = Evaluator(csr_of(relevant), csr_of(seen), ks, score_UI.shape[1])
    (blocks,) = evaluator._blocks
    mesh = jax.make_mesh((8,), ("devices",), axis_types=(jax.sharding.AxisType.Auto,))

    def body(params, block):
        own = jax.tree.map(lambda x: x[0], block)
        unranked_I = jnp.full(score_UI.shape[1], max(ks), jnp.int32)
        best_rank_I, result = rank_block(table, ks, unranked_I, params, own)
        return jax.lax.pmin(best_rank_I, "devices"), jax.lax.psum(result.sums_M, "devices")

    mapped = jax.shard_map(body, mesh=mesh, in_specs=(P(), P("devices")), out_specs=(P(), P()))
    best_rank_I, sums_M = jax.jit(mapped)(jnp.asarray(score_UI), blocks)
    names = [name for name in expected if not name.startswith("coverage")]
    means = dict(zip(names, (np.asarray(sums_M) / evaluator.users).tolist(), strict=True))
    means |= {f"coverage@{k}": float((np.asarray(best_rank_I) < k).mean()) for k in ks}
    assert means == pytest.approx(expected, abs=1e-6)
    assert means == pytest.approx(evaluator(table_scorer(score_UI)), abs=1e-6)


def test_new_parameters_do_not_compile_again():
    traces = []

    def counting(params, user_B):
        traces.append(user_B.shape)
        return params[user_B]

    rng = np.random.default_rng(0)
    evaluator = Evaluator(csr_of([{1}, {2}, {0, 3}] * 5), empty_csr(15), (2,), 4, block=1)
    results = [
        evaluator(Scorer(counting, jnp.asarray(rng.random((15, 4)), jnp.float32), 4))
        for _ in range(3)
    ]
    assert len(traces) == 1
    assert results[0] != results[1]


def test_cut_offs_of_one_length_share_the_program_that_ranks():
    traces = []

    def counting(params, user_B):
        traces.append(user_B.shape)
        return params[user_B]

    scorer = Scorer(counting, jnp.ones((3, 70), jnp.float32), 70)
    for cut_offs in ((21,), (5, 30), (50,)):
        Evaluator(csr_of([{1}, {2}, {0, 3}]), empty_csr(3), cut_offs, 70)(scorer)
    assert len(traces) == 1
    Evaluator(csr_of([{1}, {2}, {0, 3}]), empty_csr(3), (51,), 70)(scorer)
    assert len(traces) == 2


def test_ties_go_to_the_lower_item_id():
    evaluator = Evaluator(csr_of([{0}, {1}, {2}]), empty_csr(3), (1, 2), 3)
    found = evaluator(table_scorer(np.zeros((3, 3), np.float32)))
    assert found is not None
    assert found["recall@1"] == pytest.approx(1 / 3)
    assert found["recall@2"] == pytest.approx(2 / 3)
    assert found["coverage@2"] == pytest.approx(2 / 3)


def test_a_masked_item_is_never_a_hit():
    # Item 0 is relevant and seen, and fewer items are left than K.
    evaluator = Evaluator(csr_of([{0}]), csr_of([{0, 1}]), (3,), 3)
    found = evaluator(table_scorer(np.ones((1, 3), np.float32)))
    assert found is not None
    assert found["recall@3"] == 0
    assert found["coverage@3"] == pytest.approx(1 / 3)


def test_huge_scores_are_not_squashed():
    score_UI = np.array([[1e30, 2e30, 88.0, 89.0]], np.float32)
    found = Evaluator(csr_of([{1}]), empty_csr(1), (1,), 4)(table_scorer(score_UI))
    assert found is not None
    assert found["recall@1"] == 1


@pytest.mark.parametrize("nan", [np.nan, -np.nan])
@pytest.mark.parametrize("item", [0, 3, 799])
def test_nan_scores_are_named_even_where_masked(nan: float, item: int):
    score_UI = np.ones((3, 800), np.float32)
    score_UI[1, item] = nan
    evaluator = Evaluator(csr_of([{1}, {1}, {1}]), csr_of([{3}, {3}, {3}]), (2,), 800, block=1)
    with pytest.raises(RunError, match="scores of 1 users are not numbers"):
        evaluator(table_scorer(score_UI))


def test_nan_scores_of_users_who_are_not_ranked_do_not_matter():
    score_UI = np.ones((2, 4), np.float32)
    score_UI[0] = np.nan
    found = Evaluator(csr_of([set(), {0}]), empty_csr(2), (1,), 4)(table_scorer(score_UI))
    assert found is not None
    assert found["recall@1"] == 1


def test_stops_between_blocks():
    evaluator = Evaluator(
        csr_of([{0}] * 6), empty_csr(6), (1,), 2, block=1, devices=jax.devices()[:1]
    )
    asked = []

    def third_time() -> bool:
        asked.append(True)
        return len(asked) == 3

    scorer = table_scorer(np.ones((6, 2), np.float32))
    assert evaluator(scorer, third_time) is None
    assert len(asked) == 3
    assert evaluator(scorer, lambda: False) == evaluator(scorer)


def test_nothing_relevant_is_refused():
    with pytest.raises(InputError, match="no user has a relevant item"):
        Evaluator(empty_csr(3), empty_csr(3), (1,), 4)


def test_mismatched_sizes_are_refused():
    with pytest.raises(ValueError, match="different numbers of users"):
        Evaluator(csr_of([{0}]), empty_csr(2), (1,), 4)
    with pytest.raises(ValueError, match="the scorer has 3 items"):
        Evaluator(csr_of([{0}]), empty_csr(1), (1,), 4)(random_scorer(0, 3))


def test_breakdown_adds_up_to_the_metrics(wide):
    score_UI, relevant, seen, expected = wide
    evaluator = Evaluator(csr_of(relevant), csr_of(seen), (3, 10), score_UI.shape[1], block=4)
    parts = evaluator.breakdown(table_scorer(score_UI), 3)
    assert parts.user_n.tolist() == [u for u, items in enumerate(relevant) if items]
    assert parts.recall_n.mean() == pytest.approx(expected["recall@3"], abs=1e-6)
    assert parts.hits_I.sum() == round(expected["precision@3"] * 3 * evaluator.users)
    assert parts.relevant_I.sum() == sum(map(len, relevant))
    lists = [oracle.top_list(score_UI[u], seen[u], 3) for u in parts.user_n]
    hits = [set(items) & relevant[u] for u, items in zip(parts.user_n, lists, strict=True)]
    by_hand = [len(hit) / len(relevant[u]) for u, hit in zip(parts.user_n, hits, strict=True)]
    assert parts.recall_n == pytest.approx(by_hand)
    assert parts.hits_I[5] == sum(5 in hit for hit in hits)
    with pytest.raises(ValueError, match="fewer than 11"):
        evaluator.breakdown(table_scorer(score_UI), 11)


def test_recall_on_train_needs_only_an_empty_mask():
    train = csr_of([{0, 1}, {2}])
    score_UI = np.array([[3, 2, 1], [1, 2, 3]], np.float32)
    found = Evaluator(train, empty_csr(2), (2,), 3)(table_scorer(score_UI))
    assert found is not None
    assert found["recall@2"] == 1


def test_union_of_masks():
    a, b = [{3, 1}, set(), {0}], [{1, 2}, {4}, set()]
    both = union(csr_of(a), csr_of(b))
    expected = csr_of([x | y for x, y in zip(a, b, strict=True)])
    assert np.array_equal(both.indptr, expected.indptr)
    assert np.array_equal(both.indices, expected.indices)
    assert both.indices.dtype == both.indptr.dtype == np.int32
    assert union(empty_csr(2), empty_csr(2)).degree.tolist() == [0, 0]


def test_evaluation_moves_nothing_to_the_device_implicitly():
    rng = np.random.default_rng(0)
    evaluator = Evaluator(csr_of([{1}, {2}] * 8), empty_csr(16), (2,), 4, block=1)
    scorer = dot_scorer(
        rng.normal(size=(16, 3)).astype(np.float32), rng.normal(size=(4, 3)).astype(np.float32)
    )
    first = evaluator(scorer)
    with jax.transfer_guard("disallow"):
        assert evaluator(scorer) == first


def read_lightgcn(path) -> Csr:
    """Read a LightGCN text file, of which each line is a user and their items."""
    rows = [np.array(line.split(), np.int32) for line in path.read_text().splitlines()]
    rows = sorted(rows, key=lambda row: row[0])
    assert [row[0] for row in rows] == list(range(len(rows)))
    indptr = np.cumsum([0] + [len(row) - 1 for row in rows]).astype(np.int32)
    return Csr(indptr, np.concatenate([np.sort(row[1:]) for row in rows]))


@pytest.fixture(scope="module")
def gowalla(real_data):
    folder = real_data / "gowalla"
    train, test = read_lightgcn(folder / "train.txt"), read_lightgcn(folder / "test.txt")
    evaluator = Evaluator(test, train, (20,), 40981, devices=jax.devices()[:1])
    assert evaluator.users == 29858
    return folder, train, evaluator


@pytest.mark.long
def test_popularity_on_gowalla(gowalla):
    _, train, evaluator = gowalla
    found = evaluator(popularity_scorer(np.bincount(train.indices, minlength=40981)))
    known = {
        "recall@20": 0.041631,
        "recall_capped@20": 0.042825,
        "ndcg@20": 0.031690,
        "precision@20": 0.013881,
        "hit_rate@20": 0.203831,
    }
    assert {key: found[key] for key in known} == pytest.approx(known, abs=1e-5)


@pytest.mark.long
def test_another_implementations_embeddings_on_gowalla(gowalla):
    """Compare propagation and ranking together with the results of LightGCN-PyTorch's code."""
    folder, train, evaluator = gowalla
    base = np.load(folder / "lightgcn-pytorch-epoch5.npz")
    n_users, n_items = len(base["user"]), len(base["item"])
    user = np.repeat(np.arange(n_users, dtype=np.int32), train.degree)
    data = Dataset(user, train.indices, np.arange(n_users), np.arange(n_items))
    graph = bipartite.build(data)
    layers = [jnp.concatenate([jnp.asarray(base["user"]), jnp.asarray(base["item"])])]
    for _ in range(3):
        layers.append(propagate(graph, layers[-1]))
    emb_ND = jnp.mean(jnp.stack(layers), axis=0)
    found = evaluator(dot_scorer(emb_ND[:n_users], emb_ND[n_users:]))
    assert found["recall@20"] == pytest.approx(0.109056, abs=1e-5)
    assert found["ndcg@20"] == pytest.approx(0.094923, abs=1e-5)
