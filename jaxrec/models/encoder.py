"""The base class of encoders, and the protocols that the trainer relies on."""

from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int, PRNGKeyArray

from jaxrec.graph.bipartite import Bipartite, Encoded
from jaxrec.graph.csr import DeviceCsr
from jaxrec.graph.rows import take


class Nodes(NamedTuple):
    """An encoder's output for all N nodes, or for R of them.

    Attributes:
      emb_ND: final embeddings, float32; scores are computed from them.
      base_ND: rows of the table, to which L2 applies.
    """

    emb_ND: Float[Array, "N D"]
    base_ND: Float[Array, "N D0"]


def unit_rows(x: Float[Array, "*rows D"]) -> Float[Array, "*rows D"]:
    """Normalise rows to length 1; a row of zeros stays zero and gets a zero gradient."""
    square = jnp.sum(jnp.square(x), axis=-1, keepdims=True)
    return x * jnp.where(square > 0, jax.lax.rsqrt(jnp.where(square > 0, square, 1)), 0)


def looks_linear(
    dim_in: int, dim_out: int, *, mirrored_in: bool, mirrored_out: bool
) -> Float[Array, "{dim_in} {dim_out}"]:
    """Return an initial weight matrix with which stacked ReLU layers compute the identity.

    A mirrored vector holds x and -x, so ReLU loses nothing of x, and the next matrix, [I; -I],
    restores x. If widths differ, surplus columns of x are dropped or surplus outputs are 0.

    Source: Balduzzi et al., "The shattered gradients problem", ICML 2017, section 4 (LL-init).

    Args:
      dim_in, dim_out: widths; the width of a mirrored side must be even.
    """
    half_in, half_out = dim_in // (1 + mirrored_in), dim_out // (1 + mirrored_out)
    made = jnp.eye(half_in, half_out)
    if mirrored_out:
        made = jnp.concatenate([made, -made], axis=1)
    return jnp.concatenate([made, -made]) if mirrored_in else made


class Block(NamedTuple):
    """The table rows from which some final embeddings are computed.

    Attributes:
      node_M: rows, possibly repeated.
    """

    node_M: Int[Array, "M"]


class NewEdges(NamedTuple):
    """Edges from new items to the users of a graph.

    Attributes:
      users: graph rows of each new item's users.
      level_E: type of each edge; all 0 if there is only one type.
    """

    users: DeviceCsr
    level_E: Int[Array, "E"]

    def rows(self) -> Int[Array, "E"]:
        """Return the new item of each edge."""
        place_E = jnp.arange(self.users.indices.shape[0], dtype=jnp.int32)
        return jnp.searchsorted(self.users.indptr, place_E, side="right").astype(jnp.int32) - 1


class ModelSizes(NamedTuple):
    """The sizes for which a model is built.

    Attributes:
      n_users, n_items: U and I; users are numbered before items.
      user_features, item_features: sizes of the encoded features; None for a side without features.
    """

    n_users: int
    n_items: int
    user_features: Any = None
    item_features: Any = None

    @property
    def features(self) -> tuple[Any, Any]:
        """The sizes of the users' and of the items' features."""
        return self.user_features, self.item_features

    @property
    def n_nodes(self) -> int:
        """The number of nodes, N = U + I."""
        return self.n_users + self.n_items


class Encoder(nnx.Module):
    """Base class of all user-item models: maps parameters and a graph to embeddings.

    A custom model defines ``__init__(sizes, config, rngs, **options)`` and :meth:`embed`. The base
    class gathers a batch's rows, scores by dot product or cosine, and applies L2 to the rows of
    ``embedding``. Register the class with ``jaxrec.register_model("name")``, or pass it to
    ``jaxrec.train(data, model=...)``.

    Attributes:
      embedding: the table of id embeddings [N, D0], in the graph's row order; None without ids.
      score, decoder: a learned score, and a decoder of rating levels; set by the trainer if
        configured.
      bias: [N] in the data set's order, or None; set by the trainer if configured.
      out_dim: D, the width of the final embeddings; by default that of ``embedding``.
      smoothing: number of layers that smooth the table, for which a spectral start compensates.

    >>> import jax
    >>> from flax import nnx
    >>> class Table(Encoder):
    ...     def __init__(self, sizes, config, rngs):
    ...         rows = jax.random.normal(rngs.params(), (sizes.n_nodes, config.dim))
    ...         self.embedding = nnx.Param(rows)
    ...
    ...     def embed(self, graph, key=None):
    ...         return self.embedding[...]
    """

    embedding: Any = None
    score: Any = None
    decoder: Any = None
    bias: Any = None
    out_dim: Any = None
    smoothing: Any = 0

    def embed(self, graph: Bipartite, key: PRNGKeyArray | None = None) -> Float[Array, "N D"]:
        """Compute the final embeddings of all nodes, float32, in the graph's row order.

        Args:
          graph: the train pairs, each in both directions.
          key: random key for dropout; only given in training.
        """
        raise NotImplementedError(f"{type(self).__name__} defines no embed(graph, key)")

    def __call__(self, graph: Bipartite, key: PRNGKeyArray | None = None) -> Nodes:
        """Compute the embeddings of all nodes, with the rows to which L2 applies."""
        emb_ND = self.embed(graph, key)
        return Nodes(emb_ND, emb_ND if self.embedding is None else self.embedding[...])

    def rows(
        self, graph: Bipartite, row_R: Int[Array, "R"], key: PRNGKeyArray | None = None
    ) -> Nodes:
        """Compute the embeddings of some rows only, in any order and possibly repeated."""
        return Nodes(*(take(x_ND, row_R) for x_ND in self(graph, key)))


@runtime_checkable
class LocalEncoder(Protocol):
    """An encoder that computes a batch's embeddings from only a few table rows."""

    def plan(self, graph: Bipartite, row_R: Int[Array, "R"], key: PRNGKeyArray | None) -> Any:
        """Select the block from which :meth:`of_block` computes the embeddings of some rows.

        The block's attribute ``node_M`` lists the table rows that it needs.
        """
        ...

    def of_block(self, graph: Bipartite, table_MD: Float[Array, "M D"] | None, block: Any) -> Nodes:
        """Compute :meth:`Encoder.rows` from the table rows that :meth:`plan` listed."""
        ...


@runtime_checkable
class InductiveEncoder(Protocol):
    """An encoder that can embed items unseen in training."""

    def embed_items(
        self, graph: Bipartite, x: Encoded, edges: NewEdges, key: PRNGKeyArray
    ) -> Float[Array, "n D"]:
        """Embed new items from encoded features and edges to users, without changing the graph."""
        ...


@runtime_checkable
class HiddenLayers(Protocol):
    """An encoder whose ReLU layers can be inspected by the doctor."""

    def hidden(self, graph: Bipartite, row_R: Int[Array, "R"]) -> list[Float[Array, "_ _"]]:
        """Compute the output of each ReLU layer for some rows."""
        ...
