"""The positives of a step, as a function of (key, step): no shuffled array, no state to save."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, UInt32

_ROUNDS = 8  # even, so that the unequal halves of the Feistel network end where they began


class Pairs(NamedTuple):
    """E train pairs on the device, sorted by (user, item).

    Attributes:
      user_E, item_E: int32.
      weight_E: event weights, or None where all are 1.
      target_E: what the loss wants of each pair, where it is of ratings.
      indptr: [U + 1]; the pairs of user u are those at indptr[u]:indptr[u + 1].
      active: the users that have pairs, ascending.
    """

    user_E: Int[Array, "E"]
    item_E: Int[Array, "E"]
    weight_E: Float[Array, "E"] | None
    indptr: Int[Array, "U1"]
    active: Int[Array, "A"]
    target_E: Float[Array, "E"] | Int[Array, "E"] | None = None

    @property
    def size(self) -> int:
        return self.user_E.shape[0]


class Positives(NamedTuple):
    """B pairs; ``weight_B`` is 0 where an epoch's last batch is padded; ``target_B`` or None."""

    user_B: Int[Array, "B"]
    item_B: Int[Array, "B"]
    weight_B: Float[Array, "B"]
    target_B: Float[Array, "B"] | Int[Array, "B"] | None = None


def _mix(x: Array) -> Array:
    """The 32-bit finaliser of MurmurHash3 (Appleby 2011)."""
    x = (x ^ (x >> 16)) * jnp.uint32(0x85EBCA6B)
    x = (x ^ (x >> 13)) * jnp.uint32(0xC2B2AE35)
    return x ^ (x >> 16)


def permute(key: PRNGKeyArray, index: UInt32[Array, "B"], size: int) -> UInt32[Array, "B"]:
    """Where a pseudo-random permutation of 0..size-1 takes each index.

    A Feistel network on the bits of size - 1, walked again while it leaves the range (Black and
    Rogaway, "Ciphers with arbitrary finite domains", 2002). Any index alone costs O(1), so an
    epoch's order needs neither memory nor a sort, and a resumed run finds its place in it.
    """
    bits = max(2, (size - 1).bit_length())
    widths = (bits // 2, bits - bits // 2)
    keys = jax.random.bits(key, (_ROUNDS,), jnp.uint32)

    def encrypt(x: Array) -> Array:
        left, right = x >> widths[1], x & jnp.uint32((1 << widths[1]) - 1)
        for i in range(_ROUNDS):
            mask = jnp.uint32((1 << widths[i % 2]) - 1)
            left, right = right, left ^ (_mix(right + keys[i]) & mask)
        return (left << widths[1]) | right

    def walk(x: Array) -> Array:
        return jnp.where(x >= size, encrypt(x), x)

    return jax.lax.while_loop(lambda x: jnp.any(x >= size), walk, encrypt(index))


def steps_per_epoch(pairs: int, batch_size: int) -> int:
    """ceil(E / B)."""
    return -(-pairs // batch_size)


def slots(step: Int[Array, ""], pairs: int, batch_size: int) -> tuple[Array, Array, Array]:
    """The epoch of a step, the places in the epoch that its batch takes, and which exist."""
    epoch, in_epoch = jnp.divmod(step, steps_per_epoch(pairs, batch_size))
    start = in_epoch.astype(jnp.uint32) * jnp.uint32(batch_size)
    slot_B = start + jnp.arange(batch_size, dtype=jnp.uint32)
    exists_B: Bool[Array, "B"] = slot_B < pairs
    return epoch, jnp.minimum(slot_B, jnp.uint32(pairs - 1)), exists_B


def by_edges(key: PRNGKeyArray, step: Int[Array, ""], pairs: Pairs, batch_size: int) -> Positives:
    """A pass over all pairs in an order drawn anew each epoch; every pair once an epoch."""
    epoch, slot_B, exists_B = slots(step, pairs.size, batch_size)
    index_B = permute(jax.random.fold_in(key, epoch), slot_B, pairs.size).astype(jnp.int32)
    return _positives(pairs, index_B, exists_B)


def by_users(key: PRNGKeyArray, step: Int[Array, ""], pairs: Pairs, batch_size: int) -> Positives:
    """The papers' protocol: E draws an epoch, each a uniform user and then one of their items."""
    _, _, exists_B = slots(step, pairs.size, batch_size)
    user_key, item_key = jax.random.split(jax.random.fold_in(key, step))
    draw_B = jax.random.randint(user_key, (batch_size,), 0, pairs.active.shape[0])
    user_B = pairs.active[draw_B]
    start_B, end_B = pairs.indptr[user_B], pairs.indptr[user_B + 1]
    index_B = start_B + jax.random.randint(item_key, (batch_size,), 0, end_B - start_B)
    return _positives(pairs, index_B, exists_B)


def _positives(pairs: Pairs, index_B: Array, exists_B: Array) -> Positives:
    weight_B = exists_B.astype(jnp.float32)
    if pairs.weight_E is not None:
        weight_B = weight_B * pairs.weight_E[index_B]
    target_B = None if pairs.target_E is None else pairs.target_E[index_B]
    return Positives(pairs.user_E[index_B], pairs.item_E[index_B], weight_B, target_B)


POSITIVES = {"edges": by_edges, "users": by_users}
