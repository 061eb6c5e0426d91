"""The fixed sample of rows and pairs on which a run is measured; it depends only on the data."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int

from jaxrec.data.dataset import Csr, Dataset
from jaxrec.data.itemgraph import PairSplits
from jaxrec.data.pair_keys import pair_keys
from jaxrec.diagnosis.sample_measures import TOP, Pairs, Sample

Observed = Callable[[Dataset], np.ndarray | None]
_USERS, _ITEMS, _LISTED, _PAIRS = 256, 256, 128, 1024


def _spaced(candidates: np.ndarray, most: int) -> np.ndarray:
    """Pick at most ``most`` candidates, evenly spaced in their order."""
    if len(candidates) <= most:
        return candidates
    return candidates[np.linspace(0, len(candidates) - 1, most).astype(np.int64)]


def _rows(number: np.ndarray) -> Int[np.ndarray, "n"]:
    """Cast row numbers to int32, the type on the device."""
    return number.astype(np.int32)


def _others(user: np.ndarray, known: Csr, candidates: np.ndarray) -> np.ndarray:
    """Draw a candidate for each user, and redraw candidates that the user knows, up to 8 times."""
    rng = np.random.default_rng(0)
    other = candidates[rng.integers(0, len(candidates), len(user))]
    n_items = 1 + int(max(candidates.max(initial=0), known.indices.max(initial=0)))
    key = known.keys(n_items)
    for _ in range(8):
        wanted = pair_keys(user, other, n_items)
        place = np.minimum(np.searchsorted(key, wanted), len(key) - 1)
        bad = key[place] == wanted
        if not bad.any():
            break
        other[bad] = candidates[rng.integers(0, len(candidates), int(bad.sum()))]
    return other


def _pairs(part: Dataset | None, known: Csr, observed: Observed) -> Pairs | None:
    if part is None or part.n_edges == 0:
        return None
    at = _spaced(np.arange(part.n_edges), _PAIRS)
    user, item = part.user[at], part.item[at]
    other, rating = _others(user, known, np.arange(part.n_items)), observed(part)
    if rating is not None:
        rating = rating[at].astype(np.float32)
    return Pairs(_rows(user), _rows(item), _rows(other), rating)


def _nothing(part: Dataset) -> None:
    """Return None: for ranking models, scores do not predict an observed value."""


def of_data(train: Dataset, validation: Dataset | None, observed: Observed = _nothing) -> Sample:
    """Sample users and items with train pairs, and pairs of both splits, evenly spaced by number.

    Args:
      observed: maps the data of a split to the values [E] that the pairs' scores predict, such as
        ratings, or to None if scores only order items.
    """
    counts = train.item_counts()
    users = np.flatnonzero(train.user_counts())
    popular = np.argsort(-counts, kind="stable")[:TOP]
    known = train.csr()
    return Sample(
        _rows(_spaced(users, _USERS)),
        _rows(_spaced(np.flatnonzero(counts), _ITEMS)),
        _rows(_spaced(users, _LISTED)),
        _rows(popular),
        _pairs(train, known, observed),
        _pairs(validation, known, observed),
    )


def of_rows(n_users: int, n_items: int) -> Sample:
    """Sample rows of users and items if there is no data."""
    return Sample(
        _rows(_spaced(np.arange(n_users), _USERS)),
        _rows(_spaced(np.arange(n_items), _ITEMS)),
        _rows(_spaced(np.arange(n_users), _LISTED)),
        None,
        None,
        None,
    )


class ItemSample(NamedTuple):
    """Sample for an item model: rows of items, and pairs by the name of their split."""

    item_m: Int[np.ndarray, "m"]
    parts: dict[str, Pairs]


def of_items(splits: PairSplits, scored_I: Bool[np.ndarray, "I"]) -> ItemSample:
    """Sample items that have a vector, and pairs of such items, evenly spaced by number."""
    train, held = splits.train, splits.validation
    around, there = train.adjacency(), np.flatnonzero(scored_I)
    true_P = held.label_P
    parts = {"train": (train.src, train.dst), "validation": (held.a_P[true_P], held.b_P[true_P])}
    pairs = {}
    for name, (a_P, b_P) in parts.items():
        at = _spaced(np.flatnonzero(scored_I[a_P] & scored_I[b_P]), _PAIRS)
        if len(at):
            other = _others(a_P[at], Csr(around.indptr, around.indices), there)
            pairs[name] = Pairs(_rows(a_P[at]), _rows(b_P[at]), _rows(other))
    return ItemSample(_rows(_spaced(there, _ITEMS)), pairs)
