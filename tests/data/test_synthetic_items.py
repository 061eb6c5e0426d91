import numpy as np
import pytest

from jaxrec.data import synthetic_items
from jaxrec.errors import InputError


@pytest.mark.parametrize(("items", "pairs"), [(40, 40), (40, 97), (500, 4000)])
def test_there_are_so_many_pairs_and_every_item_is_in_one(items, pairs):
    graph = synthetic_items.make(items, pairs, communities=4)
    assert (graph.n_items, graph.n_pairs) == (items, pairs)
    assert graph.degree().min() >= 1


def test_pairs_keep_to_their_community_and_degrees_fall_as_a_power():
    graph = synthetic_items.make(2000, 16000, communities=20, seed=3)
    planted = synthetic_items.planted(2000, communities=20, seed=3)
    same = planted.item_community[graph.src] == planted.item_community[graph.dst]
    assert 0.6 < same.mean() < 0.9
    degree = np.sort(graph.degree())[::-1]
    top = degree[:20].mean() / degree[1000:].mean()
    assert top > 8


def test_the_seed_decides_and_features_do_not_change_the_pairs():
    bare = synthetic_items.make(50, 100, seed=1)
    described = synthetic_items.make(50, 100, seed=1, missing=0.5)
    assert bare.keys().tolist() == described.keys().tolist()
    assert bare.weight.tolist() == described.weight.tolist()
    assert bare.keys().tolist() != synthetic_items.make(50, 100, seed=2).keys().tolist()


@pytest.mark.parametrize("missing", [0.0, 0.25, 0.9, 1.0])
def test_so_much_of_the_features_is_missing(missing):
    features = synthetic_items.make(2000, 4000, missing=missing).item_features
    assert features is not None
    for column in features.columns.values():
        assert column.missing().mean() == pytest.approx(missing, abs=0.05)


def test_features_tell_the_community():
    graph = synthetic_items.make(2000, 4000, communities=5, missing=0.0)
    community = synthetic_items.planted(2000, communities=5).item_community
    assert graph.item_features is not None
    told = graph.item_features.columns["group"].code - 1  # pyright: ignore
    assert (told == community).mean() > 0.75


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"items": 10, "pairs": 9}, "pairs must be in"),
        ({"items": 100, "pairs": 700}, "pairs must be in"),
        ({"items": 100, "pairs": 200, "communities": 101}, "communities must be in"),
        ({"items": 100, "pairs": 200, "missing": 1.5}, "missing must be a share"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(arguments, said):
    with pytest.raises(InputError, match=said):
        synthetic_items.make(**({"communities": 2} | arguments))
