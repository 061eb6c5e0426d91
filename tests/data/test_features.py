"""Test typed columns: taking rows, converting to arrays and back, and refusing wrong arrays."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxrec.data.features import Bag, Category, Features, Number, Vector

NAMES = np.array(["", "a", "b", "c"])


def _int32(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.int32)


def every_type() -> Features:
    """Return four rows of features of every type; the second row has no values."""
    return Features(
        {
            "year": Number(np.array([1990, np.nan, 2000, 2010], np.float32)),
            "maker": Category(_int32(1, 0, 3, 1), NAMES),
            "tags": Bag(_int32(0, 2, 2, 3, 6), _int32(1, 3, 2, 1, 2, 3), NAMES),
            "look": Vector(np.array([[1, 2], [np.nan] * 2, [3, 4], [5, 6]], np.float32)),
        }
    )


@pytest.fixture
def features() -> Features:
    return every_type()


def rows(features: Features) -> list[tuple]:
    """Return every row in plain Python, with None for missing values."""
    columns = []
    for column in features.columns.values():
        if isinstance(column, Category):
            values = [column.names[c] for c in column.code]
        elif isinstance(column, Bag):
            values = [column.names[c].tolist() for c in np.split(column.code, column.indptr[1:-1])]
        else:
            values = column.value.tolist()
        missing = column.missing()
        columns.append([None if gone else v for v, gone in zip(values, missing, strict=True)])
    return list(zip(*columns, strict=True))


def test_rows_and_what_is_missing(features):
    assert features.n_rows == 4
    assert rows(features) == [
        (1990.0, "a", ["a", "c"], [1.0, 2.0]),
        (None, None, None, None),
        (2000.0, "c", ["b"], [3.0, 4.0]),
        (2010.0, "a", ["a", "b", "c"], [5.0, 6.0]),
    ]
    assert Features({}).n_rows == 0


@settings(max_examples=60)
@given(index=st.lists(st.integers(-1, 3), min_size=1, max_size=8))
def test_take_is_indexing_and_minus_one_is_missing(index):
    whole = every_type()
    taken = whole.take(np.array(index, np.int64))
    before = rows(whole)
    assert rows(taken) == [before[r] if r >= 0 else (None,) * 4 for r in index]
    assert taken.fault(len(index)) is None


def test_no_rows_may_be_taken(features):
    none = features.take(np.arange(0))
    assert none.fault(0) is None
    assert none.take(np.array([-1])).fault(1) is None


def test_arrays_and_back(features):
    arrays = features.arrays()
    assert list(arrays) == [
        *("year:number:value", "maker:category:code", "maker:category:names"),
        *("tags:bag:indptr", "tags:bag:code", "tags:bag:names", "look:vector:value"),
    ]
    assert rows(Features.from_arrays(arrays)) == rows(features)
    odd = Features({"a:bag:b": features.columns["year"]})
    assert list(Features.from_arrays(odd.arrays()).columns) == ["a:bag:b"]


@pytest.mark.parametrize(
    "names", [["x:number:value", "x:category:code"], ["x:y:z"], ["x"], ["x:bag:code"]]
)
def test_names_of_no_feature_are_refused(names):
    with pytest.raises((KeyError, TypeError, ValueError)):
        Features.from_arrays(dict.fromkeys(names, np.zeros(0)))


@pytest.mark.parametrize(
    ("column", "change", "fault"),
    [
        ("year", {"value": np.zeros(4)}, "year:number:value"),
        ("year", {"value": np.zeros(5, np.float32)}, "year:number:value"),
        ("maker", {"code": _int32(1, 0, 4, 1)}, "maker:category:code"),
        ("maker", {"code": _int32(1, 0, -1, 1)}, "maker:category:code"),
        ("maker", {"names": NAMES[1:]}, "maker:category:names"),
        ("maker", {"names": np.arange(4)}, "maker:category:names"),
        ("tags", {"indptr": _int32(0, 2, 2, 3)}, "tags:bag:indptr"),
        ("tags", {"indptr": _int32(0, 2, 1, 3, 6)}, "tags:bag:indptr"),
        ("tags", {"indptr": _int32(0, 2, 2, 3, 7)}, "tags:bag:indptr"),
        ("tags", {"code": _int32(1, 1, 2, 1, 2, 3)}, "tags:bag:code"),
        ("tags", {"code": _int32(0, 3, 2, 1, 2, 3)}, "tags:bag:code"),
        ("look", {"value": np.zeros(4, np.float32)}, "look:vector:value"),
    ],
)
def test_a_fault_names_its_array(features, column, change, fault):
    assert features.fault(4) is None
    harmed = features.columns | {column: replace(features.columns[column], **change)}
    assert Features(harmed).fault(4) == fault


def test_rows_must_be_as_many_as_asked_for(features):
    assert features.fault(5) == "year:number:value"


def test_a_category_as_a_bag(features):
    bag = features.columns["maker"].as_bag()
    assert bag.fault() is None
    assert rows(Features({"maker": bag})) == [(["a"],), (None,), (["c"],), (["a"],)]
