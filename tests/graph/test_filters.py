"""Test filters of users and of histories, in blocks or not, against dense eigendecomposition."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.polynomial import chebyshev

from jaxrec.data import synthetic
from jaxrec.data.dataset import Csr, Dataset
from jaxrec.evaluation import filter_scorer as filter_scoring
from jaxrec.evaluation.filter_scorer import filter_scorer
from jaxrec.evaluation.scorers import PAIRS, Scorer
from jaxrec.graph import buckets, filters
from jaxrec.graph.filters import Filter

KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def data() -> Dataset:
    """Return data in which one user and one item have no interactions."""
    made = synthetic.make(60, 40, 500, communities=4, seed=2)
    weight = np.random.default_rng(1).integers(1, 4, made.n_edges).astype(np.float32)
    return Dataset(made.user, made.item, np.arange(61), np.arange(41), weight=weight)


def dense(data: Dataset) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return R and the degrees of users and items."""
    rows_UI = np.zeros((data.n_users, data.n_items))
    weight = np.ones(data.n_edges) if data.weight is None else data.weight
    np.add.at(rows_UI, (data.user, data.item), weight)
    return rows_UI, rows_UI.sum(1), rows_UI.sum(0)


def power(degree: np.ndarray, exponent: float) -> np.ndarray:
    return np.where(degree > 0, np.where(degree > 0, degree, 1) ** exponent, 0)


def normalised(data: Dataset, share: float = 0.5) -> np.ndarray:
    rows_UI, user_U, item_I = dense(data)
    return power(user_U, -share)[:, None] * rows_UI * power(item_I, share - 1)


def scores(scorer: Scorer, rows: np.ndarray) -> np.ndarray:
    return np.asarray(jax.jit(scorer.fn)(scorer.params, jnp.asarray(rows, jnp.int32)))


def all_scores(made: Filter, data: Dataset) -> np.ndarray:
    """Return the scores of all users; zeros for users without items, who get popularity."""
    found = scores(filter_scorer(made), np.arange(data.n_users))
    return np.where(np.diff(made.indptr)[:, None] > 0, found, 0)


@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize(
    ("phi", "beta", "alpha", "order"), [(1.5, 0.4, 0.2, 8), (5.0, 0.0, 0.7, 3)]
)
def test_chebycf_is_a_function_of_the_eigenvalues(data, weighted, phi, beta, alpha, order):
    data = data if weighted else synthetic.make(60, 40, 500, communities=4, seed=2)
    rows_UI, _, item_I = dense(data)
    R = normalised(data)
    value, vector = np.linalg.eigh(R.T @ R)
    x = np.cos(np.pi * (np.arange(order + 1) + 0.5) / (order + 1))  # Chebyshev's nodes
    h = np.where(x < 0, 0.5 + 0.5 * np.abs(x) ** phi, 0.5 - 0.5 * np.abs(x) ** phi)
    response = np.polyval(np.polyfit(x, h, order), 1 - 2 * value)
    top = vector[:, ::-1][:, :7]
    matrix = (vector * response) @ vector.T + alpha * top @ top.T
    expected = (rows_UI * power(item_I, -beta)) @ matrix * power(item_I, beta)
    how = {"order": order, "flatness": phi, "degree_power": beta, "spectral_weight": alpha}
    made = filters.fit("cheby-cf", data, KEY, dim=7, products=order, **how)
    np.testing.assert_allclose(all_scores(made, data), expected, atol=5e-3 * expected.max())


def test_with_all_vectors_few_products_are_as_good_as_all(data):
    how = {"order": 8, "flatness": 1.5, "spectral_weight": 0.2}
    whole = all_scores(filters.fit("cheby-cf", data, KEY, dim=41, products=8, **how), data)
    few = filters.fit("cheby-cf", data, KEY, dim=41, products=1, **how)
    assert len(few.coefficient_K) == 2
    np.testing.assert_allclose(all_scores(few, data), whole, atol=0.01 * whole.max())


def test_gf_cf_is_its_equation(data):
    rows_UI, _, item_I = dense(data)
    R = normalised(data)
    top = np.linalg.svd(R)[2][:5].T
    low = power(item_I, -0.5)[:, None] * (top @ top.T) * power(item_I, 0.5)
    expected = rows_UI @ (R.T @ R + 0.3 * low)
    made = filters.fit("gf-cf", data, KEY, dim=5, spectral_weight=0.3)
    np.testing.assert_allclose(all_scores(made, data), expected, atol=5e-3 * expected.max())


