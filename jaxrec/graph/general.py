"""A weighted directed graph for custom training loops: y = A x, with gradients in x and in A.

The trainer's own graph (:class:`jaxrec.graph.bipartite.Bipartite`) is symmetric, so the transposed
product is the same product. Here, A may be any sparse matrix: the transposed edges are sorted once,
when the graph is built, so that neither direction of the product needs a scatter-add on CPU.
"""

from functools import partial
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse as sp
from jaxtyping import Array, Float, Int

from jaxrec.graph.spmm import Edges, Kernel, default_kernel, edge_product


class Graph(NamedTuple):
    """A sparse matrix A [R, S] as E edges: y_r = Σ w_e x_s over the edges e from s into r.

    The graph is a pytree, for use with ``jit`` and ``device_put``. Build one by :meth:`from_edges`,
    :meth:`from_scipy` or :meth:`from_networkx`.

    Attributes:
      edges: edges sorted by receiver, then sender.
      reverse: edges of the transposed matrix, sorted by sender.
      order_E: index in ``edges`` of each edge of ``reverse``.
    """

    edges: Edges
    reverse: Edges
    order_E: Int[Array, "E"]

    @property
    def n_edges(self) -> int:
        """Number of edges, E."""
        return self.order_E.shape[0]

    @property
    def shape(self) -> tuple[int, int]:
        """The numbers (R, S) of rows of y and of x."""
        return self.edges.n_rows, self.reverse.n_rows

    @property
    def senders(self) -> Int[Array, "E"]:
        """Sender of each edge, in the order of the weights."""
        return self.edges.sender_E

    @property
    def receivers(self) -> Int[Array, "E"]:
        """Receiver of each edge, in the order of the weights."""
        return self.edges.receiver_E

    @property
    def weights(self) -> Float[Array, "E"]:
        """Weight of each edge."""
        return self.edges.weight_E

    @classmethod
    def from_edges(
        cls,
        sender: Any,
        receiver: Any,
        weight: Any = None,
        *,
        n_nodes: int | None = None,
        shape: tuple[int, int] | None = None,
        both_ways: bool = False,
        normalise: str = "none",
    ) -> "Graph":
        """Build a graph from edges ``sender -> receiver``; repeated edges are summed.

        >>> import jax.numpy as jnp
        >>> graph = Graph.from_edges([0, 1, 2], [1, 2, 2], n_nodes=3)
        >>> propagate(graph, jnp.array([[1.0], [2.0], [4.0]])).tolist()
        [[0.0], [1.0], [6.0]]

        Args:
          sender, receiver: [E] row numbers.
          weight: [E] weights; default: 1.
          n_nodes: N of a square matrix; default: the largest row number plus 1.
          shape: (R, S) of a matrix that is not square.
          both_ways: also add each edge in the other direction.
          normalise: what each weight is divided by. A degree is a sum of weights. "symmetric": the
            root of the product of both ends' degrees; "receiver": the receiver's degree, so that y
            is a mean over neighbours; "sender": the sender's degree; "none": 1.

        Raises:
          ValueError: lengths differ, row numbers are out of range, a weight is not finite, or a
            weight is negative and ``normalise`` is not "none".
        """
        ends = [np.asarray(end) for end in (sender, receiver)]
        if any(end.ndim != 1 or (len(end) and end.dtype.kind not in "iu") for end in ends):
            raise ValueError("sender and receiver must be one-dimensional integers")
        sent, into = (end.astype(np.int64) for end in ends)
        w = np.ones(len(sent)) if weight is None else np.asarray(weight, np.float64)
        if not len(sent) == len(into) == w.size or w.ndim != 1:
            raise ValueError(
                f"{len(sent)} senders, {len(into)} receivers and {w.size} weights; "
                "their lengths must be equal"
            )
        if shape is None:
            largest = max(int(sent.max(initial=-1)), int(into.max(initial=-1)))
            size = largest + 1 if n_nodes is None else n_nodes
            shape = size, size
        elif n_nodes is not None:
            raise ValueError("give n_nodes or shape, not both")
        for name, end, size in (("receiver", into, shape[0]), ("sender", sent, shape[1])):
            if len(end) and not 0 <= end.min() <= end.max() < size:
                raise ValueError(f"a {name} is outside 0 to {size - 1}")
        if both_ways:
            if shape[0] != shape[1]:
                raise ValueError("both_ways needs a square matrix")
            sent, into, w = np.append(sent, into), np.append(into, sent), np.append(w, w)
        return cls.from_scipy(sp.coo_matrix((w, (into, sent)), shape), normalise=normalise)

    @classmethod
    def from_scipy(cls, matrix: Any, *, normalise: str = "none") -> "Graph":
        """Build a graph from a scipy sparse matrix A [R, S]; entry (r, s) is an edge from s to r.

        >>> import scipy.sparse as sp
        >>> Graph.from_scipy(sp.eye(4), normalise="symmetric").n_edges
        4

        Raises:
          ValueError: see :meth:`from_edges`.
        """
        made: Any = sp.csr_matrix(matrix, dtype=np.float64)
        made.sum_duplicates()
        n_rows, n_columns = made.shape
        if not np.isfinite(made.data).all():
            raise ValueError("a weight is not finite")
        if made.nnz >= 2**31 or max(n_rows, n_columns) >= 2**31:
            raise ValueError(f"{made.nnz:,} edges of shape {made.shape}: more than int32 can count")
        made = _normalised(made, normalise)
        number = np.arange(made.nnz)
        turned = sp.csr_matrix((number, made.indices, made.indptr), made.shape).tocsc()
        order = np.asarray(turned.data, np.int64)
        edges = _edges(made.indptr, made.indices, made.data)
        reverse = _edges(turned.indptr, turned.indices, np.asarray(made.data)[order])
        return cls(edges, reverse, jnp.asarray(order, jnp.int32))

    @classmethod
    def from_networkx(
        cls, graph: Any, *, weight: str = "weight", normalise: str = "none"
    ) -> "Graph":
        """Build a graph from a networkx graph, with nodes numbered as in ``list(graph.nodes)``.

        Edges without the attribute ``weight`` get weight 1. Undirected edges go both ways.

        Raises:
          ValueError: see :meth:`from_edges`.
        """
        row = {node: n for n, node in enumerate(graph.nodes)}
        found = [(row[a], row[b], data.get(weight, 1)) for a, b, data in graph.edges(data=True)]
        sent, into, w = (np.array(part) for part in zip(*found, strict=True)) if found else _NONE
        loops = sent == into
        both = not graph.is_directed()
        if both:  # add each edge in the other direction too, except self-loops
            sent, into = np.append(sent, into[~loops]), np.append(into, sent[: len(loops)][~loops])
            w = np.append(w, w[~loops])
        return cls.from_edges(sent, into, w, n_nodes=len(row), normalise=normalise)


