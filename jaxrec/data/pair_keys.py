"""Whole numbers that stand for pairs of rows, or of ids: sorted, without repeats, counted, hashed.

Uses sorting, since np.unique's hash table costs a hundred times as much on large int64 keys.
"""

import numpy as np


def pair_keys(first: np.ndarray, second: np.ndarray, n_second: int) -> np.ndarray:
    """One number a pair of row numbers, first · n_second + second: int64, whatever the rows are."""
    return first.astype(np.int64, copy=False) * n_second + second


def rows_of_keys(key: np.ndarray, n_second: int) -> tuple[np.ndarray, np.ndarray]:
    """The inverse of :func:`pair_keys`."""
    first, second = np.divmod(key, max(n_second, 1))
    return first, second


def starts(key: np.ndarray) -> np.ndarray:
    """Find the start of each run of equal keys in sorted keys."""
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


def mixed(x: np.ndarray) -> np.ndarray:
    """The finaliser of SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number
    generators", 2014), of its next state; uint64 of any shape."""
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def id_hashes(ids: np.ndarray, salt: int = 0) -> np.ndarray:
    """A hash of each id as it is written, [n] uint64, the same in every table that has the id.

    The number 7 and the text "7" hash alike, as a table of numbers becomes one of texts once an id
    that is no number joins it.

    Args:
      ids: [n] whole numbers or texts.
      salt: tells ids of users from those of items.
    """
    found = np.empty(len(ids), np.uint64)
    for first in range(0, len(ids), _IDS_AT_ONCE):
        text = np.array(ids[first : first + _IDS_AT_ONCE]).astype(np.str_)
        letters = text.view(np.uint32).reshape(len(text), -1)
        hash_n = mixed(np.full(len(text), salt, np.uint64))
        for letter in letters.T:
            there = letter > 0  # zeros fill up to the width of the table
            hash_n[there] = mixed(hash_n[there] ^ letter[there].astype(np.uint64))
        found[first : first + _IDS_AT_ONCE] = hash_n
    return found


def pair_hashes(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """A hash of each pair of :func:`id_hashes`, in this order; uint64 of the same shape."""
    return mixed(first + mixed(second))


_IDS_AT_ONCE = 1 << 18
