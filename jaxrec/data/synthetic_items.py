"""Draws synthetic item graphs from planted communities with power-law popularity.

Communities and popularity are drawn as in :mod:`jaxrec.data.synthetic`. Each item is the first item
of one pair, so that every item has a pair; the first items of all further pairs are drawn by
popularity. The second item is drawn by popularity too: with probability ``LOYALTY`` from the
community of the first item, else from all items.
"""

import numpy as np

from jaxrec.data.itemgraph import ItemGraph
from jaxrec.data.pair_keys import distinct, pair_keys, rows_of_keys
from jaxrec.data.synthetic import Truth, draw_items, ids, refuse_too_many, telling, truth
from jaxrec.errors import InputError

_WEIGHTS = (0.5, 1.0, 1.2, 1.5, 2.0)
_EMBEDDED = {"items": 2_000, "communities": 20, "seed": 20_240}
_EMBEDDED_PAIRS = 16_000


def planted(items: int, *, communities: int = 12, seed: int = 0) -> Truth:
    """Return the probabilities from which :func:`make` draws, with the items also as users."""
    found = truth(items, items, communities=communities, seed=seed)
    community, popularity = found.item_community, found.popularity
    return Truth(community, community, popularity, popularity)


def make(
    items: int,
    pairs: int,
    *,
    communities: int = 12,
    seed: int = 0,
    missing: float | None = None,
) -> ItemGraph:
    """Draw exactly ``pairs`` different pairs.

    Args:
      missing: the share of each feature column's cells that are missing; None for no features.
        Features depend on the item's community (``group``, ``tags``) and popularity (``level``).
        The pairs are the same with and without features.

    Raises:
      InputError: there are fewer pairs than items, more than an eighth of all pairs, or more
        communities than items; ``missing`` is not in [0, 1]; or memory is too small.
    """
    refuse_too_many(items + pairs)
    if not 1 <= communities <= items:
        raise InputError(f"communities must be in [1, {items}], not {communities}")
    if not items <= pairs <= items * (items - 1) // 16:
        raise InputError(
            f"pairs must be in [{items}, {items * (items - 1) // 16}] for {items} items (at "
            f"least one per item, at most an eighth of all pairs), not {pairs}"
        )
    if missing is not None and not 0 <= missing <= 1:
        raise InputError(f"missing must be a share in [0, 1], not {missing}")
    found = planted(items, communities=communities, seed=seed)
    rng = np.random.default_rng([seed, 3])
    first = np.arange(items)
    key = np.empty(0, np.int64)
    while len(key) < pairs:
        other = draw_items(found, first, rng)
        while (itself := first == other).any():
            other[itself] = draw_items(found, first[itself], rng)
        low, high = np.minimum(first, other), np.maximum(first, other)
        key = distinct(np.concatenate([key, pair_keys(low, high, items)]))
        first = rng.choice(items, pairs - len(key), p=found.popularity)
    src, dst = rows_of_keys(key, items)
    features = None
    if missing is not None:
        stream = np.random.default_rng([seed, 4])
        community = found.item_community
        features = telling(community, found.popularity, communities, stream, missing)
    return ItemGraph(
        src.astype(np.int32),
        dst.astype(np.int32),
        rng.choice(np.array(_WEIGHTS, np.float32), pairs),
        ids("i", items),
        features,
        name=f"synthetic-{items}-{pairs}-seed{seed}",
    )


def embedded() -> ItemGraph:
    """Return the built-in item graph: 2,000 items with features, and 16,000 pairs."""
    return make(pairs=_EMBEDDED_PAIRS, missing=0.5, **_EMBEDDED)
