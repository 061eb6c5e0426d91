"""A sparse product without a scatter: one loop gathers and sums padded rows of equal width.

Rows are grouped by degree into buckets whose width is a power of two. A row wider than the widest
bucket is cut into pieces of a fixed width, and further buckets sum the pieces. The edges of a row
are summed in a fixed order, so a product is the same to the last bit in every run on a device.
"""

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt32

from jaxrec.platforms import platform_of_programs


class _Widths(NamedTuple):
    """The widths of the buckets, ascending, and the width of the pieces of longer rows."""

    short: tuple[int, ...]
    piece: int


_OF_EDGES = _Widths((4, 8, 16), 32)
_OF_PIECES = _Widths((1, 4, 16, 64), 64)


class Bucket(NamedTuple):
    """Rows of at most W edges, padded with edges of weight 0 from node 0."""

    sender_RW: UInt32[Array, "R W"]
    weight_RW: Float[Array, "R W"]


class Buckets(NamedTuple):
    """The rows of a product, grouped by degree.

    Attributes:
      short: the rows that are not cut into pieces; one bucket for each width that occurs.
      pieces: pieces of the longer rows, all of one width; None if no row is longer.
      long: buckets that sum the pieces of each longer row; None if no row is longer.
      place_R: the position of each row in the buckets' output: short rows of all widths first, then
        long ones.
    """

    short: tuple[Bucket, ...]
    pieces: Bucket | None
    long: "Buckets | None"
    place_R: Int[Array, "R"]


