"""Random walks over weighted edges on the device: DeepWalk's, and node2vec's by rejection sampling.

A walk is a function of (key, first node, number), so walks are recomputed rather than stored. There
are no alias tables for edges or pairs of edges, so a graph takes only the memory of its CSR.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, UInt32

from jaxrec import hashed_random
from jaxrec.errors import InputError
from jaxrec.graph.csr import DeviceCsr

_LEFT = 2  # node2vec: the slowest 1 / _LEFT of the walks continue in a smaller batch
_LEAST = 64  # a batch of at most this many walks is not made smaller


class WalkGraph(NamedTuple):
    """A graph to walk on.

    Attributes:
      csr: the neighbours of each node, ascending.
      cumulative_E: cumulative weights within each row; None for equal weights.
    """

    csr: DeviceCsr
    cumulative_E: Float[Array, "nnz"] | None


class Draws(NamedTuple):
    """The values that determine the random numbers of W walks.

    Attributes:
      node_W: first node of each walk.
      number_W: number of each walk among the walks from the same first node.
      seed: bits of a random key.
    """

    node_W: UInt32[Array, "W"]
    number_W: UInt32[Array, "W"]
    seed: UInt32[Array, "2"]

    def bits(self, place: Array) -> UInt32[Array, "W"]:
        """Return 32 random bits of each walk for its draw number ``place``."""
        mixed_W = hashed_random.mix(self.node_W + self.seed[0]) ^ self.number_W
        mixed_W = hashed_random.mix(mixed_W + self.seed[1])
        return hashed_random.mix(mixed_W + place.astype(jnp.uint32) * jnp.uint32(0x9E3779B9))


def walk_graph(
    indptr: np.ndarray, indices: np.ndarray, weight: np.ndarray | None = None
) -> WalkGraph:
    """Copy a graph in CSR form to the device.

    Args:
      weight: positive weight of each edge; None for equal weights.

    Raises:
      InputError: more edges than int32 can number.
    """
    if len(indices) >= 2**31:
        raise InputError(f"{len(indices):,} directed edges; walks support at most 2^31 - 1")
    if not len(indices):
        indices = np.zeros(1, np.int32)  # belongs to no row; gathers need at least one entry
    csr = DeviceCsr(jnp.asarray(indptr, jnp.int32), jnp.asarray(indices, jnp.int32))
    if weight is None or not len(weight) or weight.min() == weight.max():
        return WalkGraph(csr, None)
    total_E = np.cumsum(weight, dtype=np.float64)
    before_N = np.append(0.0, total_E)[indptr[:-1]]
    total_E -= np.repeat(before_N, np.diff(indptr))
    return WalkGraph(csr, jnp.asarray(total_E.astype(np.float32)))


def walk(
    graph: WalkGraph,
    node_W: Int[Array, "W"],
    number_W: Int[Array, "W"],
    length: int,
    key: PRNGKeyArray,
    *,
    p: float = 1.0,
    q: float = 1.0,
) -> Int[Array, "L W"]:
    """Draw W walks of L = length nodes each; -1 after a node without outgoing edges.

    From v, a walk that came from t goes to x with probability proportional to w(v, x) · α(t, x),
    where α is 1/p if x = t, 1 if t and x are neighbours, and 1/q otherwise (Grover and Leskovec,
    "node2vec", KDD 2016, eq. 3.2). With p = q = 1 this is weighted DeepWalk (Perozzi et al., KDD
    2014). Probabilities are exact to 2^-24.

    >>> import jax
    >>> import jax.numpy as jnp
    >>> import numpy as np
    >>> line = walk_graph(np.array([0, 1, 2, 2]), np.array([1, 2]))  # 0 -> 1 -> 2
    >>> walk(line, jnp.array([0, 1]), jnp.array([0, 0]), 4, jax.random.key(0)).T.tolist()
    [[0, 1, 2, -1], [1, 2, -1, -1]]

    Args:
      graph: the graph; must be symmetric unless p = q = 1.
      node_W: first node of each walk.
      number_W: number of each walk among the walks from the same first node.
    """
    draws = Draws(
        node_W.astype(jnp.uint32), number_W.astype(jnp.uint32), jax.random.bits(key, (2,))
    )
    if p == q == 1:
        return _first_order(graph, node_W, draws, length)
    return _second_order(graph, node_W, draws, length, p, q)


def _degree(graph: WalkGraph, node_W: Array) -> Array:
    return graph.csr.indptr[node_W + 1] - graph.csr.indptr[node_W]


def _below(values: Array, start_W: Array, count_W: Array, limit_W: Array) -> Array:
    """Count the values in values[start : start + count], ascending, that are at most the limit.

    The search bisects; it takes about log2(n) rounds, where n is the largest count.
    """
    last = values.shape[0] - 1

    def halve(_: Array, bounds: tuple[Array, Array]) -> tuple[Array, Array]:
        low_W, left_W = bounds
        half_W = left_W // 2
        value_W = values[jnp.minimum(low_W + half_W, last)]
        right_W = (value_W <= limit_W) & (left_W > 0)
        low_W = jnp.where(right_W, low_W + half_W + 1, low_W)
        return low_W, jnp.where(right_W, left_W - half_W - 1, half_W)

    rounds = 32 - jax.lax.clz(jnp.max(count_W, initial=0))
    low_W, _ = jax.lax.fori_loop(0, rounds, halve, (start_W, count_W))
    return low_W - start_W


class _Edges(NamedTuple):
    """An edge from each of W nodes.

    Attributes:
      node_W: receiver of the edge; -1 if the node has no outgoing edges.
      weight_W: weight of the edge.
      sum_W: sum of the weights of all outgoing edges of the node.
    """

    node_W: Int[Array, "W"]
    weight_W: Float[Array, "W"]
    sum_W: Float[Array, "W"]


def _edges(graph: WalkGraph, node_W: Array, bits_W: Array) -> _Edges:
    """Draw one outgoing edge of each node, with a probability proportional to the edge's weight."""
    start_W, degree_W = graph.csr.indptr[node_W], _degree(graph, node_W)
    last = graph.csr.indices.shape[0] - 1
    if graph.cumulative_E is None:
        place_W = hashed_random.below(bits_W, degree_W.astype(jnp.uint32)).astype(jnp.int32)
        weight_W, sum_W = jnp.ones(node_W.shape), degree_W.astype(jnp.float32)
    else:
        sum_W = graph.cumulative_E[jnp.clip(start_W + degree_W - 1, 0, last)]
        place_W = _below(
            graph.cumulative_E, start_W, degree_W, hashed_random.fraction(bits_W) * sum_W
        )
        place_W = jnp.minimum(place_W, degree_W - 1)  # rounding may raise the draw to the sum
        at_W = jnp.clip(start_W + place_W, 0, last)
        before_W = graph.cumulative_E[jnp.maximum(at_W - 1, 0)]
        weight_W = graph.cumulative_E[at_W] - jnp.where(place_W > 0, before_W, 0)
    next_W = graph.csr.indices[jnp.clip(start_W + place_W, 0, last)]
    return _Edges(jnp.where(degree_W > 0, next_W, -1), weight_W, sum_W)


