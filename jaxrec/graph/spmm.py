"""y = Â x for the normalised adjacency Â of a bipartite graph, with a hand-written gradient.

Â is symmetric, so the gradient of y = Â x with respect to x is Â g, the same product. The
``custom_vjp`` below uses this; autodiff of a gather would instead add a scatter over the edges. A
vmap over T tables (one for each trial of a search) becomes one product with a single table, whose
columns are those of all trials.

``segment_sum`` is the reference: it gathers, weighs and sums rows sorted by receiver. ``csr`` is
jaxlib's native kernel on CPU. ``buckets`` (:mod:`jaxrec.graph.buckets`) gathers padded rows. Only
``segment_sum`` scatters.

The default on CPU is ``csr``. On two cores, with D = 64 and nodes in order, a layer of Gowalla,
forward and backward, takes 16 ms with csr, 20 with buckets, 114 with segment_sum, and 77 with
torch's CSR and autograd (bench case ``propagate``). The other defaults follow from compiled
programs and are not measured yet. The default on a GPU is ``buckets``: it takes few kernels per
product (four at Gowalla's size) and no atomics, whereas ``segment_sum`` uses atomics, which are
slow under contention (jax issue 38806) and give sums that differ from run to run. The default on a
TPU is ``segment_sum``: gather, weight and sorted sum become one loop over a table in fast memory.
With this loop, a layer of Gowalla's size moves 0.06 GB to and from a v5e's main memory; buckets and
a gather per bucket move 1.1 GB, and a cumulative sum 7.1 (bench case ``compiled-forms``).
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import jraph
from jaxtyping import Array, Float, Int

from jaxrec.graph import buckets, rows
from jaxrec.graph.bipartite import Bipartite
from jaxrec.platforms import platform_of_programs

try:
    from jax.experimental import sparse
except ImportError:  # jax no longer develops it, and the reference kernel does not need it
    sparse = None

Kernel = Literal["segment_sum", "csr", "buckets"]

# The last layer is computed only at a batch's rows if these have at most 1 / _PART of the edges.
_PART = 4


class Edges(NamedTuple):
    """The edges into some or all rows of a graph, grouped by receiving row.

    Row r has edges ``indptr[r]:indptr[r + 1]``; entries from ``indptr[-1]`` on are padding.
    """

    weight_E: Float[Array, "E"]
    sender_E: Int[Array, "E"]
    receiver_E: Int[Array, "E"]
    indptr: Int[Array, "R1"]

    @property
    def n_rows(self) -> int:
        return self.indptr.shape[0] - 1


def default_kernel(platform: str | None = None) -> Kernel:
    """Return the default kernel of "cpu", "gpu" or "tpu"; None stands for the platform in use."""
    platform = platform or platform_of_programs()
    if platform == "cpu" and sparse is not None:
        return "csr"
    return "segment_sum" if platform == "tpu" else "buckets"


def resolve(kernel: Literal["auto"] | Kernel, graph: Bipartite | None = None) -> Kernel:
    """Resolve "auto" to the default kernel; other names are returned as they are.

    If the default is ``buckets`` and the graph has no buckets, "auto" is ``segment_sum``.
    """
    resolved = default_kernel() if kernel == "auto" else kernel
    lacks = graph is not None and graph.buckets is None
    return "segment_sum" if kernel == "auto" and resolved == "buckets" and lacks else resolved


def _segment_sum(edges: Edges, x_ND: Array) -> Array:
    """Gather rows, multiply by weights and sum by receiver; the reference kernel."""
    message_ED = edges.weight_E[:, None].astype(x_ND.dtype) * x_ND[edges.sender_E]
    return jraph.segment_sum(message_ED, edges.receiver_E, edges.n_rows, indices_are_sorted=True)


def _csr(edges: Edges, x_ND: Array) -> Array:
    """Multiply with jaxlib's native CSR kernel on CPU; it sums in float32 for any type of x."""
    assert sparse is not None, "this jax has no jax.experimental.sparse; use kernel segment_sum"
    parts = (edges.weight_E, edges.sender_E, edges.indptr)
    matrix = sparse.BCSR(parts, shape=(edges.n_rows, x_ND.shape[0]))
    return (matrix @ x_ND.astype(jnp.float32)).astype(x_ND.dtype)


_KERNELS = {"segment_sum": _segment_sum, "csr": _csr}


