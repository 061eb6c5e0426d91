"""What encoders give, and what the trainer asks of them."""

from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
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


@runtime_checkable
class Encoder(Protocol):
    """Parameters and a graph to embeddings. A key is given in training only, for dropout."""

    embedding: Any
    score: Any  # a NeuralScore, or None
    decoder: Any  # a BilinearDecoder, or None
    bias: Any  # [N] in the data set's order, or None
    out_dim: int  # width of the final embeddings

    @property
    def smoothing(self) -> int:
        """Layers whose mean smooths the table, which a spectral start makes up for."""
        ...

    def __call__(self, graph: Bipartite, key: PRNGKeyArray | None = None) -> Nodes: ...

    def rows(
        self, graph: Bipartite, row_R: Int[Array, "R"], key: PRNGKeyArray | None = None
    ) -> Nodes:
        """Some rows of what a call gives, any order, repeats allowed."""
        ...


@runtime_checkable
class LocalEncoder(Encoder, Protocol):
    """An encoder whose embeddings of a batch are made of few rows of the table."""

    def plan(self, graph: Bipartite, row_R: Int[Array, "R"], key: PRNGKeyArray | None) -> Any:
        """What :meth:`of_block` takes for these rows; ``node_M`` are the table's rows it needs."""
        ...

    def of_block(self, graph: Bipartite, table_MD: Float[Array, "M D"] | None, block: Any) -> Nodes:
        """:meth:`Encoder.rows` from the rows of the table that the plan names."""
        ...


@runtime_checkable
class InductiveEncoder(Encoder, Protocol):
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
