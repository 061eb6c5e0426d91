"""NGCF in two forms: that of the paper (Wang et al., SIGIR 2019) and that of the CS224W lecture."""

from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int, PRNGKeyArray

from jaxrec import hashed_random
from jaxrec.config import ModelConfig
from jaxrec.graph.bipartite import Bipartite
from jaxrec.graph.rows import take
from jaxrec.graph.spmm import Kernel, propagate, propagate_rows
from jaxrec.models.encoder import Encoder, ModelSizes, Nodes

_SLOPE = 0.2  # negative slope of LeakyReLU in the authors' code


def mean_scales(graph: Bipartite) -> tuple[Float[Array, "N 1"], Float[Array, "N 1"]]:
    """Return scales (before, after) that turn Â into a mean over neighbours.

    D^-1 A x = after · Â (before · x).
    """
    return jnp.sqrt(graph.degree_N)[:, None], graph.inverse_root_degree[:, None]


def keep_mask(
    key: PRNGKeyArray, rate: float, row_R: Int[Array, "R"], width: int
) -> Float[Array, "R width"]:
    """Return a dropout mask: 0 for a random share ``rate`` of the entries, else 1/(1-rate).

    An entry depends only on (key, row, column), so a row's mask is the same in every batch.
    """
    first, second = jax.random.bits(key, (2,))
    row_R1 = hashed_random.mix(row_R.astype(jnp.uint32) + first)[:, None]
    column_W = jnp.arange(width, dtype=jnp.uint32) * jnp.uint32(0x9E3779B9) + second
    return jnp.where(hashed_random.uniform(row_R1 + column_W) < rate, 0, 1 / (1 - rate))


class NGCFConv(nnx.Module):
    """One layer, computed from a node's input x and an aggregate s of its neighbours' inputs.

    paper (eq. 7): LeakyReLU((s + x) W1 + (s * x) W2), where s is the symmetrically normalised sum.
    lecture: ReLU(Linear(Concat(x, s))), where s is the mean.
    """

    def __init__(
        self, dim: int, form: Literal["paper", "lecture"], rngs: nnx.Rngs, *, linear: bool = False
    ) -> None:
        self.form = form
        init = nnx.initializers.xavier_uniform()
        self.first = nnx.Param(init(rngs.params(), (dim, dim)))
        self.second = nnx.Param(init(rngs.params(), (dim, dim)))
        self.bias = nnx.Param(jnp.zeros(dim)) if form == "lecture" else None
        if linear:
            self.first[...], self.second[...] = jnp.eye(dim), jnp.zeros((dim, dim))

    def __call__(
        self, x_RD: Float[Array, "R D"], sent_RD: Float[Array, "R D"]
    ) -> Float[Array, "R D"]:
        first, second = (w[...].astype(x_RD.dtype) for w in (self.first, self.second))
        if self.bias is None:
            total = (sent_RD + x_RD) @ first + (sent_RD * x_RD) @ second
            return jax.nn.leaky_relu(total, _SLOPE)
        return jax.nn.relu(x_RD @ first + sent_RD @ second + self.bias[...].astype(x_RD.dtype))


