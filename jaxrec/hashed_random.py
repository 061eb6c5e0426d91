"""Derive many cheap random numbers from a few good ones, by integer hashing."""

import jax.numpy as jnp
from jaxtyping import Array, Float, UInt32


def mix(x: UInt32[Array, "*any"]) -> UInt32[Array, "*any"]:
    """Hash 32 bits bijectively; each input bit flips about half of the output bits.

    This is the finaliser "lowbias32" (Wellons, "Prospecting for hash functions", 2018). Threefry
    would cost about 12 times as much.
    """
    x = (x ^ (x >> 16)) * jnp.uint32(0x7FEB352D)
    x = (x ^ (x >> 15)) * jnp.uint32(0x846CA68B)
    return x ^ (x >> 16)


def uniform(x: UInt32[Array, "*any"]) -> Float[Array, "*any"]:
    """Hash x to a float32 in [0, 1)."""
    return fraction(mix(x))


def fraction(bits: UInt32[Array, "*any"]) -> Float[Array, "*any"]:
    """Convert 32 random bits to a float32 in [0, 1), a multiple of 2^-24."""
    return (bits >> 8).astype(jnp.float32) * jnp.float32(2**-24)


def below(bits: UInt32[Array, "*any"], n: UInt32[Array, "*any"]) -> UInt32[Array, "*any"]:
    """Convert 32 random bits to an integer in [0, n): floor(bits · n / 2^32), 0 if n is 0.

    The result is uniform to n · 2^-32. This is about five times as fast as a remainder, which has
    no SIMD instruction. Source: Lemire, "Fast random integer generation in an interval", 2019.
    """
    low, high, n_low, n_high = bits & 0xFFFF, bits >> 16, n & 0xFFFF, n >> 16
    middle = high * n_low + ((low * n_low) >> 16)
    return high * n_high + (middle >> 16) + ((low * n_high + (middle & 0xFFFF)) >> 16)
