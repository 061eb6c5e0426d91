"""LightGCN (He et al., SIGIR 2020) and, without layers, matrix factorisation."""

from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int, PRNGKeyArray

from jaxrec.config import ModelConfig
from jaxrec.graph.bipartite import Bipartite, drop_edges
from jaxrec.graph.spmm import Kernel, propagate, sum_of_layers
from jaxrec.models.encoder import Block, Encoder, ModelSizes, Nodes


class LightGraphConv(nnx.Module):
    """Propagation x <- Â x: the symmetrically normalised sum over neighbours."""

    def __init__(self, kernel: Literal["auto"] | Kernel = "auto") -> None:
        self.kernel: Literal["auto"] | Kernel = kernel

    def __call__(self, graph: Bipartite, x_ND: Float[Array, "N D"]) -> Float[Array, "N D"]:
        return propagate(graph, x_ND, self.kernel)


class LightGCN(Encoder):
    """LightGCN: e = Σ_l a_l Â^l e_0 (eq. 4), where e_0 is the table.

    The weights a_l are 1/(L+1) (eq. 8) or learned.

    Args:
      n_users, n_items, dim: U, I and D; the table is [U + I, D], users first.
      layers: number of layers, L; 0 is matrix factorisation.
      init_std: standard deviation of the normal initialisation.
      learned_shares: learn the a_l, starting at 1/(L+1).
      edge_dropout: share of pairs dropped from the graph in each training step.
      frozen_from: table rows from this row number on are not trained; None trains all rows.
      dtype: compute type of the propagation; the sum over layers is float32.

    >>> from jaxrec.data import synthetic
    >>> from jaxrec.graph import bipartite
    >>> graph = bipartite.build(synthetic.make(6, 8, 12, communities=2))
    >>> model = LightGCN(6, 8, dim=4, layers=2, rngs=nnx.Rngs(params=0))
    >>> model(graph).emb_ND.shape
    (14, 4)
    """

    def __init__(
        self,
        n_users: int,
        n_items: int,
        dim: int,
        layers: int = 3,
        *,
        init_std: float = 0.1,
        learned_shares: bool = False,
        edge_dropout: float = 0.0,
        frozen_from: int | None = None,
        kernel: Literal["auto"] | Kernel = "auto",
        dtype: str = "float32",
        rngs: nnx.Rngs,
    ) -> None:
        shape = (n_users + n_items, dim)
        self.embedding = nnx.Param(init_std * jax.random.normal(rngs.params(), shape))
        equal = jnp.full(layers + 1, 1 / (layers + 1))
        self.share = nnx.Param(equal) if learned_shares else None
        self.kernel: Literal["auto"] | Kernel = kernel
        self.edge_dropout, self.frozen_from = edge_dropout, frozen_from
        self.out_dim = dim
        self.convs = nnx.List([LightGraphConv(kernel) for _ in range(layers)])
        self.dtype = jnp.dtype(dtype)

    @property
    def smoothing(self) -> int:
        """The number of layers that smooth the table."""
        return len(self.convs)

    def shares(self) -> Float[Array, "L1"]:
        """Return the layer weights a_0 to a_L."""
        n = len(self.convs) + 1
        return jnp.full(n, 1 / n) if self.share is None else self.share[...]

    def _table(self) -> Float[Array, "N D"]:
        table_ND = self.embedding[...]
        return self._held(table_ND, jnp.arange(table_ND.shape[0], dtype=jnp.int32))

    def _held(self, x_RD: Array, row_R: Array) -> Array:
        """Stop the gradient of the rows that are not trained."""
        if self.frozen_from is None:
            return x_RD
        return jnp.where((row_R >= self.frozen_from)[:, None], jax.lax.stop_gradient(x_RD), x_RD)

    def _graph(self, graph: Bipartite, key: PRNGKeyArray | None) -> Bipartite:
        if key is None or self.edge_dropout == 0:
            return graph
        return drop_edges(graph, key, self.edge_dropout)

    def __call__(self, graph: Bipartite, key: PRNGKeyArray | None = None) -> Nodes:
        """Compute the embeddings of all nodes, with edge dropout if a key is given."""
        graph, share_L = self._graph(graph, key), self.shares()
        base_ND = self._table()
        x_ND = base_ND.astype(self.dtype)
        total_ND = share_L[0] * base_ND
        for layer, conv in enumerate(self.convs, 1):
            x_ND = conv(graph, x_ND)
            total_ND = total_ND + share_L[layer] * x_ND.astype(jnp.float32)
        return Nodes(total_ND, base_ND)

    def rows(
        self, graph: Bipartite, row_R: Int[Array, "R"], key: PRNGKeyArray | None = None
    ) -> Nodes:
        """Compute the embeddings of some rows only, in any order and possibly repeated."""
        graph, table_ND = self._graph(graph, key), self._table()
        kernel, dtype, share_L = self.kernel, self.dtype.name, self.shares()
        return Nodes(*sum_of_layers(graph, table_ND, row_R, share_L, kernel=kernel, dtype=dtype))

    def plan(self, graph: Bipartite, row_R: Int[Array, "R"], key: PRNGKeyArray | None) -> Block:
        """List the table rows that :meth:`of_block` needs; without layers, they are ``row_R``."""
        return Block(row_R)

    def of_block(
        self, graph: Bipartite, table_MD: Float[Array, "M D"] | None, block: Block
    ) -> Nodes:
        """Compute :meth:`rows` from the table rows that :meth:`plan` listed."""
        assert table_MD is not None, "matrix factorisation has a table"
        held_MD = self._held(table_MD, block.node_M)
        return Nodes(held_MD, held_MD)


def build(sizes: ModelSizes, config: ModelConfig, rngs: nnx.Rngs, levels: int) -> LightGCN:
    """Build LightGCN, or matrix factorisation (``mf``), which has no layers.

    Args:
      levels: unused, since LightGCN has one edge type.
    """
    return LightGCN(
        sizes.n_users,
        sizes.n_items,
        config.dim,
        layers=config.layers,
        init_std=config.init_std,
        learned_shares=config.layer_weights == "learned",
        edge_dropout=config.edge_dropout,
        frozen_from=None if config.frozen_items is None else sizes.n_users,
        kernel=config.kernel,
        dtype=config.dtype,
        rngs=rngs,
    )
