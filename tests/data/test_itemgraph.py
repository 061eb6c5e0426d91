import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxrec.data import synthetic_items
from jaxrec.data.features import Category, Features
from jaxrec.data.itemgraph import ItemGraph
from jaxrec.errors import InputError

PAIRS = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6), st.integers(1, 4)), max_size=40)


@pytest.fixture
def graph() -> ItemGraph:
    return synthetic_items.make(40, 90, communities=4, missing=0.3)


def of(pairs: list[tuple[int, int, int]], n_items: int = 7) -> ItemGraph:
    a, b, weight = (np.array([row[n] for row in pairs], np.int32) for n in range(3))
    return ItemGraph.of_pairs(a, b, weight.astype(np.float32), np.arange(n_items))


@given(PAIRS)
def test_directions_and_repeats_add_up_and_self_pairs_go(pairs):
    expected: dict[tuple[int, int], float] = {}
    for a, b, weight in pairs:
        if a != b:
            key = (min(a, b), max(a, b))
            expected[key] = expected.get(key, 0) + weight
    graph = of(pairs)
    found = zip(graph.src.tolist(), graph.dst.tolist(), strict=True)
    assert dict(zip(found, graph.weight.tolist(), strict=True)) == expected
    assert graph.keys().tolist() == sorted(graph.keys().tolist())


@given(PAIRS)
def test_adjacency_is_the_dense_symmetric_matrix(pairs):
    graph = of(pairs)
    dense = np.zeros((7, 7), np.float32)
    for a, b, weight in zip(graph.src, graph.dst, graph.weight, strict=True):
        dense[a, b] = dense[b, a] = weight
    near = graph.adjacency()
    assert near.indices.dtype == np.int32
    assert near.weight.dtype == np.float32
    for i in range(7):
        row = slice(near.indptr[i], near.indptr[i + 1])
        assert near.indices[row].tolist() == np.flatnonzero(dense[i]).tolist()
        assert near.weight[row].tolist() == dense[i][dense[i] > 0].tolist()
    assert near.degree.tolist() == graph.degree().tolist() == (dense > 0).sum(axis=1).tolist()


def test_a_saved_graph_comes_back_memory_mapped_and_with_its_features(graph, tmp_path):
    graph = dataclasses.replace(graph, notes={"pairs of an item with itself": 2})
    graph.save(tmp_path / "out")
    back = ItemGraph.load(tmp_path / "out", verify=True)
    assert isinstance(back.src, np.memmap)
    assert back.fingerprint() == graph.fingerprint()
    assert (back.name, back.notes) == (graph.name, graph.notes)
    assert back.item_features is not None
    assert graph.item_features is not None
    assert list(back.item_features.columns) == ["group", "tags", "level"]
    with pytest.raises(InputError, match="exists already"):
        graph.save(tmp_path / "out")


def test_the_fingerprint_tells_of_every_part(graph):
    bare = dataclasses.replace(graph, item_features=None)
    heavier = dataclasses.replace(graph, weight=graph.weight * 2)
    renamed = dataclasses.replace(graph, item_ids=np.char.add(graph.item_ids, "x"))
    prints = {g.fingerprint() for g in (graph, bare, heavier, renamed)}
    assert len(prints) == 4
    assert dataclasses.replace(graph, name="other").fingerprint() == graph.fingerprint()


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("src", lambda x: x[::-1].copy()),
        ("dst", lambda x: np.where(np.arange(len(x)) == 3, 40, x).astype(np.int32)),
        ("weight", lambda x: np.where(np.arange(len(x)) == 3, 0, x).astype(np.float32)),
        ("weight", lambda x: x.astype(np.float64)),
        ("item_ids", lambda x: x[:-1]),
        ("item_features.0", lambda x: x[:-1]),
    ],
)
def test_a_damaged_folder_is_refused(graph, tmp_path, name, damage):
    graph.save(tmp_path / "out")
    path = tmp_path / "out" / f"{name}.npy"
    np.save(path, damage(np.load(path)))
    with pytest.raises(InputError, match=r"does not match manifest\.json"):
        ItemGraph.load(tmp_path / "out")


def test_a_flipped_weight_shows_in_the_fingerprint(graph, tmp_path):
    graph.save(tmp_path / "out")
    path = tmp_path / "out" / "weight.npy"
    np.save(path, np.load(path) * np.float32(2))
    ItemGraph.load(tmp_path / "out")
    with pytest.raises(InputError, match="differs from its fingerprint"):
        ItemGraph.load(tmp_path / "out", verify=True)


def test_another_folder_is_no_item_graph(graph, tmp_path):
    graph.save(tmp_path / "out")
    manifest = tmp_path / "out" / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"format": "other"}))
    with pytest.raises(InputError, match="not a manifest of version"):
        ItemGraph.load(tmp_path / "out")


@pytest.mark.parametrize(
    ("src", "dst", "weight", "said"),
    [
        ([1, 0], [2, 1], [1, 1], "not sorted"),
        ([0, 0], [1, 1], [1, 1], "occurs twice"),
        ([1], [1], [1], "not in order"),
        ([0], [9], [1], "outside the id table"),
        ([0], [1], [0], "not a positive"),
        ([0], [1], [np.inf], "not a positive"),
        ([0], [1, 2], [1], "different lengths"),
    ],
)
def test_arrays_that_are_no_graph_are_refused_by_name(src, dst, weight, said):
    arrays = (np.array(src, np.int32), np.array(dst, np.int32), np.array(weight, np.float32))
    with pytest.raises(InputError, match=said):
        ItemGraph(*arrays, np.arange(5))


def test_features_of_another_number_of_items_are_refused(graph):
    short = Features({"x": Category(np.zeros(3, np.int32), np.array([""]))})
    with pytest.raises(InputError, match="3 rows for 40 items"):
        dataclasses.replace(graph, item_features=short)
