from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import oracle
from jaxrec.data.dataset import Csr
from jaxrec.errors import RunError
from jaxrec.evaluation import topk
from jaxrec.evaluation.ranking import (
    Evaluator,
    dot_scorer,
    popularity_scorer,
    random_scorer,
    top_k,
)
from jaxrec.evaluation.scorers import from_host, host_scorer, scorer_of, table_scorer
from jaxrec.evaluation.topk import of_sample
from jaxrec.runfolder import Embeddings


def csr_of(rows: list[set[int]]) -> Csr:
    indptr = np.cumsum([0, *map(len, rows)]).astype(np.int32)
    return Csr(indptr, np.array([i for row in rows for i in sorted(row)], np.int32))


@pytest.mark.parametrize("items", [40, 1280, 1311, 4000])
@pytest.mark.parametrize("distinct", [1, 3, 50])
def test_runs_of_items_give_the_same_list_to_the_last_tie(items: int, distinct: int):
    rng = np.random.default_rng(items + distinct)
    score_BI = rng.integers(0, distinct, (20, items)).astype(np.float32)
    score_BI[rng.random((20, items)) < 0.3] = -np.inf
    score_BI[0, : items - 3] = -np.inf
    found = jax.jit(topk._top_k, static_argnums=1)(jnp.asarray(score_BI), 10)
    expected = jax.lax.top_k(jnp.asarray(score_BI), 10)
    assert np.array_equal(found[0], expected[0])
    finite = np.isfinite(expected[0])
    assert np.array_equal(np.asarray(found[1])[finite], np.asarray(expected[1])[finite])


def test_lists_have_the_usual_lengths():
    found = [topk.list_length(k) for k in (1, 2, 3, 6, 10, 11, 20, 21, 51, 100, 101)]
    assert found == [1, 2, 5, 10, 10, 20, 20, 50, 100, 100, 200]


@pytest.fixture(scope="module")
def tables():
    rng = np.random.default_rng(0)
    names = {"user": (30, 4), "item": (25, 4), "user_bias": (30,), "item_bias": (25,)}
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in names.items()}


