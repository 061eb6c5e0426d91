"""The user-item graph as a ``jraph.GraphsTuple``, normalised once and sorted by receiver."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import jraph
import numpy as np
import scipy.sparse as sp
from jaxtyping import Array, Float, Int, PRNGKeyArray
from scipy.sparse import csgraph

from jaxrec import hashed_random
from jaxrec.data.dataset import Dataset
from jaxrec.data.pair_keys import pair_keys
from jaxrec.data.schema import Encoded
from jaxrec.errors import InputError
from jaxrec.graph.buckets import Buckets, group_rows
from jaxrec.graph.neighbors import Neighbors

_EDGES_AT_ONCE = 1 << 22  # number of edges per block, which bounds the memory of float64 values
_MOST_LEVELS = 20  # the largest number of distinct ratings that can be edge types


class NodeFeatures(NamedTuple):
    """Encoded features of users and of items, in the graph's row order.

    ``user`` is None if users have no features, and ``item`` is None if items have none.
    """

    user: Encoded | None
    item: Encoded | None


class Bipartite(NamedTuple):
    """A symmetric bipartite graph of E pairs, with N = U + I nodes: users 0..U-1, then items.

    Attributes:
      graph: senders [2E], receivers [2E] int32, sorted by (receiver, sender); edges [2E] float32,
        the entries of D^-1/2 A D^-1/2; n_node [1] and n_edge [1]; no node features.
      indptr: [N + 1] int32; the edges into node n are indptr[n]:indptr[n + 1].
      degree_N: sum of the weights at each node, as used in the normalisation.
      place_N: graph row of each node of the data set; None if the graph keeps the data's order.
      buckets: the normalised matrix in the layout of the buckets kernel, if requested.
      levels: one graph per rating level, with the edge weights of the whole graph, if requested.
      features: node features, if any.
      neighbors: the F most visited neighbours of every node, [N, F], if requested.
    """

    graph: jraph.GraphsTuple
    indptr: Int[Array, "N1"]
    degree_N: Float[Array, "N"]
    place_N: Int[Array, "N"] | None = None
    buckets: Buckets | None = None
    levels: "tuple[Bipartite, ...] | None" = None
    features: NodeFeatures | None = None
    neighbors: Neighbors | None = None

    def places(self, node: Int[Array, "*any"]) -> Int[Array, "*any"]:
        """Map node numbers of the data set to rows of the graph."""
        return node if self.place_N is None else self.place_N[node]

    def in_data_order(self, x_ND: Float[Array, "N D"]) -> Float[Array, "N D"]:
        """Reorder a table of all nodes from the graph's row order to the data set's order."""
        return x_ND if self.place_N is None else x_ND[self.place_N]

    @property
    def n_nodes(self) -> int:
        return self.indptr.shape[0] - 1

    @property
    def inverse_root_degree(self) -> Float[Array, "N"]:
        """The diagonal of D^-1/2; 0 for nodes without edges."""
        has_edges = self.degree_N > 0
        return jnp.where(has_edges, jax.lax.rsqrt(jnp.where(has_edges, self.degree_N, 1)), 0)

    @property
    def weights(self) -> Float[Array, "E2"]:
        """Entries of the normalised matrix, in edge order."""
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
    sender: np.ndarray, receiver: np.ndarray, weight: np.ndarray | None, degree: np.ndarray
) -> np.ndarray:
    """Compute the entries of D^-1/2 A D^-1/2 (LightGCN, He et al. 2020, eq. 3), [2E] float32.

    ``degree`` is the sum of the weights at each node; if ``weight`` is None, all weights are 1.
    """
    normalised = np.empty(len(sender), np.float32)
    for start in range(0, len(sender), _EDGES_AT_ONCE):
        part = slice(start, start + _EDGES_AT_ONCE)
        entry = 1.0 if weight is None else weight[part]
        normalised[part] = entry / np.sqrt(degree[sender[part]] * degree[receiver[part]])
    return normalised


def locality_order(
    sender: np.ndarray, receiver: np.ndarray, n_users: int, n_nodes: int
) -> np.ndarray:
    """Compute positions [N] that put connected nodes near each other, with users before items.

    Uses scipy's reverse Cuthill-McKee (1969) on the whole graph. On Gowalla, gathered rows then
    stay in a core's cache more often (bench case ``propagate``).
    """
    ones = np.ones(len(sender), bool)
    adjacency = sp.csr_matrix((ones, (receiver, sender)), shape=(n_nodes, n_nodes))
    node = csgraph.reverse_cuthill_mckee(adjacency, symmetric_mode=True)
    user_first = np.concatenate([node[node < n_users], node[node >= n_users]])
    place = np.empty(n_nodes, np.int32)
    place[user_first] = np.arange(n_nodes, dtype=np.int32)
    return place


class _Sorted(NamedTuple):
    """Directed edges, sorted by (receiver, sender); each array is [2E].

    ``pair`` is the index of the (user, item) pair of each edge.
    """

    sender: np.ndarray
    receiver: np.ndarray
    pair: np.ndarray


def sorted_edges(user: np.ndarray, item: np.ndarray, n_users: int, n_items: int) -> _Sorted:
    """Make two directed edges of each (user, item) pair, and sort all edges.

    Item nodes are numbered after user nodes.
    """
    key = pair_keys(user, item, n_items)
    by_user = np.arange(len(key), dtype=np.int32)
    if not (key[1:] >= key[:-1]).all():
        by_user = np.argsort(key, kind="stable").astype(np.int32)
    del key  # free 8 bytes per pair before the sort below takes memory
    # Transposing a CSR is a stable counting sort, so parallel edges keep their order.
    rows = sp.csr_matrix((by_user, item[by_user], _indptr(user, n_users)), shape=(n_users, n_items))
    by_item = rows.tocsc().data.astype(np.int32, copy=False)
    sender = np.concatenate([item[by_user] + np.int32(n_users), user[by_item]])
    receiver = np.concatenate([user[by_user], item[by_item] + np.int32(n_users)])
    return _Sorted(sender, receiver, np.concatenate([by_user, by_item]))


def _graphs_tuple(
    sender: np.ndarray, receiver: np.ndarray, weight: np.ndarray, n_nodes: int
) -> jraph.GraphsTuple:
    return jraph.GraphsTuple(
        nodes=None,
        edges=jnp.asarray(weight),
        receivers=jnp.asarray(receiver),
        senders=jnp.asarray(sender),
        globals=None,
        n_node=jnp.array([n_nodes], jnp.int32),
        n_edge=jnp.array([len(sender)], jnp.int32),
    )


def _indptr(receiver: np.ndarray, n_nodes: int) -> np.ndarray:
    return np.append(0, np.cumsum(np.bincount(receiver, minlength=n_nodes)))


def build(
    data: Dataset, *, reorder: bool = False, buckets: bool = False, levels: bool = False
) -> Bipartite:
    """Build the graph of a data set's interactions on the default device.

    Each interaction is one edge in each direction. Repeated pairs stay parallel edges. Nodes
    without interactions have no edges.

    Args:
      data: U users, I items, E interactions.
      reorder: renumber the nodes for locality; ``place_N`` then maps nodes to rows.
      buckets: also prepare the layout of the buckets kernel, for the graph and for each level.
      levels: also build a graph per rating level.

    Raises:
      InputError: there are more edges than int32 can count, or ``levels`` is True and the data has
        no ratings or more than 20 distinct ones.
    """
    if 2 * data.n_edges >= 2**31:
        raise InputError(
            f"{data.name}: {data.n_edges:,} pairs make more than 2^31 directed edges; filter them"
        )
    n_users, n_nodes = data.n_users, data.n_users + data.n_items
    user, item, place = data.user, data.item, None
    if reorder:
        ends = np.concatenate([item + np.int32(n_users), user]), np.concatenate([user, item])
        ends[1][len(user) :] += n_users
        place = locality_order(*ends, n_users, n_nodes)
        user, item = place[user], place[item + n_users] - np.int32(n_users)
    sender, receiver, pair = sorted_edges(user, item, n_users, data.n_items)
    weight = None if data.weight is None else data.weight.astype(np.float64)[pair]
    degree = np.bincount(receiver, weights=weight, minlength=n_nodes)
    level = rating_levels(data)[1][pair] if levels else None
    del pair  # frees a third of the memory used so far on a large graph
    normalised = symmetric_weights(sender, receiver, weight, degree)

    def graph(part: np.ndarray | slice, place_N: Array | None) -> Bipartite:
        edges = sender[part], receiver[part], normalised[part]
        indptr = _indptr(edges[1], n_nodes)
        rows = group_rows(indptr, edges[0], edges[2]) if buckets else None
        degree_N = jnp.asarray(degree, jnp.float32)
        indptr = jnp.asarray(indptr, jnp.int32)
        return Bipartite(_graphs_tuple(*edges, n_nodes), indptr, degree_N, place_N, rows)

    whole = graph(slice(None), None if place is None else jnp.asarray(place))
    if level is None:
        return whole
    parts = (graph(level == r, whole.place_N) for r in range(level.max() + 1))
    return whole._replace(levels=tuple(parts))


def has_levels(data: Dataset) -> bool:
    """Return whether the data has ratings with at most 20 distinct values, to use as edge types."""
    return data.rating is not None and len(np.unique(data.rating)) <= _MOST_LEVELS


def rating_levels(
    data: Dataset, asks: str = "model.levels", fix: str = "set model.levels False"
) -> tuple[np.ndarray, np.ndarray]:
    """Return the distinct ratings, ascending, and the index of each interaction's rating.

    Args:
      asks, fix: parts of error messages. ``asks`` is the field that needs ratings, and ``fix`` is
        the advice if there are too many distinct ratings.

    Raises:
      InputError: there are no ratings, or more than 20 distinct ones.
    """
    if data.rating is None:
        raise InputError(
            f"{data.name}: {asks} needs ratings, but this data has none; give data with ratings"
        )
    values, level = np.unique(data.rating, return_inverse=True)
    if len(values) > _MOST_LEVELS:
        raise InputError(
            f"{data.name}: has {len(values)} different ratings, but {asks} allows "
            f"{_MOST_LEVELS} at most; {fix}"
        )
    return values, level.astype(np.int32)


def drop_edges(graph: Bipartite, key: PRNGKeyArray, rate: float) -> Bipartite:
    """Drop a random share ``rate`` of the pairs and divide the weights of the others by 1 - rate.

    The expected value of the result is the full matrix. Both directions of a pair are dropped
    together, so the matrix stays symmetric. Weights stay normalised by the degrees of the full
    graph. The buckets kernel does not support the result.
    """
    low = jnp.minimum(graph.senders, graph.receivers).astype(jnp.uint32)
    high = jnp.maximum(graph.senders, graph.receivers).astype(jnp.uint32)
    bits = jax.random.bits(key, (2,))
    draw = hashed_random.uniform(
        hashed_random.mix(low + bits[0]) + high * jnp.uint32(0x9E3779B9) + bits[1]
    )
    weights = jnp.where(draw < rate, 0, graph.weights / (1 - rate))
    return graph._replace(graph=graph.graph._replace(edges=weights), buckets=None)
