"""Test learned changes of graph filters against their definition and planted mistakes."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrec
from jaxrec import presets
from jaxrec.config import ModelConfig
from jaxrec.data import synthetic
from jaxrec.data.dataset import Dataset
from jaxrec.evaluation.filter_scorer import filter_scorer
from jaxrec.graph import filters
from jaxrec.graph.filters import Filter, Leading
from jaxrec.training import learned_filters
from jaxrec.training.learned_filters import Change

KEY = jax.random.key(0)
HOW = {"order": 8, "products": 2, "spectral_weight": 0.3}


@pytest.fixture(scope="module")
def data() -> Dataset:
    """Return data in which one user and one item have no interactions."""
    made = synthetic.make(60, 40, 500, communities=4, seed=2)
    return Dataset(made.user, made.item, np.arange(61), np.arange(41))


def fit(train: Dataset, kind: str = "cheby-cf", **how) -> tuple[Filter, Leading]:
    found = []

    def spectrum(compute):
        found.append(compute())
        return found[0]

    options = (HOW if kind == "cheby-cf" else {}) | how
    return filters.fit(kind, train, KEY, dim=6, spectrum=spectrum, **options), found[0]


def some_change(fitted: Filter, seed: int = 0, by: float = 0.1) -> Change:
    rng = np.random.default_rng(seed)
    zeros = learned_filters.no_change(fitted)
    return Change(*(by * rng.normal(size=x.shape).astype(np.float32) for x in zeros))


@pytest.mark.parametrize("kind", ["cheby-cf", "gf-cf", "turbo-cf"])
def test_no_change_leaves_every_bit(data, kind):
    fitted, spectrum = fit(data, kind)
    change = learned_filters.no_change(fitted)
    same = learned_filters.changed(fitted, spectrum.sigma_D, change)
    for name, array in fitted.arrays().items():
        np.testing.assert_array_equal(array, same.arrays()[name])
    np.testing.assert_array_equal(fitted.item_ID, same.item_ID)


def test_a_change_is_its_definition_wherever_scores_are_computed(data):
    fitted, spectrum = fit(data)
    _, degree_U, degree_I = filters.weighted(data)
    change = some_change(fitted)
    made = learned_filters.changed(fitted, spectrum.sigma_D, change)
    R = np.zeros((61, 41))
    R[data.user, data.item] = 1
    whole = np.sqrt(np.maximum(np.outer(degree_U, degree_I), 1e-9))
    P = (R / whole).T @ (R / whole)
    safe_I = np.maximum(degree_I, 1)
    powers = [safe_I**p for p in (np.array([-0.4, 0.4, -0.4, 0.4]) + change.power)]
    series = np.float64(fitted.coefficient_K) + change.series_K
    M = np.eye(41) - 2 * P
    q = series[0] * np.eye(41) + series[1] * M + series[2] * (2 * M @ M - np.eye(41))
    node = np.linspace(0, 1, len(change.gain_N))
    gain = fitted.gain_D + np.interp(spectrum.sigma_D, node, change.gain_N)
    V = spectrum.item_ID
    there = degree_I > 0
    expected = (R * powers[0]) @ q * powers[1] * there
    expected += (R * powers[2]) @ V * gain @ V.T * powers[3]
    found = learned_filters.scores(
        {
            **change.of(fitted, spectrum.sigma_D, degree_I),
            "matrix": filters.halves(fitted.pairs, fitted.user_U, fitted.item_I),
        },
        jnp.asarray(R.T, jnp.float32),
    )
    np.testing.assert_allclose(np.asarray(found).T, expected, atol=2e-4 * np.abs(expected).max())
    scorer = filter_scorer(made)
    ranked = np.asarray(jax.jit(scorer.fn)(scorer.params, jnp.arange(60)))
    np.testing.assert_allclose(ranked, expected[:60], atol=2e-4 * np.abs(expected).max())


def test_the_gradient_of_the_loss_equals_central_differences(data):
    fitted, spectrum = fit(data)
    degree_I = filters.weighted(data)[2]
    matrix = filters.halves(fitted.pairs, fitted.user_U, fitted.item_I)
    rng = np.random.default_rng(3)
    drawn_IB = rng.random((41, 7))
    row_IB = jnp.asarray(drawn_IB < 0.2, jnp.float32)
    hidden_IB = jnp.asarray((drawn_IB > 0.9) & (np.arange(7) < 6), jnp.float32)

    @jax.jit
    def loss(change: Change, log_tau):
        arrays = change.of(fitted, spectrum.sigma_D, degree_I) | {"matrix": matrix}
        return learned_filters.loss(arrays, log_tau, row_IB, hidden_IB)

    at = (some_change(fitted, 1), jnp.float32(1.3))
    score_IB = np.float64(
        learned_filters.scores(
            at[0].of(fitted, spectrum.sigma_D, degree_I) | {"matrix": matrix}, row_IB
        )
    )
    lost = []
    rows = (np.asarray(x).T for x in (score_IB, row_IB, hidden_IB))
    for score, row, hidden in zip(*rows, strict=True):
        logits = np.exp(1.3) * score[row == 0]
        for_each = np.log(np.exp(logits).sum()) - np.exp(1.3) * score[hidden > 0]
        lost += [for_each.mean()] if len(for_each) else []
    assert float(loss(*at)) == pytest.approx(np.mean(lost), rel=1e-5)
    gradient = jax.grad(loss, (0, 1))(*at)
    flat, tree = jax.tree.flatten(at)
    step = 5e-3
    for n, (leaf, grad) in enumerate(zip(flat, jax.tree.leaves(gradient), strict=True)):
        for k in np.ndindex(np.shape(leaf)):
            ends = []
            for sign in (1, -1):
                moved = [np.array(x) for x in flat]
                moved[n][k] += sign * step
                ends.append(float(loss(*jax.tree.unflatten(tree, moved))))
            assert grad[k] == pytest.approx((ends[0] - ends[1]) / (2 * step), abs=2e-3)


def test_hidden_pairs_are_out_of_the_rows_and_of_the_filter():
    made = synthetic.make(60, 40, 600, communities=4, seed=2)
    twice = np.tile(np.arange(made.n_edges), 2)  # every pair is there twice
    data = Dataset(made.user[twice], made.item[twice], made.user_ids, made.item_ids)
    split = learned_filters.hide(data, np.random.default_rng(0))
    rest, hidden = split.rest_UI.toarray(), split.hidden_UI.toarray()
    assert set(np.unique(hidden)) == {0, 1}
    assert not ((rest > 0) & (hidden > 0)).any()
    assert (rest.sum(axis=1) > 0).all()
    whole = np.zeros_like(rest)
    whole[data.user, data.item] = 1
    np.testing.assert_array_equal((rest > 0) | (hidden > 0), whole > 0)
    again = np.zeros_like(rest)
    np.add.at(again, (split.rest.user, split.rest.item), 1)
    np.testing.assert_array_equal(again, rest)


def test_users_with_a_single_item_keep_it_and_nothing_is_learnt():
    row = np.arange(30, dtype=np.int32)
    data = Dataset(row, row, np.arange(30), np.arange(30))
    assert learned_filters.hide(data, np.random.default_rng(0)).hidden_UI.nnz == 0
    change = learned_filters.learn(fit, data, KEY, 5)
    assert all(not x.any() for x in change)


def recall(fitted: Filter, split: learned_filters.Split) -> float:
    """Return the mean over users of the share of their hidden items among the first ten."""
    scorer = filter_scorer(fitted)
    score_UI = np.array(jax.jit(scorer.fn)(scorer.params, jnp.arange(len(fitted.user_U))))
    score_UI[split.rest_UI.toarray() > 0] = -np.inf
    top_UK = np.argsort(-score_UI, axis=1)[:, :10]
    hidden_UI = split.hidden_UI.toarray()
    found_U = np.take_along_axis(hidden_UI, top_UK, axis=1).sum(axis=1)
    there_U = hidden_UI.any(axis=1)
    return float(np.mean(found_U[there_U] / np.minimum(hidden_UI.sum(axis=1)[there_U], 10)))


def test_it_corrects_a_planted_power_of_the_degrees_and_repeats():
    """Begin with scores that are divided by far too high a power of the items' degrees."""
    whole = synthetic.make(400, 120, 8000, communities=4, seed=3)
    split = learned_filters.hide(whole, np.random.default_rng(9))  # apart from what is learnt from
    data = split.rest

    def wrong(train: Dataset) -> tuple[Filter, Leading]:
        fitted, spectrum = fit(train, "turbo-cf")
        degree_I = np.maximum(filters.weighted(train)[2], 1)
        return fitted._replace(out_I=(fitted.out_I / degree_I**2).astype(np.float32)), spectrum

    change = learned_filters.learn(wrong, data, KEY, 150)
    fitted, spectrum = wrong(data)
    better = learned_filters.changed(fitted, spectrum.sigma_D, change)
    assert recall(better, split) > 1.3 * recall(fitted, split)
    for one, other in zip(change, learned_filters.learn(wrong, data, KEY, 150), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_change_that_does_not_help_users_left_out_is_dropped(monkeypatch):
    data = synthetic.make(200, 60, 3000, communities=4, seed=3)
    assert any(x.any() for x in learned_filters.learn(fit, data, KEY, 30))
    monkeypatch.setattr(learned_filters, "_RATE", 50.0)  # which diverges
    assert all(not x.any() for x in learned_filters.learn(fit, data, KEY, 30))


@pytest.mark.long
def test_a_run_with_a_learned_filter_serves_it_and_repeats(tmp_path):
    plain = presets.get("filter")
    model = ModelConfig("filter", dim=12, layers=0, products=2, learned_steps=20)
    config = dataclasses.replace(plain, model=model)
    data = synthetic.make(90, 60, 1200, communities=4, seed=1)
    first, second = (
        jaxrec.train(config, data=data, run=tmp_path / name, quiet=True) for name in "ab"
    )
    closed = dataclasses.replace(config, model=dataclasses.replace(model, learned_steps=0))
    other = jaxrec.train(closed, data=data, run=tmp_path / "c", quiet=True)
    arrays = [dict(np.load(run.folder / "filter.npz")) for run in (first, second, other)]
    for name, array in arrays[0].items():
        np.testing.assert_array_equal(array, arrays[1][name])
    assert (arrays[0]["coefficient_K"] != arrays[2]["coefficient_K"]).any()
    assert first.metrics == second.metrics
    again = jaxrec.evaluate(first.folder, "test", (20,), data=data)
    assert again["metrics"]["recall@20"] == pytest.approx(first.metrics["recall@20"], abs=1e-6)
    recommender = jaxrec.Recommender.load(first.folder)
    assert len(recommender.recommend(recommender.user_ids[:3], k=5)) == 15