def group_rows(
    indptr: np.ndarray,
    sender: np.ndarray,
    weight: np.ndarray,
    *,
    widths: _Widths = _OF_EDGES,
) -> Buckets:
    """Group the rows of a CSR matrix into buckets, on the default device.

    Args:
      indptr: [R + 1]; the edges into row r are indptr[r]:indptr[r + 1].
      sender: [E] column of each entry.
      weight: [E] value of each entry.
    """
    start, degree, widest = indptr[:-1].astype(np.int64), np.diff(indptr), widths.piece
    group = np.searchsorted(widths.short, degree)
    order = np.argsort(group, kind="stable")
    place = np.empty(len(degree), np.int32)
    place[order] = np.arange(len(degree), dtype=np.int32)
    short = []
    for number, width in enumerate(widths.short):
        row = np.flatnonzero(group == number)
        if len(row):
            short.append(_bucket(start[row], degree[row], width, sender, weight))
    row = np.flatnonzero(group == len(widths.short))
    if not len(row):
        return Buckets(tuple(short), None, None, jnp.asarray(place))
    n_pieces = -(-degree[row] // widest)
    ends = np.concatenate([[0], np.cumsum(n_pieces)])
    whose = np.repeat(np.arange(len(row)), n_pieces)
    offset = (np.arange(ends[-1]) - ends[whose]) * widest
    size = np.minimum(widest, degree[row][whose] - offset)
    pieces = _bucket(start[row][whose] + offset, size, widest, sender, weight)
    long = group_rows(ends, np.arange(ends[-1]), np.ones(ends[-1], np.float32), widths=_OF_PIECES)
    return Buckets(tuple(short), pieces, long, jnp.asarray(place))


def _bucket(
    start: np.ndarray, degree: np.ndarray, width: int, sender: np.ndarray, weight: np.ndarray
) -> Bucket:
    valid = np.arange(width) < degree[:, None]
    edge = (start[:, None] + np.arange(width))[valid]
    index, entry = np.zeros(valid.shape, np.uint32), np.zeros(valid.shape, np.float32)
    index[valid], entry[valid] = sender[edge], weight[edge]
    return Bucket(jnp.asarray(index), jnp.asarray(entry))


def stacked(parts: list[Buckets]) -> Buckets:
    """Stack the buckets of all shards along a first axis, as NumPy arrays padded to equal shapes.

    :func:`product` takes the buckets of one shard, not the stack.
    """
    widths = sorted({b.sender_RW.shape[1] for part in parts for b in part.short})
    by_width = [{b.sender_RW.shape[1]: b for b in part.short} for part in parts]
    short, place, start = [], [np.array(part.place_R) for part in parts], 0
    moved = [p.copy() for p in place]
    at = [0] * len(parts)
    for width in widths:
        of_width = [buckets.get(width, _zeros(0, width)) for buckets in by_width]
        for n, bucket in enumerate(of_width):
            rows = len(bucket.sender_RW)
            inside = (place[n] >= at[n]) & (place[n] < at[n] + rows)
            moved[n][inside] += start - at[n]
            at[n] += rows
        short.append(_stack_bucket(of_width))
        start += short[-1].sender_RW.shape[1]
    for n, where in enumerate(place):
        moved[n][where >= at[n]] += start - at[n]  # the positions of long rows move
    place_R: Any = np.stack(_padded(moved))
    if all(part.pieces is None for part in parts):
        return Buckets(tuple(short), None, None, place_R)
    widest = next(part.pieces.sender_RW.shape[1] for part in parts if part.pieces is not None)
    pieces = _stack_bucket([part.pieces or _zeros(0, widest) for part in parts])
    no_rows: Any = np.zeros(0, np.int32)
    none = Buckets((), None, None, no_rows)
    return Buckets(tuple(short), pieces, stacked([p.long or none for p in parts]), place_R)


def _zeros(rows: int, width: int) -> Bucket:
    return _bucket_of(np.zeros((rows, width), np.uint32), np.zeros((rows, width), np.float32))


def _bucket_of(sender: Any, weight: Any) -> Bucket:
    """Make a bucket of NumPy arrays, which are copied to a device later."""
    return Bucket(sender, weight)


def _stack_bucket(parts: list[Bucket]) -> Bucket:
    arrays = (_padded([np.asarray(x) for x in xs]) for xs in zip(*parts, strict=True))
    return _bucket_of(*map(np.stack, arrays))


def _padded(arrays: list[np.ndarray]) -> list[np.ndarray]:
    """Pad arrays with rows of zeros to the length of the longest."""
    most = max(len(x) for x in arrays)
    return [np.pad(x, [(0, most - len(x)), *[(0, 0)] * (x.ndim - 1)]) for x in arrays]


def sizes(degree: np.ndarray, widths: _Widths = _OF_EDGES) -> list[list[int]]:
    """Return the sizes of the buckets that :func:`group_rows` builds for R rows.

    The first list has the number of rows in the bucket of each width, the number of pieces, and R.
    Each further list has these numbers for the buckets that sum the pieces.

    Args:
      degree: number of edges of each row, [R].
    """
    short = widths.short
    group = np.bincount(np.searchsorted(short, degree), minlength=len(short) + 1)
    n_pieces = -(-degree[degree > short[-1]] // widths.piece)
    level = [[*map(int, group[: len(short)]), int(n_pieces.sum()), len(degree)]]
    return level + sizes(n_pieces, _OF_PIECES) if len(n_pieces) else level


def largest(each: Sequence[list[list[int]]]) -> list[list[int]]:
    """Return the elementwise maximum of several :func:`sizes`."""
    levels = itertools.zip_longest(*each, fillvalue=())
    return [[max(col) for col in itertools.zip_longest(*level, fillvalue=0)] for level in levels]


def of_sizes(levels: list[list[int]], widths: _Widths = _OF_EDGES) -> Buckets:
    """Make empty buckets of given :func:`sizes`.

    To pad other buckets to these sizes, pass them and the empty buckets to :func:`stacked`.
    """
    *short, n_pieces, n_rows = levels[0]
    place_R: Any = np.zeros(n_rows, np.int32)
    buckets = tuple(_zeros(n, width) for n, width in zip(short, widths.short, strict=True) if n)
    if not n_pieces:
        return Buckets(buckets, None, None, place_R)
    pieces = _zeros(n_pieces, widths.piece)
    return Buckets(buckets, pieces, of_sizes(levels[1:], _OF_PIECES), place_R)


def renamed(buckets: Buckets, name_N: Int[Array, "N"]) -> Buckets:
    """Renumber the senders for a table whose row ``name_N[n]`` belongs to node n."""

    def rename(bucket: Bucket) -> Bucket:
        return bucket._replace(sender_RW=name_N.astype(jnp.uint32)[bucket.sender_RW])

    pieces = None if buckets.pieces is None else rename(buckets.pieces)
    return buckets._replace(short=tuple(map(rename, buckets.short)), pieces=pieces)


def product(buckets: Buckets, x_ND: Float[Array, "N D"]) -> Float[Array, "R D"]:
    """Compute y_r = Σ_e weight_e x[sender_e] over the edges into row r; sums are float32."""
    if platform_of_programs() == "gpu":
        return _joined(buckets, x_ND)
    parts = [_sum(bucket, x_ND) for bucket in buckets.short]
    if buckets.pieces is not None and buckets.long is not None:
        parts.append(product(buckets.long, _sum(buckets.pieces, x_ND)))
    # Without the barrier, XLA recomputes every sum in the loop that joins the sums.
    return jnp.concatenate(jax.lax.optimization_barrier(parts))[buckets.place_R]


def _joined(buckets: Buckets, x_ND: Array) -> Array:
    """Compute :func:`product` with one kernel for all buckets of a level.

    On a GPU, one kernel that branches is cheaper than several launches, because the rows of a warp
    are in one bucket and so take the same branch.
    """
    parts = [
        _sum(bucket, x_ND) for bucket in (*buckets.short, buckets.pieces) if bucket is not None
    ]
    sums = jax.lax.optimization_barrier(jnp.concatenate(parts))
    if buckets.pieces is not None and buckets.long is not None:
        n_short = sum(bucket.sender_RW.shape[0] for bucket in buckets.short)
        sums = jnp.concatenate([sums[:n_short], _joined(buckets.long, sums[n_short:])])
    return sums[buckets.place_R]


def _sum(bucket: Bucket, x_ND: Array) -> Array:
    """Sum the edges of each row; XLA compiles the sum, unrolled over the width, to one loop."""
    total = jnp.float32(0)
    on_gpu = platform_of_programs() == "gpu"
    row_R = jnp.arange(bucket.sender_RW.shape[0], dtype=jnp.uint32)
    for i in range(bucket.sender_RW.shape[1]):
        # Indices are unsigned and promised in bounds, so XLA neither wraps nor checks them.
        row_RD = x_ND.at[bucket.sender_RW[:, i]].get(mode="promise_in_bounds")
        # On a GPU, a slice of the weights would be a separate kernel, whereas a gather is fused.
        at_R = (row_R, jnp.full_like(row_R, i)) if on_gpu else (slice(None), i)
        weight_R = bucket.weight_RW.at[at_R].get(mode="promise_in_bounds")
        total = total + weight_R[:, None] * row_RD.astype(jnp.float32)
    return total
