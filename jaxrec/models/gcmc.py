"""GC-MC (van den Berg et al., KDD Deep Learning Day 2018): one convolution per rating level."""

from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from jaxrec.config import ModelConfig
from jaxrec.graph.bipartite import Bipartite, Encoded
from jaxrec.graph.rows import by_sort, take
from jaxrec.graph.spmm import Kernel, propagate, propagate_rows
from jaxrec.models.encoder import Encoder, ModelSizes, NewEdges, Nodes, looks_linear
from jaxrec.models.inputs import FeatureSizes, NodeInput, of_features
from jaxrec.models.ngcf import keep_mask

_EPSILON = 1e-5  # is added to the variance in batch normalisation


class GCMCConv(nnx.Module):
    """Convolution h <- ReLU(Σ_r Â_r (x W_r)) of users over their items and items over their users.

    Â_r holds the entries of Â for pairs of rating level r. Users and items have separate matrices
    W_r.
    """

    def __init__(
        self, dim_in: int, dim: int, levels: int, rngs: nnx.Rngs, *, linear: bool, first: bool
    ) -> None:
        init = nnx.initializers.xavier_uniform()
        shape = (levels, dim_in, dim)
        self.user = nnx.Param(init(rngs.params(), shape))
        self.item = nnx.Param(init(rngs.params(), shape))
        if linear:
            like = looks_linear(dim_in, dim, mirrored_in=not first, mirrored_out=True)
            for of_side in (self.user, self.item):  # each side gets a separate buffer
                of_side[...] = jnp.tile(like, (levels, 1, 1))

    def messages(self, x_ND: Float[Array, "N D"], n_users: int, level: int) -> Array:
        """Compute x W_r, [N, H], for rating level r = ``level``."""
        user_UH = x_ND[:n_users] @ self.user[...][level]
        return jnp.concatenate([user_UH, x_ND[n_users:] @ self.item[...][level]])

    def received(
        self, sum_RD: Float[Array, "R D"], row_R: Int[Array, "R"] | None, n_users: int, level: int
    ) -> Float[Array, "R H"]:
        """Compute (Â_r x) W_r from the rows ``row_R`` of Â_r x, or from all rows if None.

        The rows of users are multiplied by the items' W_r, and the rows of items by the users' W_r.
        """
        of_user, of_item = self.user[...][level], self.item[...][level]
        if row_R is None:
            return jnp.concatenate([sum_RD[:n_users] @ of_item, sum_RD[n_users:] @ of_user])
        return jnp.where((row_R >= n_users)[:, None], sum_RD @ of_user, sum_RD @ of_item)


class Dense(nnx.Module):
    """Dense layer x W + b with separate parameters for users and items."""

    def __init__(self, dim_in: int, dim: int, rngs: nnx.Rngs) -> None:
        init = nnx.initializers.xavier_uniform()
        self.weight = nnx.Param(init(rngs.params(), (2, dim_in, dim)))
        self.bias = nnx.Param(jnp.zeros((2, dim)))

    def __call__(
        self, x_RD: Float[Array, "R D"], is_item_R1: Bool[Array, "#R 1"]
    ) -> Float[Array, "R H"]:
        user_RH, item_RH = (x_RD @ self.weight[...][i] + self.bias[...][i] for i in (0, 1))
        return jnp.where(is_item_R1, item_RH, user_RH)


