"""Two towers, one for users and one for items (Huang et al., CIKM 2013; Yi et al., RecSys 2019)."""

from itertools import pairwise
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from jaxrec.config import ModelConfig
from jaxrec.graph.bipartite import Bipartite, Encoded, NodeFeatures
from jaxrec.graph.rows import take
from jaxrec.models.encoder import Encoder, ModelSizes, NewEdges, Nodes
from jaxrec.models.inputs import FeatureEncoder, FeatureSizes, taken
from jaxrec.models.ngcf import keep_mask

_ACTIVATIONS = {"relu": jax.nn.relu, "gelu": jax.nn.gelu, "tanh": jnp.tanh}
_FINALS = {"linear": lambda x: x, "relu": jax.nn.relu, "softmax": jax.nn.softmax}
_HE, _GLOROT = nnx.initializers.he_uniform(), nnx.initializers.xavier_uniform()


class TowerBlock(NamedTuple):
    """The table rows from which some embeddings are computed, and the mask of hidden ids."""

    node_M: Int[Array, "M"]
    hidden_M1: Bool[Array, "M 1"] | None


class Tower(nnx.Module):
    """Dense layers over [id embedding ; numbers ; one-hot categories ; multi-hot bags].

    The first layer looks up the rows of categories and bags instead of multiplying.

    Args:
      id_dim: width of the id embeddings; None if ids are no input.
      sizes: sizes of the features; None if there are no features.
      widths: widths of the layers; the last is D.
      activation, final: activation between layers, and activation after the last layer.
      sum_bags: encode bags as multi-hot vectors; if False, as multi-hot vectors scaled to sum 1.
    """

    def __init__(
        self,
        id_dim: int | None,
        sizes: FeatureSizes | None,
        widths: tuple[int, ...],
        *,
        activation: str,
        final: str,
        sum_bags: bool,
        init_std: float,
        rngs: nnx.Rngs,
    ) -> None:
        init = _HE if activation == "relu" else _GLOROT
        first = widths[0]
        made = None if id_dim is None else nnx.Param(init(rngs.params(), (id_dim, first)))
        self.of_id = made
        encoder = None
        if sizes is not None:
            encoder = FeatureEncoder(sizes, first, init_std, rngs, sum_bags=sum_bags)
        self.features = encoder
        self.bias = nnx.Param(jnp.zeros(first)) if sizes is None else None
        shapes = list(pairwise(widths))
        self.weight = nnx.List([nnx.Param(init(rngs.params(), shape)) for shape in shapes])
        self.shift = nnx.List([nnx.Param(jnp.zeros(width)) for width in widths[1:]])
        self.activation, self.final = activation, final

    def first(self, id_nD: Float[Array, "n D0"] | None, x: Encoded | None) -> Float[Array, "n H"]:
        """Compute the first layer before its activation."""
        total_nH = jnp.float32(0) if self.bias is None else self.bias[...]
        if self.features is not None:
            assert x is not None, "the tower takes features"
            total_nH = total_nH + self.features(x)
        if self.of_id is not None:
            assert id_nD is not None, "the tower takes ids"
            total_nH = total_nH + id_nD @ self.of_id[...]
        return total_nH

    def hidden(self, id_nD: Array | None, x: Encoded | None) -> list[Float[Array, "n _"]]:
        """Compute the output of each ReLU layer; the list is empty if there is none."""
        h, found = self.first(id_nD, x), []
        for weight, shift in zip(self.weight, self.shift, strict=True):
            found.append(_ACTIVATIONS[self.activation](h))
            h = found[-1] @ weight[...] + shift[...]
        last = [jax.nn.relu(h)] if self.final == "relu" else []
        return [*(found if self.activation == "relu" else []), *last]

    def __call__(
        self, id_nD: Float[Array, "n D0"] | None, x: Encoded | None
    ) -> Float[Array, "n D"]:
        """Compute embeddings from id embeddings and encoded features."""
        h = self.first(id_nD, x)
        for weight, shift in zip(self.weight, self.shift, strict=True):
            h = _ACTIVATIONS[self.activation](h) @ weight[...] + shift[...]
        return _FINALS[self.final](h)


