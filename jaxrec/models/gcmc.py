"""GC-MC (van den Berg et al., KDD Deep Learning Day 2018): one convolution a rating level."""

from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int, PRNGKeyArray

from jaxrec.graph.bipartite import Bipartite
from jaxrec.graph.spmm import Kernel, propagate, propagate_rows
from jaxrec.models.decoder import BilinearDecoder
from jaxrec.models.inputs import FeatureSizes, NodeInput
from jaxrec.models.ngcf import keep_mask
from jaxrec.models.nodes import Nodes
from jaxrec.models.score import NeuralScore

_EPSILON = 1e-5  # of batch normalisation


class GCMCConv(nnx.Module):
    """h <- ReLU(Σ_r Â_r (x W_r)): users from their items and items from their users.

    Â_r has the entries of Â at the pairs of rating level r. Messages of users and of items have
    matrices of their own.
    """

    def __init__(self, dim_in: int, dim: int, levels: int, rngs: nnx.Rngs) -> None:
        init = nnx.initializers.xavier_uniform()
        shape = (levels, dim_in, dim)
        self.user = nnx.Param(init(rngs.params(), shape))
        self.item = nnx.Param(init(rngs.params(), shape))

    def messages(self, x_ND: Float[Array, "N D"], n_users: int, level: int) -> Array:
        """x W_r, [N, H]."""
        user_UH = x_ND[:n_users] @ self.user[...][level]
        return jnp.concatenate([user_UH, x_ND[n_users:] @ self.item[...][level]])


class Dense(nnx.Module):
    """x W + b, with parameters for users and for items."""

    def __init__(self, dim_in: int, dim: int, rngs: nnx.Rngs) -> None:
        init = nnx.initializers.xavier_uniform()
        self.weight = nnx.Param(init(rngs.params(), (2, dim_in, dim)))
        self.bias = nnx.Param(jnp.zeros((2, dim)))

    def __call__(
        self, x_RD: Float[Array, "R D"], is_item_R1: Int[Array, "R 1"]
    ) -> Float[Array, "R H"]:
        user_RH, item_RH = (x_RD @ self.weight[...][i] + self.bias[...][i] for i in (0, 1))
        return jnp.where(is_item_R1, item_RH, user_RH)


class GCMC(nnx.Module):
    """z = W_3 h + W_2 ReLU(W_1 f), normalised over each side's nodes where asked for.

    h is what L convolutions make of the input x: the embedding of the id, the encoded features
    f, or their sum (section 2.5 of the paper has features in the dense part alone).

    Args:
      n_users, n_items: U, I.
      dim: D, of the embeddings and the input.
      hidden: H, of h.
      layers: L, 1 in the paper.
      levels: R rating levels, 1 where all pairs are of one type.
      ids: an embedding for each id is part of the input.
      sizes: of the users' and the items' features; None where a side has none.
      batch_norm: z's columns have mean 0 and variance 1 over the users and over the items, then a
        learned scale and shift (Ioffe and Szegedy 2015). Training takes all nodes in every step,
        so no running averages are kept.
      node_dropout: share of the nodes that send nothing in a layer of a training step.
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
        init_std: float = 0.1,
        kernel: Literal["auto"] | Kernel = "auto",
        rngs: nnx.Rngs,
    ) -> None:
        shape = (n_users + n_items, dim)
        made = nnx.Param(init_std * jax.random.normal(rngs.params(), shape)) if ids else None
        self.embedding = made
        self.inputs = NodeInput(n_users, sizes, dim, init_std, rngs)
        self.has_features = any(of is not None for of in sizes)
        widths = [dim, *(hidden for _ in range(layers))]
        self.convs = nnx.List([GCMCConv(d, hidden, levels, rngs) for d in widths[:-1]])
        self.dense = Dense(dim, hidden, rngs) if self.has_features else None
        self.dense_out = Dense(hidden, dim, rngs) if self.has_features else None
        self.out = Dense(hidden, dim, rngs)
        self.scale = nnx.Param(jnp.ones((2, dim))) if batch_norm else None
        self.shift = nnx.Param(jnp.zeros((2, dim))) if batch_norm else None
        self.score: NeuralScore | None = None
        self.decoder: BilinearDecoder | None = None
        self.bias: nnx.Param | None = None
        self.n_users, self.node_dropout = n_users, node_dropout
        self.kernel: Literal["auto"] | Kernel = kernel

    @property
    def out_dim(self) -> int:
        """D."""
        return self.out.bias[...].shape[1]

    def __call__(self, graph: Bipartite, key: PRNGKeyArray | None = None) -> Nodes:
        """The embeddings of all nodes; nodes are dropped where a key is given."""
        return self._nodes(graph, None, key)

    def rows(
        self, graph: Bipartite, row_R: Int[Array, "R"], key: PRNGKeyArray | None = None
    ) -> Nodes:
        """Some rows of what a call gives: without batch normalisation the last layer is computed
        at these alone."""
        if self.scale is not None:
            return Nodes(*(x_ND[row_R] for x_ND in self._nodes(graph, None, key)))
        return self._nodes(graph, row_R, key)

    def _nodes(self, graph: Bipartite, row_R: Array | None, key: PRNGKeyArray | None) -> Nodes:
        table_ND = None if self.embedding is None else self.embedding[...]
        x_ND = self.inputs.all(graph.features, graph.n_nodes, table_ND)
        all_N = jnp.arange(graph.n_nodes, dtype=jnp.int32)
        row = all_N if row_R is None else row_R
        base_RD = (x_ND if table_ND is None else table_ND)[row]
        h = x_ND
        for number, conv in enumerate(self.convs):
            keep_N1 = jnp.ones((1, 1))
            if key is not None and self.node_dropout > 0:
                of_layer = jax.random.fold_in(key, number)
                keep_N1 = keep_mask(of_layer, self.node_dropout, all_N, 1)
            at_rows = row_R if number == len(self.convs) - 1 else None
            h = self._convolved(graph, conv, keep_N1 * h, at_rows)
        is_item_R1 = (row >= self.n_users)[:, None]
        z_RD = self.out(h, is_item_R1)
        if self.dense is not None and self.dense_out is not None:
            encoded_ND = self.inputs.all(graph.features, graph.n_nodes, None)
            own_RH = jax.nn.relu(self.dense(encoded_ND[row], is_item_R1))
            z_RD = z_RD + self.dense_out(own_RH, is_item_R1)
        return Nodes(self._normalised(z_RD), base_RD)

    def _convolved(
        self, graph: Bipartite, conv: GCMCConv, x_ND: Array, row_R: Array | None
    ) -> Array:
        total = jnp.float32(0)
        for level, part in enumerate(graph.levels or (graph,)):
            sent_NH = conv.messages(x_ND, self.n_users, level)
            if row_R is None:
                total = total + propagate(part, sent_NH, self.kernel)
            else:
                total = total + propagate_rows(part, sent_NH, row_R, self.kernel)
        return jax.nn.relu(total)

    def _normalised(self, z_ND: Array) -> Array:
        if self.scale is None or self.shift is None:
            return z_ND
        sides = []
        for i, side in enumerate((z_ND[: self.n_users], z_ND[self.n_users :])):
            mean_D, variance_D = jnp.mean(side, axis=0), jnp.var(side, axis=0)
            unit = (side - mean_D) * jax.lax.rsqrt(variance_D + _EPSILON)
            sides.append(unit * self.scale[...][i] + self.shift[...][i])
        return jnp.concatenate(sides)
