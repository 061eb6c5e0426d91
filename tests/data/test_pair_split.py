import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxrec.config import PairsConfig
from jaxrec.data import synthetic_items
from jaxrec.data.itemgraph import ItemGraph, LabelledPairs
from jaxrec.data.pair_split import split_pairs
from jaxrec.errors import InputError

GRAPH = synthetic_items.make(60, 200, communities=4, seed=1)


def keys(pairs: LabelledPairs, label: bool) -> set[tuple[int, int]]:
    kept = pairs.label_P == label
    return set(zip(pairs.a_P[kept].tolist(), pairs.b_P[kept].tolist(), strict=True))


def pairs_of(graph: ItemGraph) -> set[tuple[int, int]]:
    return set(zip(graph.src.tolist(), graph.dst.tolist(), strict=True))


@settings(max_examples=40)
@given(
    st.just(0.0) | st.floats(0.2, 0.8),
    st.just(0.0) | st.floats(0.3, 0.8),
    st.integers(0, 2**32 - 1),
    st.integers(40, 70),
)
def test_parts_are_disjoint_balanced_and_complete(test, validation, seed, n_items):
    graph = synthetic_items.make(n_items, n_items + 4, communities=2, seed=seed % 7)
    config = PairsConfig(test=test, validation=validation)
    splits = split_pairs(graph, config, seed)
    held = {name: keys(getattr(splits, name), True) for name in ("validation", "test")}
    train = pairs_of(splits.train)
    assert len(held["test"]) == round(graph.n_pairs * test)
    assert len(held["validation"]) == round((graph.n_pairs - len(held["test"])) * validation)
    everything = [train, *held.values()]
    assert set.union(*everything) == pairs_of(graph)
    assert sum(map(len, everything)) == graph.n_pairs
    negatives = [keys(getattr(splits, name), False) for name in held]
    assert not negatives[0] & negatives[1]
    for name, negative in zip(held, negatives, strict=True):
        part = getattr(splits, name)
        assert len(negative) == len(held[name]) == part.n_pairs // 2
        assert not negative & pairs_of(graph)
        items = {item for pair in held[name] for item in pair}
        assert {item for pair in negative for item in pair} <= items
        assert (part.a_P < part.b_P).all()
        assert part.a_P.dtype == part.b_P.dtype == np.int32


def test_a_split_is_decided_by_the_seed_and_the_test_part_by_its_share_alone():
    def told(seed: int, **shares: float) -> list:
        splits = split_pairs(GRAPH, PairsConfig(**shares), seed)
        return [splits.train.fingerprint(), *(part.tobytes() for part in splits.test)]

    assert told(3) == told(3)
    assert told(3) != told(4)
    assert told(3)[1:] == told(3, validation=0.0)[1:] == told(3, validation=0.5)[1:]


def test_negatives_are_about_evenly_drawn_from_the_held_out_items():
    graph = synthetic_items.make(400, 1500, communities=4, seed=2)
    counts = np.zeros(400)
    popular = graph.degree() >= np.quantile(graph.degree(), 0.9)
    for seed in range(10):
        test = split_pairs(graph, PairsConfig(), seed).test
        negative = ~test.label_P
        counts += np.bincount(np.append(test.a_P[negative], test.b_P[negative]), minlength=400)
    # If drawn by popularity, popular items would come some five times as often. They come a little
    # less often than others, because more of their pairs are excluded.
    assert 0.7 < counts[popular].mean() / counts[~popular].mean() < 1.5


def test_train_keeps_weights_features_and_the_id_table():
    graph = synthetic_items.make(60, 200, communities=4, seed=1, missing=0.5)
    train = split_pairs(graph, PairsConfig(), 0).train
    weights = dict(zip(graph.keys().tolist(), graph.weight.tolist(), strict=True))
    assert [weights[key] for key in train.keys().tolist()] == train.weight.tolist()
    assert train.item_features is graph.item_features
    assert train.item_ids is graph.item_ids


def test_nothing_is_held_out_where_nothing_is_asked_for():
    splits = split_pairs(GRAPH, PairsConfig(test=0.0, validation=0.0), 0)
    assert splits.train.fingerprint() == GRAPH.fingerprint()
    assert splits.test.n_pairs == splits.validation.n_pairs == 0


def test_a_graph_too_dense_or_too_small_is_refused():
    a, b = np.triu_indices(8, 1)
    whole = ItemGraph(*(x.astype(np.int32) for x in (a, b)), np.ones(28, np.float32), np.arange(8))
    with pytest.raises(InputError, match="items form only 0"):
        split_pairs(whole, PairsConfig(), 0)
    with pytest.raises(InputError, match="no pair is left to train on"):
        split_pairs(whole.take(np.arange(1)), PairsConfig(test=0.9), 0)
    almost = dataclasses.replace(whole.take(np.arange(20)), name="few")
    with pytest.raises(InputError, match="few: 18 held-out pairs need"):
        split_pairs(almost, PairsConfig(test=0.9, validation=0.0), 0)
