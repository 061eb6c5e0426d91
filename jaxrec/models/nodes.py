"""What encoders give, and what the trainer asks of them."""

from typing import Any, NamedTuple, Protocol, runtime_checkable

from jaxtyping import Array, Float, Int, PRNGKeyArray

from jaxrec.graph.bipartite import Bipartite


class Nodes(NamedTuple):
    """What an encoder gives for all N nodes, or for R rows of them.

    Attributes:
      emb_ND: final embeddings, float32; scores are products of these.
      base_ND: the table's own rows, which L2 is put on.
    """

    emb_ND: Float[Array, "N D"]
    base_ND: Float[Array, "N D0"]


class Block(NamedTuple):
    """The rows of the table that some final embeddings are made of.

    Attributes:
      node_M: rows, repeats allowed.
    """

    node_M: Int[Array, "M"]


@runtime_checkable
class Encoder(Protocol):
    """Parameters and a graph to embeddings. A key is given in training only, for dropout."""

    embedding: Any
    score: Any  # a NeuralScore, or None
    decoder: Any  # a BilinearDecoder, or None
    bias: Any  # [N] in the data set's order, or None

    @property
    def out_dim(self) -> int:
        """Width of the final embeddings."""
        ...

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
