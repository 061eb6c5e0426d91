"""Test that schemas use train rows only, survive JSON, and read other vocabularies."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxrec.data.features import Bag, Category, Features, Number, Vector
from jaxrec.data.schema import Schema, encode, fit
from jaxrec.errors import InputError

NAN = np.nan


def _names(*names: str) -> np.ndarray:
    return np.array(["", *names])


def _bag(lists: list[list[int]], names: np.ndarray) -> Bag:
    indptr = np.cumsum([0, *map(len, lists)]).astype(np.int32)
    return Bag(indptr, np.array([c for row in lists for c in row], np.int32), names)


def _features() -> Features:
    return Features(
        {
            "price": Number(np.array([1, 3, NAN, 100], np.float32)),
            "same": Number(np.array([0.1, 0.1, 0.1, 5], np.float32)),
            "maker": Category(np.array([2, 1, 0, 3], np.int32), _names("a", "b", "new")),
            "tags": _bag([[1, 3], [], [3], [1, 2, 3]], _names("x", "y", "z")),
            "look": Vector(np.array([[1, 2], [NAN, NAN], [3, 4], [5, 6]], np.float32)),
        }
    )


TRAIN = np.arange(3)


def test_only_the_rows_that_training_sees_count():
    schema = fit(_features(), TRAIN)
    assert schema.numbers["price"] == (2.0, 1.0)
    assert schema.numbers["same"].std == 1.0
    assert schema.categories == {"maker": ("", "a", "b")}
    assert schema.bags == {"tags": (("", "x", "z"), 2)}
    assert schema.vectors == {"look": 2}
    assert (schema.category_sizes, schema.bag_sizes, schema.n_numbers) == ((3,), (3,), 7)


def test_encoded_arrays():
    found = encode(_features(), fit(_features(), TRAIN))
    assert found.number.dtype == np.float32
    np.testing.assert_allclose(
        found.number,
        [
            [-1, 0, 0, 0, 1, 2, 0],
            [1, 0, 0, 0, 0, 0, 1],
            [0, 0, 1, 0, 3, 4, 0],
            [98, 4.9, 0, 0, 5, 6, 0],
        ],
        rtol=1e-6,
    )
    assert [c.tolist() for c in found.category] == [[2, 1, 0, 0]]
    assert [b.tolist() for b in found.bag] == [[[1, 2], [0, 0], [2, 0], [1, 2]]]
    assert {a.dtype for a in (*found.category, *found.bag)} == {np.dtype(np.int32)}


def test_a_schema_survives_json():
    schema = fit(_features(), TRAIN)
    back = Schema.from_dict(json.loads(json.dumps(schema.to_dict())))
    assert back == schema
    for one, other in zip(encode(_features(), back), encode(_features(), schema), strict=True):
        np.testing.assert_equal(one, other)


def test_other_vocabularies_absent_and_extra_columns():
    schema = fit(_features(), TRAIN)
    other = Features(
        {
            "tags": _bag([[1, 2, 3], [2]], _names("new", "x", "z")),
            "maker": Category(np.array([1, 2], np.int32), _names("b", "unheard")),
            "extra": Number(np.array([1, 2], np.float32)),
        }
    )
    found = encode(other, schema)
    np.testing.assert_array_equal(found.number, [[0, 0, 1, 1, 0, 0, 1]] * 2)
    assert found.category[0].tolist() == [2, 0]
    assert found.bag[0].tolist() == [[1, 2], [1, 0]]


def test_longer_rows_are_cut_and_order_is_the_schemas():
    schema = fit(Features({"t": _bag([[1], [2]], _names("b", "a"))}), np.arange(2))
    assert schema.bags["t"] == (("", "a", "b"), 1)
    both = encode(Features({"t": _bag([[1, 2]], _names("b", "a"))}), schema)
    assert both.bag[0].tolist() == [[1]]


def test_no_rows_and_nothing_but_missing():
    empty = _features().take(np.full(2, -1))
    schema = fit(empty, np.arange(2))
    assert schema.numbers["price"] == (0.0, 1.0)
    assert (schema.category_sizes, schema.bag_sizes, schema.bags["tags"].width) == ((1,), (1,), 1)
    found = encode(_features(), schema)
    assert not found.category[0].any()
    assert not found.bag[0].any()
    assert encode(_features().take(np.arange(0)), schema).number.shape == (0, 7)
    assert fit(_features(), np.arange(0)).numbers["price"] == (0.0, 1.0)
    assert encode(Features({}), fit(Features({}), np.arange(0))).number.shape == (0, 0)


def test_a_category_stands_for_a_bag_and_an_empty_column_for_any():
    schema = fit(_features(), TRAIN)
    names = _names("x", "z")
    one = Features(
        {
            "tags": Category(np.array([2, 0], np.int32), names),
            "price": Category(np.zeros(2, np.int32), _names()),
        }
    )
    found = encode(one, schema)
    assert found.bag[0].tolist() == [[2, 0], [0, 0]]
    assert found.number[:, 2].tolist() == [1, 1]


@pytest.mark.parametrize(
    ("name", "column", "message"),
    [
        ("price", Category(np.ones(1, np.int32), _names("a")), "is a category here, but was a num"),
        ("maker", Number(np.ones(1, np.float32)), "is a number here, but was a category"),
        ("maker", _bag([[1]], _names("a")), "is a bag here, but was a category"),
        ("tags", Number(np.ones(1, np.float32)), "is a number here, but was a bag"),
        ("look", Vector(np.ones((1, 3), np.float32)), "has 3 numbers per row, but 2"),
    ],
)
def test_another_type_is_refused_by_name(name, column, message):
    with pytest.raises(InputError, match=f"feature '{name}' {message}"):
        encode(Features({name: column}), fit(_features(), TRAIN))


@settings(max_examples=40)
@given(index=st.lists(st.integers(-1, 3), min_size=1, max_size=6))
def test_encoding_and_taking_rows_commute(index):
    schema, rows = fit(_features(), TRAIN), np.array(index)
    taken = encode(_features().take(rows), schema)
    padded = encode(_features().take(np.array([0, 1, 2, 3, -1])), schema)
    np.testing.assert_array_equal(taken.number, padded.number[rows])
    np.testing.assert_array_equal(taken.category[0], padded.category[0][rows])
    np.testing.assert_array_equal(taken.bag[0], padded.bag[0][rows])
