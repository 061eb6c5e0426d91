"""Test every measure against its definition in NumPy."""

import itertools
import math

import jax.numpy as jnp
import numpy as np
import pytest

from jaxrec import losses
from jaxrec.config import Config, LossConfig, NegativesConfig, TrainConfig
from jaxrec.diagnosis import measures
from jaxrec.diagnosis.causes import constant_loss
from jaxrec.diagnosis.history import Course
from jaxrec.diagnosis.measures import Scored


def rows(n: int = 7, dim: int = 4, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, dim)).astype(np.float32)


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))


def test_cosines_are_those_of_all_pairs_of_different_rows():
    x, y = rows(), rows(5, seed=1)
    inner = [cosine(a, b) for a, b in itertools.permutations(x, 2)]
    cross = [cosine(a, b) for a in x for b in y]
    for found, values in (
        (measures.cosines(x), inner),
        (measures.cross_cosines(x, y), cross),
    ):
        assert found.mean == pytest.approx(np.mean(values), abs=1e-6)
        assert found.sd == pytest.approx(np.std(values), abs=1e-6)


@pytest.mark.parametrize("shape", [(40, 70), (70, 40), (300, 90)])
def test_singular_values_are_closer_than_a_float32_decomposition_gives_them(shape):
    """Use a matrix of rank 20 whose singular values spread over five decades."""
    rng = np.random.default_rng(0)
    scale = np.logspace(0, -5, 20)
    made = (rng.normal(size=(shape[0], 20)) * scale) @ rng.normal(size=(20, shape[1]))
    x = made.astype(np.float32)
    sigma = np.linalg.svd(x.astype(np.float64), compute_uv=False)
    p = sigma / sigma.sum()
    assert measures.spectrum(x).rank == pytest.approx(math.exp(-(p * np.log(p)).sum()), rel=1e-5)


@pytest.mark.parametrize("scale", [1.0, 1e-20, 1e18])
def test_the_spectrum_is_that_of_the_singular_values_at_any_scale(scale):
    x = rows(9, 5) * np.float32(scale)
    sigma = np.linalg.svd(x.astype(np.float64), compute_uv=False)
    p = sigma / sigma.sum()
    found = measures.spectrum(x)
    assert found.rank == pytest.approx(math.exp(-(p * np.log(p)).sum()), rel=1e-4)
    assert found.first == pytest.approx(sigma[0] ** 2 / (sigma**2).sum(), rel=1e-4)
    length = measures.norm(x)
    norms = np.linalg.norm(x.astype(np.float64), axis=1)
    assert length.mean == pytest.approx(norms.mean(), rel=1e-5)
    assert length.sd == pytest.approx(norms.std(), rel=1e-4)


def test_known_spectra():
    identity = measures.spectrum(np.eye(6))
    assert identity.rank == pytest.approx(6, rel=1e-5)
    assert identity.first == pytest.approx(1 / 6, rel=1e-5)
    line = measures.spectrum(np.outer(np.arange(1.0, 5), np.ones(3)))
    assert line.rank == pytest.approx(1, abs=1e-4)
    assert line.first == pytest.approx(1, abs=1e-5)
    nothing = measures.spectrum(np.zeros((3, 2)))
    assert (float(nothing.rank), float(nothing.first)) == (0.0, 0.0)


def test_alignment_and_uniformity_are_wang_and_isolas():
    x, y = rows(), rows(seed=1)
    unit_x, unit_y = (a / np.linalg.norm(a, axis=1, keepdims=True) for a in (x, y))
    expected = np.mean([((a - b) ** 2).sum() for a, b in zip(unit_x, unit_y, strict=True)])
    assert measures.alignment(x, y) == pytest.approx(expected, rel=1e-5)
    kernel = [math.exp(-2 * ((a - b) ** 2).sum()) for a, b in itertools.combinations(unit_x, 2)]
    found = measures.uniformity(x)
    assert found == pytest.approx(math.log(np.mean(kernel)), rel=1e-5)
    assert measures.uniformity(np.ones((4, 3))) == pytest.approx(0, abs=1e-6)


def test_products_in_pieces_are_those_of_the_whole():
    """Use 300 rows of 90, which is more than BLAS computes in one thread."""
    x = rows(300, 90)
    unit = x.astype(np.float64) / np.linalg.norm(x.astype(np.float64), axis=1, keepdims=True)
    between = (unit @ unit.T)[~np.eye(300, dtype=bool)]
    found = measures.cosines(x)
    assert found.mean == pytest.approx(between.mean(), rel=1e-9)
    assert found.sd == pytest.approx(between.std(), rel=1e-9)
    assert measures.uniformity(x) == pytest.approx(math.log(np.exp(4 * between - 4).mean()))