def _first_order(graph: WalkGraph, node_W: Array, draws: Draws, length: int) -> Array:
    def step(at_W: Array, place: Array) -> tuple[Array, Array]:
        next_W = _edges(graph, jnp.maximum(at_W, 0), draws.bits(place)).node_W
        next_W = jnp.where(at_W >= 0, next_W, -1)
        return next_W, next_W

    _, rest_LW = jax.lax.scan(step, node_W, jnp.arange(1, length, dtype=jnp.int32))
    return jnp.concatenate([node_W[None], rest_LW])


class _Tries(NamedTuple):
    """Unfinished walks, each at its own step, so that no walk waits for rejections of another."""

    walk_LW: Array
    before_W: Array  # the node before at_W; -1 at the first step
    weight_W: Array  # weight of the edge from before_W to at_W
    at_W: Array  # the current node; -1 once the walk has ended
    step_W: Array  # number of nodes so far
    draws: Draws


def _second_order(
    graph: WalkGraph, node_W: Array, draws: Draws, length: int, p: float, q: float
) -> Array:
    """Sample node2vec walks: propose by weight, accept with probability α / max α.

    The maximum excludes the edge back to the previous node t. If α = 1/p of that edge exceeds the
    maximum, the edge's excess weight is proposed separately (Yang et al., "KnightKing", SOSP 2019,
    section 4.2), so that a small p causes no rejections.
    """
    n_walks = node_W.shape[0]
    most = max(1.0, 1 / q)
    joined, far, back = (jnp.float32(min(a / most, 1)) for a in (1.0, 1 / q, 1 / p))
    strip = max(1 / p / most - 1, 0.0)
    place_L1 = jnp.arange(length, dtype=jnp.int32)[:, None]

    def unfinished(tries: _Tries) -> Array:
        return (tries.at_W >= 0) & (tries.step_W < length)

    def attempt(at: tuple[Array, _Tries]) -> tuple[Array, _Tries]:
        tried, tries = at
        bits = [tries.draws.bits(3 * tried + i) for i in range(3)]
        edge = _edges(graph, jnp.maximum(tries.at_W, 0), bits[0])
        first_W, here_W = tries.before_W < 0, unfinished(tries)
        near_W = _joined(graph, jnp.maximum(tries.before_W, 0), jnp.maximum(edge.node_W, 0))
        share_W = jnp.where(near_W, joined, far)
        share_W = jnp.where(edge.node_W == tries.before_W, back, share_W)
        # The only edge of a node is always accepted, and so is every first edge of a walk.
        only_W = first_W | (edge.weight_W >= edge.sum_W)
        taken_W = (hashed_random.fraction(bits[1]) < jnp.where(only_W, 1, share_W)) & here_W
        next_W, weight_W = edge.node_W, edge.weight_W
        if strip > 0:
            beside_W = jnp.where(first_W, 0, jnp.float32(strip) * tries.weight_W)
            back_W = hashed_random.fraction(bits[2]) * (edge.sum_W + beside_W) >= edge.sum_W
            taken_W |= back_W & here_W
            next_W = jnp.where(back_W, tries.before_W, next_W)
            weight_W = jnp.where(back_W, tries.weight_W, weight_W)
        made = _Tries(
            jnp.where(taken_W & (place_L1 == tries.step_W), next_W, tries.walk_LW),
            jnp.where(taken_W, tries.at_W, tries.before_W),
            jnp.where(taken_W, weight_W, tries.weight_W),
            jnp.where(taken_W, next_W, tries.at_W),
            tries.step_W + taken_W.astype(jnp.int32),
            tries.draws,
        )
        return tried + 1, made

    def finish(tried: Array, tries: _Tries) -> Array:
        """Finish the walks; the slowest ones continue in a smaller batch."""
        width = tries.at_W.shape[0]
        few = width // _LEFT if width > _LEAST else 0
        tried, tries = jax.lax.while_loop(
            lambda at: jnp.sum(unfinished(at[1])) > few, attempt, (tried, tries)
        )
        if few == 0:
            return tries.walk_LW
        # jnp.nonzero would count with a scatter-add, which is atomic on a GPU.
        left_W, row_W = unfinished(tries), jnp.arange(width, dtype=jnp.int32)
        place_W = jnp.where(left_W, jnp.cumsum(left_W, dtype=jnp.int32) - 1, few)
        row_F = jnp.full(few, width, jnp.int32).at[place_W].set(row_W, mode="drop")
        rest = jax.tree.map(lambda x: x[..., row_F] if x.shape[-1] == width else x, tries)
        rest = rest._replace(at_W=jnp.where(row_F < width, rest.at_W, -1))
        return tries.walk_LW.at[:, row_F].set(finish(tried, rest), mode="drop")

    ones_W = jnp.ones_like(node_W)
    walk_LW = jnp.full((length, n_walks), -1, jnp.int32).at[0].set(node_W)
    begun = _Tries(walk_LW, -ones_W, jnp.zeros(n_walks), node_W, ones_W, draws)
    return finish(jnp.int32(0), begun)


def _joined(graph: WalkGraph, a_W: Array, b_W: Array) -> Bool[Array, "W"]:
    """Return whether nodes a and b are neighbours; search the shorter of their rows."""
    degree_a_W, degree_b_W = _degree(graph, a_W), _degree(graph, b_W)
    row_W = jnp.where(degree_a_W <= degree_b_W, a_W, b_W)
    node_W = jnp.where(degree_a_W <= degree_b_W, b_W, a_W)
    start_W, degree_W = graph.csr.indptr[row_W], jnp.minimum(degree_a_W, degree_b_W)
    upto_W = _below(graph.csr.indices, start_W, degree_W, node_W)
    last = graph.csr.indices.shape[0] - 1
    found_W = graph.csr.indices[jnp.clip(start_W + upto_W - 1, 0, last)]
    return (upto_W > 0) & (found_W == node_W)
