"""Build an item graph from interactions: a pair's weight is the number of users with both items.

Memory holds the distinct pairs found so far, and blocks of further pairs until they are merged.
"""

import itertools

import numpy as np

from jaxrec.data.dataset import Dataset
from jaxrec.data.itemgraph import ItemGraph
from jaxrec.data.pair_keys import pair_keys, rows_of_keys, starts, summed
from jaxrec.data.split import once, repeats
from jaxrec.errors import InputError

_BLOCK = 1 << 23
"""The number of pairs, including repeats, that are built at once."""


def of_interactions(
    data: Dataset, *, window: float | None = None, history: int = 200, block: int = _BLOCK
) -> ItemGraph:
    """Pair the items of each user, and weight a pair by the number of users with both items.

    Args:
      data: interactions; each of a user's items counts once.
      window: the largest difference in time between two paired items; None for no limit.
      history: maximum number of items per user. The latest items are used; items with equal
        times, or without times, are put in random order with a fixed seed.
      block: the number of pairs, including repeats, that are built at once. It limits the memory.

    Raises:
      InputError: there is a window, but the data has no times.
    """
    if window is not None and data.time is None:
        raise InputError(
            f"{data.name}: pairs.window needs a time column; this data has none, so "
            "leave the window out"
        )
    if repeats(data).any():
        data = once(data)
    chance = np.random.default_rng(0).random(data.n_edges)
    by = (chance,) if data.time is None else (chance, data.time)
    row = np.lexsort((*by, data.user))
    degree_U = data.user_counts()
    end_E = np.repeat(np.cumsum(degree_U), degree_U)
    row = row[end_E - np.arange(len(row)) <= history]
    item, user = data.item[row].astype(np.int64), data.user[row]
    # An item is paired with all later items of its user up to the row ``last``.
    place = np.arange(len(row))
    last = np.searchsorted(user, user, side="right") - 1
    if window is not None:
        assert data.time is not None
        last = _within(data.time[row], place, last, window)
    count = last - place
    key, weight = np.empty(0, np.int64), np.empty(0)
    waiting: list[tuple[np.ndarray, np.ndarray]] = []
    for part in _blocks(count, block):
        first = np.repeat(place[part], count[part])
        begin = np.cumsum(count[part]) - count[part]
        second = first + 1 + np.arange(len(first)) - np.repeat(begin, count[part])
        a, b = item[first], item[second]
        made = pair_keys(np.minimum(a, b), np.maximum(a, b), data.n_items)
        waiting.append(_counted(made[a != b]))
        # Blocks are merged once they hold as many pairs as the result, so that each pair is copied
        # only a few times.
        if sum(len(found) for found, _ in waiting) >= max(len(key), block):
            key, weight = _merge([(key, weight), *waiting])
            waiting = []
    key, weight = _merge([(key, weight), *waiting])
    src, dst = rows_of_keys(key, data.n_items)
    cut = int((degree_U > history).sum())
    notes = data.notes | ({f"users whose items were cut to the last {history}": cut} if cut else {})
    for name in ("rating", "weight"):
        column = getattr(data, name)
        if column is not None and len(column) and column.min() < column.max():
            told = f"{name}s {column.min():g} to {column.max():g}"
            notes[f"not used, as a pair's weight is its number of users: {told}"] = len(column)
    columns = src.astype(np.int32), dst.astype(np.int32), weight.astype(np.float32)
    told = data.name, notes, data.reading
    return ItemGraph(*columns, data.item_ids, data.item_features, *told)


def _within(time: np.ndarray, place: np.ndarray, last: np.ndarray, window: float) -> np.ndarray:
    """Return, for each row in ``place``, the last row up to ``last`` in its time window."""
    low, high = place.copy(), last.copy()
    while (low < high).any():
        middle = (low + high + 1) // 2
        near = time[middle] - time[place] <= window
        low, high = np.where(near, middle, low), np.where(near, high, middle - 1)
    return low


def _blocks(count: np.ndarray, block: int) -> list[slice]:
    """Cut the rows into slices whose counts add up to about ``block``."""
    total = np.append(0, np.cumsum(count))
    cuts = np.searchsorted(total, np.arange(block, total[-1], block))
    bounds = sorted({0, *cuts.tolist(), len(count)})
    return [slice(a, b) for a, b in itertools.pairwise(bounds)]


def _counted(key: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the unique keys, ascending, and how often each occurs; sorts ``key`` in place."""
    key.sort()
    first = starts(key)
    return key[first], np.diff(first, append=len(key)).astype(np.float64)


def _merge(parts: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    keys, weights = zip(*parts, strict=True)
    return summed(np.concatenate(keys), np.concatenate(weights))
