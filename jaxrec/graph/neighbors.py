"""Fixed-width neighbour samples, for training on sampled graphs.

A random draw is an integer hash of (key, node, number of the draw), so the results are the same on
every device.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray, UInt32

from jaxrec import hashed_random
from jaxrec.graph.csr import DeviceCsr

_BLOCK = 1 << 13  # number of nodes per block when visits of walks are counted


class Neighbors(NamedTuple):
    """F neighbours of each of R nodes; a node's weights sum to 1, or are all 0.

    Attributes:
      node_RF: rows of the graph; arbitrary where the weight is 0.
      weight_RF: weights; the last ones are 0 if a node has fewer than F neighbours.
    """

    node_RF: Int[Array, "R F"]
    weight_RF: Float[Array, "R F"]


def _draw(key: PRNGKeyArray, node: Array, place: Array) -> UInt32[Array, "*any"]:
    """Return 32 random bits for each node and draw number ``place``."""
    first, second = jax.random.bits(key, (2,))
    mixed = hashed_random.mix(node.astype(jnp.uint32) + first)
    return hashed_random.mix(mixed + place.astype(jnp.uint32) * jnp.uint32(0x9E3779B9) + second)


def _neighbor(csr: DeviceCsr, node: Array, place: Array) -> Array:
    last = max(csr.indices.shape[0] - 1, 0)
    return csr.indices[jnp.clip(csr.indptr[node] + place, 0, last)]


def uniform(csr: DeviceCsr, node_R: Int[Array, "R"], count: int, key: PRNGKeyArray) -> Neighbors:
    """Draw F = count distinct neighbours of each node uniformly.

    A node with at most F neighbours gets all of them. From d > F neighbours, systematic sampling
    (Madow and Madow 1944) takes every (d // F)-th one, cyclically from a random start.
    """
    degree_R1 = (csr.indptr[node_R + 1] - csr.indptr[node_R])[:, None]
    place_F = jnp.arange(count, dtype=jnp.int32)
    size_R1 = jnp.maximum(degree_R1, 1).astype(jnp.uint32)
    start_R1 = _draw(key, node_R[:, None], jnp.zeros(1, jnp.int32)) % size_R1
    stride_R1 = jnp.maximum(size_R1 // jnp.uint32(count), 1)
    drawn_RF = (start_R1 + place_F.astype(jnp.uint32) * stride_R1) % size_R1
    place_RF = jnp.where(degree_R1 > count, drawn_RF.astype(jnp.int32), place_F)
    there_RF = place_F < degree_R1
    share_R1 = 1 / jnp.clip(degree_R1, 1, count).astype(jnp.float32)
    weight_RF = jnp.where(there_RF, share_R1, 0)
    node_RF = jnp.where(there_RF, _neighbor(csr, node_R[:, None], place_RF), node_R[:, None])
    return Neighbors(node_RF, weight_RF)


def _visits(
    csr: DeviceCsr, node_R: Int[Array, "R"], walks: int, length: int, key: PRNGKeyArray
) -> Int[Array, "R V"]:
    """Return the nodes that random walks from each node visit, where V = walks · length.

    After a node without neighbours, the remaining steps of a walk are -1.
    """
    walk_W = jnp.arange(walks, dtype=jnp.int32)
    at_RW = jnp.broadcast_to(node_R[:, None], (node_R.shape[0], walks))
    visited = []
    for step in range(length):
        degree_RW = csr.indptr[at_RW + 1] - csr.indptr[at_RW]
        bits_RW = _draw(key, node_R[:, None], walk_W * length + step)
        place_RW = bits_RW % jnp.maximum(degree_RW, 1).astype(jnp.uint32)
        next_RW = _neighbor(csr, at_RW, place_RW.astype(jnp.int32))
        visited.append(jnp.where(degree_RW > 0, next_RW, -1))
        at_RW = jnp.where(degree_RW > 0, next_RW, at_RW)
    return jnp.concatenate(visited, axis=1)


def _most_frequent(node_R: Int[Array, "R"], visit_RV: Int[Array, "R V"], count: int) -> Neighbors:
    """Find the ``count`` (F) most frequent values of each row, ignoring the node itself and -1."""
    sorted_RV = jnp.sort(visit_RV, axis=1)
    place_V = jnp.arange(visit_RV.shape[1], dtype=jnp.int32)
    edge_R1 = jnp.ones((visit_RV.shape[0], 1), bool)
    differs_RV = sorted_RV[:, 1:] != sorted_RV[:, :-1]
    first_RV = jnp.concatenate([edge_R1, differs_RV], axis=1)
    last_RV = jnp.concatenate([differs_RV, edge_R1], axis=1)
    start_RV = jax.lax.cummax(jnp.where(first_RV, place_V, 0), axis=1)
    counts = last_RV & (sorted_RV >= 0) & (sorted_RV != node_R[:, None])
    times_RV = jnp.where(counts, place_V - start_RV + 1, 0)
    times_RF, at_RF = jax.lax.top_k(times_RV, count)
    total_R1 = jnp.maximum(jnp.sum(times_RF, axis=1, keepdims=True), 1)
    node_RF = jnp.take_along_axis(sorted_RV, at_RF, axis=1)
    node_RF = jnp.where(times_RF > 0, node_RF, node_R[:, None])
    return Neighbors(node_RF, times_RF.astype(jnp.float32) / total_R1.astype(jnp.float32))


def most_visited(
    csr: DeviceCsr,
    node_R: Int[Array, "R"],
    count: int,
    *,
    walks: int,
    length: int,
    key: PRNGKeyArray,
) -> Neighbors:
    """Find the F = count nodes that random walks from each node visit most, weighted by visits.

    Source: Ying et al., "Graph convolutional neural networks for web-scale recommender systems",
    KDD 2018, section 3.1, importance-based neighbourhoods. Ties go to the lower row; the node
    itself is excluded.
    """
    return _most_frequent(node_R, _visits(csr, node_R, walks, length, key), count)


def all_most_visited(
    csr: DeviceCsr, count: int, *, walks: int, length: int, key: PRNGKeyArray
) -> Neighbors:
    """Compute :func:`most_visited` for all N nodes in blocks; the result takes 8 · N · F bytes."""
    n_nodes = csr.indptr.shape[0] - 1
    size = min(_BLOCK, n_nodes)
    of_block = partial(most_visited, csr, count=count, walks=walks, length=length, key=key)

    def body(i: Array, table: Neighbors) -> Neighbors:
        # The last block starts early, so that it is full, and recomputes some values.
        start = jnp.minimum(i * size, n_nodes - size)
        block = of_block(start + jnp.arange(size, dtype=jnp.int32))
        return Neighbors(
            *(
                jax.lax.dynamic_update_slice_in_dim(whole, part, start, 0)
                for whole, part in zip(table, block, strict=True)
            )
        )

    shape = (n_nodes, count)
    empty = Neighbors(jnp.zeros(shape, jnp.int32), jnp.zeros(shape))
    return jax.lax.fori_loop(0, -(-n_nodes // max(size, 1)), body, empty)


def first_of(table: Neighbors, node_R: Int[Array, "R"], count: int) -> Neighbors:
    """Take the first F = count neighbours of each node from a table, and rescale their weights."""
    weight_RF = table.weight_RF[node_R, :count]
    total_R1 = jnp.sum(weight_RF, axis=1, keepdims=True)
    return Neighbors(
        table.node_RF[node_R, :count], weight_RF / jnp.where(total_R1 > 0, total_R1, 1)
    )
