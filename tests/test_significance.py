import numpy as np
import pytest
from scipy import stats

from jaxrec import significance

TESTS = {
    "t": significance.paired_t,
    "wilcoxon": significance.wilcoxon,
    "bootstrap": lambda diff: significance.bootstrap(diff, draws=400).p_R,
}


def recalls(rng: np.random.Generator, repeats: int, users: int, held_out: int = 5) -> np.ndarray:
    """Draw recalls of users, which are multiples of 1 / held_out and often 0."""
    return rng.binomial(held_out, 0.2, (repeats, users)) / held_out


@pytest.mark.parametrize("name", TESTS)
def test_false_alarms_come_at_the_stated_rate(name):
    """Call about 50 of 1,000 comparisons different if the configurations do not differ."""
    rng = np.random.default_rng(3)
    diff = recalls(rng, 1000, 300) - recalls(rng, 1000, 300)
    alarms = int((TESTS[name](diff) < 0.05).sum())
    low, high = stats.binom.interval(0.999, 1000, 0.05)
    assert low <= alarms <= high


@pytest.mark.parametrize("name", TESTS)
def test_a_planted_difference_is_found_and_a_tie_is_not(name):
    rng = np.random.default_rng(4)
    base = recalls(rng, 1, 2000)
    better = np.minimum(base + rng.binomial(1, 0.06, base.shape) / 5, 1)
    moved = rng.choice([-0.2, 0, 0.2], base.shape)
    moved[0, 1000:] = -moved[0, :1000]  # the mean is exactly 0, and the distribution symmetric
    assert TESTS[name](better - base)[0] < 1e-2
    assert TESTS[name](moved)[0] > 0.9
    assert TESTS[name](np.zeros((1, 50)))[0] == 1


def test_folds_that_share_pairs_raise_no_more_false_alarms_than_stated():
    """Draw results of folds whose correlation is the share of test pairs, without a difference."""
    rng, ratio, n_folds = np.random.default_rng(7), 0.25, 5
    share = ratio / (1 + ratio)
    own, common = rng.normal(size=(1000, n_folds)), rng.normal(size=(1000, 1))
    diff = np.sqrt(1 - share) * own + np.sqrt(share) * common
    alarms = sum(significance.corrected_t(row, ratio) < 0.05 for row in diff)
    low, high = stats.binom.interval(0.999, 1000, 0.05)
    assert low <= alarms <= high
    assert sum(significance.paired_t(row)[0] < 0.05 for row in diff) > high
    assert significance.corrected_t(diff[0], 0.0) == pytest.approx(
        significance.paired_t(diff[0])[0]
    )
    assert significance.corrected_t([0.0, 0.0], ratio) == 1


def test_holm_holds_the_rate_over_all_pairs():
    rng = np.random.default_rng(5)
    p = rng.uniform(size=(1000, 6))
    alarms = sum(bool((significance.holm(row) < 0.05).any()) for row in p)
    low, high = stats.binom.interval(0.999, 1000, 0.05)
    assert low <= alarms <= high


def test_holm_by_hand():
    assert significance.holm([0.01, 0.04, 0.03]).tolist() == pytest.approx([0.03, 0.06, 0.06])
    assert significance.holm([0.5, 0.9]).tolist() == [1, 1]


def test_tests_equal_scipys_on_one_row():
    rng = np.random.default_rng(6)
    a, b = rng.normal(size=40), rng.normal(0.3, size=40)
    assert significance.paired_t(a - b)[0] == pytest.approx(stats.ttest_rel(a, b).pvalue)
    ours = significance.wilcoxon(a - b)[0]
    assert ours == pytest.approx(stats.wilcoxon(a, b, method="approx", correction=False).pvalue)
    a, b = a.tolist(), b.tolist()
    assert significance.welch(a, b) == pytest.approx(stats.ttest_ind(a, b, equal_var=False).pvalue)
    assert significance.welch(a[:1], b) is None


def test_the_bootstrap_interval_holds_the_mean_as_often_as_it_says():
    rng = np.random.default_rng(7)
    made = significance.bootstrap(rng.normal(0.4, 1.0, (1000, 200)), draws=400)
    inside = int(((made.low_R <= 0.4) & (made.high_R >= 0.4)).sum())
    assert 915 <= inside <= 980


def test_effect_size_is_the_mean_in_standard_deviations():
    assert significance.effect_size(np.array([1.0, 2.0, 3.0])) == pytest.approx(2.0)
    assert significance.effect_size(np.zeros(3)) == 0
