"""The user-item graph as a ``jraph.GraphsTuple``, normalised once and sorted by receiver."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import jraph
import numpy as np
from jaxtyping import Array, Float, Int

from jaxrec.data.dataset import Dataset
from jaxrec.errors import InputError


class Bipartite(NamedTuple):
    """A symmetric bipartite graph of N = U + I nodes: users 0..U-1, then items.

    Attributes:
      graph: senders [2E], receivers [2E] int32, sorted by (receiver, sender); edges [2E] float32,
        the entries of D^-1/2 A D^-1/2; n_node [1] and n_edge [1]; no node features.
      indptr: [N + 1] int32; the edges into node n are those at indptr[n]:indptr[n + 1].
    """

    graph: jraph.GraphsTuple
    indptr: Int[Array, "N1"]

    @property
    def n_nodes(self) -> int:
        return self.indptr.shape[0] - 1

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
    sender: np.ndarray, receiver: np.ndarray, weight: np.ndarray, n_nodes: int
) -> np.ndarray:
    """Entries of D^-1/2 A D^-1/2 (LightGCN, He et al. 2020, eq. 3), [2E] float32.

    With event weights the degrees are weighted ones: d_n is the sum of the weights at n.
    """
    degree = np.bincount(receiver, weights=weight, minlength=n_nodes)
    return (weight / np.sqrt(degree[sender] * degree[receiver])).astype(np.float32)


def build(data: Dataset) -> Bipartite:
    """The graph of a data set's interactions, on the default device.

    Each interaction is one edge in each direction. Repeated pairs stay parallel edges, which
    weigh what they weigh together. Nodes without interactions have no edges.

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
    order = np.lexsort((sender, receiver))
    sender, receiver, weight = sender[order], receiver[order], weight[order]
    indptr = np.zeros(n_nodes + 1, np.int64)
    np.cumsum(np.bincount(receiver, minlength=n_nodes), out=indptr[1:])
    graph = jraph.GraphsTuple(
        nodes=None,
        edges=jnp.asarray(symmetric_weights(sender, receiver, weight, n_nodes)),
        receivers=jnp.asarray(receiver, jnp.int32),
        senders=jnp.asarray(sender, jnp.int32),
        globals=None,
        n_node=jnp.array([n_nodes], jnp.int32),
        n_edge=jnp.array([len(sender)], jnp.int32),
    )
    return Bipartite(graph, jnp.asarray(indptr, jnp.int32))
