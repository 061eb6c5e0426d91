import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import oracle
from jaxrec import losses

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
    ("name", "constant"), [("bpr", math.log(2)), ("bce", 2 * math.log(2)), ("softmax", math.log(6))]
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


def test_bpr_averages_over_pairs_and_does_not_sum_scores_inside_the_sigmoid():
    pos, neg, _ = scores(2)
    ours = float(jnp.mean(losses.bpr(jnp.asarray(pos), jnp.asarray(neg))))
    inside = float(np.log1p(np.exp(np.sum(neg - pos[:, None]))))
    assert abs(ours - inside) > 0.1
    assert ours == pytest.approx(np.mean(np.log1p(np.exp(neg - pos[:, None]))), rel=1e-5)