def edge_product(kernel: Kernel, edges: Edges, x_ND: Array) -> Array:
    """Sum weight · x[sender] over each row's edges, [R, D], by ``segment_sum`` or ``csr``."""
    return _KERNELS[kernel](edges, x_ND)


def _edges(graph: Bipartite) -> Edges:
    return Edges(graph.weights, graph.senders, graph.receivers, graph.indptr)


def product(kernel: Kernel, graph: Bipartite, x_ND: Array, name_N: Array | None = None) -> Array:
    """Compute Â x. Row ``name_N[n]`` of x belongs to node n; without ``name_N``, row n does."""
    if kernel == "buckets":
        assert graph.buckets is not None, "kernel buckets needs bipartite.build(..., buckets=True)"
        rows = graph.buckets if name_N is None else buckets.renamed(graph.buckets, name_N)
        return buckets.product(rows, x_ND).astype(x_ND.dtype)
    edges = _edges(graph)
    if name_N is not None:
        edges = edges._replace(sender_E=name_N[edges.sender_E])
    return _KERNELS[kernel](edges, x_ND)


def between(
    kernel: Kernel, graph: Bipartite, n_users: int, x: Array, *, to_items: bool
) -> Float[Array, "_ D"]:
    """Compute one side's rows of Â x from the other side's rows of x, with half of the edges.

    Args:
      n_users: U; users are the graph's first nodes.
      x: rows of the users, [U, D], if ``to_items``; otherwise rows of the items, [I, D].
    """
    if kernel == "buckets":  # the buckets hold the rows of users and of items together
        padding = (0, graph.n_nodes - n_users) if to_items else (n_users, 0)
        y_ND = product(kernel, graph, jnp.pad(x, (padding, (0, 0))))
        return y_ND[n_users:] if to_items else y_ND[:n_users]
    n_pairs = graph.senders.shape[0] // 2  # edges into users; the others are into items
    edges = slice(n_pairs, None) if to_items else slice(0, n_pairs)
    first = n_users if to_items else 0
    indptr = graph.indptr[n_users:] - n_pairs if to_items else graph.indptr[: n_users + 1]
    sender_E = graph.senders[edges] - (0 if to_items else n_users)
    half = Edges(graph.weights[edges], sender_E, graph.receivers[edges] - first, indptr)
    return _KERNELS[kernel](half, x)


def _part(graph: Bipartite, degree_R: Array, start_R: Array, size: int) -> Edges:
    """Return the edges into some rows of the graph, padded to ``size``."""
    off_R = jnp.concatenate([jnp.zeros(1, jnp.int32), jnp.cumsum(degree_R, dtype=jnp.int32)])
    # Edge numbers grow by 1 within a row, and jump where a row begins.
    before_R = jnp.concatenate([jnp.full(1, -1, jnp.int32), (start_R + degree_R)[:-1] - 1])
    jump_R = start_R - before_R - 1
    step_S = jnp.ones(size, jnp.int32).at[off_R[:-1]].add(jump_R, mode="drop")
    edge_S = jnp.clip(jnp.cumsum(step_S, dtype=jnp.int32) - 1, 0, graph.senders.shape[0] - 1)
    new_S = jnp.zeros(size, jnp.int32).at[off_R[1:]].add(1, mode="drop")
    return Edges(
        graph.weights[edge_S],
        graph.senders[edge_S],
        jnp.cumsum(new_S, dtype=jnp.int32),  # padding gets a row out of bounds, which is dropped
        off_R,
    )


def product_rows(kernel: Kernel, graph: Bipartite, x_ND: Array, row_R: Int[Array, "R"]) -> Array:
    """Compute rows ``row_R`` of Â x, if possible from the edges into these rows alone.

    If the distinct rows have more than a quarter of all edges, or the kernel is ``buckets``, all of
    Â x is computed.
    """
    n_edges, n_rows = graph.senders.shape[0], row_R.shape[0]
    size = n_edges // _PART
    place_R = jnp.arange(n_rows, dtype=jnp.int32)
    first_R = jnp.zeros(graph.n_nodes, jnp.int32).at[row_R].max(place_R)[row_R]
    start_R = graph.indptr[row_R]
    degree_R = jnp.where(first_R == place_R, graph.indptr[row_R + 1] - start_R, 0)

    def of_part(x_ND: Array) -> Array:
        return _KERNELS[kernel](_part(graph, degree_R, start_R, size), x_ND)[first_R]

    def of_all(x_ND: Array) -> Array:
        return product(kernel, graph, x_ND)[row_R]

    if n_edges == 0 or kernel == "buckets":  # buckets are grouped once, not for each batch
        return of_all(x_ND)
    return jax.lax.cond(jnp.sum(degree_R) <= size, of_part, of_all, x_ND)


