import jax
import jax.numpy as jnp
import numpy as np
import pytest

import oracle
from jaxrec.data.dataset import Csr
from jaxrec.errors import InputError
from jaxrec.evaluation import baselines
from jaxrec.evaluation.against_baselines import measure
from jaxrec.evaluation.ranking import (
    Evaluator,
    Scorer,
    empty_csr,
    popularity_scorer,
    random_scorer,
)


@pytest.fixture(scope="module")
def pairs():
    """Return 0/1 pairs as a dense matrix and as CSR; one user and one item have no pairs."""
    rng = np.random.default_rng(0)
    pair_UI = (rng.random((40, 90)) < np.linspace(0.5, 0.02, 90)).astype(np.float64)
    pair_UI[3] = 0
    pair_UI[:, 5] = 0
    indptr = np.append(0, np.cumsum(pair_UI.sum(axis=1))).astype(np.int32)
    return pair_UI, Csr(indptr, np.nonzero(pair_UI)[1].astype(np.int32))


def scores(scorer: Scorer, users: int) -> np.ndarray:
    return np.asarray(scorer.fn(scorer.params, jnp.arange(users, dtype=jnp.int32)))


@pytest.mark.parametrize(("neighbours", "power"), [(1, 0.0), (7, 0.0), (200, 0.0), (200, 0.5)])
def test_item_knn_is_its_definition(pairs, neighbours, power, monkeypatch):
    # Use several blocks of items, and rows that consist of several segments.
    monkeypatch.setattr(baselines, "_ITEMS_AT_ONCE", 32)
    monkeypatch.setattr(baselines, "_SEGMENT", 8)
    pair_UI, train = pairs
    scorer = baselines.item_knn(train, 90, neighbours, user_power=power)
    assert scores(scorer, 40) == pytest.approx(
        oracle.item_knn_scores(pair_UI, neighbours, power), abs=1e-5
    )


@pytest.mark.parametrize(
    ("l2", "dropout", "power"), [(1.0, 0.0, 0.0), (80.0, 0.0, 0.0), (5.0, 0.3, 0.7)]
)
@pytest.mark.parametrize("users", [40, 50])
def test_ease_is_a_ridge_regression_of_each_item_on_the_others(
    pairs, l2, dropout, power, users, monkeypatch
):
    """Ten more users without pairs change nothing, but that there are half as many as items."""
    monkeypatch.setattr(baselines, "_ITEMS_AT_ONCE", 32)
    pair_UI, train = pairs
    train = train._replace(indptr=np.pad(train.indptr, (0, users - 40), mode="edge"))
    scorer = baselines.ease(train, 90, l2=l2, dropout=dropout, user_power=power)
    expected = oracle.ease_scores(pair_UI, l2, dropout, power)
    assert scores(scorer, 40) == pytest.approx(expected, abs=1e-4)


def test_ease_that_does_not_fit_is_refused_before_it_begins():
    with pytest.raises(InputError, match="EASE on 2,000,000 items needs 16000"):
        baselines.ease(empty_csr(1), 2_000_000)


def test_ease_without_a_penalty_is_refused():
    with pytest.raises(ValueError, match="l2 must be positive"):
        baselines.ease(empty_csr(1), 3, l2=0.0)


def test_ease_hands_its_matrix_over_without_a_copy():
    matrix_II = baselines._aligned(33)
    assert matrix_II.ctypes.data % 64 == 0
    matrix_II[:] = 1
    assert jax.device_put(matrix_II).unsafe_buffer_pointer() == matrix_II.ctypes.data


@pytest.mark.long
def test_both_find_planted_groups_that_popularity_cannot(pairs):
    rng = np.random.default_rng(1)
    group_U, group_I = np.arange(60) % 3, np.arange(45) % 3
    pair_UI = (group_U[:, None] == group_I[None, :]) & (rng.random((60, 45)) < 0.7)
    held_UI = pair_UI & (rng.random((60, 45)) < 0.3)

    def csr(mask: np.ndarray) -> Csr:
        indptr = np.append(0, np.cumsum(mask.sum(axis=1))).astype(np.int32)
        return Csr(indptr, np.nonzero(mask)[1].astype(np.int32))

    train = csr(pair_UI & ~held_UI)
    evaluator = Evaluator(csr(held_UI), train, (10,), 45)
    recall = {}
    for name, make in baselines.ON_REQUEST.items():
        found = evaluator(make(train, 45))
        assert found is not None
        recall[name] = found["recall@10"]
    popular = evaluator(popularity_scorer(np.bincount(train.indices, minlength=45)))
    assert popular is not None
    # Fewer than ten items of the user's group are left, and they rank before all others.
    assert recall["item-knn"] > 0.95 > 2 * popular["recall@10"]
    assert recall["ease"] > 0.95


def test_random_scores_are_uniform_and_follow_seed_user_and_item():
    score_UI = scores(random_scorer(7, 500), 40)
    assert score_UI.min() >= 0
    assert score_UI.max() < 1
    assert np.abs(np.histogram(score_UI, bins=10, range=(0, 1))[0] / 2000 - 1).max() < 0.1
    correlation = np.corrcoef(score_UI) - np.eye(40)
    assert np.abs(correlation).max() < 0.25
    assert np.array_equal(score_UI, scores(random_scorer(7, 500), 40))
    assert not np.array_equal(score_UI, scores(random_scorer(8, 500), 40))
    assert np.array_equal(score_UI[:, :20], scores(random_scorer(7, 20), 40))


def test_random_finds_its_share():
    evaluator = Evaluator(
        Csr(np.arange(2001, dtype=np.int32), np.full(2000, 9, np.int32)), empty_csr(2000), (5,), 50
    )
    found = evaluator(random_scorer(0, 50))
    assert found is not None
    assert found["recall@5"] == pytest.approx(0.1, abs=0.03)
    assert found["coverage@5"] == 1


def test_known_baselines_are_not_measured_again(pairs):
    pair_UI, relevant = pairs
    measured = []

    class Counting(Evaluator):
        def __call__(self, scorer, should_stop=None):
            measured.append(scorer)
            return super().__call__(scorer, should_stop)

    evaluator = Counting(relevant, empty_csr(40), (5,), 90)
    model, popular = random_scorer(1, 90), popularity_scorer(pair_UI.sum(axis=0))
    known: dict = {}
    first = measure(model, {"popularity": popular}, evaluator, known=known)
    assert measured == [model, popular]
    assert measure(model, {"popularity": popular}, evaluator, known=known) == first
    assert measured == [model, popular, model]
