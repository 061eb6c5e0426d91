"""Moments in text: ISO 8601 against Python's own reader, other forms against values by hand."""

from datetime import UTC, datetime, timedelta, timezone

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxrec.data import times
from jaxrec.errors import InputError

NOON = datetime(2014, 4, 1, 12, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2014-04-01", NOON - 43_200),
        ("2014-04-01T12:00:00Z", NOON),
        ("2014-04-01T12:00:00.277Z", NOON + 0.277),
        ("2014-04-01 12:00:00,5", NOON + 0.5),
        ("2014-04-01 12:00", NOON),
        ("2014-04-01 14:00:00+02:00", NOON),
        ("2014-04-01t12:00:00 UTC", NOON),
        ("2014/04/01 08:30 -0330", NOON),
        ("20140401T120000", NOON),
        ("20140401T1400+02", NOON),
        ("2014-04-01T24:00", NOON + 43_200),
        ("2014-04-01T12:00:60Z", NOON + 60),
        ("Tue Apr 01 12:00:00 +0000 2014", NOON),
        ("Tue Apr  1 05:00:00 -0700 2014", NOON),
        ("Tue Apr  1 12:00:00 2014", NOON),
        ("1969-12-31T23:59:59Z", -1),
    ],
)
def test_known_forms(text, seconds):
    assert times.parse(text) == seconds
    assert times.parse(f" {text} ") == seconds
    assert times.is_moment(text)


@pytest.mark.parametrize(
    "text",
    [
        *("", "soon", "2014", "20140401", "2014-13-01", "2014-02-30", "2014-04-01T", "12:00:00"),
        *("2014-04-01T25:00", "2014-04-01T24:01", "2014-04-01T12:61", "2014-04-01T12:00+25:00"),
        *("01/04/2014", "Tue Foo 01 12:00:00 2014", "2014-04-01T12:00:00ZZ", "٢٠١٤-04-01"),
    ],
)
def test_what_is_no_moment_is_refused(text):
    assert not times.is_moment(text)
    with pytest.raises(InputError, match="is not a date or a time; write it as 2014-04-01"):
        times.parse(text)


_zones = st.sampled_from([None, UTC, timezone(timedelta(hours=5, minutes=45))])
_moments = st.builds(
    datetime.replace, st.datetimes(datetime(1, 1, 3), datetime(9999, 12, 29)), tzinfo=_zones
)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(_moments, st.sampled_from("T "), st.booleans()), max_size=6))
def test_columns_of_mixed_forms_are_read_as_python_reads_each(drawn):
    texts = [
        moment.isoformat(sep, "microseconds" if fine else "seconds") for moment, sep, fine in drawn
    ]
    made = times.of_texts(pl.Series(texts, dtype=pl.String))
    expected = [datetime.fromisoformat(text) for text in texts]
    in_zone = [moment if moment.tzinfo else moment.replace(tzinfo=UTC) for moment in expected]
    assert made.seconds.to_list() == pytest.approx([moment.timestamp() for moment in in_zone])
    assert made.zoneless == sum(moment.tzinfo is None for moment in expected)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.text(max_size=30)))
def test_any_text_is_a_moment_or_null(texts):
    made = times.of_texts(pl.Series(texts, dtype=pl.String))
    assert len(made.seconds) == len(texts)


def test_finer_units_than_seconds_become_seconds():
    numbers = [-5.0, 0, 2014, 1_396_867_869, 20_140_401_105_100]
    fine = [1_396_867_869_277.0, 1_396_867_869_277_000.0, 1_396_867_869_277_000_000.0]
    made = times.scaled(pl.Series([*numbers, *fine]))
    assert made.to_list() == [*numbers, *[1_396_867_869.277] * 3]
    assert times.scaled(pl.Series(numbers)).to_list() == numbers
