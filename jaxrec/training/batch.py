"""The batch of a step: positives and negatives, as functions of (key, step).

Samplers have no state, because the order of an epoch is a permutation that is computed as needed.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, UInt32

from jaxrec import losses, negatives, registry
from jaxrec.config import Config
from jaxrec.graph.bipartite import Bipartite
from jaxrec.graph.csr import DeviceCsr, contains
from jaxrec.graph.pagerank import Window
from jaxrec.negatives import Popularity
from jaxrec.platforms import platform_of_programs
from jaxrec.randomness import OfData, child

_ROUNDS = 8  # even, because each round swaps the network's halves, whose widths may differ


class Pairs(NamedTuple):
    """E train pairs on the device, sorted by (user, item).

    Attributes:
      user_E, item_E: int32.
      weight_E: event weights, or None where all are 1.
      target_E: the target of each pair, for rating losses.
      indptr: [U + 1]; user u has the pairs indptr[u]:indptr[u + 1].
      active: the users with pairs, ascending.
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
    """B positive pairs. ``weight_B`` is 0 for pairs that only pad the last batch of an epoch."""

    user_B: Int[Array, "B"]
    item_B: Int[Array, "B"]
    weight_B: Float[Array, "B"]
    target_B: Float[Array, "B"] | Int[Array, "B"] | None = None


def _mix(x: Array) -> Array:
    """Apply the 32-bit finaliser of MurmurHash3 (Appleby 2011)."""
    x = (x ^ (x >> 16)) * jnp.uint32(0x85EBCA6B)
    x = (x ^ (x >> 13)) * jnp.uint32(0xC2B2AE35)
    return x ^ (x >> 16)


def permute(key: PRNGKeyArray, index: UInt32[Array, "B"], size: int) -> UInt32[Array, "B"]:
    """Apply a pseudo-random permutation of 0..size-1 to each index.

    The permutation is a Feistel network on the bits of size - 1. It is repeated while the result is
    out of range (Black and Rogaway, "Ciphers with arbitrary finite domains", 2002). Each index
    costs O(1), so the order of an epoch needs neither memory nor a sort, and a run can resume at
    any step of the epoch.
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

    # On a GPU, each iteration of the loop waits for the host, so one iteration does several rounds.
    rounds = 4 if platform_of_programs() == "gpu" else 1

    def walk(x: Array) -> Array:
        for _ in range(rounds):
            x = jnp.where(x >= size, encrypt(x), x)
        return x

    return jax.lax.while_loop(lambda x: jnp.any(x >= size), walk, encrypt(index))


def steps_per_epoch(pairs: int, batch_size: int) -> int:
    """Return the number of steps per epoch, ceil(E / B)."""
    return -(-pairs // batch_size)


def slots(step: Int[Array, ""], pairs: int, batch_size: int) -> tuple[Array, Array, Array]:
    """Return a step's epoch, its B positions in the epoch, and a mask of the valid positions."""
    epoch, in_epoch = jnp.divmod(step, steps_per_epoch(pairs, batch_size))
    start = in_epoch.astype(jnp.uint32) * jnp.uint32(batch_size)
    slot_B = start + jnp.arange(batch_size, dtype=jnp.uint32)
    exists_B: Bool[Array, "B"] = slot_B < pairs
    return epoch, jnp.minimum(slot_B, jnp.uint32(pairs - 1)), exists_B


def by_edges(key: PRNGKeyArray, step: Int[Array, ""], pairs: Pairs, batch_size: int) -> Positives:
    """Draw positives in passes over all pairs, each epoch in a new random order."""
    epoch, slot_B, exists_B = slots(step, pairs.size, batch_size)
    index_B = permute(jax.random.fold_in(key, epoch), slot_B, pairs.size).astype(jnp.int32)
    return _positives(pairs, index_B, exists_B)


def by_users(key: PRNGKeyArray, step: Int[Array, ""], pairs: Pairs, batch_size: int) -> Positives:
    """Draw E positives per epoch: for each, a user uniformly, then one of the user's items.

    Many papers draw positives in this way.
    """
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


class TrainData(NamedTuple):
    """The constant inputs of training, on the device.

    Attributes:
      known: the train items of each user.
      shown: the exposed items of each user; None unless negatives are drawn from exposed items.
      alike_IF: normalised raw item features; None unless negatives are picked by features.
      input_I: one number per item, equal for items with equal inputs; None if all inputs differ.
    """

    graph: Bipartite
    pairs: Pairs
    known: DeviceCsr
    key: PRNGKeyArray
    popularity: Popularity | None = None
    window: Window | None = None
    shown: DeviceCsr | None = None
    alike_IF: Float[Array, "I F"] | None = None
    input_I: Int[Array, "I"] | None = None


