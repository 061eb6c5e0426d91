"""Integer keys for pairs of rows or ids, and operations on them: sorting, uniqueness, sums, hashes.

The functions sort keys instead of calling np.unique, whose hash table is a hundred times slower on
large int64 keys.
"""

import numpy as np


def pair_keys(first: np.ndarray, second: np.ndarray, n_second: int) -> np.ndarray:
    """Return first · n_second + second for pairs of row numbers, as int64 for any input type."""
    return first.astype(np.int64, copy=False) * n_second + second


def rows_of_keys(key: np.ndarray, n_second: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the pairs of row numbers of keys, the inverse of :func:`pair_keys`."""
    first, second = np.divmod(key, max(n_second, 1))
    return first, second


def starts(key: np.ndarray) -> np.ndarray:
    """Return the position in sorted keys at which each run of equal keys starts."""
    return np.flatnonzero(np.concatenate([[True], key[1:] != key[:-1]])[: len(key)])


def distinct(key: np.ndarray) -> np.ndarray:
    """Return the unique keys, ascending, as np.unique does."""
    key = np.sort(key)
    return key[starts(key)]


def summed(
    key: np.ndarray, weight: np.ndarray, kept: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return the unique keys, ascending, and the sum of the weights of each key (float64).

    Args:
      kept: mask of the keys to use; all keys if None.
    """
    if kept is not None and not kept.all():
        key, weight = key[kept], weight[kept]
    order = np.argsort(key, kind="stable")
    key, weight = key[order], weight[order]
    first = starts(key)
    total = np.add.reduceat(weight, first, dtype=np.float64) if len(first) else weight[:0]
    return key[first], total.astype(np.float64)


def mixed(x: np.ndarray) -> np.ndarray:
    """Hash uint64 numbers of any shape by one step of SplitMix64.

    Source: Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014.
    """
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def id_hashes(ids: np.ndarray, salt: int = 0) -> np.ndarray:
    """Return a hash of each id's text, [n] uint64, which does not depend on the other ids.

    The number 7 and the text "7" have the same hash, because a table of numbers becomes texts as
    soon as one of its ids is not a number.

    Args:
      ids: [n] whole numbers or texts.
      salt: a number that is hashed with each id. Users and items have different salts, so that a
        user and an item with the same id have different hashes.
    """
    hashes_n = np.empty(len(ids), np.uint64)
    for first in range(0, len(ids), _IDS_AT_ONCE):
        text = np.array(ids[first : first + _IDS_AT_ONCE]).astype(np.str_)
        letters = text.view(np.uint32).reshape(len(text), -1)
        hash_n = mixed(np.full(len(text), salt, np.uint64))
        for letter in letters.T:
            used = letter > 0  # the texts are padded with zeros
            hash_n[used] = mixed(hash_n[used] ^ letter[used].astype(np.uint64))
        hashes_n[first : first + _IDS_AT_ONCE] = hash_n
    return hashes_n


def pair_hashes(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return a hash of each ordered pair of id hashes; uint64 of the same shape."""
    return mixed(first + mixed(second))


_IDS_AT_ONCE = 1 << 18