class NGCF(Encoder):
    """NGCF: L layers of :class:`NGCFConv` over an embedding table.

    The form of the paper concatenates the table and all layers (eq. 9), to width D(L+1). The form
    of the lecture returns the last layer, of width D.

    Args:
      n_users, n_items: numbers of users and items, U and I.
      dim: width of the table and of each layer, D.
      layers: number of layers, L.
      form: "paper" or "lecture".
      init_std: standard deviation of the table's normal initialisation.
      linear: start with W1 = I and W2 = 0, so that a layer of the paper's form is
        LeakyReLU(s + x); otherwise use Xavier initialisation.
      node_dropout: share of nodes whose messages are dropped in a layer during training.
      message_dropout: dropout rate of a layer's output.
      dtype: compute type of the layers.

    >>> from jaxrec.data import synthetic
    >>> from jaxrec.graph import bipartite
    >>> graph = bipartite.build(synthetic.make(6, 8, 12, communities=2))
    >>> model = NGCF(6, 8, dim=4, layers=2, rngs=nnx.Rngs(params=0))
    >>> model(graph).emb_ND.shape
    (14, 12)
    """

    smoothing = 0  # a spectral start does not compensate for layers

    def __init__(
        self,
        n_users: int,
        n_items: int,
        dim: int,
        layers: int,
        *,
        form: Literal["paper", "lecture"] = "paper",
        linear: bool = False,
        init_std: float = 0.1,
        node_dropout: float = 0.0,
        message_dropout: float = 0.0,
        kernel: Literal["auto"] | Kernel = "auto",
        dtype: str = "float32",
        rngs: nnx.Rngs,
    ) -> None:
        shape = (n_users + n_items, dim)
        self.embedding = nnx.Param(init_std * jax.random.normal(rngs.params(), shape))
        self.convs = nnx.List([NGCFConv(dim, form, rngs, linear=linear) for _ in range(layers)])
        self.form = form
        self.out_dim = dim * (layers + 1) if form == "paper" else dim
        self.node_dropout, self.message_dropout = node_dropout, message_dropout
        self.kernel: Literal["auto"] | Kernel = kernel
        self.dtype = jnp.dtype(dtype)

    def __call__(self, graph: Bipartite, key: PRNGKeyArray | None = None) -> Nodes:
        """Compute the embeddings of all nodes, with dropout if a key is given."""
        return self._nodes(graph, None, key)

    def rows(
        self, graph: Bipartite, row_R: Int[Array, "R"], key: PRNGKeyArray | None = None
    ) -> Nodes:
        """Compute the embeddings of some rows only, and evaluate the last layer only for them."""
        return self._nodes(graph, row_R, key)

    def _nodes(self, graph: Bipartite, row_R: Array | None, key: PRNGKeyArray | None) -> Nodes:
        before_N1, after_N1 = jnp.ones((1, 1)), jnp.ones((1, 1))
        if self.form == "lecture":
            before_N1, after_N1 = mean_scales(graph)
        all_N = jnp.arange(graph.n_nodes, dtype=jnp.int32)

        def taken(x_ND: Array) -> Array:
            return x_ND if row_R is None else take(x_ND, row_R)

        base_ND = self.embedding[...]
        x_ND, layers = base_ND.astype(self.dtype), [taken(base_ND)]
        for number, conv in enumerate(self.convs):
            at_rows = row_R is not None and number == len(self.convs) - 1
            node_key = message_key = None
            if key is not None:
                node_key, message_key = jax.random.split(jax.random.fold_in(key, number))
            sent_ND = (before_N1 * x_ND.astype(jnp.float32)).astype(self.dtype)
            if node_key is not None and self.node_dropout > 0:
                sent_ND *= keep_mask(node_key, self.node_dropout, all_N, 1).astype(self.dtype)
            if at_rows:
                assert row_R is not None
                row, after = row_R, after_N1 if after_N1.shape[0] == 1 else after_N1[row_R]
                here, got = take(x_ND, row_R), propagate_rows(graph, sent_ND, row_R, self.kernel)
            else:
                row, after, here = all_N, after_N1, x_ND
                got = propagate(graph, sent_ND, self.kernel)
            x_ND = conv(here, (after * got.astype(jnp.float32)).astype(self.dtype))
            if message_key is not None and self.message_dropout > 0:
                mask = keep_mask(message_key, self.message_dropout, row, x_ND.shape[1])
                x_ND *= mask.astype(self.dtype)
            layers.append((x_ND if at_rows else taken(x_ND)).astype(jnp.float32))
        final = jnp.concatenate(layers, axis=1) if self.form == "paper" else layers[-1]
        return Nodes(final, layers[0])


def build(sizes: ModelSizes, config: ModelConfig, rngs: nnx.Rngs, levels: int) -> NGCF:
    """Build NGCF from a configuration.

    Args:
      levels: unused, since NGCF has one edge type.
    """
    return NGCF(
        sizes.n_users,
        sizes.n_items,
        config.dim,
        config.layers,
        form=config.form,
        linear=config.matrices == "linear",
        init_std=config.init_std,
        node_dropout=config.node_dropout,
        message_dropout=config.message_dropout,
        kernel=config.kernel,
        dtype=config.dtype,
        rngs=rngs,
    )
