"""Whole numbers that stand for pairs of rows: sorted, without repeats, counted.

By sorting, for np.unique's hash table costs a hundred times as much on large int64 keys.
"""

import numpy as np


def starts(key: np.ndarray) -> np.ndarray:
    """Where each run of equal keys begins in sorted keys."""
    return np.flatnonzero(np.concatenate([[True], key[1:] != key[:-1]])[: len(key)])


def distinct(key: np.ndarray) -> np.ndarray:
    """The unique keys, ascending: np.unique's answer."""
    key = np.sort(key)
    return key[starts(key)]


def summed(
    key: np.ndarray, weight: np.ndarray, kept: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The unique keys, ascending, and the sum of the weights of each (float64)."""
    if kept is not None and not kept.all():
        key, weight = key[kept], weight[kept]
    order = np.argsort(key, kind="stable")
    key, weight = key[order], weight[order]
    first = starts(key)
    total = np.add.reduceat(weight, first, dtype=np.float64) if len(first) else weight[:0]
    return key[first], total.astype(np.float64)