def _folded(kernel: Kernel, graph: Bipartite, x_TND: Array) -> Array:
    """Compute Â x for T tables, by one product with a table [N, T D].

    Native kernels have no batched form, and a plain vmap of a native kernel would be a scatter.
    """
    trials, n_nodes, width = x_TND.shape
    x_NW = jnp.moveaxis(x_TND, 0, 1).reshape(n_nodes, trials * width)
    y_NTD = product(kernel, graph, x_NW).reshape(-1, trials, width)
    return jnp.moveaxis(y_NTD, 1, 0)


def _over_trials(one: Callable[..., Array], folded: Callable[..., Array]) -> Callable[..., Array]:
    """Return ``one``, a function of a graph and arrays, with ``folded`` as its vmap.

    ``folded`` takes arrays with a leading axis of trials. If the graph is batched too, the trials
    are computed one after another.
    """
    made = jax.custom_batching.custom_vmap(one)

    @made.def_vmap
    def rule(size: int, batched: Any, graph: Bipartite, *arrays: Array) -> tuple[Array, bool]:
        of_graph, *of_arrays = batched

        def full(x: Array, is_batched: bool) -> Array:
            return x if is_batched else jnp.broadcast_to(x, (size, *x.shape))

        arrays = tuple(map(full, arrays, of_arrays))
        if not any(jax.tree.leaves(of_graph)):
            return folded(graph, *arrays), True
        graphs = jax.tree.map(full, graph, of_graph)
        return jax.lax.map(lambda of: one(*of), (graphs, *arrays)), True

    return made


def _multiply(kernel: Kernel, graph: Bipartite, x_ND: Array) -> Array:
    """Compute Â x; a vmap over x becomes one product."""
    return _over_trials(partial(product, kernel), partial(_folded, kernel))(graph, x_ND)


def _multiply_rows(kernel: Kernel, graph: Bipartite, x_ND: Array, row_R: Array) -> Array:
    """Compute rows of Â x; a vmap over x and the rows becomes one product for all N rows."""

    def folded(graph: Bipartite, x_TND: Array, row_TR: Array) -> Array:
        return jax.vmap(lambda y_ND, row_R: y_ND[row_R])(_folded(kernel, graph, x_TND), row_TR)

    return _over_trials(partial(product_rows, kernel), folded)(graph, x_ND, row_R)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _propagate(kernel: Kernel, graph: Bipartite, x_ND: Array) -> Array:
    return _multiply(kernel, graph, x_ND)


def _propagate_forward(kernel: Kernel, graph: Bipartite, x_ND: Array) -> tuple[Array, Bipartite]:
    return _propagate(kernel, graph, x_ND), graph


def _propagate_backward(kernel: Kernel, graph: Bipartite, g_ND: Array) -> tuple[None, Array]:
    return None, _propagate(kernel, graph, g_ND)


_propagate.defvjp(_propagate_forward, _propagate_backward)


def propagate(
    graph: Bipartite, x_ND: Float[Array, "N D"], kernel: Literal["auto"] | Kernel = "auto"
) -> Float[Array, "N D"]:
    """Propagate one layer, y_n = Σ_m Â_nm x_m (LightGCN, He et al. 2020, eq. 3).

    The result is differentiable in x only; the graph's weights are constants.

    Args:
      graph: N nodes, symmetric.
      x_ND: float32 or bfloat16.
      kernel: "auto" takes the platform's default.
    """
    return _propagate(resolve(kernel, graph), graph, x_ND)


def _multiply_table_of_rows(
    kernel: Kernel, dtype: str, graph: Bipartite, row_R: Array, g_RD: Array
) -> Array:
    """Multiply Â by the table that has g at ``row_R`` (repeated rows summed) and zeros elsewhere.

    A vmap over the rows and g becomes one product.
    """

    def folded(graph: Bipartite, row_TR: Array, g_TRD: Array) -> Array:
        zeros_ND = jnp.zeros((graph.n_nodes, g_TRD.shape[2]), jnp.float32)
        g_TND = jax.vmap(lambda row_R, g_RD: zeros_ND.at[row_R].add(g_RD))(row_TR, g_TRD)
        return _folded(kernel, graph, g_TND.astype(dtype)).astype(jnp.float32)

    one = partial(_product_of_rows, kernel, dtype)
    return _over_trials(one, folded)(graph, row_R, g_RD)


