"""Test which arrays a hand-made data set accepts and refuses, and that it survives saving."""

import datetime
import inspect
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest

from jaxrec.data import array_checks
from jaxrec.data.dataset import Dataset, Exposed
from jaxrec.data.features import Category, Column, Features, Number
from jaxrec.data.itemgraph import ItemGraph
from jaxrec.errors import InputError

USER, ITEM = np.array([0, 0, 1, 2]), np.array([2, 0, 1, 1])


def new(*arrays: Any, **columns: Any) -> Dataset:
    """Build a Dataset without the type checks of the test run, which users do not have."""
    data = object.__new__(Dataset)
    inspect.unwrap(Dataset.__init__)(data, *arrays, **columns)
    return data


def made(user_ids: Any = ("a", "b", "c"), item_ids: Any = (7, 8, 9), **columns: Any) -> Dataset:
    """Build four pairs of three users and three items; ``columns`` replace arrays."""
    return new(**{"user": USER, "item": ITEM} | columns, user_ids=user_ids, item_ids=item_ids)


def of_pairs(*arrays: Any) -> ItemGraph:
    """Build an ItemGraph without the type checks of the test run."""
    return inspect.unwrap(ItemGraph.of_pairs.__func__)(ItemGraph, *arrays)


TEXTS = ["ann", "bob", "zoë"]
WHOLE = [3, -1, 2**40]
IDS = {
    "list of texts": (TEXTS, TEXTS),
    "tuple of numbers": ((3, -1, 2**40), WHOLE),
    "unicode": (np.array(TEXTS), TEXTS),
    "other byte order": (np.array(TEXTS).astype(">U3"), TEXTS),
    "bytes": (np.array([x.encode() for x in TEXTS]), TEXTS),
    "bytes in objects": (np.array([b"x", b"y", "z"], object), ["x", "y", "z"]),
    "objects": (np.array(TEXTS, object), TEXTS),
    "numpy texts in objects": (np.array([np.str_(x) for x in TEXTS], object), TEXTS),
    "StringDtype": (np.array(TEXTS, "T"), TEXTS),
    "int8": (np.array([3, -1, 2], np.int8), [3, -1, 2]),
    "big-endian": (np.array(WHOLE, ">i8"), WHOLE),
    "uint64": (np.array([1, 2, 3], np.uint64), [1, 2, 3]),
    "uint64 beyond int64": (np.array([1, 2, 2**64 - 1], np.uint64), ["1", "2", str(2**64 - 1)]),
    "integers beyond int64": ([1, 2, 10**30], ["1", "2", str(10**30)]),
    "numbers in objects": (np.array([3, np.int64(-1), 2**40], object), WHOLE),
    "mixed": ([1, "a", 2.0], ["1", "a", "2"]),
    "whole floats": (np.array([1.0, 2.0, 3.0]), [1, 2, 3]),
    "polars texts": (pl.Series(TEXTS), TEXTS),
    "polars numbers": (pl.Series(WHOLE), WHOLE),
    "polars categories": (pl.Series(TEXTS, dtype=pl.Categorical), TEXTS),
}


@pytest.mark.parametrize("name", IDS)
def test_ids_of_many_types_are_taken_and_come_back_from_disk(name, tmp_path):
    given, expected = IDS[name]
    data = made(given, given)
    data.save(tmp_path / "out")
    back = Dataset.load(tmp_path / "out", verify=True)
    assert back.user_ids.tolist() == back.item_ids.tolist() == expected
    assert back.user_ids.dtype.kind in "iU"
    of_pairs([0], [1], [1.0], given).save(tmp_path / "graph")
    assert ItemGraph.load(tmp_path / "graph").item_ids.tolist() == expected


PANDAS = {
    "Index": lambda pd: pd.Index(TEXTS),
    "Series": lambda pd: pd.Series(TEXTS, index=[5, 6, 7]),
    "object": lambda pd: pd.Series(TEXTS, dtype=object),
    "string": lambda pd: pd.array(TEXTS, dtype="string"),
    "string[pyarrow]": lambda pd: pd.array(TEXTS, dtype="string[pyarrow]"),
    "category": lambda pd: pd.Series(TEXTS, dtype="category"),
    "Categorical": lambda pd: pd.Categorical(TEXTS),
    "Int64": lambda pd: pd.array(WHOLE, dtype="Int64"),
    "int64[pyarrow]": lambda pd: pd.Series(WHOLE, dtype="int64[pyarrow]"),
    "float64": lambda pd: pd.Series([3.0, -1.0, float(2**40)]),
}


@pytest.mark.parametrize("name", PANDAS)
def test_columns_of_pandas_are_taken_and_come_back_from_disk(name, tmp_path):
    pd = pytest.importorskip("pandas")
    if "pyarrow" in name:
        pytest.importorskip("pyarrow")
    made(PANDAS[name](pd)).save(tmp_path / "out")
    assert Dataset.load(tmp_path / "out").user_ids.tolist() in (TEXTS, WHOLE)


