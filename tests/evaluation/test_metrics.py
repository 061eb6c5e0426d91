import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from jaxrec.evaluation import metrics


def one_user(hits: list[int], relevant: int, *ks: int) -> dict[str, float]:
    found = metrics.per_user(jnp.asarray([hits], bool), jnp.asarray([relevant], jnp.int32), ks)
    return {key: float(value[0]) for key, value in found.items()}


def test_every_metric_on_a_list_worked_out_by_hand():
    # The hits are at ranks 2 and 4 of 4, and five items are relevant.
    found = one_user([0, 1, 0, 1], 5, 4)
    dcg = 1 / np.log2(3) + 1 / np.log2(5)
    ideal = 1 + 1 / np.log2(3) + 1 / np.log2(4) + 1 / np.log2(5)
    assert found == pytest.approx(
        {
            "recall@4": 2 / 5,
            "recall_capped@4": 2 / 4,
            "ndcg@4": dcg / ideal,
            "precision@4": 2 / 4,
            "hit_rate@4": 1,
            "mrr@4": 1 / 2,
            "map@4": (1 / 2 + 2 / 4) / 4,
        },
        rel=1e-6,
    )


def test_each_cut_sees_only_its_own_part_of_the_list():
    found = one_user([0, 0, 1], 1, 1, 2, 3)
    assert [found[f"recall@{k}"] for k in (1, 2, 3)] == [0, 0, 1]
    assert [found[f"mrr@{k}"] for k in (1, 2, 3)] == pytest.approx([0, 0, 1 / 3])
    assert list(found) == metrics.keys((1, 2, 3))


def test_a_list_shorter_than_k_counts_as_misses():
    assert one_user([1, 0], 3, 10) == one_user([1] + [0] * 9, 3, 10)


def test_a_user_without_relevant_items_has_zeros_and_no_nan():
    assert set(one_user([0, 0], 0, 2).values()) == {0.0}


@settings(max_examples=40)
@given(
    hits=hnp.arrays(bool, st.tuples(st.integers(1, 6), st.just(8))),
    extra=st.integers(0, 5),
)
def test_bounds_and_order_of_the_metrics(hits: np.ndarray, extra: int):
    relevant = np.maximum(hits.sum(axis=1) + extra, 1).astype(np.int32)
    found = jax.jit(metrics.per_user, static_argnums=2)(
        jnp.asarray(hits), jnp.asarray(relevant), (3, 8)
    )
    for key, value in found.items():
        assert np.all((value >= 0) & (value <= 1 + 1e-6)), key
    for k in (3, 8):
        assert np.all(found[f"recall@{k}"] <= found[f"recall_capped@{k}"] + 1e-6)
        assert np.all(found[f"map@{k}"] <= found[f"recall_capped@{k}"] + 1e-6)
        assert np.array_equal(found[f"hit_rate@{k}"] > 0, found[f"recall@{k}"] > 0)
    assert np.all(found["recall@3"] <= found["recall@8"])
    perfect = one_user([1] * 8, 8, 3, 8)
    assert set(perfect.values()) == {1.0, 3 / 8} or perfect["recall@3"] == pytest.approx(3 / 8)


def test_coverage_is_the_share_of_items_listed():
    assert metrics.coverage(np.array([0, 4, 5, 9]), (5, 10)) == {
        "coverage@5": 0.5,
        "coverage@10": 1.0,
    }
