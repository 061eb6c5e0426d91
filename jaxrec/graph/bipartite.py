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
from jaxrec.data.schema import Encoded
from jaxrec.errors import InputError
from jaxrec.graph.buckets import Buckets
from jaxrec.graph.buckets import build as build_buckets
from jaxrec.graph.neighbors import Neighbors

_EDGES_AT_ONCE = 1 << 22  # whose float64 intermediates are in memory together
_MOST_LEVELS = 20  # different ratings that can be types of edges


class NodeFeatures(NamedTuple):
    """Encoded features of the users and of the items, in the order of a graph's rows.

    None where a side has none.
    """

    user: Encoded | None
    item: Encoded | None


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
      levels: the pairs of each rating level as a graph, weighed as in the whole one; where asked
        for.
      features: of the nodes, where there are any.
      neighbors: of every node the foremost ones, [N, F], where asked for.
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
    sender: np.ndarray, receiver: np.ndarray, weight: np.ndarray | None, degree: np.ndarray
) -> np.ndarray:
    """Entries of D^-1/2 A D^-1/2 (LightGCN, He et al. 2020, eq. 3), [2E] float32.

    With event weights (all 1 where None) the degrees are weighted ones: d_n is the sum of the
    weights at n.
    """
    made = np.empty(len(sender), np.float32)
    for start in range(0, len(sender), _EDGES_AT_ONCE):
        part = slice(start, start + _EDGES_AT_ONCE)
        of_part = 1.0 if weight is None else weight[part]
        made[part] = of_part / np.sqrt(degree[sender[part]] * degree[receiver[part]])
    return made


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


class _Sorted(NamedTuple):
    """Directed edges by (receiver, sender), and the pair that each one comes from; [2E]."""

    sender: np.ndarray
    receiver: np.ndarray
    pair: np.ndarray


def sorted_edges(user: np.ndarray, item: np.ndarray, n_users: int, n_items: int) -> _Sorted:
    """Both directions of pairs of rows (user, item), the nodes of items behind those of users."""
    key = user.astype(np.int64) * n_items + item
    by_user = np.arange(len(key), dtype=np.int32)
    if not (key[1:] >= key[:-1]).all():
        by_user = np.argsort(key, kind="stable").astype(np.int32)
    del key  # it is as large as all that is made of it
    # Transposing a CSR is a counting sort, and keeps the order of parallel edges.
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
    """The graph of a data set's interactions, on the default device.

    Each interaction is one edge in each direction. Repeated pairs stay parallel edges, which
    weigh what they weigh together. Nodes without interactions have no edges.

    Args:
      data: U users, I items, E interactions.
      reorder: number the nodes for locality; ``place_N`` then tells where each one is.
      buckets: prepare the kernel of that name, for each level too.
      levels: also a graph of the pairs of each rating.

    Raises:
      InputError: more edges than int32 can count; levels of data without ratings, or with too
        many different ones.
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
    del pair  # of a large graph a third of all that there is by now
    normalised = symmetric_weights(sender, receiver, weight, degree)

    def graph(part: np.ndarray | slice, place_N: Array | None) -> Bipartite:
        edges = sender[part], receiver[part], normalised[part]
        indptr = _indptr(edges[1], n_nodes)
        rows = build_buckets(indptr, edges[0], edges[2]) if buckets else None
        degree_N = jnp.asarray(degree, jnp.float32)
        indptr = jnp.asarray(indptr, jnp.int32)
        return Bipartite(_graphs_tuple(*edges, n_nodes), indptr, degree_N, place_N, rows)

    whole = graph(slice(None), None if place is None else jnp.asarray(place))
    if level is None:
        return whole
    parts = (graph(level == r, whole.place_N) for r in range(level.max() + 1))
    return whole._replace(levels=tuple(parts))


def has_levels(data: Dataset) -> bool:
    """Whether there are ratings, and few enough different ones to be types of edges."""
    return data.rating is not None and len(np.unique(data.rating)) <= _MOST_LEVELS


def rating_levels(
    data: Dataset, asks: str = "model.levels", mend: str = "set model.levels False"
) -> tuple[np.ndarray, np.ndarray]:
    """The different ratings, ascending, and the number among them of each interaction's.

    Args:
      asks, mend: the field to be named where they cannot be had, and what to do where there are
        too many.

    Raises:
      InputError: there are no ratings, or more than 20 different ones.
    """
    if data.rating is None:
        raise InputError(f"{data.name}: {asks} needs ratings, and this data has none")
    values, level = np.unique(data.rating, return_inverse=True)
    if len(values) > _MOST_LEVELS:
        raise InputError(
            f"{data.name}: {len(values)} different ratings are too many for {asks}, "
            f"{_MOST_LEVELS} at most; {mend}"
        )
    return values, level.astype(np.int32)


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
