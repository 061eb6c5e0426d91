import jax.numpy as jnp
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from jaxrec import hashed_random

WORD = st.integers(0, 2**32 - 1)


@given(bits=WORD, n=WORD)
def test_below_is_the_high_word_of_the_product(bits, n):
    found = hashed_random.below(jnp.array([bits], jnp.uint32), jnp.array([n], jnp.uint32))
    assert int(found[0]) == bits * n >> 32


def test_fractions_are_below_one():
    bits = jnp.array([0, 255, 256, 2**31, 2**32 - 1], jnp.uint32)
    found = np.asarray(hashed_random.fraction(bits))
    np.testing.assert_array_equal(found, [0, 0, 2**-24, 0.5, 1 - 2**-24])
