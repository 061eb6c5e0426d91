"""The user-item graph as a ``jraph.GraphsTuple``, normalised once and sorted by receiver."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import jraph
import numpy as np
import scipy.sparse as sp
from jaxtyping import Array, Float, Int, PRNGKeyArray
from scipy.sparse import csgraph

from jaxrec import hashing
from jaxrec.data.dataset import Dataset
from jaxrec.errors import InputError
from jaxrec.graph.buckets import Buckets
from jaxrec.graph.buckets import build as build_buckets


class Bipartite(NamedTuple):
    """A symmetric bipartite graph of N = U + I nodes: users 0..U-1, then items.

    Attributes:
      graph: senders [2E], receivers [2E] int32, sorted by (receiver, sender); edges [2E] float32,
        the entries of D^-1/2 A D^-1/2; n_node [1] and n_edge [1]; no node features.
      indptr: [N + 1] int32; the edges into node n are those at indptr[n]:indptr[n + 1].
      degree_N: sum of the weights at each node, as the normalisation has it.
      place_N: where the nodes of the data set are in the graph: node n is row place_N[n]. None
        where that is n.
      buckets: the same matrix as the kernel of that name takes it, where asked for.
    """

    graph: jraph.GraphsTuple
    indptr: Int[Array, "N1"]
    degree_N: Float[Array, "N"]
    place_N: Int[Array, "N"] | None = None
    buckets: Buckets | None = None

    def places(self, node: Int[Array, "*any"]) -> Int[Array, "*any"]:
        """The rows in the graph of nodes numbered as in the data set."""
        return node if self.place_N is None else self.place_N[node]

    def in_data_order(self, x_ND: Float[Array, "N D"]) -> Float[Array, "N D"]:
        """The rows of all nodes, numbered as in the data set."""
        return x_ND if self.place_N is None else x_ND[self.place_N]

    @property
    def n_nodes(self) -> int:
        return self.indptr.shape[0] - 1

    @property
    def inverse_root_degree(self) -> Float[Array, "N"]:
        """D^-1/2, and 0 for a node without edges."""
        has_edges = self.degree_N > 0
        return jnp.where(has_edges, jax.lax.rsqrt(jnp.where(has_edges, self.degree_N, 1)), 0)

    @property
    def weights(self) -> Float[Array, "E2"]:
        """The entries of the normalised matrix, in the order of the edges."""
        assert isinstance(self.graph.edges, jax.Array)
        return self.graph.edges

    @property
    def senders(self) -> Int[Array, "E2"]:
        assert isinstance(self.graph.senders, jax.Array)
        return self.graph.senders

    @property
    def receivers(self) -> Int[Array, "E2"]:
        assert isinstance(self.graph.receivers, jax.Array)
        return self.graph.receivers


def symmetric_weights(
    sender: np.ndarray, receiver: np.ndarray, weight: np.ndarray, degree: np.ndarray
) -> np.ndarray:
    """Entries of D^-1/2 A D^-1/2 (LightGCN, He et al. 2020, eq. 3), [2E] float32.

    With event weights the degrees are weighted ones: d_n is the sum of the weights at n.
    """
    return (weight / np.sqrt(degree[sender] * degree[receiver])).astype(np.float32)


def locality_order(
    sender: np.ndarray, receiver: np.ndarray, n_users: int, n_nodes: int
) -> np.ndarray:
    """Places [N] that bring connected nodes near each other, users still before items.

    Reverse Cuthill-McKee (1969) on the whole graph, as scipy has it. On Gowalla the rows that a
    stretch of the product gathers stay in a core's cache more often (bench case ``propagate``).
    """
    ones = np.ones(len(sender), bool)
    adjacency = sp.csr_matrix((ones, (receiver, sender)), shape=(n_nodes, n_nodes))
    node = csgraph.reverse_cuthill_mckee(adjacency, symmetric_mode=True)
    user_first = np.concatenate([node[node < n_users], node[node >= n_users]])
    place = np.empty(n_nodes, np.int32)
    place[user_first] = np.arange(n_nodes, dtype=np.int32)
    return place


def build(data: Dataset, *, reorder: bool = False, buckets: bool = False) -> Bipartite:
    """The graph of a data set's interactions, on the default device.

    Each interaction is one edge in each direction. Repeated pairs stay parallel edges, which
    weigh what they weigh together. Nodes without interactions have no edges.

    Args:
      data: U users, I items, E interactions.
      reorder: number the nodes for locality; ``place_N`` then tells where each one is.
      buckets: prepare the kernel of that name.

    Raises:
      InputError: more edges than int32 can count.
    """
    if 2 * data.n_edges >= 2**31:
        raise InputError(
            f"{data.name}: {data.n_edges:,} pairs make more than 2^31 directed edges; filter them"
        )
    n_nodes = data.n_users + data.n_items
    user, item = data.user, data.item + np.int32(data.n_users)
    sender, receiver = np.concatenate([item, user]), np.concatenate([user, item])
    one_way = np.ones(data.n_edges) if data.weight is None else data.weight.astype(np.float64)
    weight = np.concatenate([one_way, one_way])
    place = None
    if reorder:
        place = locality_order(sender, receiver, data.n_users, n_nodes)
        sender, receiver = place[sender], place[receiver]
    order = np.lexsort((sender, receiver))
    sender, receiver, weight = sender[order], receiver[order], weight[order]
    indptr = np.zeros(n_nodes + 1, np.int64)
    np.cumsum(np.bincount(receiver, minlength=n_nodes), out=indptr[1:])
    degree = np.bincount(receiver, weights=weight, minlength=n_nodes)
    normalised = symmetric_weights(sender, receiver, weight, degree)
    graph = jraph.GraphsTuple(
        nodes=None,
        edges=jnp.asarray(normalised),
        receivers=jnp.asarray(receiver, jnp.int32),
        senders=jnp.asarray(sender, jnp.int32),
        globals=None,
        n_node=jnp.array([n_nodes], jnp.int32),
        n_edge=jnp.array([len(sender)], jnp.int32),
    )
    place_N = None if place is None else jnp.asarray(place)
    rows = build_buckets(indptr, sender, normalised) if buckets else None
    return Bipartite(
        graph, jnp.asarray(indptr, jnp.int32), jnp.asarray(degree, jnp.float32), place_N, rows
    )


def drop_edges(graph: Bipartite, key: PRNGKeyArray, rate: float) -> Bipartite:
    """The graph without a random share ``rate`` of its pairs, the weights of the others grown.

    An edge goes in both directions or in neither, so the matrix stays symmetric; its expectation
    is the matrix of all edges. Degrees, and with them the normalisation, stay those of all edges.
    The kernel buckets does not take the result.
    """
    low = jnp.minimum(graph.senders, graph.receivers).astype(jnp.uint32)
    high = jnp.maximum(graph.senders, graph.receivers).astype(jnp.uint32)
    bits = jax.random.bits(key, (2,))
    draw = hashing.uniform(hashing.mix(low + bits[0]) + high * jnp.uint32(0x9E3779B9) + bits[1])
    weights = jnp.where(draw < rate, 0, graph.weights / (1 - rate))
    return graph._replace(graph=graph.graph._replace(edges=weights), buckets=None)
