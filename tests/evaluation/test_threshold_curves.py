import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import oracle
from jaxrec.errors import RunError
from jaxrec.evaluation.threshold_curves import areas, pr_curve, roc_curve

# Scores have few values, so that ties occur within labels and across them.
SCORED = st.lists(
    st.tuples(
        st.sampled_from([-1.0, 0.0, 0.25, 1.0, np.inf, -np.inf]) | st.floats(-2, 2, width=32)
    ),
    min_size=2,
    max_size=40,
)


@st.composite
def cases(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    score = np.array([x for (x,) in draw(SCORED)], np.float32)
    label = np.array(draw(st.lists(st.booleans(), min_size=len(score), max_size=len(score))))
    label[0], label[1] = True, False
    return score, label


@given(cases())
def test_areas_equal_their_definitions(case):
    score, label = case
    precision = oracle.average_precision(score.tolist(), label.tolist())
    expected = oracle.roc_auc(score, label), precision
    assert areas(score, label) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("n", [2, 7, 100, 30_000])
@pytest.mark.parametrize("decimals", [0, 1, 6])
def test_areas_and_curves_equal_those_of_scikit_learn(n, decimals):
    sklearn = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(n + decimals)
    score = np.round(rng.normal(size=n), decimals).astype(np.float32)
    label = rng.random(n) < 0.4
    label[:2] = True, False
    expected = sklearn.roc_auc_score(label, score), sklearn.average_precision_score(label, score)
    assert areas(score, label) == pytest.approx(expected, abs=1e-9)
    fpr, tpr, threshold = sklearn.roc_curve(label, score, drop_intermediate=False)
    for ours, theirs in zip(roc_curve(score, label), (fpr, tpr, threshold), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-12)
    precision, recall, threshold = sklearn.precision_recall_curve(label, score)
    curve = pr_curve(score, label)
    np.testing.assert_allclose(curve.y[::-1], precision, atol=1e-12)
    np.testing.assert_allclose(curve.x[::-1], recall, atol=1e-12)
    np.testing.assert_array_equal(curve.threshold[1:][::-1], threshold)


@given(cases())
def test_curves_enclose_the_areas(case):
    score, label = case
    roc, pr = roc_curve(score, label), pr_curve(score, label)
    steps = np.sum(np.diff(pr.x) * pr.y[1:])
    assert areas(score, label) == pytest.approx((np.trapezoid(roc.y, roc.x), steps), abs=1e-12)
    for curve in (roc, pr):
        assert np.isinf(curve.threshold[0])
        assert (np.diff(curve.x) >= 0).all()


def test_a_thinned_curve_keeps_ends_jumps_and_nearly_the_area():
    rng = np.random.default_rng(0)
    label = rng.random(50_000) < 0.5
    # The scores of true and false pairs form two separate clusters.
    score = np.where(label, 0.9, 0.1) + rng.normal(0, 0.01, len(label)) * (
        1 + 20 * (label & (rng.random(len(label)) < 0.1))
    )
    whole = roc_curve(score, label)
    thin = whole.thinned(200)
    assert len(thin.x) <= 200
    for part, other in zip(whole, thin, strict=True):
        assert (part[0], part[-1]) == (other[0], other[-1])
    assert np.trapezoid(thin.y, thin.x) == pytest.approx(np.trapezoid(whole.y, whole.x), abs=0.01)
    assert np.abs(np.diff(thin.threshold[1:])).max() < 0.5
    assert roc_curve(score[:50], label[:50]).thinned(200).x.shape == (
        len(np.unique(score[:50])) + 1,
    )


def test_invalid_scores_and_labels_are_refused():
    score = np.array([0.5, np.nan], np.float32)
    with pytest.raises(RunError, match="NaN"):
        areas(score, np.array([True, False]))
    for measure in (areas, roc_curve, pr_curve):
        with pytest.raises(ValueError, match="both labels"):
            measure(np.array([0.5, 1.0]), np.array([True, True]))
