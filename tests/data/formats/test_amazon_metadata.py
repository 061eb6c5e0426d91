"""Product metadata: its products are read, its faults are counted or refused, no code is run."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from jaxrec.config import PairsConfig
from jaxrec.data.features import Category
from jaxrec.data.formats import amazon_metadata, compressed
from jaxrec.data.itemgraph import ItemGraph
from jaxrec.errors import InputError

WEIGHTS = PairsConfig().relations()


def read(path: Path, lines: list[object], *, strict: bool = False) -> ItemGraph:
    """Write lines and read them: texts and bytes unchanged, products as Python literals."""
    content = [x if isinstance(x, bytes) else str(x).encode() for x in lines]
    path.write_bytes(b"\n".join(content) + b"\n")
    return amazon_metadata.read(path, WEIGHTS, strict=strict)


def product(asin: object, **fields: object) -> dict[str, object]:
    related = {k: fields.pop(k) for k in list(fields) if k in WEIGHTS}
    return {"asin": asin, **fields} | ({"related": related} if related else {})


def pairs(graph: ItemGraph) -> dict[tuple[str, str], float]:
    ends = (graph.item_ids[graph.src].tolist(), graph.item_ids[graph.dst].tolist())
    return dict(
        zip(zip(*ends, strict=True), np.round(graph.weight.astype(float), 4).tolist(), strict=True)
    )


def names(graph: ItemGraph, column: str) -> list[str]:
    assert graph.item_features is not None
    found = graph.item_features.columns[column]
    assert isinstance(found, Category)
    assert (found.names[1:] == np.sort(found.names[1:])).all()
    return found.names[found.code].tolist()


def test_weights_are_summed_over_relations_directions_and_repeats(tmp_path):
    graph = read(
        tmp_path / "m.json",
        [
            product("B", also_bought=["A", "C", "C"], also_viewed=["A"]),
            product("A", also_bought=["B"], bought_together=["C"], buy_after_viewing=["C"]),
            product("C"),
            product("D"),
        ],
    )
    assert graph.item_ids.tolist() == ["A", "B", "C", "D"]
    assert pairs(graph) == {("A", "B"): 2.5, ("A", "C"): 1.2, ("B", "C"): 2.0}
    assert graph.notes == {}
    assert graph.name == "m"


def test_relations_have_the_given_weights_and_weight_0_skips_one(tmp_path):
    path = tmp_path / "m.json"
    read(path, [product("A", also_bought=["B"], buy_after_viewing=["C"]), *map(product, "BC")])
    asked = PairsConfig(also_bought=0.0, buy_after_viewing=0.25).relations()
    assert pairs(amazon_metadata.read(path, asked)) == {("A", "C"): 0.25}


@pytest.mark.parametrize("written", ["python", "json", "python-gz", "json-gz", "windows"])
def test_the_same_products_in_any_notation_give_the_same_graph(tmp_path, written):
    products = [
        product("A", title="5\" tin, 'new'\n", brand='Bön\'s "best"', also_bought=["B", "C"]),
        product("B", description="a\tb \\ c", price=4.5, also_viewed=["C"]),
        product("C", categories=[["Food", "Tea", "Green tea"], ["Food", "Gifts"]], brand=None),
    ]
    lines = [json.dumps(p) if "json" in written else repr(p) for p in products]
    text = "\n".join(lines) + "\n"
    if written == "windows":
        text = "\ufeff" + text.replace("\n", "\r\n") + "\r\n"
    path = tmp_path / "meta"
    path.write_bytes(gzip.compress(text.encode()) if "gz" in written else text.encode())
    graph = amazon_metadata.read(path, WEIGHTS, strict=True)
    assert pairs(graph) == {("A", "B"): 1.0, ("A", "C"): 1.0, ("B", "C"): 0.5}
    assert names(graph, "brand") == ['Bön\'s "best"', "", ""]
    assert names(graph, "price") == ["", "2 to 5", ""]


def test_category_columns_are_the_levels_of_the_first_path(tmp_path):
    graph = read(
        tmp_path / "m.json",
        [
            product("A", categories=[["Food", "Tea", "Green"], ["Gifts"]], also_bought=["B"]),
            product("B", categories=[["Food", "Coffee", "Green"]]),
            product("C", categories=[["Food"]]),
            product("D", categories=["Food", "Tea"]),
            product("E", categories=[]),
            product("F", categories="Food"),
        ],
    )
    assert graph.item_features is not None
    assert list(graph.item_features.columns) == ["category_2", "category_3"]
    assert names(graph, "category_2") == ["Food > Tea", "Food > Coffee", "", "Food > Tea", "", ""]
    assert names(graph, "category_3")[:2] == ["Food > Tea > Green", "Food > Coffee > Green"]


@pytest.mark.parametrize(
    ("price", "bucket"),
    [
        *((0.5, "under 1"), (1, "1 to 2"), (19.99, "10 to 20"), (5000, "1000 and more")),
        *(("$12.50", "10 to 20"), ("1,250", "1000 and more"), (0, "under 1")),
        *((-3, ""), ("free", ""), (None, ""), (True, ""), (float("inf"), ""), ([3], "")),
    ],
)
def test_prices_become_ranges_and_invalid_prices_are_missing(tmp_path, price, bucket):
    line = json.dumps([product("A", price=price, also_bought=["B"]), product("B", price=3.0)])
    graph = read(tmp_path / "m.json", [json.dumps(p) for p in json.loads(line)])
    assert names(graph, "price") == [bucket, "2 to 5"]


BROKEN: list[tuple[object, str]] = [
    ("{'asin': 'X', 'related':", "not a product"),
    ("not a product at all", "not a product"),
    ("['asin']", "not a product"),
    (b"{'asin': '\xff'}", "not a product"),
    (b"\x00\x01\x02\x80\xfe", "not a product"),
    ("[" * 100_000, "not a product"),
    ("-" * 100_000 + "1", "not a product"),
    ("{'asin': '" + "x" * amazon_metadata.LONGEST_LINE + "'}", "a line longer than"),
    ({"title": "no id"}, "no asin"),
    ({"asin": ""}, "no asin"),
    ({"asin": ["A"]}, "no asin"),
    ({"asin": "a\0b"}, "no asin"),
    ({"asin": "x" * 65}, "no asin"),
    ({"asin": "A"}, "a product that an earlier line already describes"),
    ({"asin": "X", "related": ["A"]}, "related is not a table of lists"),
    ({"asin": "X", "related": {"also_bought": "A"}}, "also_bought is not a list of ids"),
    ({"asin": "X", "related": {"also_bought": ["A", 3]}}, "also_bought is not a list of ids"),
    (
        {"asin": "X", "related": {"also_bought": ["A", "NONE"]}},
        "a related item that is not a product",
    ),
]


@pytest.mark.parametrize(("line", "fault"), BROKEN, ids=range(len(BROKEN)))
def test_a_broken_line_is_counted_or_refused_if_strict(tmp_path, line, fault):
    lines = [product("A", also_bought=["B"]), "", line, product("B")]
    graph = read(tmp_path / "m.json", lines)
    assert pairs(graph)["A", "B"] == 1.0
    ((told, count),) = graph.notes.items()
    assert told.startswith(fault)
    assert told.endswith("at line 3")
    assert count == 1
    with pytest.raises(InputError, match=rf"m\.json:3: {fault}.*fix or drop the line"):
        read(tmp_path / "m.json", lines, strict=True)


def test_faults_are_counted_and_their_first_lines_are_named(tmp_path):
    lines = [product("A", also_bought=["B"]), product("B"), *["junk"] * 9]
    lines.append(product("C", also_bought=["N1", "N2", "C"]))
    assert read(tmp_path / "m.json", lines).notes == {
        "not a product (a Python literal or a JSON object), at line 3, 4, 5, 6, 7, ...": 9,
        "a related item that is not a product, at line 12": 2,
        "related to itself, at line 12": 1,
    }


def test_a_product_related_to_itself_is_accepted(tmp_path):
    graph = read(
        tmp_path / "m.json", [product("A", also_bought=["A", "B"]), product("B")], strict=True
    )
    assert pairs(graph) == {("A", "B"): 1.0}


@pytest.mark.parametrize("cut", [0.5, 0.9])
def test_a_truncated_gzip_file_keeps_its_readable_products(tmp_path, cut):
    rng = np.random.default_rng(0)
    text = "".join(
        f"{product(f'A{n}', also_bought=[f'A{k}' for k in rng.integers(0, 2000, 9)])}\n"
        for n in range(2000)
    )
    packed = gzip.compress(text.encode())
    path = tmp_path / "m.json.gz"
    path.write_bytes(packed[: int(len(packed) * cut)])
    graph = amazon_metadata.read(path, WEIGHTS)
    assert 100 < graph.n_items < 2000
    (told,) = (note for note in graph.notes if "damaged" in note)
    assert int(told.rpartition(" ")[2]) == pytest.approx(graph.n_items, abs=1)
    with pytest.raises(InputError, match="damaged or ends early"):
        amazon_metadata.read(path, WEIGHTS, strict=True)


def test_files_without_any_product_are_refused(tmp_path):
    for content, said in [
        (b"", "empty"),
        (b"\n\n", "empty"),
        (gzip.compress(b""), "empty"),
        (b"\x1f\x8b junk", "m: damaged or truncated"),
        (bytes(range(256)) * 40, r"m:1: not a product .* no line of the file is a product"),
        (b"user,item\n1,2\n", r"m:1: not a product"),
    ]:
        (tmp_path / "m").write_bytes(content)
        with pytest.raises(InputError, match=said):
            amazon_metadata.read(tmp_path / "m", WEIGHTS)


def test_nothing_is_evaluated(tmp_path):
    trap = tmp_path / "trap"
    call = f"__import__('pathlib').Path({str(trap)!r}).touch()"
    lines = [
        call,
        f"{{'asin': {call}}}",
        f"{{'asin': 'A', 'related': [x for x in [{call}]]}}",
        f"{{'asin': f'{{{call}}}'}}",
    ]
    graph = read(tmp_path / "m.json", [*lines, product("B", also_bought=["C"]), product("C")])
    assert not trap.exists()
    assert graph.item_ids.tolist() == ["B", "C"]
    assert sum(graph.notes.values()) == 4


TEXTS = st.text(max_size=12)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(TEXTS, VALUES, max_size=6))
def test_literals_and_json_are_parsed_as_python_and_json_parse_them(value):
    try:
        written = repr(value).encode()
    except UnicodeEncodeError:
        return
    if "inf" not in repr(value):
        assert amazon_metadata.parse(written) == value
    assert amazon_metadata.parse(json.dumps(value).encode()) == value


@settings(max_examples=200)
@given(
    st.lists(st.binary(max_size=60) | st.text(alphabet="{}[]()'\"\\,: uNone1-.asin", max_size=60))
)
def test_a_product_is_read_among_arbitrary_other_lines(tmp_path_factory, lines):
    path = tmp_path_factory.getbasetemp() / "fuzzed.json"
    content = [x if isinstance(x, bytes) else x.encode() for x in lines]
    path.write_bytes(b"\n".join([*content, b"{'asin': 'Z'}"]))
    assume(compressed.kind_of(path) is None)  # compressed files are recognised by their first bytes
    graph = amazon_metadata.read(path, WEIGHTS)
    assert "Z" in graph.item_ids.tolist()
    assert len(graph.item_ids) + sum(graph.notes.values()) <= path.read_bytes().count(b"\n") + 1


@pytest.mark.parametrize("head", [b"\x1f\x8b", b"\xfd7zXZ\0", b"BZh9"])
def test_a_compressed_file_without_a_whole_line_is_reported_as_damaged(head, tmp_path):
    path = tmp_path / "meta.json.gz"
    path.write_bytes(head)
    with pytest.raises(InputError, match="damaged or truncated"):
        amazon_metadata.read(path, WEIGHTS)


FIELDS = st.fixed_dictionaries(
    {"asin": st.sampled_from(["A", "B", "C"]) | VALUES},
    optional={
        "related": st.dictionaries(st.sampled_from([*WEIGHTS, "other"]), VALUES) | VALUES,
        **dict.fromkeys(("brand", "categories", "price"), VALUES),
    },
)


@settings(max_examples=60)
@given(st.lists(FIELDS, max_size=6))
def test_arbitrary_fields_give_a_valid_graph(tmp_path_factory, products):
    path = tmp_path_factory.getbasetemp() / "fields.json"
    path.write_text("\n".join(json.dumps(p) for p in [product("Z"), *products]))
    graph = amazon_metadata.read(path, WEIGHTS)
    assert "Z" in graph.item_ids.tolist()
    assert graph.fingerprint() == amazon_metadata.read(path, WEIGHTS).fingerprint()


def test_the_grocery_set_has_its_known_counts(real_data):
    graph = amazon_metadata.read(
        real_data / "amazon-grocery" / "meta.json.gz", WEIGHTS, strict=True
    )
    assert (graph.n_items, graph.n_pairs, graph.notes) == (8713, 232332, {})
    assert graph.item_features is not None
    assert list(graph.item_features.columns) == ["category_2"]
    assert len(set(names(graph, "category_2"))) == 57