def test_factorize_gives_what_a_dataset_takes():
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({"user": ["b", "a", "b"], "item": [5, 5, 6], "plays": [1, 2, 3]})
    user, users = pd.factorize(frame.user)
    item, items = pd.factorize(frame.item)
    data = new(user, item, users, items, weight=frame.plays)
    assert data.user.tolist() == [0, 1, 0]
    assert data.user.dtype == np.int32
    assert data.user_ids.tolist() == ["b", "a"]
    assert data.weight is not None
    assert data.weight.dtype == np.float32
    with pytest.raises(InputError, match="the id at index 1 is missing"):
        made(pd.array(["a", None, "c"], dtype="string"))
    with pytest.raises(InputError, match="is missing"):
        made(pd.array([1, None, 3], dtype="Int64"))


@pytest.mark.parametrize(
    ("ids", "said"),
    [
        (["a", "b", "a"], "_ids: id 'a' is repeated"),
        ([1, 2, 1], "id 1 is repeated"),
        ([1, "1", 2], "id '1' is repeated"),
        (["a", "", "b"], "the id at index 1 is empty"),
        (["a", None, "b"], "the id at index 1 is missing"),
        (np.array(["a", np.nan, "b"], object), "the id at index 1 is missing"),
        ([1.0, np.nan, 3.0], "at index 1 is missing"),
        (np.array([1.0, np.nan, 3.0]), "nan at index 1 is missing"),
        ([1.0, 2.5, 3.0], "not a whole number"),
        (np.array([1.0, 2.0, 2.0**60]), r"not a whole number up to 2\^53"),
        (np.array([True, False, True]), "dtype bool are neither"),
        ([True, False, 3], "is a bool, neither"),
        (np.array(["2020-01-01", "2021-01-01", "2022-01-01"], "M8[D]"), "datetime64.* are neither"),
        ([datetime.date(2020, 1, n) for n in (1, 2, 3)], "is a date, neither"),
        ([b"\xff", b"a", b"b"], "not UTF-8"),
        ("abc", "must be a list or a one-dimensional array, not str"),
        (np.eye(3), "must have one axis, but has 2"),
        (np.ma.masked_equal([1, 2, 3], 2), "is masked"),
    ],
)
def test_ids_that_are_none_are_refused(ids, said):
    with pytest.raises(InputError, match=said):
        made(ids)
    with pytest.raises(InputError, match=said):
        of_pairs(np.array([0]), np.array([1]), np.ones(1), ids)


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"user": [0, 0, 1, 3]}, "user: row number 3 is outside the id table of 3"),
        ({"user": USER + 100}, "row number 102 is outside the id table"),
        ({"item": [0, -1, 1, 1]}, "item: row number -1 is outside the id table"),
        ({"item": [0, 1]}, "item has 2 values for 4 pairs"),
        ({"user": USER.astype(float)}, "user has dtype float64, but must hold row numbers"),
        ({"user": ["a", "a", "b", "c"]}, "must hold row numbers"),
        ({"user": np.zeros((4, 1), np.int32)}, "must have one axis, but has 2"),
        ({"rating": [1, 2, 3]}, "rating has 3 values for 4 pairs"),
        ({"rating": [1, 2, np.nan, 3]}, "rating holds nan at index 2"),
        ({"rating": [1, 2, None, 3]}, "rating holds nan at index 2|must be numbers"),
        ({"rating": ["1", "2", "x", "3"]}, "must be numbers"),
        ({"rating": np.array(["1", "2", "3", "4"])}, "must be numbers, not"),
        ({"rating": np.full(4, 1e39)}, r"rating holds 1e\+39 at index 0"),
        ({"rating": np.ones(4, complex)}, "must be numbers, not"),
        ({"time": [1, 2, np.inf, 3]}, "time holds inf at index 2"),
        (
            {"time": np.array(["2020", "NaT", "2020", "2020"], "M8[s]")},
            "the value at index 1 is missing",
        ),
        ({"weight": [1, 2, np.nan, 3]}, "weight holds nan at index 2"),
        ({"weight": [1, 2, 0, 3]}, "weight holds 0 at index 2, but weights must be positive"),
        ({"weight": [1, 2, -3, 3]}, "weight holds -3 at index 2"),
        ({"weight": [1, 2, np.inf, 3]}, "weight holds inf at index 2"),
        ({"weight": [1, 2, 1e-42, 3]}, "weights must be positive"),
        ({"weight": np.full(4, 3e38)}, "has a sum that is too large for float32"),
        ({"split": [0, 1, 2, 3]}, "split must only hold 0"),
        ({"split": ["train"] * 4}, "split must only hold 0"),
        ({"exposed": Exposed(np.array([0, 3]), np.array([0, 1]))}, "exposed user: row number 3"),
        ({"exposed": Exposed(np.array([0]), np.array([9]))}, "exposed item: row number 9"),
        ({"exposed": Exposed(np.array([0]), np.array([1, 2]))}, "exposed item has 2 values for 1"),
        (
            {"exposed": Exposed(np.array([0]), np.array([1]), np.array([np.nan]))},
            "exposed time holds nan",
        ),
    ],
)
def test_columns_that_are_not_sound_are_refused_when_the_data_is_made(columns, said):
    with pytest.raises(InputError, match=said):
        made(**columns)