class Towers(Encoder):
    """One :class:`Tower` for users and one for items, without a graph.

    A node without train pairs has no trained id embedding. With id dropout (DropoutNet, Volkovs et
    al., NeurIPS 2017) it gets the learned embedding of hidden ids. Without id dropout it gets the
    mean id embedding of the trained users, or of the trained items.

    Args:
      n_users, n_items: numbers of users and items, U and I.
      dim: width of the embeddings, D.
      tower_dims: widths of the hidden layers.
      id_dim: width of the id embeddings; None if ids are no input.
      id_dropout: share of ids hidden in a training step.
      sizes: sizes of the users' and items' features; None for a side without features.
      activation, final, sum_bags: as in :class:`Tower`.

    >>> from jaxrec.data import synthetic
    >>> from jaxrec.graph import bipartite
    >>> graph = bipartite.build(synthetic.make(6, 8, 12, communities=2))
    >>> model = Towers(6, 8, dim=4, id_dim=8, rngs=nnx.Rngs(params=0))
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
        tower_dims: tuple[int, ...] = (),
        id_dim: int | None = None,
        id_dropout: float = 0.0,
        sizes: tuple[FeatureSizes | None, FeatureSizes | None] = (None, None),
        activation: Literal["relu", "gelu", "tanh"] = "relu",
        final: Literal["linear", "relu", "softmax"] = "linear",
        sum_bags: bool = False,
        init_std: float = 0.1,
        rngs: nnx.Rngs,
    ) -> None:
        table = unknown = None
        if id_dim is not None:
            shape = (n_users + n_items, id_dim)
            table = nnx.Param(init_std * jax.random.normal(rngs.params(), shape))
            unknown = nnx.Param(jnp.zeros((2, id_dim))) if id_dropout > 0 else None
        self.embedding, self.unknown = table, unknown
        self.user, self.item = (
            Tower(
                id_dim,
                of,
                (*tower_dims, dim),
                activation=activation,
                final=final,
                sum_bags=sum_bags,
                init_std=init_std,
                rngs=rngs,
            )
            for of in sizes
        )
        self.out_dim = dim
        self.n_users, self.id_dropout = n_users, id_dropout

    def __call__(self, graph: Bipartite, key: PRNGKeyArray | None = None) -> Nodes:
        """Compute the embeddings of all nodes, with id dropout if a key is given."""
        row_N = jnp.arange(graph.n_nodes, dtype=jnp.int32)
        table_ND = None if self.embedding is None else self.embedding[...]
        id_ND = self._shown(graph, row_N, table_ND, self._hidden(row_N, key))
        if id_ND is not None and self.unknown is None and key is None:
            unmet_N1 = graph.degree_N[:, None] == 0
            id_ND = jnp.where(unmet_N1, take(self._unknown(graph), self._side(row_N)), id_ND)
        return self._whole(graph, table_ND, id_ND)

    def rows(
        self, graph: Bipartite, row_R: Int[Array, "R"], key: PRNGKeyArray | None = None
    ) -> Nodes:
        """Compute the embeddings of some rows only, for training.

        Without id dropout, nodes without train pairs use their own id embedding here.
        """
        table_ND = None if self.embedding is None else self.embedding[...]
        if row_R.shape[0] < graph.n_nodes:
            block = self.plan(graph, row_R, key)
            table_RD = None if table_ND is None else take(table_ND, row_R)
            return self.of_block(graph, table_RD, block)
        row_N = jnp.arange(graph.n_nodes, dtype=jnp.int32)
        id_ND = self._shown(graph, row_N, table_ND, self._hidden(row_N, key))
        return Nodes(*(take(x_ND, row_R) for x_ND in self._whole(graph, table_ND, id_ND)))

    def hidden(self, graph: Bipartite, row_R: Int[Array, "R"]) -> list[Float[Array, "_ _"]]:
        """Compute the outputs of each tower's ReLU layers; nodes outside ``row_R`` get 0."""
        table_ND = None if self.embedding is None else self.embedding[...]
        id_ND = self._shown(graph, jnp.arange(graph.n_nodes, dtype=jnp.int32), table_ND, None)
        ids = (None, None) if id_ND is None else jnp.split(id_ND, [self.n_users])
        user, item = graph.features or NodeFeatures(None, None)
        wanted_N = jnp.zeros(graph.n_nodes, bool).at[row_R].set(True)
        found = []
        sides = (self.user, ids[0], user), (self.item, ids[1], item)
        for (tower, own, x), of in zip(sides, jnp.split(wanted_N, [self.n_users]), strict=True):
            found += [jnp.where(of[:, None], h, 0) for h in tower.hidden(own, x)]
        return found

    def plan(
        self, graph: Bipartite, row_R: Int[Array, "R"], key: PRNGKeyArray | None
    ) -> TowerBlock:
        """List the table rows and the hidden ids that :meth:`of_block` needs for some rows."""
        return TowerBlock(row_R, self._hidden(row_R, key))

    def of_block(
        self, graph: Bipartite, table_MD: Float[Array, "M D"] | None, block: TowerBlock
    ) -> Nodes:
        """Compute :meth:`rows` from the table rows that :meth:`plan` listed."""
        row_M = block.node_M
        id_MD = self._shown(graph, row_M, table_MD, block.hidden_M1)
        features = graph.features or NodeFeatures(None, None)
        user = None if features.user is None else taken(features.user, row_M)
        item = None if features.item is None else taken(features.item, row_M - self.n_users)
        is_user_M1 = (row_M < self.n_users)[:, None]
        # Shapes are static, so each row passes through both towers, and one result is discarded.
        emb_MD = jnp.where(is_user_M1, self.user(id_MD, user), self.item(id_MD, item))
        if table_MD is not None:
            return Nodes(emb_MD, table_MD)
        return Nodes(
            emb_MD, jnp.where(is_user_M1, self.user.first(None, user), self.item.first(None, item))
        )

    def embed_items(
        self, graph: Bipartite, x: Encoded, edges: NewEdges, key: PRNGKeyArray
    ) -> Float[Array, "n D"]:
        """Embed items that are not in the graph from their encoded features."""
        id_nD = None
        if self.embedding is not None:
            row_D = self._unknown(graph)[1]
            id_nD = jnp.broadcast_to(row_D, (x.number.shape[0], row_D.shape[0]))
        return self.item(id_nD, x)

    def _whole(self, graph: Bipartite, table_ND: Array | None, id_ND: Array | None) -> Nodes:
        """Compute the embeddings of all nodes, with one tower for users and one for items."""
        user, item = graph.features or NodeFeatures(None, None)
        ids = (None, None) if id_ND is None else jnp.split(id_ND, [self.n_users])
        sides = (self.user, ids[0], user), (self.item, ids[1], item)
        emb_ND = jnp.concatenate([tower(own, x) for tower, own, x in sides])
        if table_ND is not None:
            return Nodes(emb_ND, table_ND)
        return Nodes(emb_ND, jnp.concatenate([tower.first(own, x) for tower, own, x in sides]))

    def _side(self, row: Int[Array, "R"]) -> Int[Array, "R"]:
        return (row >= self.n_users).astype(jnp.int32)

    def _hidden(self, row: Int[Array, "R"], key: PRNGKeyArray | None) -> Bool[Array, "R 1"] | None:
        if key is None or self.id_dropout == 0:
            return None
        return keep_mask(key, self.id_dropout, row, 1) == 0

    def _shown(
        self, graph: Bipartite, row_R: Array, table_RD: Array | None, hidden_R1: Array | None
    ) -> Array | None:
        """Return id embeddings, with the learned embedding in place of hidden and untrained ids."""
        if table_RD is None or self.unknown is None:
            return table_RD
        unmet_R1 = graph.degree_N[row_R][:, None] == 0
        gone_R1 = unmet_R1 if hidden_R1 is None else unmet_R1 | hidden_R1
        return jnp.where(gone_R1, take(self.unknown[...], self._side(row_R)), table_RD)

    def _unknown(self, graph: Bipartite) -> Float[Array, "2 D0"]:
        """Return the id embeddings used for a user and for an item unseen in training."""
        assert self.embedding is not None
        if self.unknown is not None:
            return self.unknown[...]
        met_N1 = (graph.degree_N > 0).astype(jnp.float32)[:, None]
        means = []
        for side in (slice(self.n_users), slice(self.n_users, None)):
            total_D = jnp.sum(met_N1[side] * self.embedding[...][side], axis=0)
            means.append(total_D / jnp.maximum(jnp.sum(met_N1[side]), 1))
        return jnp.stack(means)


def build(sizes: ModelSizes, config: ModelConfig, rngs: nnx.Rngs, levels: int) -> Towers:
    """Build two towers from a configuration.

    Args:
      levels: unused, since towers have no edges.
    """
    return Towers(
        sizes.n_users,
        sizes.n_items,
        config.dim,
        tower_dims=config.tower_dims,
        id_dim=(config.id_dim or config.dim) if config.ids else None,
        id_dropout=config.id_dropout,
        sizes=sizes.features,
        activation=config.activation,
        final=config.final,
        sum_bags=config.bags == "sum",
        init_std=config.init_std,
        rngs=rngs,
    )
