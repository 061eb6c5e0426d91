"""PinSAGE (Ying et al., KDD 2018): convolutions over sampled neighbourhoods, inductive or not."""

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
from jaxrec.graph.spmm import Kernel, propagate
from jaxrec.models.encoder import Encoder, ModelSizes, NewEdges, Nodes, looks_linear, unit_rows
from jaxrec.models.inputs import FeatureSizes, NodeInput, of_features
from jaxrec.models.ngcf import mean_scales

_BLOCK = 1 << 13  # nodes at once where all of a large graph are embedded


class SampledBlock(NamedTuple):
    """The nodes that some final embeddings are made of, and the share that each one has.

    The nodes of L hops stand behind one another: R rows asked for, R · F_1 neighbours of these,
    (R + R · F_1) · F_2 neighbours of both, and so on.

    Attributes:
      node_M: rows of the graph.
      weight: by hop, [R · (1 + F_1) · ..., F]: the neighbours' shares.
    """

    node_M: Int[Array, "M"]
    weight: tuple[Float[Array, "R F"], ...]


class PinSAGEConv(nnx.Module):
    """h <- ReLU(W [h ; n] + w) / |·|_2 with n = Σ_m α_m ReLU(Q h_m + q) (algorithm 1)."""

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
        """ReLU(Q x + q)."""
        return jax.nn.relu(x @ self.message[...] + self.message_bias[...])

    def __call__(
        self, x_RD: Float[Array, "R D"], pooled_RH: Float[Array, "R H"]
    ) -> Float[Array, "R H"]:
        both_R = jnp.concatenate([x_RD, pooled_RH], axis=1)
        return unit_rows(jax.nn.relu(both_R @ self.update[...] + self.update_bias[...]))


class PinSAGE(Encoder):
    """L of :class:`PinSAGEConv`, then z = G_1 ReLU(G_2 h + g), over sampled neighbours.

    Args:
      n_users, n_items: U, I.
      dim: D, of the embeddings and the input.
      hidden: H, of the layers.
      fan_outs: neighbours a node by hop, the first that of the rows asked for; L of them.
      uniform: neighbours are drawn evenly in training, and all of a node are averaged else.
        Otherwise they are the foremost of the graph's own table (``Bipartite.neighbors``).
      walks, walk_length: from each node, that such a table is made by.
      ids: an embedding for each id is part of the input.
      sizes: of the users' and the items' features; None where a side has none.
      linear: z begins as a node's own input and its neighbours' averaged, of length 1 after each
        layer, all mirrored in between (see :func:`looks_linear`); else all matrices are He's.
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
            assert key is not None, "neighbours are drawn where a key is given"
            return neighbors.uniform(DeviceCsr(graph.indptr, graph.senders), node_R, count, key)
        assert graph.neighbors is not None, "PinSAGE needs Bipartite.neighbors"
        return neighbors.first_of(graph.neighbors, node_R, count)

    def plan(
        self, graph: Bipartite, row_R: Int[Array, "R"], key: PRNGKeyArray | None = None
    ) -> SampledBlock:
        """What the embeddings of these rows are made of: drawn from the key where uniform."""
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
        """The embeddings of the rows that a plan was made for, from its rows of the table."""
        x = self.inputs.rows(graph.features, block.node_M, table_MD)
        n_rows = block.weight[0].shape[0]
        base_RD = x[:n_rows] if table_MD is None else table_MD[:n_rows]
        for conv, weight_SF in zip(self.convs, reversed(block.weight), strict=True):
            # The last hop's neighbours go into the first layer; what is left is one hop less.
            n_kept, count = weight_SF.shape
            sent_SFD = conv.messages(x[n_kept:]).reshape(n_kept, count, -1)
            x = conv(x[:n_kept], jnp.einsum("sf,sfd->sd", weight_SF, sent_SFD))
        return Nodes(self._head(x), base_RD)

    def rows(
        self, graph: Bipartite, row_R: Int[Array, "R"], key: PRNGKeyArray | None = None
    ) -> Nodes:
        """Embeddings of some rows over sampled neighbours; over all of them without a key."""
        if key is None and self.uniform:
            return Nodes(*(x_ND[row_R] for x_ND in self(graph)))
        block = self.plan(graph, row_R, key)
        table_MD = None if self.embedding is None else self.embedding[...][block.node_M]
        return self.of_block(graph, table_MD, block)

    def __call__(self, graph: Bipartite, key: PRNGKeyArray | None = None) -> Nodes:
        """The embeddings of all nodes, layer by layer, each layer's neighbours without a draw."""
        h_ND = self.layers(graph)
        base_ND = h_ND[0] if self.embedding is None else self.embedding[...]
        return Nodes(self._head(h_ND[-1]), base_ND)

    def hidden(self, graph: Bipartite, row_R: Int[Array, "R"]) -> list[Float[Array, "R _"]]:
        """What each rectified layer gives for some rows."""
        layers = [x_NH[row_R] for x_NH in self.layers(graph)[1:]]
        return [*layers, jax.nn.relu(layers[-1] @ self.head[...] + self.head_bias[...])]

    def layers(self, graph: Bipartite) -> list[Float[Array, "N H"]]:
        """The input of all nodes and the output of each layer."""
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
        """Σ_m α_m x_m over the foremost neighbours of all nodes, in blocks."""
        size = min(_BLOCK, graph.n_nodes)

        def body(i: Array, made_ND: Array) -> Array:
            # The last block begins early enough to be whole; it writes the same values again.
            start = jnp.minimum(i * size, graph.n_nodes - size)
            near = self._near(graph, start + jnp.arange(size, dtype=jnp.int32), count, None)
            pooled = jnp.einsum("rf,rfd->rd", near.weight_RF, sent_ND[near.node_RF])
            return jax.lax.dynamic_update_slice_in_dim(made_ND, pooled, start, 0)

        n_blocks = -(-graph.n_nodes // size)
        return jax.lax.fori_loop(0, n_blocks, body, jnp.zeros_like(sent_ND))

    def embed_items(
        self, graph: Bipartite, x: Encoded, edges: NewEdges, key: PRNGKeyArray
    ) -> Float[Array, "n D"]:
        """Embeddings of items that are not in the graph, which stays as it is.

        Args:
          x: their features, encoded.
          edges: to users of the graph, which random walks begin with.
          key: of the walks.
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
        """The nodes of the graph that random walks from the new items visit most."""
        indptr = jnp.concatenate([graph.indptr, graph.indptr[-1] + users.indptr[1:]])
        both = DeviceCsr(indptr, jnp.concatenate([graph.senders, users.indices]))
        new_n = graph.n_nodes + jnp.arange(n_new, dtype=jnp.int32)
        walks = {"walks": self.walks, "length": self.walk_length, "key": key}
        near = neighbors.most_visited(both, new_n, max(self.fan_outs), **walks)
        # A node that walks do not leave is its own neighbour, of weight 0; it is not in the graph.
        return near._replace(node_RF=jnp.minimum(near.node_RF, graph.n_nodes - 1))


def build(sizes: ModelSizes, config: ModelConfig, rngs: nnx.Rngs, levels: int) -> PinSAGE:
    """PinSAGE of a configuration.

    Args:
      levels: types of edges, of a model that tells them apart.
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
