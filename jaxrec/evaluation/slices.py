"""Computes recall by item popularity and by user activity, for slices.json."""

from collections.abc import Iterator
from typing import Any

import numpy as np

_BINS = 10


def _bins(count_n: np.ndarray) -> Iterator[tuple[dict[str, int], np.ndarray]]:
    """Yield the lowest and highest count of each bin, and the bin's mask [n]; bins are ascending.

    Bins have about equal size; equal counts share a bin, and counts of 0 are in a separate bin.
    """
    positive = np.sort(count_n[count_n > 0])
    lows = positive[np.arange(_BINS) * len(positive) // _BINS] if len(positive) else positive
    starts = np.unique(np.append(lows, 0) if len(positive) < len(count_n) else lows)
    bin_n = np.searchsorted(starts, count_n, side="right") - 1
    for b, low in enumerate(starts):
        inside = bin_n == b
        yield {"from": int(low), "to": int(count_n[inside].max())}, inside


def slices(
    user_activity_n: np.ndarray,
    recall_n: np.ndarray,
    item_count_I: np.ndarray,
    hits_I: np.ndarray,
    relevant_I: np.ndarray,
    k: int,
) -> dict[str, Any]:
    """Compute recall@k by bins of item popularity and of user activity, for slices.json.

    A bin holds about a tenth of the items (or users). Equal counts share a bin, so there may be
    fewer than ten bins. Items (or users) without train interactions are in a separate bin.

    Args:
      user_activity_n: [n] train interactions of each evaluated user.
      recall_n: [n] recall@k of each evaluated user.
      item_count_I: [I] train interactions of each item.
      hits_I: [I] number of evaluated users for whom the item is held out and is in the top k.
      relevant_I: [I] number of evaluated users for whom the item is held out.
      k: the cut-off.

    Returns:
      ``{"k", "items": [{"from", "to", "items", "relevant", "recall"}], "users": [{"from", "to",
      "users", "recall"}]}``. Bins are ascending; ``from`` and ``to`` are the lowest and highest
      count in a bin. The recall of an item bin is hits / relevant over its items, or None if
      nothing is relevant; the recall of a user bin is the mean over its users.
    """
    items, users = [], []
    for span, inside in _bins(item_count_I):
        relevant = int(relevant_I[inside].sum())
        recall = float(hits_I[inside].sum()) / relevant if relevant else None
        items.append(span | {"items": int(inside.sum()), "relevant": relevant, "recall": recall})
    for span, inside in _bins(user_activity_n):
        recall = float(recall_n[inside].mean())
        users.append(span | {"users": int(inside.sum()), "recall": recall})
    return {"k": k, "items": items, "users": users}
