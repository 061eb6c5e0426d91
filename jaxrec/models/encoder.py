"""What encoders give, and what the trainer asks of them."""

from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int, PRNGKeyArray

from jaxrec.graph.bipartite import Bipartite, Encoded
from jaxrec.graph.csr import DeviceCsr


class Nodes(NamedTuple):
    """What an encoder gives for all N nodes, or for R rows of them.

    Attributes:
      emb_ND: final embeddings, float32; scores are products of these.
      base_ND: the table's own rows, which L2 is put on.
    """

    emb_ND: Float[Array, "N D"]
    base_ND: Float[Array, "N D0"]


def unit_rows(x: Float[Array, "*rows D"]) -> Float[Array, "*rows D"]:
    """x / |x| by rows; a row of zeros stays zeros, with a gradient of zeros."""
    square = jnp.sum(jnp.square(x), axis=-1, keepdims=True)
    return x * jnp.where(square > 0, jax.lax.rsqrt(jnp.where(square > 0, square, 1)), 0)


def looks_linear(
    dim_in: int, dim_out: int, *, mirrored_in: bool, mirrored_out: bool
) -> Float[Array, "{dim_in} {dim_out}"]:
    """A matrix by which layers of ReLU begin as the identity of their leading columns.

    A mirrored vector holds x and -x: after ReLU nothing of x is lost, and the next matrix, [I; -I],
    gives x again. Where widths differ columns are cut off, or stay 0.

    Source: Balduzzi et al., "The shattered gradients problem", ICML 2017, section 4 (LL-init).

    Args:
      dim_in, dim_out: widths, even where mirrored.
    """
    half_in, half_out = dim_in // (1 + mirrored_in), dim_out // (1 + mirrored_out)
    made = jnp.eye(half_in, half_out)
    if mirrored_out:
        made = jnp.concatenate([made, -made], axis=1)
    return jnp.concatenate([made, -made]) if mirrored_in else made


class Block(NamedTuple):
    """The rows of the table that some final embeddings are made of.

    Attributes:
      node_M: rows, repeats allowed.
    """

    node_M: Int[Array, "M"]


class NewEdges(NamedTuple):
    """Edges from new items to the users of a graph.

    Attributes:
      users: of each new item, rows of the graph.
      level_E: type of each edge; 0 where there is one type.
    """

    users: DeviceCsr
    level_E: Int[Array, "E"]

    def rows(self) -> Int[Array, "E"]:
        """The new item of each edge."""
        place_E = jnp.arange(self.users.indices.shape[0], dtype=jnp.int32)
        return jnp.searchsorted(self.users.indptr, place_E, side="right").astype(jnp.int32) - 1


class ModelSizes(NamedTuple):
    """What a model is made for.

    Attributes:
      n_users, n_items: U and I; node numbers are users first.
      user_features, item_features: sizes of the encoded features; None where a side has none.
    """

    n_users: int
    n_items: int
    user_features: Any = None
    item_features: Any = None

    @property
    def features(self) -> tuple[Any, Any]:
        """Sizes of both sides' features."""
        return self.user_features, self.item_features

    @property
    def n_nodes(self) -> int:
        """N = U + I."""
        return self.n_users + self.n_items


class Encoder(nnx.Module):
    """Parameters and a graph to embeddings: the base class of all models of users and items.

    A model of one's own defines ``__init__(sizes, config, rngs, **options)`` and :meth:`embed`,
    and has all else from here: rows of a batch by gathering, scores by dot product or cosine,
    L2 on the rows of ``embedding``. Register it with ``jaxrec.register_model("name")``, or give the
    class to ``jaxrec.train(data, model=...)``.

    Attributes:
      embedding: the table of the ids' embeddings [N, D0], in the graph's order of rows; None where
        there is none.
      score, decoder: a learned score, and a decoder of rating levels; the trainer sets them where
        the configuration asks for them.
      bias: [N] in the data set's order, or None; set likewise.
      out_dim: D, the width of the final embeddings; that of ``embedding`` where not set.
      smoothing: layers whose mean smooths the table, which a spectral start makes up for.
    """

    embedding: Any = None
    score: Any = None
    decoder: Any = None
    bias: Any = None
    out_dim: Any = None
    smoothing: Any = 0

    def embed(self, graph: Bipartite, key: PRNGKeyArray | None = None) -> Float[Array, "N D"]:
        """The final embeddings of all nodes, float32, in the graph's order of rows.

        Args:
          graph: the train pairs, both directions of each.
          key: for dropout; given in training only.
        """
        raise NotImplementedError(f"{type(self).__name__} defines no embed(graph, key)")

    def __call__(self, graph: Bipartite, key: PRNGKeyArray | None = None) -> Nodes:
        """The embeddings of all nodes with the rows that L2 is put on."""
        emb_ND = self.embed(graph, key)
        return Nodes(emb_ND, emb_ND if self.embedding is None else self.embedding[...])

    def rows(
        self, graph: Bipartite, row_R: Int[Array, "R"], key: PRNGKeyArray | None = None
    ) -> Nodes:
        """Some rows of what a call gives, any order, repeats allowed."""
        return Nodes(*(x_ND[row_R] for x_ND in self(graph, key)))


@runtime_checkable
class LocalEncoder(Protocol):
    """An encoder whose embeddings of a batch are made of few rows of the table."""

    def plan(self, graph: Bipartite, row_R: Int[Array, "R"], key: PRNGKeyArray | None) -> Any:
        """What :meth:`of_block` takes for these rows; ``node_M`` are the table's rows it needs."""
        ...

    def of_block(self, graph: Bipartite, table_MD: Float[Array, "M D"] | None, block: Any) -> Nodes:
        """:meth:`Encoder.rows` from the rows of the table that the plan names."""
        ...


@runtime_checkable
class InductiveEncoder(Protocol):
    """An encoder that embeds items which were not there in training."""

    def embed_items(
        self, graph: Bipartite, x: Encoded, edges: NewEdges, key: PRNGKeyArray
    ) -> Float[Array, "n D"]:
        """Embeddings from encoded features and edges to users; the graph stays as it is."""
        ...


@runtime_checkable
class HiddenLayers(Protocol):
    """An encoder with rectified layers, which the doctor looks into."""

    def hidden(self, graph: Bipartite, row_R: Int[Array, "R"]) -> list[Float[Array, "_ _"]]:
        """What each rectified layer gives for some rows, after the rectifier; 0 for others."""
        ...