def _product_of_rows(
    kernel: Kernel, dtype: str, graph: Bipartite, row_R: Array, g_RD: Array
) -> Array:
    """Compute :func:`_multiply_table_of_rows` for a single table.

    On platforms that do not sum rows by a sort, senders are looked up in a small table of the given
    rows and a zero row, which stays in cache.
    """
    if rows.by_sort():
        grouped = rows.groups(row_R, graph.n_nodes)
        g_ND = rows.table(grouped, rows.totals(grouped, g_RD)).astype(dtype)
        return product(kernel, graph, g_ND).astype(jnp.float32)
    slot_R = jnp.arange(1, row_R.shape[0] + 1, dtype=jnp.int32)
    slot_N = jnp.zeros(graph.n_nodes, jnp.int32).at[row_R].max(slot_R)
    zeros_SD = jnp.zeros((row_R.shape[0] + 1, g_RD.shape[1]), jnp.float32)
    g_SD = zeros_SD.at[slot_N[row_R]].add(g_RD.astype(jnp.float32))
    return product(kernel, graph, g_SD.astype(dtype), slot_N).astype(jnp.float32)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _propagate_rows(kernel: Kernel, graph: Bipartite, x_ND: Array, row_R: Array) -> Array:
    return _multiply_rows(kernel, graph, x_ND, row_R)


def _propagate_rows_forward(
    kernel: Kernel, graph: Bipartite, x_ND: Array, row_R: Array
) -> tuple[Array, tuple[Bipartite, Array]]:
    return _propagate_rows(kernel, graph, x_ND, row_R), (graph, row_R)


def _propagate_rows_backward(
    kernel: Kernel, kept: tuple[Bipartite, Array], g_RD: Array
) -> tuple[None, Array, None]:
    g_ND = _multiply_table_of_rows(kernel, g_RD.dtype.name, *kept, g_RD)
    return None, g_ND.astype(g_RD.dtype), None


_propagate_rows.defvjp(_propagate_rows_forward, _propagate_rows_backward)


def propagate_rows(
    graph: Bipartite,
    x_ND: Float[Array, "N D"],
    row_R: Int[Array, "R"],
    kernel: Literal["auto"] | Kernel = "auto",
) -> Float[Array, "R D"]:
    """Compute some rows of :func:`propagate`, in any order and with repeats.

    Only the edges into these rows are used, unless the rows have more than a quarter of all edges.
    The kernel ``buckets`` always uses all edges, since it groups rows once for all batches. The
    gradient costs one product, whose gathers stay in cache. The result is differentiable in x only.
    """
    return _propagate_rows(resolve(kernel, graph), graph, x_ND, row_R)


class Layers(NamedTuple):
    """The static settings of a sum of layers; each combination is compiled separately."""

    kernel: Kernel
    layers: int
    dtype: str

    def at_rows(
        self, x_ND: Array, row_R: Array, multiply: Callable, multiply_rows: Callable
    ) -> list[Array]:
        """Return rows of x, Â x, ..., Â^L x in float32; the last product computes only these rows.

        Args:
          multiply: maps x to Â x.
          multiply_rows: maps x and row numbers to the rows of Â x with these numbers.
        """
        by_layer, x_ND = [x_ND[row_R]], x_ND.astype(self.dtype)
        for layer in range(1, self.layers + 1):
            if layer < self.layers:
                x_ND = multiply(x_ND)
                x_RD = x_ND[row_R]
            else:
                x_RD = multiply_rows(x_ND, row_R)
            by_layer.append(x_RD.astype(jnp.float32))
        return by_layer

    def gradient(
        self,
        g_ND: Array,
        row_R: Array,
        share_L: Array,
        gradient: tuple[Array, Array],
        multiply: Callable,
        multiply_rows: Callable | None = None,
    ) -> Array:
        """Compute the gradient in x, Σ_l a_l Â^l G + H, by Horner's rule.

        G is the gradient of the loss in the sum of layers, and H that in the returned rows of x.
        Both are zero outside the batch's rows, so each layer adds only these rows.

        Args:
          g_ND: a table of zeros.
          row_R: the batch's rows.
          share_L: weights of the layers, a_0 to a_L.
          gradient: the values of G and of H at ``row_R``.
          multiply: maps x to Â x.
          multiply_rows: multiplies Â by the table with given values at ``row_R`` and zeros
            elsewhere; None if that is not cheaper than ``multiply``.
        """
        total_RD, base_RD = gradient
        if rows.by_sort():
            grouped, width = rows.groups(row_R, len(g_ND)), total_RD.shape[1]
            both_P2D = rows.totals(grouped, jnp.concatenate([total_RD, base_RD], axis=1))
            total_PD, base_PD = both_P2D[:, :width], both_P2D[:, width:]
            for layer in range(self.layers, 0, -1):
                g_ND = (g_ND + rows.table(grouped, share_L[layer] * total_PD)).astype(self.dtype)
                g_ND = multiply(g_ND).astype(jnp.float32)
            return g_ND + rows.table(grouped, share_L[0] * total_PD + base_PD)
        for layer in range(self.layers, 0, -1):
            part_RD = share_L[layer] * total_RD
            if layer == self.layers and multiply_rows is not None:
                g_ND = multiply_rows(part_RD)
            else:
                g_ND = g_ND.at[row_R].add(part_RD).astype(self.dtype)
                g_ND = multiply(g_ND).astype(jnp.float32)
        return g_ND.at[row_R].add(share_L[0] * total_RD + base_RD)


