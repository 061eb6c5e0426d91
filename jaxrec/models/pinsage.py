"""PinSAGE (Ying et al., KDD 2018): convolutions over sampled neighbourhoods."""

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int, PRNGKeyArray

from jaxrec.config import ModelConfig
from jaxrec.graph import neighbors
from jaxrec.graph.bipartite import Bipartite, Encoded
from jaxrec.graph.csr import DeviceCsr
from jaxrec.graph.neighbors import Neighbors
from jaxrec.graph.rows import take
from jaxrec.graph.spmm import Kernel, propagate
from jaxrec.models.encoder import Encoder, ModelSizes, NewEdges, Nodes, looks_linear, unit_rows
from jaxrec.models.inputs import FeatureSizes, NodeInput, of_features
from jaxrec.models.ngcf import mean_scales

_BLOCK = 1 << 13  # number of nodes per block when all nodes of a graph are embedded


class SampledBlock(NamedTuple):
    """The nodes from which some final embeddings are computed, and the weights of neighbours.

    The nodes of L hops are concatenated: the R requested rows, their R · F_1 neighbours, then the
    (R + R · F_1) · F_2 neighbours of all these nodes, and so on.

    Attributes:
      node_M: rows of the graph.
      weight: weights of the neighbours, one array per hop: [R, F_1], [R · (1 + F_1), F_2], ...
    """

    node_M: Int[Array, "M"]
    weight: tuple[Float[Array, "R F"], ...]


class PinSAGEConv(nnx.Module):
    """Layer h <- ReLU(W [h ; n] + w), scaled to length 1, with n = Σ_m α_m ReLU(Q h_m + q).

    Source: algorithm 1 of the paper; m are the neighbours and α_m their weights.
    """

    def __init__(self, dim_in: int, dim: int, rngs: nnx.Rngs, *, linear: bool, first: bool) -> None:
        init = nnx.initializers.he_uniform()
        self.message = nnx.Param(init(rngs.params(), (dim_in, dim)))
        self.message_bias = nnx.Param(jnp.zeros(dim))
        self.update = nnx.Param(init(rngs.params(), (dim_in + dim, dim)))
        self.update_bias = nnx.Param(jnp.zeros(dim))
        if linear:
            own = looks_linear(dim_in, dim, mirrored_in=not first, mirrored_out=True)
            sent = looks_linear(dim, dim, mirrored_in=True, mirrored_out=True)
            self.message[...], self.update[...] = own, jnp.concatenate([own, sent]) / 2

    def messages(self, x: Float[Array, "*rows D"]) -> Float[Array, "*rows H"]:
        """Compute ReLU(Q x + q)."""
        return jax.nn.relu(x @ self.message[...] + self.message_bias[...])

    def __call__(
        self, x_RD: Float[Array, "R D"], pooled_RH: Float[Array, "R H"]
    ) -> Float[Array, "R H"]:
        both_R = jnp.concatenate([x_RD, pooled_RH], axis=1)
        return unit_rows(jax.nn.relu(both_R @ self.update[...] + self.update_bias[...]))


