"""Lists of items in CSR form on the device, and searches in these lists."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

from jaxrec.platforms import platform_of_programs


class DeviceCsr(NamedTuple):
    """R lists of items: row r has the items indices[indptr[r]:indptr[r + 1]], ascending.

    ``indptr`` is [R + 1]. Entries of ``indices`` from ``indptr[-1]`` on are padding. A user's list
    has no repeated items; a node's list of neighbours has one entry for each parallel edge.
    """

    indptr: Int[Array, "R1"]
    indices: Int[Array, "nnz"]


def count_prefix(csr: DeviceCsr, row: Array, holds: Callable[[Array, Array], Array]) -> Array:
    """Count the items of each row for which ``holds`` is true, by bisection.

    These items must be a prefix of the row. ``holds(item, rank)`` gets items and their ranks in the
    row, shaped like ``row``. The search takes about log2(n) rounds. On a GPU, n is the length of
    ``indices``; on other platforms, n is the number of items of the longest given row.
    """
    start = csr.indptr[row]
    last = csr.indices.shape[0] - 1

    def halve(bounds: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = bounds
        middle = (low + high) // 2
        item = csr.indices[jnp.clip(middle, 0, last)]
        right = holds(item, middle - start)
        still = low < high
        return jnp.where(still & right, middle + 1, low), jnp.where(still & ~right, middle, high)

    bounds = (start, csr.indptr[row + 1])
    if platform_of_programs() == "gpu":
        # This fixed number of rounds suffices for any row and compiles to few kernels; a
        # while_loop would wait for the host after each round.
        for _ in range(csr.indices.shape[0].bit_length()):
            bounds = halve(bounds)
        return bounds[0] - start
    low, _ = jax.lax.while_loop(lambda b: jnp.any(b[0] < b[1]), halve, bounds)
    return low - start


def contains(
    csr: DeviceCsr, row_B: Int[Array, "B"], item_BN: Int[Array, "B N"]
) -> Bool[Array, "B N"]:
    """Return whether row ``row_B[b]`` contains item ``item_BN[b, n]``, for each b and n."""
    if csr.indices.shape[0] == 0:
        return jnp.zeros(item_BN.shape, bool)
    row_BN = jnp.broadcast_to(row_B[:, None], item_BN.shape)
    before = count_prefix(csr, row_BN, lambda item, _: item < item_BN)
    at = jnp.clip(csr.indptr[row_BN] + before, 0, csr.indices.shape[0] - 1)
    inside = before < csr.indptr[row_BN + 1] - csr.indptr[row_BN]
    return inside & (csr.indices[at] == item_BN)