def weighted(share_L: Array, layers: Sequence[Array]) -> Array:
    """Return Σ_l a_l x_l."""
    return sum((share_L[n] * x_RD for n, x_RD in enumerate(layers)), jnp.float32(0))


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _sum_rows(
    static: Layers, graph: Bipartite, x_ND: Array, row_R: Array, share_L: Array
) -> tuple[Array, Array]:
    return _sum_rows_forward(static, graph, x_ND, row_R, share_L)[0]


class _Kept(NamedTuple):
    graph: Bipartite
    row_R: Array
    share_L: Array
    layers: list[Array]


def _sum_rows_forward(
    static: Layers, graph: Bipartite, x_ND: Array, row_R: Array, share_L: Array
) -> tuple[tuple[Array, Array], _Kept]:
    by = partial(_multiply, static.kernel, graph), partial(_multiply_rows, static.kernel, graph)
    layers = static.at_rows(x_ND, row_R, *by)
    return (weighted(share_L, layers), layers[0]), _Kept(graph, row_R, share_L, layers)


def _sum_rows_backward(
    static: Layers, kept: _Kept, gradient: tuple[Array, Array]
) -> tuple[None, Array, None, Array]:
    graph, row_R, share_L, layers = kept
    total_RD = gradient[0]
    zeros_ND = jnp.zeros((graph.n_nodes, total_RD.shape[1]), jnp.float32)
    by_rows = partial(_multiply_table_of_rows, static.kernel, static.dtype, graph, row_R)
    multiply = partial(_multiply, static.kernel, graph)
    g_ND = static.gradient(zeros_ND, row_R, share_L, gradient, multiply, by_rows)
    return None, g_ND, None, jnp.stack([jnp.sum(total_RD * x_RD) for x_RD in layers])


_sum_rows.defvjp(_sum_rows_forward, _sum_rows_backward)


def sum_of_layers(
    graph: Bipartite,
    x_ND: Float[Array, "N D"],
    row_R: Int[Array, "R"],
    share_L: Float[Array, "L1"],
    *,
    kernel: Literal["auto"] | Kernel = "auto",
    dtype: str = "float32",
) -> tuple[Float[Array, "R D"], Float[Array, "R D"]]:
    """Compute rows of Σ_l a_l Â^l x (LightGCN, eq. 4 and 8), and the same rows of x.

    The last layer is computed only at these rows, except by the kernel ``buckets``. On a GPU, each
    layer of the gradient adds whole tables [N, D]; on other platforms, it adds only the given rows.
    The results are differentiable in x and in the shares.

    Args:
      graph: N nodes, symmetric.
      x_ND: float32.
      row_R: nodes, any order, repeats allowed.
      share_L: weights of the layers, a_0 to a_L.
      kernel: "auto" takes the platform's default.
      dtype: compute type of the products; sums over layers are float32.
    """
    static = Layers(resolve(kernel, graph), share_L.shape[0] - 1, dtype)
    return _sum_rows(static, graph, x_ND, row_R, share_L)