_NONE = (np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))


def _edges(indptr: np.ndarray, index: np.ndarray, weight: np.ndarray) -> Edges:
    row = np.repeat(np.arange(len(indptr) - 1), np.diff(indptr))
    whole = (jnp.asarray(x, jnp.int32) for x in (index, row, indptr))
    return Edges(jnp.asarray(weight, jnp.float32), *whole)


def _normalised(matrix: sp.csr_matrix, how: str) -> sp.csr_matrix:
    if how == "none":
        return matrix
    if how not in ("symmetric", "receiver", "sender"):
        raise ValueError(f"normalise must be none, symmetric, receiver or sender, not {how!r}")
    if (matrix.data < 0).any():
        raise ValueError("weights must not be negative with normalisation")
    power = -0.5 if how == "symmetric" else -1.0
    sums = [np.asarray(matrix.sum(axis=axis)).ravel() for axis in (1, 0)]
    into, sent = (np.where(d > 0, np.where(d > 0, d, 1) ** power, 0) for d in sums)
    left = sp.diags(into if how != "sender" else np.ones(len(into)))
    right = sp.diags(sent if how != "receiver" else np.ones(len(sent)))
    return sp.csr_matrix(left @ matrix @ right)


def propagate(
    graph: Graph,
    x: Float[Array | np.ndarray, "_ D"],
    weights: Float[Array | np.ndarray, "_"] | None = None,
    *,
    kernel: str = "auto",
) -> Float[Array, "_ D"]:
    """Compute y = A x, differentiable in x and, if given, in the weights.

    The gradient in x is the product with the transposed edges. The gradient in an edge's weight is
    the dot product of its sender's x and its receiver's gradient.

    >>> import jax
    >>> import jax.numpy as jnp
    >>> graph = Graph.from_edges([0, 1], [1, 0])
    >>> x = jnp.array([[1.0, 2.0], [3.0, 5.0]])
    >>> jax.grad(lambda w: propagate(graph, x, w).sum())(graph.weights).tolist()
    [8.0, 3.0]

    Args:
      graph: E edges.
      x: [S, D], float32 or bfloat16.
      weights: [E] in the order of ``graph.senders``; default: the graph's own.
      kernel: "segment_sum", or "csr" (only on CPU); "auto" takes csr on CPU, else segment_sum.

    Raises:
      ValueError: x or weights do not match the graph, or the kernel is unknown.
    """
    if x.ndim != 2 or x.shape[0] != graph.shape[1]:
        raise ValueError(f"x has shape {x.shape}; the graph has {graph.shape[1]} senders")
    if weights is not None and weights.shape != (graph.n_edges,):
        raise ValueError(f"weights have shape {weights.shape}; the graph has {graph.n_edges} edges")
    if kernel == "auto":
        kernel = "csr" if default_kernel() == "csr" else "segment_sum"
    if kernel not in ("csr", "segment_sum"):
        raise ValueError(f"kernel must be csr or segment_sum, not {kernel!r}")
    of_edges = graph.weights if weights is None else jnp.asarray(weights)
    return _product(cast(Kernel, kernel), graph, jnp.asarray(x), of_edges)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _product(kernel: Kernel, graph: Graph, x_SD: Array, weight_E: Array) -> Array:
    edges = graph.edges._replace(weight_E=weight_E.astype(jnp.float32))
    return edge_product(kernel, edges, x_SD)


def _forward(
    kernel: Kernel, graph: Graph, x_SD: Array, weight_E: Array
) -> tuple[Array, tuple[Graph, Array, Array]]:
    return _product(kernel, graph, x_SD, weight_E), (graph, x_SD, weight_E)


def _backward(
    kernel: Kernel, kept: tuple[Graph, Array, Array], g_RD: Array
) -> tuple[None, Array, Array]:
    graph, x_SD, weight_E = kept
    reverse = graph.reverse._replace(weight_E=weight_E[graph.order_E].astype(jnp.float32))
    g_SD = edge_product(kernel, reverse, g_RD)
    ends = x_SD[graph.senders], g_RD[graph.receivers]
    g_E = jnp.einsum("ed,ed->e", *ends, preferred_element_type=jnp.float32)
    return None, g_SD.astype(x_SD.dtype), g_E.astype(weight_E.dtype)


_product.defvjp(_forward, _backward)