def test_numbers_of_other_types_are_brought_to_the_one_that_is_kept(tmp_path):
    moments = np.array(["1970-01-01T00:00:10", "2020-01-01", "2020-01-02", "2020-01-03"], "M8[ns]")
    data = made(
        rating=[1, 2, 3, 4],
        weight=np.array([1, 2, 3, 4], np.int64),
        split=[0, 1, 2, 0],
        time=moments,
        exposed=Exposed(np.array([1]), np.array([2])),
    )
    data.save(tmp_path / "out")
    back = Dataset.load(tmp_path / "out", verify=True)
    assert back.fingerprint() == data.fingerprint()
    assert back.time is not None
    assert back.time.tolist() == [10.0, 1577836800.0, 1577923200.0, 1578009600.0]


def test_no_pairs_and_no_ids_are_a_data_set_too(tmp_path):
    data = new([], [], [], [])
    data.save(tmp_path / "out")
    assert Dataset.load(tmp_path / "out").n_edges == 0


@pytest.mark.parametrize(
    ("column", "said"),
    [
        (Number(np.zeros(3)), "column 'x': value is not valid"),
        (Number(np.array([1, np.inf, 2], np.float32)), "column 'x': value is not valid"),
        (Category(np.array([0, 1, 2], np.int32), np.array(["", "a"])), "column 'x': code is not"),
        (Category(np.array([0, 1, 1], np.int32), np.array(["a", "b"])), "column 'x': names is not"),
    ],
)
def test_features_that_are_not_sound_are_refused(column: Column, said):
    with pytest.raises(InputError, match=said):
        made(user_features=Features({"x": column}))
    pairs = np.array([0], np.int32), np.array([1], np.int32), np.ones(1, np.float32)
    with pytest.raises(InputError, match=said):
        ItemGraph(*pairs, np.arange(3), Features({"x": column}))


@pytest.mark.parametrize(
    ("a", "b", "weight", "said"),
    [
        ([-1], [1], [1], "row number -1 is outside"),
        ([0], [5], [1], "row number 5 is outside"),
        ([0, 1], [1], [1], "b has 1 values for 2 pairs"),
        ([0], [1], [np.nan], "weight holds nan"),
        ([0, 1], [1, 0], [3, -1], "weight holds -1"),
    ],
)
def test_pairs_of_items_are_checked_before_they_add_up(a, b, weight, said):
    with pytest.raises(InputError, match=said):
        of_pairs(a, b, weight, np.arange(5))


def test_what_was_checked_once_is_not_sorted_again(monkeypatch):
    """Parts of a large data set share its id tables, so only a new table is checked."""
    data = made(np.array(["c", "a", "b"]))
    looked = []
    real = array_checks.id_array
    monkeypatch.setattr(array_checks, "id_array", lambda *given: looked.append(1) or real(*given))
    monkeypatch.setattr(array_checks, "rows", lambda *given: pytest.fail("take checks nothing"))
    part = data.take(np.array([True, False, True, False]))
    assert part.user.tolist() == [0, 1]
    assert part.user_ids is data.user_ids
    monkeypatch.undo()
    monkeypatch.setattr(array_checks, "id_array", lambda *given: looked.append(1) or real(*given))
    again = replace(part, name="again")
    assert again.user_ids is data.user_ids
    assert not looked
    replace(part, user_ids=np.array(["x", "y", "z"]))
    assert looked


@pytest.mark.parametrize("ids", [{"a", "b", "c"}, {"a": 0}, "abc", None, 3])
def test_what_is_no_list_of_ids_is_named(ids):
    kind = type(ids).__name__
    with pytest.raises(InputError, match=f"user_ids must be a list or .*, not {kind}"):
        made(user_ids=ids)


@pytest.mark.parametrize("column", ["rating", "weight"])
def test_dates_are_taken_as_times_alone(column):
    dates = np.array(["2020-01-01"] * 4, "M8[D]")
    np.testing.assert_array_equal(made(time=dates).time, np.full(4, 1577836800.0))
    with pytest.raises(InputError, match=f"{column} must be numbers, not dates"):
        made(**{column: dates})


def test_no_path_is_refused_in_a_line():
    with pytest.raises(InputError, match=r"path must not be a builtins\.NoneType"):
        array_checks.refuse_foreign(None, option="path")
