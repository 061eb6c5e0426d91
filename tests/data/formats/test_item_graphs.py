"""The sources that ``--data`` of an item model accepts, and how their formats are detected."""

import csv

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxrec.config import PairsConfig
from jaxrec.data import formats, synthetic, synthetic_items
from jaxrec.data.formats.columns import Columns, EdgeColumns
from jaxrec.data.formats.item_graphs import detect_items, read_items, resolve_items
from jaxrec.data.itemgraph import ItemGraph
from jaxrec.errors import InputError

META = "{'asin': 'A', 'related': {'also_bought': ['B'], 'also_viewed': ['C']}}\n"
META += "{'asin': 'B'}\n{'asin': 'C'}\n"


def pairs(graph: ItemGraph) -> dict[tuple, float]:
    ends = (graph.item_ids[graph.src].tolist(), graph.item_ids[graph.dst].tolist())
    return dict(zip(zip(*ends, strict=True), graph.weight.tolist(), strict=True))


@pytest.fixture
def sources(tmp_path):
    """Write a source of every kind; return the paths by detected format."""
    synthetic_items.make(40, 90, communities=4).save(tmp_path / "graph")
    synthetic.make(30, 20, 90, communities=4).save(tmp_path / "data")
    (tmp_path / "meta.json").write_text(META)
    (tmp_path / "pairs.tsv").write_text("src\tdst\nx\ty\n")
    pl.DataFrame({"item1": [1, 2], "item2": [2, 3]}).write_parquet(tmp_path / "pairs.parquet")
    (tmp_path / "seen.csv").write_text("user,item\n1,x\n1,y\n")
    return {
        tmp_path / "graph": "prepared",
        tmp_path / "data": "co-occurrence",
        tmp_path / "meta.json": "amazon-meta",
        tmp_path / "pairs.tsv": "pairs",
        tmp_path / "pairs.parquet": "pairs",
        tmp_path / "seen.csv": "co-occurrence",
    }


def test_every_kind_of_source_is_detected_and_read(sources):
    for path, format in sources.items():
        assert detect_items(path) == format
        graph = resolve_items(str(path), PairsConfig())
        assert graph.n_pairs > 0
        if format != "prepared":
            assert read_items(path, format).fingerprint() == graph.fingerprint()


def test_synthetic_names_the_built_in_graph():
    graph = resolve_items("synthetic", PairsConfig())
    assert graph.fingerprint() == synthetic_items.embedded().fingerprint()


def test_repeated_pairs_are_summed_with_or_without_weights(tmp_path):
    path = tmp_path / "e.csv"
    path.write_text("weight;dst;src\n2;b;a\n0.5;a;b\n1;c;c\n1;a;d\n")
    graph = read_items(path)
    assert pairs(graph) == {("a", "b"): 2.5, ("a", "d"): 1.0}
    assert graph.notes == {"pairs of an item with itself": 1, "repeated pairs": 1}
    assert graph.item_ids.tolist() == ["a", "b", "c", "d"]
    path.write_text("7 10\n10 9\n")
    assert pairs(read_items(path, "pairs")) == {(7, 10): 1.0, (9, 10): 1.0}


IDS = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=4)


@given(
    st.lists(st.tuples(IDS, IDS, st.integers(1, 99)), min_size=1, max_size=20),
    st.sampled_from([",", "\t", ";"]),
)
def test_a_written_list_is_read_back_for_any_ids(tmp_path_factory, rows, separator):
    path = tmp_path_factory.getbasetemp() / "fuzzed.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter=separator, quoting=csv.QUOTE_ALL)
        writer.writerows([("src", "dst", "weight"), *rows])
    expected: dict[tuple[str, str], float] = {}
    for a, b, weight in rows:
        if a != b:
            key = (a, b) if a < b else (b, a)
            expected[key] = expected.get(key, 0) + weight
    if not expected:
        with pytest.raises(InputError, match="items but no pair"):
            read_items(path)
        return
    graph = read_items(path)
    found = {tuple(sorted(map(str, ends))): weight for ends, weight in pairs(graph).items()}
    assert found == expected
    assert sorted(map(str, graph.item_ids)) == sorted({x for a, b, _ in rows for x in (a, b)})


def test_columns_of_pairs_and_of_interactions_can_be_named(tmp_path):
    path = tmp_path / "e.csv"
    path.write_text("a,b,c\nx,y,3\n")
    named = EdgeColumns(src="c", dst="b", weight="")
    assert pairs(read_items(path, "pairs", columns=named)) == {("3", "y"): 1.0}
    path.write_text("a,b\n1,p\n1,q\n2,p\n2,q\n")
    graph = read_items(path, "co-occurrence", columns=Columns(user="a", item="b"))
    assert pairs(graph) == {("p", "q"): 2.0}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("src,dst,weight\na,b,1\na,c,0\n", r"e\.csv:3: weight 0 is not positive"),
        ("src,dst,weight\na,b,1\na,c,-1\n", r"e\.csv:3: weight -1 is not positive"),
        ("src,dst,weight\na,b,1\na,c,1e-60\n", r"e\.csv:3: weight 1e-60 is not positive"),
        ("src,dst,weight\na,b,heavy\n", r"e\.csv:2: weight 'heavy' is not a number"),
        ("src,dst,weight\na,b,nan\n", r"e\.csv:2: weight 'nan' is not a finite"),
        ("src,dst,weight\na,,1\n", r"e\.csv:2: the dst is missing"),
        ("src,dst,weight\na,b\n", r"e\.csv:2: 2 columns, where the first line has 3"),
        ("src,dst,weight\n", r"e\.csv: a header without"),
        ("", r"e\.csv: empty"),
    ],
)
def test_an_invalid_list_of_pairs_is_refused_with_its_line(tmp_path, text, said):
    (tmp_path / "e.csv").write_text(text)
    with pytest.raises(InputError, match=said):
        read_items(tmp_path / "e.csv", "pairs")


