"""Batches of item pairs, as functions of (key, step): windows of random walks, or plain pairs."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from jaxrec import hashed_random, negatives
from jaxrec.config import Config
from jaxrec.graph import walks
from jaxrec.graph.walks import WalkGraph
from jaxrec.models.skipgram import Side
from jaxrec.negatives import Popularity
from jaxrec.randomness import OfItems, child
from jaxrec.training.batch import permute, slots
from jaxrec.training.items import objective


class ItemData(NamedTuple):
    """The constant inputs of training, on the device.

    Attributes:
      graph: the graph of the walks; None if training is on plain pairs.
      start_A: the first items of the walks; None if training is on plain pairs.
      pair_E2, weight_E: the pairs and their weights; None if training is on walks.
      keep_I: probability of keeping an item in a walk; None keeps all.
      popularity: distribution of negatives.
      side: features of all items; None if the model uses no features.
    """

    key: PRNGKeyArray
    popularity: Popularity
    graph: WalkGraph | None = None
    start_A: Int[Array, "A"] | None = None
    pair_E2: Int[Array, "E 2"] | None = None
    weight_E: Float[Array, "E"] | None = None
    keep_I: Float[Array, "I"] | None = None
    side: Side | None = None


class Windows(NamedTuple):
    """B sequences of L items, with a weight for each ordered pair in them.

    Attributes:
      item_BL: items; positions whose weights are all 0 may hold any item.
      weight_BLL: weight of centre i and context j; 0 on the diagonal.
      target_BLL: target of the pair's score, for losses with targets.
      neg_GS: S negatives for each of G groups of sequences.
    """

    item_BL: Int[Array, "B L"]
    weight_BLL: Float[Array, "B L L"]
    target_BLL: Float[Array, "B L L"]
    neg_GS: Int[Array, "G S"]


class Stretches(NamedTuple):
    """The drawn sequences of a step: walks padded with -1, or pairs.

    For several steps, each array has a leading axis of steps.
    """

    item_BL: Int[Array, "B L"]
    weight_B: Float[Array, "B"]  # 0 where an epoch's last batch is padded
    target_B: Float[Array, "B"]
    number_B: Int[Array, "B"]  # a unique number of each sequence
    neg_GS: Int[Array, "G S"]


def slots_per_epoch(config: Config, n_starts: int, n_pairs: int) -> int:
    """Return the number of sequences (walks or pairs) per epoch."""
    return config.walks.count * n_starts if config.train.positives == "walks" else n_pairs


def stretches(config: Config, data: ItemData, step_C: Int[Array, "C"]) -> Stretches:
    """Draw the sequences of C steps at once, into arrays with a leading axis C, to save time."""
    purposes = OfItems.WALKS, OfItems.ORDER, OfItems.NEGATIVES
    walk_key, order_key, neg_key = (child(data.key, purpose) for purpose in purposes)
    size, batch = config.walks.count, config.train.batch_size
    on_walks = data.graph is not None
    if on_walks:
        assert data.start_A is not None
        total = size * data.start_A.shape[0]
    else:
        assert data.pair_E2 is not None
        total = data.pair_E2.shape[0]

    def of_step(step: Array) -> tuple[Array, ...]:
        epoch, slot_B, exists_B = slots(step, total, batch)
        index_B = permute(jax.random.fold_in(order_key, epoch), slot_B, total).astype(jnp.int32)
        count = config.negatives.count * config.negatives.groups
        key = jax.random.fold_in(neg_key, step)
        neg_S = negatives.shared(key, count, data.popularity.end_I.shape[0], data.popularity)
        number_B = step * batch + jnp.arange(batch, dtype=jnp.int32)
        return index_B, exists_B, neg_S.reshape(config.negatives.groups, -1), number_B, epoch

    index_CB, exists_CB, neg_CGS, number_CB, epoch_C = jax.vmap(of_step)(step_C)
    exists_CB = exists_CB.astype(jnp.float32)
    if not on_walks:
        assert data.pair_E2 is not None
        assert data.weight_E is not None
        weight_CB = data.weight_E[index_CB]
        item_CBL = data.pair_E2[index_CB]
        counts = objective.counted(config, exists_CB, weight_CB)
        return Stretches(item_CBL, *counts, number_CB, neg_CGS)
    assert data.graph is not None
    assert data.start_A is not None
    number, place = jnp.divmod(index_CB, data.start_A.shape[0])
    start_CB = data.start_A[place]
    # Each epoch draws new walks.
    number += epoch_C[:, None] * size
    walk_LW = walks.walk(
        data.graph,
        start_CB.reshape(-1),
        number.reshape(-1),
        config.walks.length,
        walk_key,
        p=config.walks.p,
        q=config.walks.q,
    )
    item_CBL = walk_LW.T.reshape(*start_CB.shape, -1)
    return Stretches(item_CBL, exists_CB, jnp.ones_like(exists_CB), number_CB, neg_CGS)


def windows(config: Config, data: ItemData, drawn: Stretches) -> Windows:
    """Return a step's sequences with a weight per ordered pair, which is 0 outside the window."""
    length = drawn.item_BL.shape[1]
    there_BL = drawn.item_BL >= 0
    item_BL = jnp.maximum(drawn.item_BL, 0)
    seed = jax.random.bits(child(data.key, OfItems.WINDOWS), (2,))
    place_L = jnp.arange(length, dtype=jnp.uint32)
    token_BL = drawn.number_B.astype(jnp.uint32)[:, None] * jnp.uint32(length) + place_L
    place_BL = jnp.broadcast_to(jnp.arange(length, dtype=jnp.int32), item_BL.shape)
    if data.keep_I is not None:
        drawn_BL = hashed_random.uniform(hashed_random.mix(token_BL + seed[1]))
        there_BL &= drawn_BL < data.keep_I[item_BL]
        # Number only the kept items, so that distances within a walk do not count dropped items.
        place_BL = jnp.cumsum(there_BL, axis=1, dtype=jnp.int32)
    apart_BLL = jnp.abs(place_BL[:, :, None] - place_BL[:, None, :])
    reach_BL1: Array | int = config.walks.window if data.graph is not None else 1
    if data.graph is not None and config.walks.dynamic:
        bits_BL = hashed_random.mix(token_BL + seed[0])
        widest = jnp.full(bits_BL.shape, config.walks.window, jnp.uint32)
        reach_BL1 = (1 + hashed_random.below(bits_BL, widest).astype(jnp.int32))[:, :, None]
    pairs_BLL = (apart_BLL <= reach_BL1) & ~jnp.eye(length, dtype=bool)
    pairs_BLL &= there_BL[:, :, None] & there_BL[:, None, :]
    weight_BLL = jnp.where(pairs_BLL, drawn.weight_B[:, None, None], 0)
    target_BLL = jnp.broadcast_to(drawn.target_B[:, None, None], weight_BLL.shape)
    return Windows(item_BL, weight_BLL, target_BLL, drawn.neg_GS)
