"""Test the evaluator on arrays: it equals a run's evaluation, for every form of pairs."""

import numpy as np
import pytest
import scipy.sparse as sp

import jaxrec
from jaxrec import Evaluator
from jaxrec.errors import InputError

RNG = np.random.default_rng(0)
USER, ITEM = RNG.normal(size=(12, 4)), RNG.normal(size=(30, 4))
PAIRS = np.unique(np.stack([RNG.integers(0, 12, 90), RNG.integers(0, 30, 90)], axis=1), axis=0)
LATER = RNG.random(len(PAIRS)) < 0.4
TRAIN, TEST = PAIRS[~LATER], PAIRS[LATER]


def by_hand(score_UI: np.ndarray, k: int) -> float:
    """Compute recall@k, user by user."""
    found = []
    for user in np.unique(TEST[:, 0]):
        score = score_UI[user].copy()
        score[TRAIN[TRAIN[:, 0] == user, 1]] = -np.inf
        top = np.argsort(-score, kind="stable")[:k]
        wanted = TEST[TEST[:, 0] == user, 1]
        found.append(len(np.intersect1d(top, wanted)) / len(wanted))
    return float(np.mean(found))


def test_recall_is_that_of_a_loop_over_users():
    judge = Evaluator(TRAIN, TEST, (3, 10), n_users=12, n_items=30)
    found = judge(USER, ITEM)
    assert found["recall@3"] == pytest.approx(by_hand(USER @ ITEM.T, 3))
    assert found["recall@10"] == pytest.approx(by_hand(USER @ ITEM.T, 10))
    bias = RNG.normal(size=30)
    found = judge(USER, ITEM, item_bias=bias)
    assert found["recall@3"] == pytest.approx(by_hand(USER @ ITEM.T + bias, 3))


def test_cosine_ranks_by_directions():
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (USER, ITEM)]
    judge = Evaluator(TRAIN, TEST, (3,), n_users=12, n_items=30, score="cosine")
    assert judge(USER, ITEM)["recall@3"] == pytest.approx(by_hand(unit[0] @ unit[1].T, 3))


def test_pairs_columns_and_matrices_are_the_same():
    def matrix(pairs):
        return sp.csr_matrix((np.ones(len(pairs)), tuple(pairs.T)), shape=(12, 30))

    expected = Evaluator(TRAIN, TEST, n_users=12, n_items=30)(USER, ITEM)
    assert Evaluator(matrix(TRAIN), matrix(TEST))(USER, ITEM) == expected
    columns = tuple(TRAIN.T), tuple(TEST.T)
    assert Evaluator(*columns, n_users=12, n_items=30)(USER, ITEM) == expected
    both = np.concatenate([TEST, TRAIN[:5]])  # pairs that are also in train are masked
    assert Evaluator(TRAIN, both, n_users=12, n_items=30)(USER, ITEM) == expected


def test_it_gives_the_numbers_of_a_run(tmp_path):
    from jaxrec.config import Config, ModelConfig, TrainConfig
    from jaxrec.data import synthetic
    from jaxrec.evaluation.user_runs import splits_of

    data = synthetic.make(50, 40, 500, seed=1)
    config = Config(model=ModelConfig("mf", dim=4, layers=0), train=TrainConfig(epochs=2))
    run = jaxrec.train(config, data=data, run=tmp_path / "run", quiet=True)
    splits = splits_of(config, data)
    train, validation, test = (np.stack([p.user, p.item], axis=1) for p in splits)
    judge = Evaluator(np.concatenate([train, validation]), test, n_users=50, n_items=40)
    table = np.load(run.folder / "embeddings.npz")
    found = judge(table["user"], table["item"])
    assert {name: found[name] for name in run.metrics if name in found} == pytest.approx(
        {name: value for name, value in run.metrics.items() if name in found}
    )


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Evaluator(np.ones((3, 4), int), TEST), ValueError, "whole numbers"),
        (lambda: Evaluator(TRAIN, TEST + 0.5), ValueError, "whole numbers"),
        (lambda: Evaluator(TRAIN, -TEST), ValueError, "negative"),
        (lambda: Evaluator(TRAIN, TEST, n_users=2), ValueError, "outside"),
        (lambda: Evaluator(TRAIN, TEST, ()), ValueError, "cut-offs"),
        (lambda: Evaluator(TRAIN, TEST, score="l2"), ValueError, "dot or cosine"),
        (lambda: Evaluator(TRAIN, TRAIN), InputError, "nothing to evaluate"),
        (lambda: Evaluator(TRAIN, TEST)(USER[:3], ITEM), ValueError, "user_emb"),
        (
            lambda: Evaluator(TRAIN, TEST, n_users=12, n_items=30)(USER, ITEM[:, :2]),
            ValueError,
            "widths differ",
        ),
    ],
)
def test_what_cannot_be_is_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()
