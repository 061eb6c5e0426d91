"""Many cheap random numbers from a few good ones."""

import jax.numpy as jnp
from jaxtyping import Array, Float, UInt32


def mix(x: UInt32[Array, "*any"]) -> UInt32[Array, "*any"]:
    """Scramble 32 bits, one to one: each bit of x decides about half of the bits.

    The finaliser "lowbias32" (Wellons, "Prospecting for hash functions", 2018). Threefry for every
    pair of a large table costs some 12 times as much.
    """
    x = (x ^ (x >> 16)) * jnp.uint32(0x7FEB352D)
    x = (x ^ (x >> 15)) * jnp.uint32(0x846CA68B)
    return x ^ (x >> 16)


def uniform(x: UInt32[Array, "*any"]) -> Float[Array, "*any"]:
    """A float32 in [0, 1) from :func:`mix` of x."""
    return (mix(x) >> 8).astype(jnp.float32) * jnp.float32(2**-24)