class Batch(NamedTuple):
    """Positives and their negatives.

    ``neg`` is [B, N] if each pair has private negatives, and [S] if all pairs share them. It is
    empty for rating losses. With c candidates per negative, N counts all candidates until the
    negatives are picked. ``valid_BN`` marks the negatives that count, and is None if all count; its
    last H columns belong to the hard negatives.
    """

    positives: Positives
    neg: Int[Array, "B N"] | Int[Array, "S"]
    valid_BN: Bool[Array, "B N"] | None
    log_q: losses.LogQ | None = None
    hard_BH: Int[Array, "B H"] | None = None

    def negatives(self) -> tuple[Int[Array, "B N"], Bool[Array, "B N"]]:
        """Return each pair's negatives, and which of them are valid."""
        neg_BN = jnp.broadcast_to(self.neg, (self.positives.user_B.shape[0], self.neg.shape[-1]))
        if self.hard_BH is not None:
            neg_BN = jnp.concatenate([neg_BN, self.hard_BH], axis=1)
        return neg_BN, jnp.ones(neg_BN.shape, bool) if self.valid_BN is None else self.valid_BN


def positives(config: Config, data: TrainData, step: Int[Array, ""]) -> Positives:
    """Draw the positives of a step."""
    key = child(data.key, OfData.POSITIVES)
    return POSITIVES[config.train.positives](key, step, data.pairs, config.train.batch_size)


def with_negatives(
    config: Config, n_items: int, data: TrainData, positives: Positives, step: Int[Array, ""]
) -> Batch:
    """Draw negatives for the given positives by (key, step), and return the batch."""
    neg, valid_BN = _negatives(config, n_items, data, positives, step)
    log_q = None
    if config.corrects:
        assert data.popularity is not None
        log_q_I = data.popularity.log_q_I
        log_q = losses.LogQ(log_q_I[positives.item_B], log_q_I[neg])
    if data.window is None:
        return Batch(positives, neg, valid_BN, log_q)
    hard_BH, counts_BH = _hard(config, data.window, data, positives.user_B, step)
    if valid_BN is None:
        valid_BN = jnp.ones((counts_BH.shape[0], neg.shape[-1]), bool)
    valid_BN = jnp.concatenate([valid_BN, counts_BH], axis=1)
    return Batch(positives, neg, valid_BN, log_q, hard_BH)


def _negatives(
    config: Config, n_items: int, data: TrainData, positives: Positives, step: Int[Array, ""]
) -> tuple[Array, Array | None]:
    """Draw negatives; return the negatives and the mask of valid ones (None if all are valid)."""
    how, user_B = config.negatives, positives.user_B
    key = jax.random.fold_in(child(data.key, OfData.NEGATIVES), step)
    popular = data.popularity if config.draws_some_items else None
    if how.private:
        known, count = data.known if how.rejects else None, how.count * how.candidates
        if how.registered:
            sampler = registry.NEGATIVES.get(how.name)
            return sampler(key, count, n_items, positives, known), None
        if popular is None:
            drawn = negatives.uniform(key, count, n_items, user_B, known), None
        else:
            drawn = negatives.popular(key, count, popular, user_B, known)
        if data.shown is None:
            return drawn
        key = jax.random.fold_in(child(data.key, OfData.EXPOSED), step)
        return negatives.exposed(key, user_B, data.shown, *drawn)
    valid_BS = None
    if how.name == "in-batch":
        # The last batch of an epoch is padded with copies of a pair, whose weight is 0.
        neg_S, valid_BS = positives.item_B, (positives.weight_B > 0)[None]
    elif how.name == "all":
        neg_S = jnp.arange(n_items, dtype=jnp.int32)
    else:
        neg_S = negatives.shared(key, how.count, n_items, popular)
    if how.name != "shared" or how.picks is not None:
        other_BS = neg_S != positives.item_B[:, None]
        valid_BS = other_BS if valid_BS is None else other_BS & valid_BS
    if how.rejects:
        neg_BS = jnp.broadcast_to(neg_S, (user_B.shape[0], neg_S.shape[0]))
        unknown_BS = ~contains(data.known, user_B, neg_BS)
        valid_BS = unknown_BS if valid_BS is None else valid_BS & unknown_BS
    return neg_S, valid_BS


def _hard(
    config: Config, window: Window, data: TrainData, user_B: Array, step: Array
) -> tuple[Int[Array, "B H"], Bool[Array, "B H"]]:
    """Draw H hard negatives per pair; return the negatives and the mask of valid ones.

    The number of valid hard negatives depends on the epoch, and is 0 for users without candidates.

    Source: Ying et al., "Graph convolutional neural networks for web-scale recommender systems",
    KDD 2018, sections 3.3 (hard negatives) and 3.4 (curriculum).
    """
    how = config.negatives
    key = jax.random.fold_in(child(data.key, OfData.HARD), step)
    count_B1 = window.count_U[user_B][:, None]
    shape = (user_B.shape[0], how.hard)
    place_BH = jax.random.randint(key, shape, 0, jnp.maximum(count_B1, 1), jnp.int32)
    hard_BH = window.item_UW[user_B[:, None], place_BH]
    by_epoch = jnp.array(how.hard_by_epoch(), jnp.int32)
    per_epoch = steps_per_epoch(data.pairs.user_E.shape[0], config.train.batch_size)
    now = by_epoch[jnp.minimum(step // per_epoch, len(by_epoch) - 1)]
    return hard_BH, (jnp.arange(how.hard, dtype=jnp.int32) < now) & (count_B1 > 0)
