"""y = Â x for the normalised adjacency Â of a bipartite graph, and its hand-written gradient.

Â is symmetric, so the gradient of y = Â x with respect to x is Â g: the very same product. The
``custom_vjp`` below says so, where autodiff of a gather would add a scatter over the edges.

``csr`` is the default on CPU, where jaxlib has a native kernel for it: no scatter in either
direction. ``segment_sum`` is the reference and the default elsewhere; it sums rows that are
sorted by receiver.
"""

from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
import jraph
from jaxtyping import Array, Float

from jaxrec.graph.bipartite import Bipartite

try:
    from jax.experimental import sparse
except ImportError:  # it is no longer developed; the reference kernel needs none of it
    sparse = None

Kernel = Literal["segment_sum", "csr"]


def default_kernel(platform: str | None = None) -> Kernel:
    """The measured default of a platform ("cpu", "gpu", "tpu"); the default backend's if None."""
    on_cpu = (platform or jax.default_backend()) == "cpu"
    return "csr" if on_cpu and sparse is not None else "segment_sum"


def _segment_sum(graph: Bipartite, x_ND: Array) -> Array:
    """The reference: gather, weigh, sum by receiver."""
    message = graph.weights[:, None].astype(x_ND.dtype) * x_ND[graph.senders]
    return jraph.segment_sum(message, graph.receivers, graph.n_nodes, indices_are_sorted=True)


def _csr(graph: Bipartite, x_ND: Array) -> Array:
    """jaxlib's native CSR product on CPU. It sums in float32 whatever the type of x."""
    assert sparse is not None, "this jax has no jax.experimental.sparse; use kernel segment_sum"
    parts = (graph.weights, graph.senders, graph.indptr)
    matrix = sparse.BCSR(parts, shape=(graph.n_nodes,) * 2)
    return (matrix @ x_ND.astype(jnp.float32)).astype(x_ND.dtype)


_KERNELS = {"segment_sum": _segment_sum, "csr": _csr}


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _propagate(kernel: Kernel, graph: Bipartite, x_ND: Array) -> Array:
    return _KERNELS[kernel](graph, x_ND)


def _forward(kernel: Kernel, graph: Bipartite, x_ND: Array) -> tuple[Array, Bipartite]:
    return _propagate(kernel, graph, x_ND), graph


def _backward(kernel: Kernel, graph: Bipartite, g_ND: Array) -> tuple[None, Array]:
    return None, _propagate(kernel, graph, g_ND)


_propagate.defvjp(_forward, _backward)


def propagate(
    graph: Bipartite, x_ND: Float[Array, "N D"], kernel: Literal["auto"] | Kernel = "auto"
) -> Float[Array, "N D"]:
    """One layer of propagation, y_n = Σ_m Â_nm x_m (LightGCN, He et al. 2020, eq. 3).

    Differentiable in x only; the graph's weights are constants.

    Args:
      graph: N nodes, symmetric.
      x_ND: float32 or bfloat16.
      kernel: "auto" takes the platform's default.
    """
    return _propagate(default_kernel() if kernel == "auto" else kernel, graph, x_ND)
