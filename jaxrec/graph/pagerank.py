"""Personalised PageRank from many nodes at once, by forward push through the same product."""

from functools import partial
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxrec.graph.bipartite import Bipartite
from jaxrec.graph.spmm import Kernel, propagate

_SWEEPS = 1000  # never reached: a sweep leaves at most 1 - alpha of the residual that it pushes


class Push(NamedTuple):
    """What forward push has found, a column a source; mass and residual of a column sum to 1.

    Attributes:
      mass_NS: the PageRank less at most ``epsilon`` · degree of the node, and never above it.
      residual_NS: what is not pushed on; at most ``epsilon`` · degree.
      sweeps: how many products it took.
    """

    mass_NS: Float[Array, "N S"]
    residual_NS: Float[Array, "N S"]
    sweeps: Int[Array, ""]


@partial(jax.jit, static_argnames=("alpha", "epsilon", "kernel"))
def push(
    graph: Bipartite,
    source_S: Int[Array, "S"],
    alpha: float = 0.15,
    epsilon: float = 1e-6,
    kernel: Literal["auto"] | Kernel = "auto",
) -> Push:
    """Personalised PageRank of each source: columns of alpha (I - (1 - alpha) P^T)^-1.

    P = D^-1 A is the random walk. Every node whose residual is above epsilon · degree keeps alpha
    of it and sends the rest to its neighbours, all such nodes of all sources in one product, until
    none is left (Andersen, Chung and Lang, FOCS 2006, in sweeps). A node without neighbours keeps
    all that it has.

    Args:
      graph: N nodes.
      source_S: nodes, as the graph numbers them.
      alpha: probability of a return to the source at each step.
      epsilon: residual to leave, for each unit of degree; 0 would not end.
    """
    degree_N1 = graph.degree_N[:, None]
    root_N1, down_N1 = jnp.sqrt(degree_N1), graph.inverse_root_degree[:, None]
    alone_N1 = degree_N1 == 0
    shape = (graph.n_nodes, source_S.shape[0])
    start = jnp.zeros(shape).at[source_S, jnp.arange(shape[1])].set(1.0)

    def active(residual_NS: Array) -> Array:
        return (residual_NS > epsilon * degree_N1) & (residual_NS > 0)

    def more(state: Push) -> Array:
        return jnp.any(active(state.residual_NS)) & (state.sweeps < _SWEEPS)

    def sweep(state: Push) -> Push:
        pushed_NS = jnp.where(active(state.residual_NS), state.residual_NS, 0)
        kept_NS = pushed_NS * jnp.where(alone_N1, 1, alpha)
        # A D^-1 x = D^1/2 (D^-1/2 A D^-1/2) D^-1/2 x
        sent_NS = root_N1 * propagate(graph, down_N1 * pushed_NS, kernel)
        residual_NS = state.residual_NS - pushed_NS + (1 - alpha) * sent_NS
        return Push(state.mass_NS + kept_NS, residual_NS, state.sweeps + 1)

    return jax.lax.while_loop(more, sweep, Push(jnp.zeros(shape), start, jnp.int32(0)))


class Window(NamedTuple):
    """Items of a range of ranks for each user: item_UW[u, :count_U[u]], in no order that counts."""

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
    """The items at ranks first .. last - 1 of each user's PageRank, their own items left out.

    Ranks count from 0, ties go to the lower item, and items that the push does not reach have no
    rank: a user may have fewer items than the window is wide, or none.

    Args:
      graph: numbered by its ``place_N``.
      known: (indptr [U + 1], indices) of each user's own items.
      n_users: U.
      first, last: the range of ranks, at most I; the result takes U · (last - first) · 4 bytes.
      block: users at once; memory is some 6 · N · block · 4 bytes.
    """
    n_items = graph.n_nodes - n_users
    indptr, indices = known
    indptr = indptr.astype(np.int64)
    item_place_I = graph.places(jnp.arange(n_users, graph.n_nodes, dtype=jnp.int32))

    @jax.jit
    def of_block(
        graph: Bipartite, item_place_I: Array, source_S: Array, own_SI: Array
    ) -> tuple[Array, Array]:
        mass_SI = push(graph, source_S, alpha, epsilon).mass_NS[item_place_I].T
        mass_SI = mass_SI.at[jnp.arange(block)[:, None], own_SI].set(0, mode="drop")
        value_SK, item_SK = jax.lax.top_k(mass_SI, last)
        return item_SK[:, first:], jnp.sum(value_SK[:, first:] > 0, axis=1, dtype=jnp.int32)

    padded, degree_U = np.append(indices, n_items).astype(np.int32), np.diff(indptr)
    items, counts = [], []
    for start in range(0, n_users, block):
        user_S = np.minimum(np.arange(start, start + block), n_users - 1).astype(np.int32)
        # A power of two, so that few widths are compiled.
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