def test_rows_have_moved_by_their_distance_over_their_length():
    x = np.array([[3.0, 4.0], [0.0, 5.0]], np.float32)
    assert measures.moved(x + np.float32([[0, 2], [2, 0]]), x) == pytest.approx(0.4)
    assert measures.moved(x, x) == 0
    assert measures.moved(x, np.zeros_like(x)) == 5


def test_a_single_row_and_rows_of_zeros_have_figures_too():
    one = rows(1)
    assert measures.cosines(one) == (0, 0)
    assert measures.uniformity(one) == 0
    assert measures.cosines(np.zeros((3, 2), np.float32)) == (0, 0)


def test_the_simplex_is_where_rows_are_probabilities():
    x = np.array([[0.2, 0.8], [1.0, 0.0], [1.2, -0.2], [0.5, 0.6]], np.float32)
    assert measures.simplex(x) == 0.5


def test_lists_are_compared_pair_by_pair():
    lists = np.array([[0, 1, 2], [2, 1, 5], [5, 4, -1], [0, 1, 2]], np.int32)
    popular = np.array([1, 2, 9], np.int32)
    sets = [set(row.tolist()) - {-1} for row in lists]
    shared = [len(a & b) / 3 for a, b in itertools.combinations(sets, 2)]
    found = measures.lists(lists, 10, popular)
    assert found.overlap == pytest.approx(np.mean(shared))
    assert found.items == pytest.approx(len(set.union(*sets)) / 10)
    inside = sum(len(s & set(popular.tolist())) for s in sets)
    assert found.popular == pytest.approx(inside / lists.size)


def test_dead_units_are_0_at_every_row():
    first = np.array([[0, 1, 0], [0, 0, 0]], np.float32)
    second = np.array([[3.0], [0.0], [0.0]], np.float32)
    assert measures.dead([jnp.asarray(first), jnp.asarray(second)]) == 0.5


def test_pairs_are_judged_one_by_one():
    score = np.array([[1.0, 9.0, 1.0], [0.5, -8.0, 2.0]], np.float32)
    user, item, other = (np.array(x, np.int32) for x in ([0, 0, 1, 1], [1, 0, 0, 1], [0, 2, 2, 0]))
    gaps = np.array([8.0, 0.0, -1.5, -8.5]) / 0.5

    pos, neg = score[user, item], score[user, other]
    found = measures.of_pairs(Scored(pos, neg, None), 0.5)
    assert found["auc"] == pytest.approx((1 + 0.5) / 4)
    assert found["gap_loss"] == pytest.approx(np.logaddexp(0, -gaps).mean(), rel=1e-5)
    assert found["gap"] == pytest.approx(np.abs(gaps).mean())
    assert found["saturated"] == 0.5
    assert found["saturated_wrong"] == 0.25
    rated = Scored(pos, neg, np.array([9.0, 2.0, 1.0, 0.0], np.float32))
    errors = np.array([0.0, 1.0, 0.5, 8.0])
    made = measures.of_pairs(rated, 1.0)
    assert made["mse"] == pytest.approx((errors**2).mean())
    assert made["off"] == pytest.approx(errors.mean())


def test_a_saturated_gap_has_a_derivative_below_a_thousandth():
    sigmoid = 1 / (1 + math.exp(measures.SATURATED))
    assert sigmoid * (1 - sigmoid) < 1e-3 < 3 * sigmoid * (1 - sigmoid)


def test_what_is_no_number_is_counted_and_left_out():
    found = measures.finite({"a": 1.0, "b": math.nan, "c": -math.inf})
    assert found == {"a": 1.0, "not_finite": 2.0}
    assert measures.finite({"a": 1.0}) == {"a": 1.0}


@pytest.mark.parametrize("name", ["bpr", "bce", "softmax", "triplet", "hinge"])
def test_the_constants_loss_is_that_of_equal_scores(name):
    config = Config(
        loss=LossConfig(name),
        negatives=NegativesConfig("shared", 5),
        train=TrainConfig(batch_size=8),
    )
    equal = losses.LOSSES[name](jnp.zeros(3), jnp.zeros((3, 5)))
    found = constant_loss(Course(config, []))
    # With two labels, bce's best constant is 0, since positives and negatives weigh the same.
    assert found == pytest.approx(float(equal[0]), rel=1e-6)


def test_the_constants_loss_of_ratings_is_their_variance():
    config = Config(loss=LossConfig("mse"))
    course = Course(config, [{"split": "doctor", "rating_sd": 1.5}])
    assert constant_loss(course) == pytest.approx(2.25)
    assert constant_loss(Course(None, [])) is None
