"""Test the server's blocks of queries against rankings by definition."""

import jax
import numpy as np
import pytest

from jaxrec.evaluation.scorers import dot_scorer
from jaxrec.serving.ranker import MOST, Query, Ranker, placed

RNG = np.random.default_rng(0)


def best(query: Query, item: np.ndarray, bias: np.ndarray, allowed: np.ndarray) -> list[int]:
    score = item @ query.vector + bias
    score[query.left_out] = -np.inf
    score[~allowed] = -np.inf
    order = np.lexsort((np.arange(len(item)), -score))
    return [int(i) for i in order[: query.k] if score[i] > -np.inf]


@pytest.mark.parametrize("n_items", [5, 50, 3000])
def test_blocks_of_any_size_are_ranked_as_by_definition(n_items: int) -> None:
    item = RNG.integers(-3, 4, (n_items, 4)).astype(np.float32)  # with ties
    bias = RNG.integers(-2, 3, n_items).astype(np.float32)
    user_bias = np.zeros(1, np.float32)
    scorer = dot_scorer(np.zeros((1, 4)), item, user_bias_U=user_bias, item_bias_I=bias)
    ranker = Ranker(scorer, 100, 400)
    masks = [np.ones(n_items, bool), np.arange(n_items) % 2 == 0]
    on_device = [placed(mask) for mask in masks]
    queries = []
    for n in range(90):
        vector = RNG.integers(-3, 4, 4).astype(np.float32)
        left_out = RNG.integers(0, n_items, RNG.choice([0, 3, 40, 400])).astype(np.int32)
        k = int(RNG.choice([1, 20, 32, 33, 100]))
        queries.append(Query(vector, 1.0, left_out, k, on_device[n // 10 % 2]))
    start = 0
    while start < len(queries):
        size = ranker.fitting(queries[start:])
        assert 1 <= size <= MOST
        block = queries[start : start + size]
        for query, (items, scores) in zip(block, ranker.rank(block), strict=True):
            allowed = np.asarray(query.allowed)
            assert items.tolist() == best(query, item, bias, allowed)
            assert (scores == (item @ query.vector + bias)[items] + 1).all()
        start += size


def test_short_lists_of_one_mask_fill_a_block() -> None:
    scorer = dot_scorer(np.zeros((1, 4)), RNG.normal(size=(50, 4)))
    ranker = Ranker(scorer, 100, 10)
    query = Query(
        np.ones(4, np.float32), 0.0, np.zeros(10, np.int32), 20, placed(np.ones(50, bool))
    )
    assert ranker.fitting([query] * 100) == MOST


def test_another_shape_is_an_error_and_no_compilation() -> None:
    ranker = Ranker(dot_scorer(np.zeros((1, 4)), RNG.normal(size=(50, 4))), 100, 10)
    program = next(iter(ranker._programs.values()))
    with pytest.raises(TypeError, match="called with"):
        program(ranker._params, *(jax.ShapeDtypeStruct((3,), np.float32),) * 4)