SCORERS = {
    "dot": lambda t: dot_scorer(
        t["user"], t["item"], user_bias_U=t["user_bias"], item_bias_I=t["item_bias"]
    ),
    "ties": lambda t: popularity_scorer(np.arange(25) // 4),
    "random": lambda t: random_scorer(3, 25),
    "NaN": lambda t: dot_scorer(np.where(t["user"] > 1.5, np.nan, t["user"]), t["item"]),
}


@pytest.mark.parametrize("name", SCORERS)
@pytest.mark.parametrize("tile", [6, 8, 25])
@pytest.mark.parametrize("masked", [False, True])
def test_tiles_of_items_give_the_same_lists_to_the_last_tie(
    tables, monkeypatch, name, tile, masked
):
    monkeypatch.setattr(topk, "_TILE", tile)
    rng = np.random.default_rng(1)
    scorer, user_B = SCORERS[name](tables), jnp.arange(30, dtype=jnp.int32)
    seen = csr_of([set(rng.choice(25, rng.integers(0, 24), replace=False)) for _ in range(30)])
    rows = topk.Rows(seen.indptr, np.pad(seen.indices, (0, 5)))
    allowed = jnp.asarray(rng.random(25) < 0.6) if masked else None
    whole = topk.rank(scorer.fn, 6, scorer.params, user_B, rows, allowed)
    tiles = topk._rank_tiles(scorer.fn, 6, scorer.params, user_B, rows, allowed, 25)
    good = ~np.asarray(whole.nan_B)
    assert good.all() == (name != "NaN")
    np.testing.assert_array_equal(whole.nan_B, tiles.nan_B)
    np.testing.assert_array_equal(whole.item_BK[good], tiles.item_BK[good])
    np.testing.assert_allclose(whole.score_BK[good], tiles.score_BK[good], atol=1e-5)


def test_a_catalogue_beyond_the_limit_is_ranked_without_a_block_of_all_its_scores():
    scorer = dot_scorer(np.ones((3, 2)), np.ones((topk._WHOLE + 1, 2)))
    rows = topk.Rows(np.zeros(4, np.int32), np.zeros(1, np.int32))
    users = jnp.arange(3, dtype=jnp.int32)
    made = jax.make_jaxpr(lambda params: topk.rank(scorer.fn, 5, params, users, rows))(
        scorer.params
    )
    assert f"3,{topk._WHOLE + 1}" not in str(made)
    ranked = topk.rank(scorer.fn, 5, scorer.params, users, rows)
    assert ranked.item_BK.tolist() == [[0, 1, 2, 3, 4]] * 3


@pytest.mark.parametrize("block", [None, 7])
def test_lists_leave_out_what_is_seen_or_not_allowed(tables, block):
    rng = np.random.default_rng(1)
    seen = [set(rng.choice(25, rng.integers(0, 20), replace=False).tolist()) for _ in range(30)]
    allowed = rng.random(25) < 0.7
    users = np.array([4, 29, 4, 0, 17, 3, 8, 9, 10])
    scorer = dot_scorer(
        tables["user"],
        tables["item"],
        user_bias_U=tables["user_bias"],
        item_bias_I=tables["item_bias"],
    )
    item_nk, score_nk = top_k(scorer, users, csr_of(seen), 12, allowed=allowed, block=block)
    score_UI = tables["user"] @ tables["item"].T
    score_UI += tables["user_bias"][:, None] + tables["item_bias"]
    for user, items, score in zip(users, item_nk, score_nk, strict=True):
        left_out = seen[user] | set(np.flatnonzero(~allowed).tolist())
        expected = oracle.top_list(score_UI[user], left_out, 12)
        padding = 12 - len(expected)
        assert items.tolist() == expected + [-1] * padding
        assert score == pytest.approx([*score_UI[user, expected], *[-np.inf] * padding], abs=1e-5)


def test_without_a_mask_the_list_may_be_longer_than_the_items():
    item_nk, score_nk = top_k(popularity_scorer(np.array([1, 5, 3])), np.array([0, 8]), None, 5)
    assert item_nk.tolist() == [[1, 2, 0, -1, -1]] * 2
    assert score_nk.tolist() == [[5, 3, 1, -np.inf, -np.inf]] * 2


def test_no_users_no_lists():
    item_nk, score_nk = top_k(popularity_scorer(np.ones(3)), np.zeros(0, np.int32), None, 2)
    assert item_nk.shape == score_nk.shape == (0, 2)


def test_nan_is_named_and_padding_is_not_counted():
    user_UD = np.ones((3, 2), np.float32)
    user_UD[2] = np.nan
    scorer = dot_scorer(user_UD, np.ones((4, 2), np.float32))
    with pytest.raises(RunError, match="scores of 1 users are not numbers"):
        top_k(scorer, np.array([0, 1, 2]), None, 2, block=2)
    assert top_k(scorer, np.array([0, 1]), None, 2)[0].tolist() == [[0, 1], [0, 1]]
    scorer = dot_scorer(user_UD[::-1].copy(), np.ones((4, 2), np.float32))
    # The block is filled up with user 0, who is not asked for.
    assert top_k(scorer, np.array([1]), None, 2, block=2)[0].tolist() == [[0, 1]]


def test_half_precision_factors_are_summed_in_float32(tables):
    scorer = dot_scorer(tables["user"], tables["item"], dtype=jnp.bfloat16)
    score_BI = scorer.fn(scorer.params, jnp.arange(30, dtype=jnp.int32))
    assert score_BI.dtype == jnp.float32
    rounded = {n: np.asarray(jnp.asarray(t, jnp.bfloat16), np.float32) for n, t in tables.items()}
    assert np.asarray(score_BI) == pytest.approx(rounded["user"] @ rounded["item"].T, abs=1e-5)


def test_free_memory_is_of_this_machine():
    assert 2**20 < topk.free_memory() < 2**50


@pytest.mark.parametrize(
    ("items", "low", "high"), [(100, 4096, 4096), (130_000, 32, 32), (10**9, 100, 200)]
)
def test_block_size_keeps_within_bounds(items, low, high):
    assert low <= topk.block_size(items, 10**6, jax.devices()[0]) <= high
    assert topk.block_size(items, 20, jax.devices()[0]) == 20


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("tile", [6, 8, 25])
def test_factors_on_the_host_give_the_same_lists_and_metrics(tables, monkeypatch, tile, masked):
    monkeypatch.setattr(topk, "_TILE", tile)
    rng = np.random.default_rng(1)
    rows = [set(rng.choice(25, rng.integers(0, 24), replace=False)) for _ in range(30)]
    seen, relevant = csr_of(rows), csr_of([{int(i) % 25} for i in range(30)])
    allowed = rng.random(25) < 0.6 if masked else None
    here, there = scorer_of(tables), host_scorer(tables)
    users = np.array([3, 29, 3, 0, 11])
    for k in (5, 30):
        ours, scores = top_k(there, users, seen, k, allowed=allowed, block=2)
        expected, theirs = top_k(here, users, seen, k, allowed=allowed, block=2)
        np.testing.assert_array_equal(ours, expected)
        np.testing.assert_allclose(scores, theirs, atol=1e-5)
    judge = Evaluator(relevant, seen, (2, 5), 25, allowed=allowed, block=4)
    assert judge(there) == judge(here)
    jax.tree.map(np.testing.assert_array_equal, judge.breakdown(there, 5), judge.breakdown(here, 5))


def test_a_table_beyond_half_of_the_device_stays_on_the_host(tables, monkeypatch):
    named = {"user_ids": np.arange(30).astype(str), "item_ids": np.arange(25).astype(str)}
    table = Embeddings(**{**named, **tables})
    assert table_scorer(table).fn is not from_host
    size = sum(x.nbytes for x in tables.values())
    for limit, stays in ((2 * size, False), (2 * size - 2, True)):
        device = SimpleNamespace(memory_stats=lambda limit=limit: {"bytes_limit": limit})
        monkeypatch.setattr(jax, "local_devices", lambda device=device: [device])
        assert (table_scorer(table).fn is from_host) == stays


def test_a_sample_of_users_keeps_their_items_and_no_others():
    rng = np.random.default_rng(0)
    degree = rng.integers(0, 4, 200)
    indptr = np.append(0, np.cumsum(degree)).astype(np.int32)
    whole = Csr(indptr, rng.integers(0, 50, indptr[-1]).astype(np.int32))
    with_items = int((degree > 0).sum())
    assert of_sample(whole, with_items, 0) is whole
    some = of_sample(whole, 20, 0)
    kept = np.flatnonzero(some.degree)
    assert len(kept) == 20
    assert len(some.indptr) == len(whole.indptr)
    for user in kept:
        ours, theirs = (c.indices[c.indptr[user] : c.indptr[user + 1]] for c in (some, whole))
        np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_array_equal(some.indptr, of_sample(whole, 20, 0).indptr)
    assert (some.indptr != of_sample(whole, 20, 1).indptr).any()
    # Users with ids in the lower half are drawn as often as the others.
    lower = [np.flatnonzero(of_sample(whole, 20, seed).degree) < 100 for seed in range(50)]
    share = (degree[:100] > 0).sum() / with_items
    assert abs(np.mean(lower) - share) < 0.06


def counting(fn, traces: list):
    """Wrap ``fn`` so that ``traces`` grows with every compilation, as only tracing calls it."""

    def counted(params, user_B):
        traces.append(len(user_B))
        return fn(params, user_B)

    return counted


def test_one_program_serves_many_numbers_of_users_cut_offs_and_masks(tables):
    traces: list[int] = []
    scorer = dot_scorer(tables["user"], tables["item"])
    scorer = scorer._replace(fn=counting(scorer.fn, traces))
    seen = csr_of([{u} if u < 5 else set() for u in range(30)])
    for n_users in (33, 40, 51, 64):
        for k in (5, 6, 7, 8):
            for allowed in (None, np.arange(25) % 3 > 0):
                users = np.arange(n_users) % 30
                top_k(scorer, users, seen, k, allowed=allowed)
    assert traces == [64]
    top_k(scorer, np.arange(65) % 30, seen, 9)
    assert traces == [64, 128]


def test_padded_lists_have_the_bits_of_those_that_are_not():
    rng = np.random.default_rng(2)
    item_ID = rng.normal(size=(300, 33)).astype(np.float32)
    item_ID[rng.permutation(300)[:150]] = item_ID[7]  # ties
    user_UD = rng.normal(size=(70, 33)).astype(np.float32)
    scorer = dot_scorer(user_UD, item_ID)
    seen = csr_of([set(rng.choice(300, rng.integers(0, 290), replace=False)) for _ in range(70)])
    for n_users, k in ((33, 3), (45, 20), (61, 100), (70, 300)):
        users = np.arange(n_users, dtype=np.int32)
        rows = topk.as_rows(seen.take(users), topk.row_width(len(seen.indices)))
        plain = jax.jit(topk.rank, static_argnums=(0, 1))(scorer.fn, k, scorer.params, users, rows)
        item_nk, score_nk = top_k(scorer, users, seen, k)
        np.testing.assert_array_equal(item_nk, plain.item_BK)
        np.testing.assert_array_equal(score_nk.view(np.int32), plain.score_BK.view(np.int32))


def test_other_cut_offs_are_judged_without_another_ranking_program(tables):
    traces: list[int] = []
    scorer = dot_scorer(tables["user"], tables["item"])
    scorer = scorer._replace(fn=counting(scorer.fn, traces))
    relevant = csr_of([{u % 25, (u + 1) % 25} for u in range(30)])
    nothing = Csr(np.zeros(31, np.int32), np.zeros(0, np.int32))
    for ks in ((8,), (5, 7), (2, 6)):
        found = Evaluator(relevant, nothing, ks, 25)(scorer)
        assert found is not None
        lists = top_k(scorer, np.arange(30), None, max(ks))[0]
        hits = np.mean([len({u % 25, (u + 1) % 25} & set(lists[u])) / 2 for u in range(30)])
        assert found[f"recall@{max(ks)}"] == pytest.approx(hits, abs=1e-6)
    assert len(traces) == 1 + 1  # once by the Evaluator, once by top_k