@pytest.mark.parametrize("order", [1, 2, 3])
def test_turbo_cf_is_its_equation(data, order):
    R = normalised(data, 0.7)
    P = R.T @ R
    matrix = {1: P, 2: 2 * P - P @ P, 3: P + 0.01 * (-P @ P @ P + 10 * P @ P - 29 * P)}[order]
    expected = dense(data)[0] @ matrix
    made = filters.fit("turbo-cf", data, KEY, dim=4, order=order, user_power=0.7)
    np.testing.assert_allclose(all_scores(made, data), expected, atol=1e-4 * expected.max())


def test_leading_vectors_are_those_of_a_dense_svd(data):
    pairs, user_U, item_I = filters.weighted(data)
    matrix = filters.halves(pairs, power(user_U, -0.5), power(item_I, -0.5))
    found = filters.leading(matrix, data.n_items, 4, KEY)
    _, sigma, right = np.linalg.svd(normalised(data))
    np.testing.assert_allclose(found.sigma_D, sigma[:4], atol=1e-3)
    np.testing.assert_allclose(np.abs((found.item_ID * right[:4].T).sum(0)), 1, atol=0.02)


def test_vectors_beyond_the_rank_weigh_nothing():
    one = Dataset(np.zeros(2, np.int32), np.arange(2, dtype=np.int32), np.arange(3), np.arange(5))
    made = filters.fit("cheby-cf", one, KEY, dim=5, order=8, spectral_weight=0.2)
    found = all_scores(made, one)
    assert np.isfinite(found).all()
    assert not found[1:].any()
    assert not found[0, 2:].any()
    np.testing.assert_allclose(found[0, :2], 2 * 1.2 * 0.5, atol=0.02)  # h(-1) = 1, and alpha


def test_a_split_response_is_exact_on_known_eigenvalues_and_close_beyond():
    series = filters.plateau(1.5, 8)
    sigma = np.sqrt(np.linspace(1, 0.2, 30))
    low, lacking = filters.split_response(series, sigma, 1)
    known = 1 - 2 * sigma**2
    np.testing.assert_allclose(
        chebyshev.chebval(known, low) + lacking, chebyshev.chebval(known, series)
    )
    rest = np.linspace(0.6, 1)
    gap = chebyshev.chebval(rest, low) - chebyshev.chebval(rest, series)
    assert np.abs(gap).max() < 0.01


@pytest.mark.long_but("csr")
@pytest.mark.parametrize("kernel", ["csr", "buckets"])
def test_blocks_and_kernels_score_alike(data, kernel, monkeypatch):
    monkeypatch.setattr(filters.spmm, "default_kernel", lambda: kernel)
    made = filters.fit("cheby-cf", data, KEY, dim=6, order=8, products=2, spectral_weight=0.2)
    scorer = filter_scorer(made)
    assert isinstance(scorer.params["matrix"].to_users, buckets.Buckets) == (kernel == "buckets")
    whole = scores(scorer, np.arange(61))
    np.testing.assert_array_equal(whole[60], dense(data)[2])  # no items: the items' degrees
    parts = [scores(scorer, rows) for rows in np.array_split(np.arange(61)[::-1], 3)]
    np.testing.assert_allclose(np.concatenate(parts)[::-1], whole, atol=1e-5)
    if kernel == "buckets":
        return
    user, item = np.random.default_rng(0).integers(0, (61, 41), (130, 2)).T
    pairs = jax.jit(PAIRS[scorer.fn])(scorer.params, jnp.asarray(user), jnp.asarray(item))
    np.testing.assert_allclose(pairs, whole[user, item], atol=1e-5)


def test_a_history_scores_as_the_user_who_has_it():
    data = synthetic.make(60, 40, 500, communities=4, seed=2)
    made = filters.fit("cheby-cf", data, KEY, dim=6, order=8, spectral_weight=0.2)
    asked = np.array([7, 3, 59])
    history = data.csr().take(asked)
    found = scores(filter_scorer(made, history), np.arange(3))
    np.testing.assert_allclose(found, all_scores(made, data)[asked], atol=1e-5)


def test_a_history_is_a_sum_over_its_items(data):
    """A new interaction therefore counts at once, and adds the filter's row for its item."""
    made = filters.fit("gf-cf", data, KEY, dim=6, spectral_weight=0.3)
    each = Csr(np.arange(42, dtype=np.int32), np.arange(41, dtype=np.int32))
    row_II = scores(filter_scorer(made, each), np.arange(41))
    both = Csr(np.array([0, 2], np.int32), np.array([4, 9], np.int32))
    found = scores(filter_scorer(made, both), np.arange(1))[0]
    np.testing.assert_allclose(found, row_II[4] + row_II[9], atol=1e-6)
    # The rows form a symmetric matrix, except for the degrees in the spectral part.
    assert np.corrcoef(row_II.ravel(), row_II.T.ravel())[0, 1] > 0.9


