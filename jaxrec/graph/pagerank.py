"""Computes personalised PageRank from many nodes at once, by forward push with sparse products."""

from functools import partial
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxrec.graph.bipartite import Bipartite
from jaxrec.graph.spmm import Kernel, between, resolve

_SWEEPS = 1000  # never reached: each sweep multiplies the pushed residual by 1 - alpha


class Push(NamedTuple):
    """Result of forward push, one column per source; a column's mass and residual sum to 1.

    Attributes:
      mass_NS: lower bound of the PageRank; its error is at most ``epsilon`` · degree of the node.
      residual_NS: mass not yet pushed; at most ``epsilon`` · degree of the node.
      sweeps: number of products over all edges.
    """

    mass_NS: Float[Array, "N S"]
    residual_NS: Float[Array, "N S"]
    sweeps: Int[Array, ""]


class _Side(NamedTuple):
    """The mass and the residual of one side's n nodes (all users or all items), each [n, S]."""

    mass: Array
    residual: Array


@partial(jax.jit, static_argnames=("n_users", "alpha", "epsilon", "kernel"))
def push(
    graph: Bipartite,
    n_users: int,
    source_S: Int[Array, "S"],
    alpha: float = 0.15,
    epsilon: float = 1e-6,
    kernel: Literal["auto"] | Kernel = "auto",
) -> Push:
    """Compute the personalised PageRank of each source: columns of alpha (I - (1 - alpha) P^T)^-1.

    P = D^-1 A is the random walk. A node is active if its residual is above epsilon · degree. An
    active node keeps alpha of its residual and sends the rest to its neighbours, until no node is
    active (Andersen, Chung and Lang, FOCS 2006). A sweep pushes from all active users, for all
    sources, in one product, and then from all active items in another. Each product needs only the
    edges in one direction. Nodes without neighbours keep their whole residual as mass.

    Args:
      graph: N nodes.
      n_users: U; users are the graph's first nodes.
      source_S: the sources, as rows of the graph.
      alpha: probability of returning to the source at each step.
      epsilon: tolerated residual per unit of degree; must be positive.
    """
    kernel = resolve(kernel, graph)
    degree_N1, down_N1 = graph.degree_N[:, None], graph.inverse_root_degree[:, None]
    halves = slice(0, n_users), slice(n_users, None)
    shape = (graph.n_nodes, source_S.shape[0])
    start = jnp.zeros(shape).at[source_S, jnp.arange(shape[1])].set(1.0)

    def active(side: _Side, number: int) -> Array:
        least = epsilon * degree_N1[halves[number]]
        return (side.residual > least) & (side.residual > 0)

    def pushed(sides: tuple[_Side, _Side], number: int) -> tuple[_Side, _Side]:
        """Push one side's residual to the other."""
        here, there = halves[number], halves[1 - number]
        side, other = sides[number], sides[1 - number]
        given = jnp.where(active(side, number), side.residual, 0)
        kept = given * jnp.where(degree_N1[here] == 0, 1, alpha)
        # A D^-1 x = D^1/2 (D^-1/2 A D^-1/2) D^-1/2 x
        got = between(kernel, graph, n_users, down_N1[here] * given, to_items=number == 0)
        got = (1 - alpha) * jnp.sqrt(degree_N1[there]) * got
        side = _Side(side.mass + kept, side.residual - given)
        other = other._replace(residual=other.residual + got)
        return (side, other) if number == 0 else (other, side)

    def more(state: tuple[tuple[_Side, _Side], Array]) -> Array:
        users, items = state[0]
        left = jnp.any(active(users, 0)) | jnp.any(active(items, 1))
        return left & (state[1] < _SWEEPS)

    def sweep(state: tuple[tuple[_Side, _Side], Array]) -> tuple[tuple[_Side, _Side], Array]:
        return pushed(pushed(state[0], 0), 1), state[1] + 1

    users, items = (_Side(jnp.zeros_like(start[of]), start[of]) for of in halves)
    (users, items), sweeps = jax.lax.while_loop(more, sweep, ((users, items), jnp.int32(0)))
    mass_NS = jnp.concatenate([users.mass, items.mass])
    return Push(mass_NS, jnp.concatenate([users.residual, items.residual]), sweeps)


class Window(NamedTuple):
    """Each user's items in a range of ranks, by rank: user u has item_UW[u, :count_U[u]]."""

    item_UW: Int[Array, "U W"]
    count_U: Int[Array, "U"]


def rank_window(
    graph: Bipartite,
    known: tuple[np.ndarray, np.ndarray],
    n_users: int,
    first: int,
    last: int,
    *,
    alpha: float = 0.15,
    epsilon: float = 1e-6,
    block: int = 64,
) -> Window:
    """Find the items at ranks first .. last - 1 of each user's PageRank, without known items.

    Ranks start at 0 and ties go to the lower item. Items that the push does not reach have no rank,
    so a user may get fewer items than the window is wide.

    Args:
      graph: the graph, with its ``place_N``.
      known: (indptr [U + 1], indices) of each user's known items.
      n_users: U.
      first, last: the range of ranks, at most I; the result takes U · (last - first) · 4 bytes.
      block: users per block; memory is about 6 · N · block · 4 bytes.
    """
    n_items = graph.n_nodes - n_users
    indptr, indices = known
    indptr = indptr.astype(np.int64)
    item_place_I = graph.places(jnp.arange(n_users, graph.n_nodes, dtype=jnp.int32))

    @jax.jit
    def of_block(
        graph: Bipartite, item_place_I: Array, source_S: Array, own_SI: Array
    ) -> tuple[Array, Array]:
        mass_SI = push(graph, n_users, source_S, alpha, epsilon).mass_NS[item_place_I].T
        mass_SI = mass_SI.at[jnp.arange(block)[:, None], own_SI].set(0, mode="drop")
        value_SK, item_SK = jax.lax.top_k(mass_SI, last)
        return item_SK[:, first:], jnp.sum(value_SK[:, first:] > 0, axis=1, dtype=jnp.int32)

    padded, degree_U = np.append(indices, n_items).astype(np.int32), np.diff(indptr)
    items, counts = [], []
    for start in range(0, n_users, block):
        user_S = np.minimum(np.arange(start, start + block), n_users - 1).astype(np.int32)
        # The width is a power of two, so that few widths are compiled.
        width = 1 << int(degree_U[user_S].max()).bit_length()
        at_SI = indptr[user_S, None] + np.arange(width)
        own_SI = padded[np.minimum(at_SI, len(indices))]
        own_SI = np.where(at_SI < indptr[user_S + 1, None], own_SI, np.int32(n_items))
        source_S = graph.places(jnp.asarray(user_S))
        item_SK, count_S = of_block(graph, item_place_I, source_S, jnp.asarray(own_SI))
        items.append(item_SK)
        counts.append(count_S)
    return Window(
        jnp.concatenate(items)[:n_users].astype(jnp.int32), jnp.concatenate(counts)[:n_users]
    )
