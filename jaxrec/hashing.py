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
    return fraction(mix(x))


def fraction(bits: UInt32[Array, "*any"]) -> Float[Array, "*any"]:
    """A float32 in [0, 1), a multiple of 2^-24, from 32 random bits."""
    return (bits >> 8).astype(jnp.float32) * jnp.float32(2**-24)


def below(bits: UInt32[Array, "*any"], n: UInt32[Array, "*any"]) -> UInt32[Array, "*any"]:
    """A whole number in [0, n) from 32 random bits: floor(bits · n / 2^32), 0 where n is 0.

    Lemire, "Fast random integer generation in an interval", 2019. Uniform to n · 2^-32, and some
    five times as fast as the remainder, which has no vector instruction.
    """
    low, high, n_low, n_high = bits & 0xFFFF, bits >> 16, n & 0xFFFF, n >> 16
    middle = high * n_low + ((low * n_low) >> 16)
    return high * n_high + (middle >> 16) + ((low * n_high + (middle & 0xFFFF)) >> 16)
