"""Split an item graph into train pairs, and labelled pairs for validation and test.

For each pair held out for validation or test, a negative pair is drawn uniformly: two items that
are not paired in the graph, and that both occur in held-out pairs of the same part. No pair,
positive or negative, occurs twice.
"""

import numpy as np

from jaxrec.config import PairsConfig
from jaxrec.data.dataset import TEST, TRAIN, VALIDATION
from jaxrec.data.itemgraph import ItemGraph, LabelledPairs, PairSplits
from jaxrec.data.pair_keys import distinct, pair_keys, rows_of_keys
from jaxrec.errors import InputError

_SPARSE = 4
"""Negative pairs are drawn by rejection if there are more possible pairs than this many times the
number of used and needed pairs. Otherwise they are drawn from a list of all unused pairs."""


def draw_pairs(
    graph: ItemGraph, config: PairsConfig, seed: int, part: np.ndarray | None = None
) -> np.ndarray:
    """Label each pair as TRAIN, VALIDATION or TEST, [P] uint8.

    The test pairs depend on the seed and the test share, not on the validation share.

    Args:
      part: [P] the label of each pair in an earlier split; -1 for new pairs. Old pairs keep their
        labels, and the shares refer to old and new pairs together.

    Raises:
      InputError: no train pair would be left.
    """
    n = graph.n_pairs
    order = np.random.default_rng([seed, 0]).permutation(n)
    label = np.full(n, TRAIN, np.uint8)
    n_test = round(n * config.test)
    n_validation = round((n - n_test) * config.validation)
    if part is not None:
        label[part >= 0] = part[part >= 0]
        order = order[part[order] < 0]
        n_test = min(max(n_test - int((label == TEST).sum()), 0), len(order))
        n_validation = max(n_validation - int((label == VALIDATION).sum()), 0)
    n_left = len(order) - n_test
    label[order[n_left:]] = TEST
    label[order[max(n_left - n_validation, 0) : n_left]] = VALIDATION
    if not (label == TRAIN).any():
        raise InputError(
            f"{graph.name}: all {n} pairs are held out, so no pair is left to train on; hold out "
            f"less (pairs.test {config.test:g}, pairs.validation {config.validation:g}) or give "
            "more pairs"
        )
    return label


def split_pairs(
    graph: ItemGraph, config: PairsConfig, seed: int, part: np.ndarray | None = None
) -> PairSplits:
    """Hold out pairs by :func:`draw_pairs`, and draw a negative pair for each of them.

    Raises:
      InputError: no train pair would be left, or the items of the held-out pairs are paired so
        densely that too few negative pairs are left.
    """
    label = draw_pairs(graph, config, seed, part)
    train, validation, test = (np.flatnonzero(label == n) for n in (TRAIN, VALIDATION, TEST))
    taken = graph.keys()
    parts = []
    for stream, held_out in enumerate((test, validation), start=1):
        rng = np.random.default_rng([seed, stream])
        negative = _negatives(graph, held_out, taken, rng)
        taken = distinct(np.concatenate([taken, negative]))
        parts.append(_labelled(graph, held_out, negative))
    return PairSplits(graph.take(train), parts[1], parts[0])


def _labelled(graph: ItemGraph, held_out: np.ndarray, negative: np.ndarray) -> LabelledPairs:
    a, b = rows_of_keys(negative, graph.n_items)
    label = np.repeat([True, False], [len(held_out), len(negative)])
    return LabelledPairs(
        np.concatenate([graph.src[held_out], a.astype(np.int32)]),
        np.concatenate([graph.dst[held_out], b.astype(np.int32)]),
        label,
    )


def _negatives(
    graph: ItemGraph, held_out: np.ndarray, taken: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Draw a negative pair for each held-out pair; return their distinct keys, ascending.

    Args:
      taken: the sorted keys of pairs that must not be drawn.
    """
    needed = len(held_out)
    item = distinct(np.concatenate([graph.src[held_out], graph.dst[held_out]]))
    possible = len(item) * (len(item) - 1) // 2
    if possible <= _SPARSE * (len(taken) + needed):
        a, b = np.triu_indices(len(item), 1)
        free = np.setdiff1d(_key(graph, item[a], item[b]), taken, assume_unique=True)
        if len(free) < needed:
            raise InputError(
                f"{graph.name}: {needed} held-out pairs need as many negative pairs, but their "
                f"items form only {len(free)} pairs that are not in the graph; hold out less, or "
                "give a sparser graph"
            )
        return np.sort(rng.permutation(free)[:needed])
    found = np.empty(0, np.int64)
    while len(found) < needed:
        a, b = item[rng.integers(0, len(item), (2, needed - len(found)))]
        drawn = distinct(_key(graph, a[a != b], b[a != b]))
        found = distinct(np.concatenate([found, drawn[~_among(drawn, taken)]]))
    return found


def _key(graph: ItemGraph, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return pair_keys(np.minimum(a, b), np.maximum(a, b), graph.n_items)


def _among(key: np.ndarray, taken: np.ndarray) -> np.ndarray:
    """Return which keys are in the sorted ``taken``."""
    if not len(taken):
        return np.zeros(len(key), bool)
    place = np.searchsorted(taken, key)
    return taken[np.minimum(place, len(taken) - 1)] == key
