import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import oracle
from jaxrec import losses
from jaxrec.models import decoder
from jaxrec.models.decoder import BilinearDecoder, DecoderWeights

LEVELS = np.array([0.5, 2.0, 3.0, 4.5])


def weights_and_pairs(seed: int = 0) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
    """Return weights of 4 levels over 2 bases, and 6 pairs of embeddings of width 3, in float64."""
    rng = np.random.default_rng(seed)
    weights = [rng.normal(size=(2, 3, 3)), rng.normal(size=(4, 2))]
    return weights, rng.normal(size=(6, 3)), rng.normal(size=(6, 3))


def on_device(*arrays: np.ndarray) -> tuple[jax.Array, ...]:
    return tuple(jnp.asarray(x, jnp.float32) for x in arrays)


def test_probabilities_and_expected_ratings_are_those_of_the_definition():
    weights, user, item = weights_and_pairs()
    ours = DecoderWeights(*on_device(*weights))
    logits = decoder.level_logits(ours, *on_device(user, item))
    expected = np.array(
        [oracle.level_probabilities(u, v, *weights) for u, v in zip(user, item, strict=True)]
    )
    np.testing.assert_allclose(jax.nn.softmax(logits), expected, rtol=1e-4)
    rating = decoder.expected(logits, *on_device(LEVELS))
    np.testing.assert_allclose(rating, expected @ LEVELS, rtol=1e-5)


def test_all_items_at_once_score_as_their_pairs_do():
    weights, user, item = weights_and_pairs(1)
    ours = DecoderWeights(*on_device(*weights))
    (level,) = on_device(LEVELS)
    whole = decoder.all_expected(ours, level, *on_device(user[:4], item))
    for b in range(4):
        logits = decoder.level_logits(ours, *on_device(np.repeat(user[b][None], 6, 0), item))
        np.testing.assert_allclose(whole[b], decoder.expected(logits, level), rtol=1e-5)


def test_expected_ratings_stay_finite_and_within_the_levels_at_extreme_logits():
    weights, user, item = weights_and_pairs(2)
    ours = DecoderWeights(*on_device(*weights))
    (level,) = on_device(LEVELS)
    whole = decoder.all_expected(ours, level, *on_device(100 * user, 100 * item))
    assert bool(jnp.all((whole >= 0.5) & (whole <= 4.5)))
    logits = decoder.level_logits(ours, *on_device(100 * user, 100 * item))
    value, gradient = jax.value_and_grad(lambda x: losses.level_loss(x, jnp.arange(6) % 4).sum())(
        logits
    )
    assert math.isfinite(value)
    assert bool(jnp.all(jnp.isfinite(gradient)))


@pytest.mark.parametrize("wanted", range(4), ids=["bases", "shares", "users", "items"])
def test_the_gradient_of_the_loss_is_that_of_the_definition(wanted):
    (basis, share), user, item = weights_and_pairs(3)
    level = np.array([0, 3, 1, 2, 3, 0])
    arrays = [basis, share, user, item]

    def slow(x: np.ndarray) -> float:
        basis, share, user, item = [*arrays[:wanted], x, *arrays[wanted + 1 :]]
        chosen = [
            oracle.level_probabilities(u, v, basis, share)[r]
            for u, v, r in zip(user, item, level, strict=True)
        ]
        return -math.fsum(map(math.log, chosen))

    def ours(basis, share, user, item):
        logits = decoder.level_logits(DecoderWeights(basis, share), user, item)
        return losses.level_loss(logits, jnp.asarray(level)).sum()

    value, gradient = jax.value_and_grad(ours, wanted)(*on_device(*arrays))
    assert float(value) == pytest.approx(slow(arrays[wanted]), rel=1e-5)
    expected = oracle.central_differences(slow, arrays[wanted])
    np.testing.assert_allclose(gradient, expected, rtol=1e-3, atol=1e-4)


def test_a_fresh_decoder_has_the_shapes_asked_for():
    weights = BilinearDecoder(5, levels=4, bases=3, rngs=nnx.Rngs(0)).weights
    assert [x.shape for x in weights] == [(3, 5, 5), (4, 3)]