class PinSAGE(Encoder):
    """PinSAGE: L layers of :class:`PinSAGEConv` over sampled neighbours, and a head.

    The head computes z = G_1 ReLU(G_2 h + g) from the output h of the last layer.

    Args:
      n_users, n_items: numbers of users and items, U and I.
      dim: width of the embeddings and the input, D.
      hidden: width of the layers, H.
      fan_outs: [L] neighbours per node by hop, starting at the requested rows.
      uniform: if True, training draws neighbours uniformly, and evaluation averages over all
        neighbours. If False, both use the first neighbours in ``Bipartite.neighbors``.
      walks, walk_length: number and length of the random walks from each node that rank the
        neighbours in ``Bipartite.neighbors``.
      ids: whether the input includes an embedding of each id.
      sizes: sizes of the users' and items' features; None for a side without features.
      linear: start with layers that average a node and its neighbours, on mirrored values (see
        :func:`looks_linear`), and with a head that undoes the mirroring. If False, use He
        initialisation.

    >>> model = PinSAGE(6, 8, dim=4, hidden=8, fan_outs=(3, 2), rngs=nnx.Rngs(params=0))
    >>> model.embedding[...].shape, model.out_dim
    ((14, 4), 4)
    """

    smoothing = 0

    def __init__(
        self,
        n_users: int,
        n_items: int,
        dim: int,
        *,
        hidden: int,
        fan_outs: tuple[int, ...],
        uniform: bool = False,
        walks: int = 32,
        walk_length: int = 2,
        ids: bool = True,
        sizes: tuple[FeatureSizes | None, FeatureSizes | None] = (None, None),
        linear: bool = False,
        init_std: float = 0.1,
        kernel: Literal["auto"] | Kernel = "auto",
        rngs: nnx.Rngs,
    ) -> None:
        shape = (n_users + n_items, dim)
        made = nnx.Param(init_std * jax.random.normal(rngs.params(), shape)) if ids else None
        self.embedding = made
        self.inputs = NodeInput(n_users, sizes, dim, init_std, rngs)
        widths = [dim, *(hidden for _ in fan_outs)]
        convs = [
            PinSAGEConv(d, hidden, rngs, linear=linear, first=number == 0)
            for number, d in enumerate(widths[:-1])
        ]
        self.convs = nnx.List(convs)
        init = nnx.initializers.he_uniform()
        self.head = nnx.Param(init(rngs.params(), (hidden, hidden)))
        self.head_bias = nnx.Param(jnp.zeros(hidden))
        self.out = nnx.Param(init(rngs.params(), (hidden, dim)))
        if linear:
            self.head[...] = looks_linear(hidden, hidden, mirrored_in=True, mirrored_out=True)
            self.out[...] = looks_linear(hidden, dim, mirrored_in=True, mirrored_out=False)
        self.out_dim = dim
        self.fan_outs, self.uniform = fan_outs, uniform
        self.walks, self.walk_length = walks, walk_length
        self.kernel: Literal["auto"] | Kernel = kernel

    def _head(self, h: Float[Array, "R H"]) -> Float[Array, "R D"]:
        return jax.nn.relu(h @ self.head[...] + self.head_bias[...]) @ self.out[...]

    def _near(
        self, graph: Bipartite, node_R: Array, count: int, key: PRNGKeyArray | None
    ) -> Neighbors:
        if self.uniform:
            assert key is not None, "drawing neighbours needs a key"
            return neighbors.uniform(DeviceCsr(graph.indptr, graph.senders), node_R, count, key)
        assert graph.neighbors is not None, "PinSAGE needs Bipartite.neighbors"
        return neighbors.first_of(graph.neighbors, node_R, count)

    def plan(
        self, graph: Bipartite, row_R: Int[Array, "R"], key: PRNGKeyArray | None = None
    ) -> SampledBlock:
        """Select the nodes needed to embed some rows; if ``uniform``, draw them with the key."""
        node, weight = row_R, []
        for hop, count in enumerate(self.fan_outs):
            hop_key = None if key is None else jax.random.fold_in(key, hop)
            near = self._near(graph, node, count, hop_key)
            node = jnp.concatenate([node, near.node_RF.reshape(-1)])
            weight.append(near.weight_RF)
        return SampledBlock(node, tuple(weight))

    def of_block(
        self, graph: Bipartite, table_MD: Float[Array, "M D"] | None, block: SampledBlock
    ) -> Nodes:
        """Compute :meth:`rows` from the table rows that :meth:`plan` listed."""
        x = self.inputs.rows(graph.features, block.node_M, table_MD)
        n_rows = block.weight[0].shape[0]
        base_RD = x[:n_rows] if table_MD is None else table_MD[:n_rows]
        for conv, weight_SF in zip(self.convs, reversed(block.weight), strict=True):
            # Each layer consumes the outermost hop.
            n_kept, count = weight_SF.shape
            sent_SFD = conv.messages(x[n_kept:]).reshape(n_kept, count, -1)
            x = conv(x[:n_kept], jnp.einsum("sf,sfd->sd", weight_SF, sent_SFD))
        return Nodes(self._head(x), base_RD)

    def rows(
        self, graph: Bipartite, row_R: Int[Array, "R"], key: PRNGKeyArray | None = None
    ) -> Nodes:
        """Compute the embeddings of some rows only.

        If ``uniform``, neighbours are drawn with the key; without a key, all neighbours are used.
        """
        if key is None and self.uniform:
            return Nodes(*(x_ND[row_R] for x_ND in self(graph)))
        block = self.plan(graph, row_R, key)
        table_MD = None if self.embedding is None else take(self.embedding[...], block.node_M)
        return self.of_block(graph, table_MD, block)

    def __call__(self, graph: Bipartite, key: PRNGKeyArray | None = None) -> Nodes:
        """Compute the embeddings of all nodes, layer by layer, without sampling."""
        h_ND = self.layers(graph)
        base_ND = h_ND[0] if self.embedding is None else self.embedding[...]
        return Nodes(self._head(h_ND[-1]), base_ND)

    def hidden(self, graph: Bipartite, row_R: Int[Array, "R"]) -> list[Float[Array, "R _"]]:
        """Compute the output of each ReLU layer for some rows."""
        layers = [x_NH[row_R] for x_NH in self.layers(graph)[1:]]
        return [*layers, jax.nn.relu(layers[-1] @ self.head[...] + self.head_bias[...])]

    def layers(self, graph: Bipartite) -> list[Float[Array, "N H"]]:
        """Compute the input of all nodes and the output of each layer."""
        table_ND = None if self.embedding is None else self.embedding[...]
        found = [self.inputs.all(graph.features, graph.n_nodes, table_ND)]
        for conv, count in zip(self.convs, reversed(self.fan_outs), strict=True):
            sent_ND = conv.messages(found[-1])
            if self.uniform:
                before_N1, after_N1 = mean_scales(graph)
                pooled_ND = after_N1 * propagate(graph, before_N1 * sent_ND, self.kernel)
            else:
                pooled_ND = self._pooled(graph, sent_ND, count)
            found.append(conv(found[-1], pooled_ND))
        return found

    def _pooled(self, graph: Bipartite, sent_ND: Array, count: int) -> Array:
        """Compute Σ_m α_m x_m over the first ``count`` neighbours of all nodes, in blocks."""
        size = min(_BLOCK, graph.n_nodes)

        def body(i: Array, made_ND: Array) -> Array:
            # The last block starts early enough to be full, and recomputes some values.
            start = jnp.minimum(i * size, graph.n_nodes - size)
            near = self._near(graph, start + jnp.arange(size, dtype=jnp.int32), count, None)
            pooled = jnp.einsum("rf,rfd->rd", near.weight_RF, take(sent_ND, near.node_RF))
            return jax.lax.dynamic_update_slice_in_dim(made_ND, pooled, start, 0)

        n_blocks = -(-graph.n_nodes // size)
        return jax.lax.fori_loop(0, n_blocks, body, jnp.zeros_like(sent_ND))

    def embed_items(
        self, graph: Bipartite, x: Encoded, edges: NewEdges, key: PRNGKeyArray
    ) -> Float[Array, "n D"]:
        """Embed items that are not in the graph, without changing it.

        Args:
          x: the items' encoded features.
          edges: edges from the items to users of the graph; random walks follow them first.
          key: random key for the walks.
        """
        h_nH = self.inputs.of_items(x)
        n_new, users = h_nH.shape[0], edges.users
        row_E = edges.rows()
        near = None if self.uniform else self._visited(graph, users, n_new, key)
        hops = zip(self.convs, reversed(self.fan_outs), self.layers(graph)[:-1], strict=True)
        for conv, count, x_ND in hops:
            sent_NH = conv.messages(x_ND)
            if near is None:
                total_nH = jax.ops.segment_sum(sent_NH[users.indices], row_E, n_new)
                degree_n1 = jnp.maximum(jnp.diff(users.indptr), 1)[:, None]
                pooled_nH = total_nH / degree_n1.astype(jnp.float32)
            else:
                few = neighbors.first_of(near, jnp.arange(n_new, dtype=jnp.int32), count)
                pooled_nH = jnp.einsum("rf,rfd->rd", few.weight_RF, sent_NH[few.node_RF])
            h_nH = conv(h_nH, pooled_nH)
        return self._head(h_nH)

    def _visited(
        self, graph: Bipartite, users: DeviceCsr, n_new: int, key: PRNGKeyArray
    ) -> Neighbors:
        """Find the graph nodes that random walks from the new items visit most."""
        indptr = jnp.concatenate([graph.indptr, graph.indptr[-1] + users.indptr[1:]])
        both = DeviceCsr(indptr, jnp.concatenate([graph.senders, users.indices]))
        new_n = graph.n_nodes + jnp.arange(n_new, dtype=jnp.int32)
        walks = {"walks": self.walks, "length": self.walk_length, "key": key}
        near = neighbors.most_visited(both, new_n, max(self.fan_outs), **walks)
        # A new item without edges is its own neighbour, of weight 0, but it is not in the graph.
        return near._replace(node_RF=jnp.minimum(near.node_RF, graph.n_nodes - 1))


def build(sizes: ModelSizes, config: ModelConfig, rngs: nnx.Rngs, levels: int) -> PinSAGE:
    """Build PinSAGE from a configuration.

    Args:
      levels: unused, since PinSAGE has one edge type.
    """
    return PinSAGE(
        sizes.n_users,
        sizes.n_items,
        config.dim,
        fan_outs=config.hops,
        uniform=config.neighbors == "uniform",
        walks=config.walks,
        walk_length=config.walk_length,
        rngs=rngs,
        **of_features(config, sizes),
    )
