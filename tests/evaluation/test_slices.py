import json
from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from jaxrec.evaluation.slices import slices


def test_planted_bins() -> None:
    count_I = np.array([0, 0, 1, 1, 5, 9])
    hits_I = np.array([0, 0, 1, 0, 1, 3])
    relevant_I = np.array([0, 0, 2, 2, 4, 3])
    found = slices(np.array([7, 7, 2]), np.array([0.5, 0.0, 1.0]), count_I, hits_I, relevant_I, 20)
    assert found == {
        "k": 20,
        "items": [
            {"from": 0, "to": 0, "items": 2, "relevant": 0, "recall": None},
            {"from": 1, "to": 1, "items": 2, "relevant": 4, "recall": 0.25},
            {"from": 5, "to": 5, "items": 1, "relevant": 4, "recall": 0.25},
            {"from": 9, "to": 9, "items": 1, "relevant": 3, "recall": 1.0},
        ],
        "users": [
            {"from": 2, "to": 2, "users": 1, "recall": 1.0},
            {"from": 7, "to": 7, "users": 2, "recall": 0.25},
        ],
    }


def test_distinct_counts_make_ten_equal_bins() -> None:
    count_I = np.random.default_rng(0).permutation(1000) + 1
    ones = np.ones(1000)
    rows = slices(count_I, ones, count_I, ones, ones, 5)["items"]
    assert [row["items"] for row in rows] == [100] * 10
    assert [row["from"] for row in rows] == list(range(1, 1001, 100))
    assert [row["to"] for row in rows] == list(range(100, 1001, 100))


@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 6), st.integers(0, 6)), min_size=1))
def test_bins_partition_the_items_and_add_up(items: list[tuple[int, int, int]]) -> None:
    count_I, one_I, other_I = np.array(items).T
    hits_I, relevant_I = np.minimum(one_I, other_I), np.maximum(one_I, other_I)
    found = slices(count_I, np.ones(len(items)), count_I, hits_I, relevant_I, 3)
    rows = found["items"]
    assert sum(row["items"] for row in rows) == len(items)
    assert sum(row["relevant"] for row in rows) == relevant_I.sum()
    got = sum(row["recall"] * row["relevant"] for row in rows if row["relevant"])
    np.testing.assert_allclose(got, hits_I.sum(), atol=1e-9)
    for below, above in pairwise(rows):
        assert below["to"] < above["from"]
    assert json.loads(json.dumps(found, allow_nan=False)) == found