class GCMC(Encoder):
    """GC-MC: z = W_3 h + W_2 ReLU(W_1 f), optionally with batch normalisation per side.

    h is the output of L convolutions of the input x. The input is the id's embedding, the encoded
    features f, or the sum of both. In section 2.5 of the paper, features enter only the dense part.

    Args:
      n_users, n_items: numbers of users and items, U and I.
      dim: width of the embeddings and the input, D.
      hidden: width of h, H.
      layers: number of convolutions, L; 1 in the paper.
      levels: number of rating levels, R; 1 if all pairs are of one type.
      ids: whether the input includes an embedding of each id.
      sizes: sizes of the users' and items' features; None for a side without features.
      batch_norm: normalise z's columns to mean 0 and variance 1 over the users and over the items,
        then scale and shift (Ioffe and Szegedy 2015). Every step computes all nodes, so running
        averages are not needed.
      node_dropout: share of nodes whose messages are dropped in a layer during training.
      linear: start with h = Σ_r Â_r x, mirrored (see :func:`looks_linear`), and with a W_3 that
        undoes the mirroring; otherwise use Xavier initialisation.

    >>> from jaxrec.data import synthetic
    >>> from jaxrec.graph import bipartite
    >>> graph = bipartite.build(synthetic.make(6, 8, 12, communities=2))
    >>> model = GCMC(6, 8, dim=4, hidden=8, rngs=nnx.Rngs(params=0))
    >>> model(graph).emb_ND.shape
    (14, 4)
    """

    smoothing = 0

    def __init__(
        self,
        n_users: int,
        n_items: int,
        dim: int,
        *,
        hidden: int,
        layers: int = 1,
        levels: int = 1,
        ids: bool = True,
        sizes: tuple[FeatureSizes | None, FeatureSizes | None] = (None, None),
        batch_norm: bool = False,
        node_dropout: float = 0.0,
        linear: bool = False,
        init_std: float = 0.1,
        kernel: Literal["auto"] | Kernel = "auto",
        rngs: nnx.Rngs,
    ) -> None:
        shape = (n_users + n_items, dim)
        made = nnx.Param(init_std * jax.random.normal(rngs.params(), shape)) if ids else None
        self.embedding = made
        self.inputs = NodeInput(n_users, sizes, dim, init_std, rngs)
        has_features = any(of is not None for of in sizes)
        widths = [dim, *(hidden for _ in range(layers))]
        convs = [
            GCMCConv(d, hidden, levels, rngs, linear=linear, first=number == 0)
            for number, d in enumerate(widths[:-1])
        ]
        self.convs = nnx.List(convs)
        self.dense = Dense(dim, hidden, rngs) if has_features else None
        self.dense_out = Dense(hidden, dim, rngs) if has_features else None
        self.out = Dense(hidden, dim, rngs)
        if linear:
            like = looks_linear(hidden, dim, mirrored_in=True, mirrored_out=False)
            self.out.weight[...] = jnp.tile(like, (2, 1, 1))
        self.scale = nnx.Param(jnp.ones((2, dim))) if batch_norm else None
        self.shift = nnx.Param(jnp.zeros((2, dim))) if batch_norm else None
        self.out_dim = dim
        self.n_users, self.node_dropout = n_users, node_dropout
        self.kernel: Literal["auto"] | Kernel = kernel

    def __call__(self, graph: Bipartite, key: PRNGKeyArray | None = None) -> Nodes:
        """Compute the embeddings of all nodes, with node dropout if a key is given."""
        return self._nodes(graph, None, key)

    def rows(
        self, graph: Bipartite, row_R: Int[Array, "R"], key: PRNGKeyArray | None = None
    ) -> Nodes:
        """Compute the embeddings of some rows only.

        Without batch normalisation, the last layer is evaluated at these rows only.
        """
        if self.scale is not None:
            return Nodes(*(take(x_ND, row_R) for x_ND in self._nodes(graph, None, key)))
        return self._nodes(graph, row_R, key)

    def _nodes(self, graph: Bipartite, row_R: Array | None, key: PRNGKeyArray | None) -> Nodes:
        table_ND = None if self.embedding is None else self.embedding[...]
        all_N = jnp.arange(graph.n_nodes, dtype=jnp.int32)
        row = all_N if row_R is None else row_R

        def taken(x_ND: Array) -> Array:
            # Unless on a GPU, gather even if all rows are taken, because without the gather the
            # results would differ in the last bits from those of earlier versions.
            return x_ND if row_R is None and by_sort() else take(x_ND, row)

        layers = self._layers(graph, row_R, key)
        base_RD = taken(layers[0] if table_ND is None else table_ND)
        encoded_RD = None
        if self.dense is not None:
            encoded_RD = taken(self.inputs.all(graph.features, graph.n_nodes, None))
        z_RD = self._head(layers[-1], encoded_RD, (row >= self.n_users)[:, None])
        return Nodes(self._normalised(z_RD), base_RD)

    def _layers(
        self, graph: Bipartite, row_R: Array | None = None, key: PRNGKeyArray | None = None
    ) -> list[Array]:
        """Compute the input and each layer's output for all nodes.

        If ``row_R`` is given, the last layer is evaluated at these rows only.
        """
        table_ND = None if self.embedding is None else self.embedding[...]
        found = [self.inputs.all(graph.features, graph.n_nodes, table_ND)]
        all_N = jnp.arange(graph.n_nodes, dtype=jnp.int32)
        for number, conv in enumerate(self.convs):
            keep_N1 = jnp.ones((1, 1))
            if key is not None and self.node_dropout > 0:
                of_layer = jax.random.fold_in(key, number)
                keep_N1 = keep_mask(of_layer, self.node_dropout, all_N, 1)
            at_rows = row_R if number == len(self.convs) - 1 else None
            found.append(self._convolved(graph, conv, keep_N1 * found[-1], at_rows))
        return found

    def _convolved(
        self, graph: Bipartite, conv: GCMCConv, x_ND: Array, row_R: Array | None
    ) -> Array:
        # As Â (x W) = (Â x) W, the narrower of x and x W is propagated, which is cheaper.
        levels, dim_in, dim_out = conv.user.shape
        total = jnp.float32(0)
        for level, part in zip(range(levels), graph.levels or (graph,), strict=True):
            sent_N = x_ND
            if dim_in > dim_out:
                sent_N = conv.messages(x_ND, self.n_users, level)
            if row_R is None:
                got_R = propagate(part, sent_N, self.kernel)
            else:
                got_R = propagate_rows(part, sent_N, row_R, self.kernel)
            if dim_in <= dim_out:
                got_R = conv.received(got_R, row_R, self.n_users, level)
            total = total + got_R
        return jax.nn.relu(total)

    def hidden(self, graph: Bipartite, row_R: Int[Array, "R"]) -> list[Float[Array, "R _"]]:
        """Compute the output of each ReLU layer for some rows."""
        layers = self._layers(graph, row_R)
        found = [*(x_NH[row_R] for x_NH in layers[1:-1]), layers[-1]]
        if self.dense is not None:
            encoded_RD = self.inputs.all(graph.features, graph.n_nodes, None)[row_R]
            is_item_R1 = (row_R >= self.n_users)[:, None]
            found.append(jax.nn.relu(self.dense(encoded_RD, is_item_R1)))
        return found

    def _head(self, h_RH: Array, encoded_RD: Array | None, is_item_R1: Array) -> Array:
        z_RD = self.out(h_RH, is_item_R1)
        if self.dense is None or self.dense_out is None or encoded_RD is None:
            return z_RD
        own_RH = jax.nn.relu(self.dense(encoded_RD, is_item_R1))
        return z_RD + self.dense_out(own_RH, is_item_R1)

    def _normalised(self, z_ND: Array) -> Array:
        if self.scale is None:
            return z_ND
        users, items = z_ND[: self.n_users], z_ND[self.n_users :]
        return jnp.concatenate([self._unit(users, users, 0), self._unit(items, items, 1)])

    def _unit(self, z_RD: Array, of_ND: Array, side: int) -> Array:
        """Normalise z by the mean and variance of ``of_ND``, then scale and shift it."""
        if self.scale is None or self.shift is None:
            return z_RD
        mean_D, variance_D = jnp.mean(of_ND, axis=0), jnp.var(of_ND, axis=0)
        unit_RD = (z_RD - mean_D) * jax.lax.rsqrt(variance_D + _EPSILON)
        return unit_RD * self.scale[...][side] + self.shift[...][side]

    def embed_items(
        self, graph: Bipartite, x: Encoded, edges: NewEdges, key: PRNGKeyArray
    ) -> Float[Array, "n D"]:
        """Embed items that are not in the graph, without changing it.

        Args:
          x: the items' encoded features.
          edges: edges from the items to users of the graph.
          key: unused.
        """
        layers = self._layers(graph)
        encoded_nD = h_nH = self.inputs.of_items(x)
        degree_n = jnp.diff(edges.users.indptr).astype(jnp.float32)
        row_E, user_E = edges.rows(), edges.users.indices
        weight_E = graph.inverse_root_degree[user_E] * jax.lax.rsqrt(degree_n[row_E])
        for conv, x_ND in zip(self.convs, layers[:-1], strict=True):
            sent = [conv.messages(x_ND, self.n_users, r) for r in range(len(graph.levels or (0,)))]
            sent_EH = jnp.stack(sent)[edges.level_E, user_E] * weight_E[:, None]
            h_nH = jax.nn.relu(jax.ops.segment_sum(sent_EH, row_E, h_nH.shape[0]))
        is_item_11 = jnp.ones((1, 1), bool)
        z_nD = self._head(h_nH, encoded_nD, is_item_11)
        # Inductive models have no ids, so layers[0] holds the encoded features of known items.
        known_ID, known_IH = (x_ND[self.n_users :] for x_ND in (layers[0], layers[-1]))
        return self._unit(z_nD, self._head(known_IH, known_ID, is_item_11), 1)


def build(sizes: ModelSizes, config: ModelConfig, rngs: nnx.Rngs, levels: int) -> GCMC:
    """Build GC-MC from a configuration.

    Args:
      levels: number of edge types.
    """
    return GCMC(
        sizes.n_users,
        sizes.n_items,
        config.dim,
        layers=config.layers,
        levels=levels,
        batch_norm=config.batch_norm,
        node_dropout=config.node_dropout,
        rngs=rngs,
        **of_features(config, sizes),
    )
