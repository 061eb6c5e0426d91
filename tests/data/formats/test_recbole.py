"""Test the settings that RecBole's YAML file gives to its atomic files."""

import pytest

from jaxrec.data.dataset import Dataset
from jaxrec.data.formats import Columns, read, yaml_subset
from jaxrec.errors import InputError

HEADER = "who:token\twhat:token\trating:float\tat:float\n"
INTER = f"{HEADER}u1\ti1\t5\t7\nu2\ti1\t3\t8\nu1\ti2\t1\t9\n"
ITEM = "what:token\ttags:token_seq\tprice:float\ni1\ta b\t3\ni2\tb\t4\n"
YAML = "USER_ID_FIELD: who\nITEM_ID_FIELD: what\nTIME_FIELD: at   # seconds\n"


@pytest.fixture
def folder(tmp_path):
    """Return a function that writes a data set with these settings, and its folder."""

    def make(settings: str, **files: str):
        folder = tmp_path / "shop"
        folder.mkdir(exist_ok=True)
        (folder / "shop.yaml").write_text(settings)
        for name, text in ({"inter": INTER, "item": ITEM} | files).items():
            (folder / f"shop.{name}").write_text(text)
        return folder

    return make


def rows(data: Dataset) -> list[tuple]:
    columns = [data.user_ids[data.user], data.item_ids[data.item]]
    columns += [c for c in (data.rating, data.time) if c is not None]
    return list(zip(*(column.tolist() for column in columns), strict=True))


def test_the_settings_name_the_columns(folder):
    data = read(folder(YAML))
    assert rows(data) == [("u1", "i1", 5, 7), ("u1", "i2", 1, 9), ("u2", "i1", 3, 8)]
    expected = "user <- `who`, item <- `what`, rating <- `rating`, time <- `at`, by shop.yaml"
    assert data.reading[0] == f"shop.inter: {expected}"
    assert rows(read(folder(YAML) / "shop.inter")) == rows(data)
    named = read(folder(YAML), columns=Columns(time="rating", rating=""))
    assert named.time is not None
    assert named.time.tolist() == [5, 1, 3]


def test_only_columns_that_the_settings_load_are_read(folder):
    data = read(
        folder(f"{YAML}load_col:\n    inter: [who, what, at]\n    item:\n    - what\n    - tags\n")
    )
    assert rows(data) == [("u1", "i1", 7), ("u1", "i2", 9), ("u2", "i1", 8)]
    assert data.item_features is not None
    assert list(data.item_features.columns) == ["tags"]
    assert read(folder(f"{YAML}load_col: {{inter: [who, what]}}\n")).item_features is None
    data = read(folder(f"{YAML}unload_col:\n  inter: rating\n  item: [tags]\n"))
    assert data.rating is None
    assert data.item_features is not None
    assert list(data.item_features.columns) == ["price"]


def test_separators_of_cells_and_of_sequences(folder):
    inter, item = (text.replace("\t", ";") for text in (INTER, ITEM.replace("a b", "a c|b")))
    data = read(folder(f'{YAML}field_separator: ";"\nseq_separator: "|"\n', inter=inter, item=item))
    assert rows(data) == rows(read(folder(YAML)))
    assert data.item_features is not None
    assert data.item_features.arrays()["tags:bag:names"].tolist() == ["", "a c", "b"]


def test_files_of_a_split_and_the_repeat_that_stays(folder):
    parts = {"old.inter": INTER, "new.inter": f"{HEADER}u2\ti2\t4\t10\nu2\ti2\t2\t11\n"}
    path = folder(f"{YAML}benchmark_filename: [old, new]\nrm_dup_inter: first\n", **parts)
    (path / "shop.inter").unlink()
    data = read(path)
    assert data.split is not None
    assert sorted(data.split.tolist()) == [0, 0, 0, 2]
    assert ("u2", "i2", 4, 10) in rows(data)
    (path / "shop.new.inter").unlink()
    with pytest.raises(InputError, match=r"new\.inter: no such file, which benchmark_filename of"):
        read(path)


def test_filters_are_named_and_not_applied(folder):
    filters = 'val_interval: {rating: "[3,inf)"}\nuser_inter_num_interval: "[2,inf)"\n'
    data = read(folder(f'{YAML}{filters}item_inter_num_interval: "[0,inf)"\n'))
    assert data.n_edges == 3
    assert "its user_inter_num_interval is not applied: --filter.user-core" in data.reading[0]
    assert "its val_interval is not applied: --filter.min-rating" in data.reading[0]
    assert "item_inter" not in data.reading[0]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ("USER_ID_FIELD: buyer\nITEM_ID_FIELD: what\n", r"shop\.inter:1: no column 'buyer', which"),
        ("USER_ID_FIELD: [who]\n", r"shop\.yaml: USER_ID_FIELD must be a text"),
        ("load_col: who\n", r"shop\.yaml: load_col must be a mapping"),
        ("field_separator: ab\n", r"shop\.yaml: field_separator: separator 'ab' cannot separate"),
        ("benchmark_filename: [a, b, c, d]\n", r"must name two or three files"),
        ("a: 1\nload_col: &x [a]\n", r"shop\.yaml:2: not a key with a text, a list or a mapping"),
        ("a: 1\n   b: 2\n", r"shop\.yaml:2: not a key"),
        ("a: [b, {c: d\n", r"shop\.yaml:1: not a key"),
        ("- a\n", r"shop\.yaml:1: not a key"),
        ("a: |\n  b\n", r"shop\.yaml:1: not a key"),
    ],
)
def test_what_cannot_be_read_is_named(folder, settings, said):
    with pytest.raises(InputError, match=said):
        read(folder(settings))


def test_the_yaml_that_is_read(tmp_path):
    text = (
        '---\n# a comment\nplain: a text # and why\nurl: http://x#y\nquoted: "a \\"b\\"\\t#"\n'
        "single: 'it''s'\nnothing: ~\nempty:\nflow: [a, 'b, c', {d: [1, 2], e: ~}]\n"
        "block:\n  deep:\n  - x y\n  - [z]\n  other: {}\n'odd key': 1.5\n"
    )
    assert yaml_subset.parse(tmp_path, text) == {
        "plain": "a text",
        "url": "http://x#y",
        "quoted": 'a "b"\t#',
        "single": "it's",
        "nothing": None,
        "empty": None,
        "flow": ["a", "b, c", {"d": ["1", "2"], "e": None}],
        "block": {"deep": ["x y", ["z"]], "other": {}},
        "odd key": "1.5",
    }
