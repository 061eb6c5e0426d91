"""Interactions in Parquet tables: types of columns, faults and repeated pairs."""

from datetime import UTC, datetime

import polars as pl
import pytest

from jaxrec.data.dataset import REPEATED
from jaxrec.data.formats import Columns, TextOptions, read
from jaxrec.errors import InputError


@pytest.fixture
def reading(tmp_path):
    """Write columns as Parquet and read them."""

    def go(content: dict, **options):
        path = tmp_path / "a.parquet"
        pl.DataFrame(content, strict=False).write_parquet(path)
        return read(path, **options)

    return go


def test_types_of_ids_and_times(reading):
    moments = [datetime(2001, 9, 9, 1, 46, 40, tzinfo=UTC), datetime(1970, 1, 2, tzinfo=UTC)]
    data = reading(
        {
            "user": pl.Series([2.0, 1.0]),
            "sku": pl.Series(["b", "a"], dtype=pl.Categorical),
            "rating": pl.Series([1, 5], dtype=pl.UInt8),
            "time": moments,
            "unused": [[1], [2]],
        }
    )
    assert data.user_ids.tolist() == [1, 2]
    assert data.item_ids.tolist() == ["a", "b"]
    assert data.time is not None
    assert data.time.tolist() == [86_400.0, 1e9]
    assert data.rating is not None
    assert data.rating.tolist() == [5.0, 1.0]
    assert data.notes == {"unsorted lines": 1}


def test_ids_beyond_int64_become_text(reading):
    big = pl.Series([2**64 - 1, 3], dtype=pl.UInt64)
    assert reading({"user": big, "item": [1, 2]}).user_ids.tolist() == [str(2**64 - 1), "3"]


def test_event_weights(reading):
    columns = {"user": [1, 1], "item": [5, 5], "behavior": ["pv", "buy"]}
    data = reading(columns, event_weights={"pv": 1.0, "buy": 4.0})
    assert data.weight is not None
    assert data.weight.tolist() == [5.0]
    with pytest.raises(InputError, match=r"row 2: event 'buy' has no weight.*mean 'buyy'"):
        reading(columns, event_weights={"pv": 1.0, "buyy": 4.0})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"user": [1, None, 3]}, "row 2: the user is missing"),
        ({"item": ["a", "b", ""]}, "row 3: item '' is an empty text"),
        ({"user": [1.0, 2.0, 2.5]}, "row 3: user 2.5 is not a whole number"),
        ({"user": [1.0, float("nan"), 2.0]}, "row 2: user nan is missing"),
        ({"user": [[1], [2], [3]]}, r"column user has type List\(Int64\)"),
        ({"user": [True, False, True]}, "column user has type Boolean"),
        ({"rating": [1.0, 2.0, float("nan")]}, "row 3: rating nan is not a finite number"),
        ({"rating": [1.0, float("inf"), 2.0]}, "row 2: rating inf is not a finite number"),
        ({"rating": ["1", "2", "abc"]}, "row 3: rating 'abc' is not a number"),
        ({"rating": [1.0, None, 2.0]}, "row 2: the rating is missing"),
        ({"time": [[1], [2], [3]]}, "column time has type List"),
    ],
)
def test_faults_name_their_row(reading, change, message):
    columns = {"user": [1, 2, 3], "item": ["a", "b", "c"], "rating": [1.0, 2.0, 3.0]}
    with pytest.raises(InputError, match=f"a.parquet: {message}"):
        reading(columns | change)


def test_a_missing_column_is_reported_with_the_existing_ones(reading):
    with pytest.raises(InputError, match=r"no column 'usr'; it has user, item .*mean 'user'"):
        reading({"user": [1], "item": [2]}, columns=Columns(user="usr"))


@pytest.mark.parametrize("keep", [3, 20, -1])
def test_a_truncated_file_is_refused(tmp_path, keep):
    path = tmp_path / "a.parquet"
    pl.DataFrame({"user": range(1_000), "item": range(1_000)}).write_parquet(path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(InputError, match=r"a\.parquet: not a Parquet file, or a damaged"):
        read(path)


def test_a_table_without_rows_is_refused(reading):
    with pytest.raises(InputError, match=r"a\.parquet: empty"):
        reading({"user": [], "item": []})


def test_the_same_pair_in_two_files_is_counted(tmp_path):
    pl.DataFrame({"user": [1, 2], "item": [3, 4]}).write_parquet(tmp_path / "train.parquet")
    pl.DataFrame({"user": [5, 2], "item": [3, 4]}).write_parquet(tmp_path / "test.parquet")
    assert read(tmp_path).notes[REPEATED] == 1


def test_times_in_text_and_in_finer_units(reading):
    texts = ["2014-04-01T10:51:00Z", "2014-04-01 12:51:01+02:00"]
    seconds = [1396349460.0, 1396349461.0]
    for times in (texts, [1396349460000, 1396349461000], ["1396349460", "1396349461"]):
        data = reading({"user": [1, 2], "item": [3, 4], "timestamp": times})
        assert data.time is not None
        assert data.time.tolist() == seconds
    data = reading({"user": [1, 2], "item": [3, 4], "date": ["4/1/2014", "4/2/2014"]})
    assert data.time is None
    assert data.reading == (
        "a.parquet: user <- `user`, item <- `item`; not used: date "
        "('4/1/2014': no line tells whether the day or the month comes first; --time-format "
        "'day first' or --time-format 'month first' settles it)",
    )
    with pytest.raises(InputError, match="row 2: time 'soon' is not a number"):
        reading({"user": [1, 2], "item": [3, 4], "time": [texts[0], "soon"]})


def test_faulty_rows_are_skipped_and_counted(reading):
    content = {
        "user": [1, None, 3, 4, 5],
        "item": ["a", "b", "", "d", "e"],
        "rating": ["1", "2", "3", "x", "5"],
        "time": [5.0, 4.0, 3.0, 2.0, float("nan")],
    }
    with pytest.raises(InputError, match="row 2: the user is missing"):
        reading(content)
    with pytest.raises(InputError, match="row 4: rating 'x' is not a number"):
        reading(content, text=TextOptions(skip_missing_ids=True))
    data = reading(content, text=TextOptions(skip_bad_lines=True))
    assert (data.user_ids.tolist(), data.item_ids.tolist()) == ([1], ["a"])
    assert data.notes == {
        "left out: no user": 1,
        "left out: no item": 1,
        "left out: rating not a number": 1,
        "left out: no time": 1,
    }
    few = {name: content[name] for name in ("user", "item")}
    assert reading(few, text=TextOptions(skip_missing_ids=True)).user_ids.tolist() == [1, 4, 5]
    with pytest.raises(InputError, match="no row is left"):
        reading({"user": [None], "item": [1]}, text=TextOptions(skip_missing_ids=True))