@pytest.mark.parametrize("kind", ["cheby-cf", "gf-cf", "turbo-cf"])
def test_a_blend_is_its_equation(data, kind):
    rows_UI, user_U, item_I = dense(data)
    share = 0.7 if kind == "turbo-cf" else 0.5
    how = {"dim": 6, "order": 2, "user_power": 0.7, "spectral_weight": 0.2}
    alone = all_scores(filters.fit(kind, data, KEY, **how), data)
    alike_UU = (rows_UI @ normalised(data, share).T) ** 1.8
    near = alike_UU @ rows_UI * power(item_I, -0.3)
    new = rows_UI == 0

    def scaled(score: np.ndarray) -> np.ndarray:
        deviation = score.std(1, where=new, keepdims=True)
        return np.where(deviation > 0, score / np.where(deviation > 0, deviation, 1), 0)

    how |= {"neighbour_weight": 0.7, "neighbour_sharpness": 1.8, "neighbour_power": 0.3}
    found = all_scores(filters.fit(kind, data, KEY, **how), data)
    expected = scaled(alone) + 0.7 * scaled(near)
    np.testing.assert_allclose(found, expected, atol=1e-4 * expected.max())
    assert not found[user_U == 0].any()


@pytest.mark.parametrize("full", [0, 10**6])
def test_ease_is_blended_by_standard_deviations(data, full, monkeypatch):
    monkeypatch.setattr(filter_scoring, "_FULL", full)
    weight_II = np.random.default_rng(3).normal(size=(41, 41)).astype(np.float32)
    plain = filters.fit("cheby-cf", data, KEY, dim=6, order=8)
    both = plain._replace(weight_II=weight_II, ease_weight=np.array([0.6], np.float32))
    binary_UI = dense(data)[0] > 0

    def scaled(score: np.ndarray) -> np.ndarray:
        deviation = score.std(1, where=~binary_UI, keepdims=True)
        return score / np.where(deviation > 0, deviation, 1)

    expected = scaled(all_scores(plain, data)) + 0.6 * scaled(binary_UI @ weight_II)
    np.testing.assert_allclose(all_scores(both, data), expected, atol=1e-3)
    alone = plain._replace(weight_II=weight_II, weight_E=None)
    np.testing.assert_allclose(all_scores(alone, data), binary_UI @ weight_II, atol=1e-4)


def test_popularity_ranks_by_degree(data):
    found = all_scores(filters.fit("popularity", data, KEY, dim=6), data)[0]
    np.testing.assert_allclose(found / found.max(), dense(data)[2] / dense(data)[2].max())


def test_sharpness_prefers_the_user_who_shares_more():
    """Prefer the item of the one user who shares two items to that of two who share one each."""
    rows = {0: [0, 1, 2], 1: [0, 1, 3], 2: [0, 4], 3: [2, 4]}
    user = np.repeat(list(rows), [len(items) for items in rows.values()])
    item = np.concatenate(list(rows.values()))
    made = Dataset(user.astype(np.int32), item.astype(np.int32), np.arange(4), np.arange(5))

    def prefers_3(sharpness: float) -> bool:
        how = {"neighbour_weight": 1e6, "neighbour_sharpness": sharpness, "neighbour_power": 0.0}
        score_I = all_scores(filters.fit("gf-cf", made, KEY, dim=2, **how), made)[0]
        return bool(score_I[3] > score_I[4])

    assert not prefers_3(1.0)
    assert prefers_3(4.0)


def test_a_history_is_blended_as_the_user_who_has_it():
    data = synthetic.make(60, 40, 500, communities=4, seed=2)
    made = filters.fit("cheby-cf", data, KEY, dim=6, order=8, neighbour_weight=1.0)
    users = np.array([5, 0, 33])
    indptr, indices = made.pairs.known
    rows = [indices[indptr[user] : indptr[user + 1]] for user in users]
    history = Csr(np.cumsum([0, *map(len, rows)]).astype(np.int32), np.concatenate(rows))
    of_history = scores(filter_scorer(made, history), np.arange(3))
    np.testing.assert_allclose(of_history, all_scores(made, data)[users], atol=1e-4)
