"""Sizes of arrays in device memory, computed from shapes without jax.

A TPU stores the last two axes of an array in tiles of 8 x 128 numbers of 4 bytes, so it pads the
last axis to a multiple of 128 and the one before to a multiple of 8. Arguments of a program are
stored in the order of axes that needs less padding: a table [N, 64] with N last. Programs that
gather or scatter rows need the rows contiguous, [N, 64 padded to 128].
"""

import math
from collections import Counter
from collections.abc import Iterable
from typing import Literal, NamedTuple

Platform = Literal["cpu", "gpu", "tpu"]

_SHORT, _PIECE = (4, 8, 16), 32  # widths of buckets of edges, as in jaxrec.graph.buckets
_SHORT_OF_PIECES, _PIECE_OF_PIECES = (1, 4, 16, 64), 64
_QUANTILES = 1024
# Row-sparse Adam's panels of steps, as in jaxrec.rowwise: nodes per panel, the largest number of
# steps per panel, and the first step of the first panel with as many.
_NODES, _LONGEST, _FULL = 6, 192, 562


def _up(n: int | float, unit: int) -> int:
    return -(-math.ceil(n) // unit) * unit


def by_rows(platform: Platform, *shape: int | float) -> float | int:
    """Return the bytes of an array of 4-byte numbers whose last axis is contiguous."""
    if platform != "tpu" or len(shape) < 2:
        return 4.0 * math.prod(shape)
    *others, rows, width = shape
    return 4.0 * math.prod(others) * _up(rows, 8) * _up(width, 128)


def least(platform: Platform, rows: int | float, width: int) -> float | int:
    """Return the bytes of a matrix of 4-byte numbers in the order of axes with less padding."""
    return min(by_rows(platform, rows, width), by_rows(platform, width, rows))


class BucketSizes(NamedTuple):
    """Sizes of the buckets of a graph (:mod:`jaxrec.graph.buckets`).

    Attributes:
      entries: number of padded edges, over all buckets.
      sums: number of rows in the buckets' outputs: rows and pieces of rows.
      places: number of entries of the arrays that say where each row is.
    """

    entries: int | float
    sums: int | float
    places: int | float


def bucket_sizes(
    degrees: Iterable[tuple[int | float, int | float]], share: int | float = 1
) -> BucketSizes:
    """Return the sizes of buckets for rows with the given degrees.

    Args:
      degrees: pairs (degree, number of rows with it).
      share: share of these rows that a device holds.
    """
    entries = sums = places = 0.0
    level = [(math.ceil(degree), n * share) for degree, n in degrees]
    short, piece = _SHORT, _PIECE
    while level:
        pieces: dict[int, float] = {}
        for degree, n in level:
            places += n
            width = next((w for w in short if degree <= w), None)
            if width is not None:
                entries, sums = entries + n * width, sums + n
            else:
                count = -(-degree // piece)
                entries, sums = entries + n * count * piece, sums + n * count
                pieces[count] = pieces.get(count, 0) + n
        level, short, piece = list(pieces.items()), _SHORT_OF_PIECES, _PIECE_OF_PIECES
    return BucketSizes(entries, sums, places)


def quantiles(n: int, edges: int) -> list[int]:
    """Return the degrees at evenly spaced quantiles of n exponentially distributed degrees.

    They are ascending, and the sum of the n degrees is about ``edges``.
    """
    levels = [-math.log1p(-(i + 0.5) / _QUANTILES) for i in range(_QUANTILES)]
    scale = edges / max(n, 1) / (sum(levels) / _QUANTILES)
    return [max(round(level * scale), 1) for level in levels]


def exponential(n: int, edges: int) -> list[tuple[int, float]]:
    """Return exponentially distributed degrees of n nodes, as pairs (degree, number of nodes)."""
    return [(degree, k * n / _QUANTILES) for degree, k in Counter(quantiles(n, edges)).items()]


def learning_rate_sums(platform: Platform, steps: int, varied: int) -> float | int:
    """Return the bytes of row-sparse Adam's learning-rate sums (:mod:`jaxrec.rowwise`).

    Args:
      steps: number of steps of the run.
      varied: number of steps after which the learning rate is constant.
    """
    entries = min(steps, _FULL) + max(steps - _FULL, 0) / _LONGEST
    # All full panels with a constant learning rate share their sums, except the last, which ends
    # with the run.
    sums = min(steps, max(varied, _FULL) + 2 * _LONGEST)
    nodes = least(platform, entries, _NODES)
    if platform == "tpu":  # there are the nodes in both orders of axes
        nodes += by_rows("tpu", entries, _NODES)
    return 8 * entries + nodes + 4 * _NODES * sums
