import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import oracle
from jaxrec import losses
from jaxrec.platforms import compiled_for

NAMES = sorted(losses.LOSSES)


def scores(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    pos, neg = rng.normal(size=9) * 3, rng.normal(size=(9, 5)) * 3
    return pos.astype(np.float32), neg.astype(np.float32), rng.random((9, 5)) < 0.7


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("masked", [False, True])
def test_each_loss_equals_its_definition(name, masked):
    pos, neg, valid = scores()
    ours = losses.LOSSES[name](
        jnp.asarray(pos), jnp.asarray(neg), jnp.asarray(valid) if masked else None
    )
    expected = oracle.LOSSES[name](pos, neg, valid if masked else np.ones_like(valid))
    np.testing.assert_allclose(ours, expected, rtol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_losses_and_gradients_stay_finite_at_extreme_scores(name):
    pos = jnp.array([1e4, -1e4, 0.0, 3e38])
    neg = jnp.array([[-1e4, 1e4], [1e4, 1e4], [0.0, 0.0], [-3e38, 0.0]]) * 0.9

    def total(pos, neg):
        return jnp.mean(losses.LOSSES[name](pos, neg)[:3])

    value, gradient = jax.value_and_grad(total, (0, 1))(pos, neg)
    assert math.isfinite(value)
    assert all(bool(jnp.all(jnp.isfinite(g))) for g in gradient)


@pytest.mark.parametrize(
    ("name", "constant"),
    [
        *(("bpr", math.log(2)), ("bce", 2 * math.log(2)), ("softmax", math.log(6))),
        *(("triplet", 0.5), ("hinge", 1.0)),
    ],
)
def test_equal_scores_cost_the_constant_predictors_loss(name, constant):
    zero = losses.LOSSES[name](jnp.zeros(3), jnp.zeros((3, 5)))
    np.testing.assert_allclose(zero, constant, rtol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_a_masked_negative_has_no_gradient_and_padding_changes_nothing(name):
    pos, neg, valid = (jnp.asarray(x) for x in scores(1))
    valid = valid.at[:, 0].set(True)
    loss = losses.LOSSES[name]
    gradient = jax.grad(lambda n: jnp.sum(loss(pos, n, valid)))(neg)
    assert bool(jnp.all(jnp.where(valid, True, gradient == 0)))
    padded = jnp.concatenate([neg, jnp.full((9, 3), 50.0)], axis=1)
    mask = jnp.concatenate([valid, jnp.zeros((9, 3), bool)], axis=1)
    np.testing.assert_allclose(loss(pos, padded, mask), loss(pos, neg, valid), rtol=1e-6)


@pytest.mark.parametrize("shape", [(40, 6), (9, 40, 6)])
def test_the_margin_of_a_hinge_is_the_gap_that_costs_nothing(shape):
    rng = np.random.default_rng(4)
    user, pos, neg = (rng.normal(size=s).astype(np.float32) for s in ((9, 6), (9, 6), shape))
    scores = (user * pos).sum(1)[:, None], (user[:, None] * neg).sum(2)
    for margin in (0.3, 2.0):
        rows = map(jnp.asarray, (user, pos, neg))
        ours = losses.mean("hinge", *rows, jnp.ones(9), temperature=0.5, margin=margin)
        gaps = np.maximum(0, margin - (scores[0] - scores[1]) / 0.5)
        assert float(ours) == pytest.approx(gaps.mean(1).sum(), rel=1e-4)


def test_bpr_averages_over_pairs_and_does_not_sum_scores_inside_the_sigmoid():
    pos, neg, _ = scores(2)
    ours = float(jnp.mean(losses.bpr(jnp.asarray(pos), jnp.asarray(neg))))
    inside = float(np.log1p(np.exp(np.sum(neg - pos[:, None]))))
    assert abs(ours - inside) > 0.1
    assert ours == pytest.approx(np.mean(np.log1p(np.exp(neg - pos[:, None]))), rel=1e-5)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("size", [1, 700, 1024])
def test_blocks_of_shared_negatives_equal_the_loss_of_the_whole_scores(name, masked, size):
    rng = np.random.default_rng(size)
    user, pos, neg = (jnp.asarray(rng.normal(size=(n, 6)), jnp.float32) for n in (size, size, 40))
    share = jnp.asarray(rng.random(size), jnp.float32)
    valid = jnp.asarray(rng.random((size, 40)) < 0.8) if masked else None

    def ours(user, pos, neg):
        return losses.mean(name, user, pos, neg, share, valid, temperature=0.7)

    def plain(user, pos, neg):
        with jax.default_matmul_precision("highest"):
            pos_B, neg_BS = (user * pos).sum(1) / 0.7, user @ neg.T / 0.7
        return jnp.sum(share * losses.LOSSES[name](pos_B, neg_BS, valid))

    (a, g), (b, h) = (jax.value_and_grad(f, (0, 1, 2))(user, pos, neg) for f in (ours, plain))
    np.testing.assert_allclose([a, ours(user, pos, neg)], [b, b], rtol=1e-5)
    for x, y in zip(g, h, strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-4)
    private = jnp.broadcast_to(neg, (size, 40, 6))
    np.testing.assert_allclose(
        losses.mean(name, user, pos, private, share, valid, temperature=0.7), b, rtol=1e-5
    )


def test_the_gradient_against_shared_negatives_holds_no_array_of_all_scores():
    def value(user, pos, neg):
        return losses.mean("softmax", user, pos, neg, jnp.ones(4096))

    rows = jnp.ones((4096, 4)), jnp.ones((4096, 4)), jnp.ones((333, 4))
    text = str(jax.make_jaxpr(jax.grad(value, (0, 1, 2)))(*rows))
    assert "[512,333]" in text
    assert "[4096,333]" not in text


@pytest.mark.parametrize(("shared", "block"), [(333, 4096), (2**16, 1024), (2**20, 512)])
def test_on_a_gpu_blocks_of_pairs_are_as_large_as_memory_allows(shared, block):
    def value(user, pos, neg):
        return losses.mean("softmax", user, pos, neg, jnp.ones(4096))

    shapes = [jax.ShapeDtypeStruct((n, 4), jnp.float32) for n in (4096, 4096, shared)]
    with compiled_for("gpu"):
        text = str(jax.make_jaxpr(jax.grad(value, (0, 1, 2)))(*shapes))
    found = re.findall(rf"\[(\d+),{shared}\]", text)
    assert set(map(int, found)) - {1, 4} == {block}


def test_losses_of_ratings_equal_their_definitions_and_have_their_gradients():
    rng = np.random.default_rng(3)
    score, rating = rng.normal(size=7), rng.normal(size=7)

    def slow(x: np.ndarray) -> float:
        return math.fsum((r - s) ** 2 for r, s in zip(rating, x, strict=True))

    def ours(x):
        return losses.squared_error(x, jnp.asarray(rating, jnp.float32)).sum()

    value, gradient = jax.value_and_grad(ours)(jnp.asarray(score, jnp.float32))
    assert float(value) == pytest.approx(slow(score), rel=1e-5)
    expected = oracle.central_differences(slow, score)
    np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-4)
    equal = losses.level_loss(jnp.zeros((3, 5)), jnp.array([0, 4, 2]))
    np.testing.assert_allclose(equal, math.log(5), rtol=1e-6)


def test_rating_levels_cost_the_same_on_a_gpu():
    logit_BR = jnp.asarray(np.random.default_rng(3).normal(size=(7, 4)), jnp.float32)
    level_B = jnp.arange(7) % 4

    def both():
        return jax.value_and_grad(lambda x: losses.level_loss(x, level_B).sum())(logit_BR)

    here = both()
    with compiled_for("gpu"):
        there = both()
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-6), here, there)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("gap", [0.0, 2.0, 30.0])
def test_a_single_gap_costs_what_the_loss_makes_of_it(name, gap):
    pos, neg = jnp.full(4, gap / 2), jnp.full((4, 7), -gap / 2)
    made = losses.LOSSES[name](pos, neg)
    np.testing.assert_allclose(losses.at_gap(name, gap, 7.0), made, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", NAMES)
def test_the_largest_gap_costs_nothing_and_the_least_overflows_nowhere(name):
    with np.errstate(all="raise", under="ignore"):
        assert losses.at_gap(name, 2 / 1e-30, 1000.0) == 0
        assert losses.at_gap(name, 2 / 1e-300, 1000.0) == 0
