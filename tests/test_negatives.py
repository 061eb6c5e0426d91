import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxrec import negatives
from jaxrec.graph.csr import DeviceCsr

N_ITEMS = 12
LIKED = [[], [0], [11], [0, 1, 2, 9], list(range(12)), list(range(0, 12, 2)), [5, 6, 7]]


def known(liked=LIKED) -> DeviceCsr:
    indptr = np.concatenate([[0], np.cumsum([len(x) for x in liked])])
    flat = np.array([i for x in liked for i in x], np.int32)
    return DeviceCsr(jnp.asarray(indptr, jnp.int32), jnp.asarray(flat, jnp.int32))


def test_uniform_negatives_are_uniform_over_exactly_the_unknown_items():
    count = 24_000
    drawn = negatives.uniform(jax.random.key(1), count, N_ITEMS, jnp.arange(len(LIKED)), known())
    for liked, row in zip(LIKED, np.asarray(drawn), strict=True):
        allowed = sorted(set(range(N_ITEMS)) - set(liked)) or list(range(N_ITEMS))
        hits = np.bincount(row, minlength=N_ITEMS)
        assert hits.sum() == hits[allowed].sum()
        expected = count / len(allowed)
        chi2 = ((hits[allowed] - expected) ** 2 / expected).sum()
        assert chi2 < 35  # 11 degrees of freedom at most: passes with p > 0.9997


@pytest.mark.long
@settings(max_examples=12)
@given(st.lists(st.sets(st.integers(0, 20)), min_size=1, max_size=6), st.integers(0, 2**31 - 1))
def test_a_known_item_is_never_drawn(liked, seed):
    rows = [sorted(x) for x in liked]
    drawn = negatives.uniform(jax.random.key(seed), 40, 22, jnp.arange(len(rows)), known(rows))
    for row, got in zip(rows, np.asarray(drawn), strict=True):
        assert not set(row) & set(got.tolist())
        assert got.min() >= 0
        assert got.max() < 22


def test_without_rejection_known_items_come_up_at_their_share():
    drawn = negatives.uniform(jax.random.key(2), 20_000, N_ITEMS, jnp.array([3]), None)
    share = np.isin(np.asarray(drawn), LIKED[3]).mean()
    assert abs(share - 4 / 12) < 0.02


def test_exposed_negatives_are_what_the_user_was_shown_and_else_uniform():
    shown = known([[], [3, 7], [], [11], [], [], [0, 4, 8]])
    users = jnp.arange(len(LIKED))
    neg = negatives.uniform(jax.random.key(2), 3000, N_ITEMS, users, known())
    valid = jnp.zeros(neg.shape, bool)
    drawn, counts = negatives.exposed(jax.random.key(1), users, shown, neg, valid)
    assert counts is not None
    np.testing.assert_array_equal(counts.any(1), [n in (1, 3, 6) for n in range(7)])
    nothing = DeviceCsr(jnp.zeros(8, jnp.int32), jnp.zeros(0, jnp.int32))
    same, _ = negatives.exposed(jax.random.key(1), users, nothing, neg, None)
    np.testing.assert_array_equal(same, neg)
    for user, (row, of) in enumerate(zip(np.asarray(drawn), [[], [3, 7]] + [[]] * 5, strict=True)):
        allowed = {3: [11], 6: [0, 4, 8]}.get(user, of)
        allowed = allowed or sorted(set(range(N_ITEMS)) - set(LIKED[user])) or range(N_ITEMS)
        hits = np.bincount(row, minlength=N_ITEMS)
        assert set(np.flatnonzero(hits)) == set(allowed)
        assert hits.max() < 1.3 * 3000 / len(allowed) + 60


def test_semi_hard_is_the_best_below_the_positive_and_else_the_lowest():
    inf = float("inf")
    score = jnp.array([[[1.0, 3.0, 2.0], [5.0, 6.0, 9.0]], [[-inf, 7.0, 8.0], [-inf, 1.0, 0.0]]])
    pos = jnp.array([2.5, 4.0])
    semi = negatives.picked("semi-hard", score, pos)
    np.testing.assert_array_equal(semi, [[2, 0], [1, 1]])
    np.testing.assert_array_equal(negatives.picked("hardest", score, pos), [[1, 2], [2, 1]])


def test_shared_negatives_are_items_and_honour_the_key():
    first = negatives.shared(jax.random.key(0), 500, N_ITEMS)
    assert set(first.tolist()) == set(range(N_ITEMS))
    np.testing.assert_array_equal(first, negatives.shared(jax.random.key(0), 500, N_ITEMS))
    assert not np.array_equal(first, negatives.shared(jax.random.key(1), 500, N_ITEMS))


def test_popular_negatives_come_up_by_the_power_of_their_counts():
    count_I = np.array([0, 8, 1, 0, 27, 64, 0])
    drawn, valid = negatives.popular(
        jax.random.key(0), 40_000, negatives.popularity(count_I, 1 / 3), jnp.array([0]), None
    )
    assert valid is None
    expected = 40_000 * np.array([0, 2, 1, 0, 3, 4, 0]) / 10
    hits = np.bincount(np.asarray(drawn)[0], minlength=7)
    drawable = expected > 0
    assert hits[~drawable].sum() == 0
    chi2 = ((hits - expected)[drawable] ** 2 / expected[drawable]).sum()
    assert chi2 < 19  # 3 degrees of freedom: passes with p > 0.9997


def test_logarithms_of_the_probabilities_are_finite_and_of_the_power():
    of = negatives.popularity(np.array([4, 0, 1, 3]), 1.0)
    np.testing.assert_allclose(np.exp(of.log_q_I), [0.5, 0.125, 0.125, 0.375], rtol=1e-6)
    none = negatives.popularity(np.zeros(4), 0.75)
    np.testing.assert_allclose(np.exp(none.log_q_I), np.full(4, 0.25), rtol=1e-6)


def test_a_popular_negative_that_its_user_knows_is_replaced_or_does_not_count():
    of = negatives.popularity(np.arange(N_ITEMS) + 1.0, 1.0)
    users = jnp.arange(len(LIKED))
    drawn, valid = negatives.popular(jax.random.key(3), 3000, of, users, known())
    assert valid is not None
    for liked, row, used in zip(LIKED, np.asarray(drawn), np.asarray(valid), strict=True):
        np.testing.assert_array_equal(used, ~np.isin(row, liked))
        share = (np.array(liked, int) + 1).sum() / 78
        # Four successive draws are all known items with probability share^4.
        assert abs((~used).mean() - share**4) < 0.03


def test_shared_popular_negatives_are_drawn_by_the_distribution():
    of = negatives.popularity(np.array([0.0, 3.0, 0.0, 1.0]), 1.0)
    drawn = np.asarray(negatives.shared(jax.random.key(0), 20_000, 4, of))
    assert set(drawn) == {1, 3}
    assert abs((drawn == 1).mean() - 0.75) < 4 * np.sqrt(0.1875 / 20_000)