@pytest.mark.parametrize(
    ("frame", "said"),
    [
        ({"src": ["a", None], "dst": ["b", "c"]}, "row 2: the src is missing"),
        ({"src": ["a", "b"], "dst": ["b", "c"], "weight": [1.0, -2.0]}, "row 2: weight -2 is not"),
        ({"src": [1.5, 2.0], "dst": [1, 2]}, "row 1: src 1.5 is not a whole number"),
    ],
)
def test_parquet_faults_are_reported_by_row(tmp_path, frame, said):
    pl.DataFrame(frame).write_parquet(tmp_path / "e.parquet")
    with pytest.raises(InputError, match=said):
        read_items(tmp_path / "e.parquet")


def test_pairs_below_the_least_weight_are_dropped_but_their_items_stay(tmp_path):
    (tmp_path / "meta.json").write_text(META)
    graph = read_items(tmp_path / "meta.json", pairs=PairsConfig(min_weight=0.6))
    assert pairs(graph) == {("A", "B"): 1.0}
    assert graph.n_items == 3
    assert graph.notes == {"pairs lighter than 0.6": 1}


def test_features_and_cold_items_come_from_a_table(tmp_path):
    (tmp_path / "e.csv").write_text("src,dst\n10,9\n9,7\n")
    (tmp_path / "items.csv").write_text("item,kind\n9,tea\n8,coffee\n7,tea\n")
    with pytest.raises(InputError, match="item 8 is not in"):
        read_items(tmp_path / "e.csv", items=tmp_path / "items.csv")
    graph = read_items(tmp_path / "e.csv", items=tmp_path / "items.csv", cold_items=True)
    assert graph.item_ids.tolist() == [7, 8, 9, 10]
    assert pairs(graph) == {(7, 9): 1.0, (9, 10): 1.0}
    assert graph.item_features is not None
    assert graph.item_features.columns["kind"].missing().tolist() == [False, False, False, True]


def test_interactions_keep_their_features_and_respect_the_window(tmp_path):
    synthetic.make(30, 20, 90, communities=4, features=True).save(tmp_path / "data")
    graph = read_items(tmp_path / "data", pairs=PairsConfig(window=3600.0 * 24 * 30))
    whole = read_items(tmp_path / "data")
    assert 0 < graph.n_pairs < whole.n_pairs
    assert whole.item_features is not None
    assert list(whole.item_features.columns) == ["group", "tags", "level"]


def test_unsuitable_sources_and_options_are_refused_in_one_line(tmp_path, sources):
    for arguments, said in [
        ({"path": tmp_path / "none"}, "no such file or folder"),
        ({"path": tmp_path / "meta.json", "format": "amazon"}, "did you mean 'amazon-meta'"),
        ({"path": tmp_path / "meta.json", "columns": EdgeColumns()}, "no columns to name"),
        ({"path": tmp_path / "graph", "columns": EdgeColumns()}, "no columns to name"),
        ({"path": tmp_path / "data", "format": "pairs"}, "a list of pairs is a file that ends"),
        ({"path": tmp_path, "format": "amazon-meta"}, "no such file"),
        ({"path": tmp_path / "pairs.tsv", "strict": True}, "strict is for format amazon-meta"),
        ({"path": tmp_path / "pairs.tsv", "cold_items": True}, "needs a table that names them"),
    ]:
        with pytest.raises(InputError, match=said):
            read_items(**arguments)
    for path in (tmp_path / "graph", tmp_path / "meta.json"):
        with pytest.raises(InputError, match="for item models"):
            formats.read(path)


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("graph", {"also_bought": 2.0}),
        ("pairs.tsv", {"history": 50}),
        ("meta.json", {"window": 3.0}),
        ("seen.csv", {"buy_after_viewing": 1.0}),
    ],
)
def test_settings_without_effect_are_refused_by_name(sources, tmp_path, name, changed):
    (field,) = changed
    with pytest.raises(InputError, match=rf"pairs\.{field} has an effect only where"):
        read_items(tmp_path / name, pairs=PairsConfig(**changed))
    with pytest.raises(InputError, match=rf"synthetic: pairs\.{field} has an effect only where"):
        resolve_items("synthetic", PairsConfig(**changed))


def test_whole_number_ids_of_a_frame_stay_numbers(sources, tmp_path):
    graph = read_items(tmp_path / "pairs.parquet")
    assert graph.item_ids.dtype == np.int64
