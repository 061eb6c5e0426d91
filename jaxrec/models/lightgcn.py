"""LightGCN (He et al., SIGIR 2020) and, with no layers, matrix factorisation."""

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from jaxrec.graph.bipartite import Bipartite
from jaxrec.graph.spmm import Kernel, mean_of_layers, propagate


class Nodes(NamedTuple):
    """What an encoder gives for all N nodes, or for R rows of them.

    Attributes:
      emb_ND: final embeddings, float32; scores are products of these.
      base_ND: the table's own rows, which L2 is put on.
    """

    emb_ND: Float[Array, "N D"]
    base_ND: Float[Array, "N D"]


class LightGraphConv(nnx.Module):
    """x <- Â x: neighbourhood sum with symmetric normalisation, no weights, no nonlinearity."""

    def __init__(self, kernel: Literal["auto"] | Kernel = "auto") -> None:
        self.kernel: Literal["auto"] | Kernel = kernel

    def __call__(self, graph: Bipartite, x_ND: Float[Array, "N D"]) -> Float[Array, "N D"]:
        return propagate(graph, x_ND, self.kernel)


class LightGCN(nnx.Module):
    """e = 1/(L+1) Σ_l Â^l e_0 (eq. 8 with equal layer weights); e_0 is the only parameter.

    Args:
      n_users, n_items, dim: U, I and D; the table is [U + I, D], users first.
      layers: L; 0 is matrix factorisation.
      init_std: standard deviation of the normal initialisation.
      dtype: compute type of the propagation; the mean over layers is float32.
    """

    def __init__(
        self,
        n_users: int,
        n_items: int,
        dim: int,
        layers: int = 3,
        *,
        init_std: float = 0.1,
        kernel: Literal["auto"] | Kernel = "auto",
        dtype: str = "float32",
        rngs: nnx.Rngs,
    ) -> None:
        shape = (n_users + n_items, dim)
        self.embedding = nnx.Param(init_std * jax.random.normal(rngs.params(), shape))
        self.kernel: Literal["auto"] | Kernel = kernel
        self.convs = nnx.List([LightGraphConv(kernel) for _ in range(layers)])
        self.dtype = jnp.dtype(dtype)

    def __call__(self, graph: Bipartite) -> Nodes:
        base_ND = self.embedding[...]
        x_ND = base_ND.astype(self.dtype)
        total_ND = base_ND
        for conv in self.convs:
            x_ND = conv(graph, x_ND)
            total_ND = total_ND + x_ND.astype(jnp.float32)
        return Nodes(total_ND / (len(self.convs) + 1), base_ND)

    def rows(self, graph: Bipartite, row_R: Int[Array, "R"]) -> Nodes:
        """Some rows of what a call gives, any order, repeats allowed: for less than all cost."""
        table_ND, kernel, dtype = self.embedding[...], self.kernel, self.dtype.name
        layers = len(self.convs)
        return Nodes(*mean_of_layers(graph, table_ND, row_R, layers, kernel=kernel, dtype=dtype))
