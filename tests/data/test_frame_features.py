"""Test features from frames keyed by id: types of columns, order of rows, and every refusal."""

from datetime import date

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxrec.data.features import Bag, Category, Features, Number, Vector
from jaxrec.data.frame_features import from_frame
from jaxrec.errors import InputError


def _made(columns: dict, ids=(1, 2, 3), **options) -> Features:
    frame = pl.DataFrame({"id": [1, 2, 3]} | columns, strict=False)
    return from_frame(
        frame, "id", np.array(ids), lambda row: f"a.csv:{row + 2}", kind="item", **options
    )


def _values(column) -> list:
    if isinstance(column, Category):
        return column.names[column.code].tolist()
    if isinstance(column, Bag):
        return [column.names[c].tolist() for c in np.split(column.code, column.indptr[1:-1])]
    return [
        None if gone else v for v, gone in zip(column.value.tolist(), column.missing(), strict=True)
    ]


@pytest.mark.parametrize(
    ("cells", "kind", "values"),
    [
        ([1, None, 3], Number, [1, None, 3]),
        ([1.5, float("nan"), 3], Number, [1.5, None, 3]),
        ([date(1970, 1, 2), None, date(1970, 1, 1)], Number, [86_400, None, 0]),
        (["b", None, "a"], Category, ["b", "", "a"]),
        ([" b ", " ", "é"], Category, ["b", "", "é"]),
        (["1", "2", "3"], Category, ["1", "2", "3"]),
        ([None, None, None], Category, ["", "", ""]),
        ([True, False, None], Category, ["true", "false", ""]),
        (pl.Series(["a|b", "", "c"], dtype=pl.Categorical), Category, ["a|b", "", "c"]),
        (["b|a", "", "c"], Bag, [["a", "b"], [], ["c"]]),
        (["b|a|b||", None, "|"], Bag, [["a", "b"], [], []]),
        ([["x", "y", "x"], [], None], Bag, [["x", "y"], [], []]),
        ([[10, 9], [9], None], Bag, [["10", "9"], ["9"], []]),
        ([[1.0, 2.0], None, [3.0, 4.0]], Vector, [[1, 2], None, [3, 4]]),
        ([[1.0, 2.0], [], [float("nan")] * 2], Vector, [[1, 2], None, None]),
        (
            pl.Series([[1, 2], [3, 4], None], dtype=pl.Array(pl.Int8, 2)),
            Vector,
            [[1, 2], [3, 4], None],
        ),
    ],
)
def test_the_type_of_a_column_tells_what_it_becomes(cells, kind, values):
    column = _made({"x": cells}).columns["x"]
    assert isinstance(column, kind)
    assert _values(column) == values
    assert column.fault() is None


def test_rows_follow_the_ids_and_names_are_sorted():
    features = _made({"x": ["b", "a", "c"], "n": [1, 2, 3]}, ids=(3, 9, 1), unknown="drop")
    assert _values(features.columns["x"]) == ["c", "", "b"]
    assert _values(features.columns["n"]) == [3, None, 1]
    assert features.arrays()["x:category:names"].tolist() == ["", "b", "c"]


@pytest.mark.parametrize("ids", [np.array([1, 2, 10]), np.array(["1", "10", "2"])])
@pytest.mark.parametrize("keys", [[10, 1, 2], ["10", "1", "2"]])
def test_ids_are_compared_by_their_text(ids, keys):
    frame = pl.DataFrame({"id": keys, "x": [10, 1, 2]})
    features = from_frame(frame, "id", ids, str, kind="user")
    assert _values(features.columns["x"]) == ids.astype(int).tolist()


def test_another_separator():
    column = _made({"x": ["a;b", "b|c", ""]}, bag_separator=";").columns["x"]
    assert _values(column) == [["a", "b"], ["b|c"], []]


def _frame(size: int) -> pl.DataFrame:
    rng = np.random.default_rng(size)
    return pl.DataFrame(
        {
            "id": rng.permutation(size),
            "year": rng.integers(1900, 2000, size),
            "maker": rng.choice(["x", "y", "", "z"], size),
            "tags": [
                [f"t{tag}" for tag in rng.integers(0, 5, rng.integers(0, 4))] for _ in range(size)
            ],
            "look": rng.random((size, 3)),
        },
        schema_overrides={"tags": pl.List(pl.String)},
    )


@settings(max_examples=40)
@given(size=st.integers(1, 12), data=st.data())
def test_taking_rows_and_reordering_ids_commute(size, data):
    order = np.array(data.draw(st.permutations(range(size))))
    ids, frame = np.arange(size), _frame(size)
    taken = from_frame(frame, "id", ids, str, kind="item").take(order).arrays()
    shuffled = frame[data.draw(st.permutations(range(size)))]
    made = from_frame(shuffled, "id", ids[order], str, kind="item").arrays()
    assert taken.keys() == made.keys()
    for name, array in taken.items():
        np.testing.assert_array_equal(made[name], array)
        assert made[name].dtype == array.dtype


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"id": [1, 2, 2], "x": [1, 2, 3]}, r"csv:4: item 2 is already at a\.csv:3"),
        ({"id": [1, None, 2], "x": [1, 2, 3]}, "csv:3: the item is missing"),
        ({"id": ["1", "", "2"], "x": [1, 2, 3]}, "csv:3: the item is missing"),
        ({"id": [1, 9, 2], "x": [1, 2, 3]}, "csv:3: item 9 is not in the .*: --cold-items"),
        ({"x": [1.0, 2.0, float("-inf")]}, "csv:4: x -inf is not a finite number"),
        ({"x": [1.0, 1e300, 2.0]}, r"csv:3: x 1e\+300 is not a finite number"),
        (
            {"x": [[1.0], None, [1.0, 2.0]]},
            r"csv:4: x has length 2, but length 1 at a\.csv:2; give",
        ),
        ({"x": [None, [1.0, None], [1.0, 2.0]]}, "csv:3: x lacks some of its 2 numbers"),
        ({"x": [[1.0, 2.0], [2.0, float("inf")], None]}, "csv:3: x inf is not a finite"),
        ({"x": [{"a": 1}] * 3}, r"csv:1: column 'x' cannot be a feature \(Struct.*leave it out"),
        ({}, "csv:1: no column besides 'id'"),
    ],
)
def test_refusals_name_the_row(columns, message):
    with pytest.raises(InputError, match=f"a.{message}"):
        _made(columns)


@pytest.mark.parametrize(("numbers", "refused"), [(8, False), (9, True), (30, True)])
def test_numbers_with_a_text_among_them_are_refused(numbers, refused):
    texts = ["1", "", *map(str, range(numbers - 1)), "n/a"]
    frame = pl.DataFrame({"id": range(len(texts)), "x": texts})

    def read():
        ids = np.arange(len(texts))
        return from_frame(frame, "id", ids, lambda row: f"a.csv:{row + 2}", kind="item")

    if refused:
        line = len(texts) + 1
        with pytest.raises(InputError, match=rf"a\.csv:{line}: x 'n/a' is not a number, in a col"):
            read()
    else:
        assert isinstance(read().columns["x"], Category)


def test_a_missing_id_column_names_the_nearest():
    frame = pl.DataFrame({"item_id": [1], "x": [2]})
    with pytest.raises(InputError, match=r"no column 'itemid' \(did you mean 'item_id'"):
        from_frame(frame, "itemid", np.array([1]), str, kind="item")


def test_dropped_rows_are_not_looked_at():
    columns = {"id": [1, 9, 2], "x": [1.0, float("inf"), 3.0]}
    assert _values(_made(columns, unknown="drop").columns["x"]) == [1, 3, None]
