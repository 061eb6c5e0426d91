import jax
import jax.numpy as jnp
import numpy as np
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


@settings(max_examples=12, deadline=None)
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


def test_shared_negatives_are_items_and_honour_the_key():
    first = negatives.shared(jax.random.key(0), 500, N_ITEMS)
    assert set(first.tolist()) == set(range(N_ITEMS))
    np.testing.assert_array_equal(first, negatives.shared(jax.random.key(0), 500, N_ITEMS))
    assert not np.array_equal(first, negatives.shared(jax.random.key(1), 500, N_ITEMS))
