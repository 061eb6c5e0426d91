"""Test times in text: ISO 8601 against Python's parser, other forms against values by hand."""

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
        ("1.4.2014 12:00", NOON),
        ("01.04.2014", NOON - 43_200),
        ("01.04.2014, 12:00:00,5", NOON + 0.5),
        ("1.4.2014T14:00+02:00", NOON),
        ("1.4.2014 12:00 PM", NOON),
        ("1.4.2014 12:00:00 am", NOON - 43_200),
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
        *("31.02.2014", "1.13.2014", "1.4.14", "1.4/2014", "1.4.2014 13:00 PM", "1.4.0x14"),
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


@settings(max_examples=100)
@given(st.lists(st.tuples(_moments, st.sampled_from("T "), st.booleans()), max_size=6))
def test_columns_of_mixed_forms_are_read_as_python_reads_each(drawn):
    texts = [
        moment.isoformat(sep, "microseconds" if fine else "seconds") for moment, sep, fine in drawn
    ]
    made = times.of_texts(pl.Series(texts, dtype=pl.String))
    expected = [datetime.fromisoformat(text) for text in texts]
    in_zone = [moment if moment.tzinfo else moment.replace(tzinfo=UTC) for moment in expected]
    assert made.seconds.to_list() == pytest.approx([moment.timestamp() for moment in in_zone])
    assert made.notes == {
        "times without a zone, read as UTC": sum(m.tzinfo is None for m in expected)
    }


@settings(max_examples=100)
@given(st.lists(st.text(max_size=30)))
def test_any_text_is_a_moment_or_null(texts):
    made = times.of_texts(pl.Series(texts, dtype=pl.String))
    assert len(made.seconds) == len(texts)


@pytest.mark.parametrize("mark", ["/", "-"])
def test_dates_of_two_orders_are_read_in_the_order_that_is_given(mark):
    texts = [
        f"1{mark}4{mark}2014 {clock}" for clock in ("12:00", "12:00:00.0", "12:00 pm", "12:00Z")
    ]
    for order, change in ((times.DAY_FIRST, 0), (times.MONTH_FIRST, -87 * 86_400)):
        made = times.of_texts(pl.Series([*texts, "2014-04-01T12:00Z", "1.4.2014 12:00"]), order)
        assert made.seconds.to_list() == [NOON + change] * 4 + [NOON] * 2
        assert made.notes == {"times without a zone, read as UTC": 4}
        again = times.of_column(pl.Series([texts[0], "5"]), order)
        assert again.seconds.to_list() == [NOON + change, 5]
        assert all(times.is_moment(text, order) for text in texts)
    assert not any(map(times.is_moment, texts))
    assert all(map(times.is_unordered, texts))


def test_the_order_of_dates_is_told_by_numbers_above_12():
    def order(*blocks: list[str | None]) -> str:
        return times.order(pl.LazyFrame({"text": block}) for block in blocks)

    assert order(["1/2/2024", None], ["x", " 13/1/2024 10:00"]) == times.DAY_FIRST
    assert order(["1-2-2024"], ["1-13-2024"], ["2024-13-13"]) == times.MONTH_FIRST
    assert order(["1/2/2024", "13/1/20241", "13.1.2024"]) == times.UNTOLD
    assert order(["13/1/2024"], ["1/13/2024"]) == times.MIXED
    assert not times.is_unordered("13/13/2024")
    assert not times.is_unordered("1.2.2024")


def of_numbers(*numbers: float) -> tuple[list[float], dict[str, int]]:
    made = times.of_numbers(pl.Series("time", [float(number) for number in numbers]))
    return made.seconds.to_list(), {what: count for what, count in made.notes.items() if count}


def test_finer_units_than_seconds_become_seconds_and_are_said():
    second, parts = 1_396_867_869.277, {"milli": 1e3, "micro": 1e6, "nano": 1e9}
    for unit, many in parts.items():
        note = f"times in {unit}seconds, converted to seconds"
        assert of_numbers(round(second * many)) == ([second], {note: 1})
    numbers = [-5, 0, 2014, 20_140_401_105_100]
    assert of_numbers(*numbers) == (numbers, {})


def test_units_that_are_mixed_and_times_that_are_none_are_counted():
    mixed = [1_396_867_869, 1_396_867_870_000, 1_396_867_871_000]
    note = (
        "times in milliseconds (the unit of each is inferred from its size), converted to seconds"
    )
    assert of_numbers(*mixed) == ([1_396_867_869, 1_396_867_870, 1_396_867_871], {note: 2})
    odd = [1_396_867_869, 0, -5, 1e30, 1_396_867_870]
    assert of_numbers(*odd) == (odd, {"times before 1970 or after 2100, kept as they are": 3})


@pytest.mark.parametrize(
    ("number", "form"),
    [(20140401, "%Y%m%d"), (201404011200, "%Y%m%d%H%M"), (20140401120000, "%Y%m%d%H%M%S")],
)
def test_a_column_of_dates_in_digits_is_one_of_dates(number, form):
    found, notes = of_numbers(number, number)
    assert found == [NOON if "H" in form else NOON - 43_200] * 2
    assert notes[f"times such as {number}, read as dates ({form})"] == 2
    past = number + 99 * (1 if form == "%Y%m%d" else 10 ** (len(str(number)) - 8))  # no such day
    assert of_numbers(number, past)[0] != found


@pytest.mark.parametrize(
    ("cells", "forms"),
    [
        (["4/1/2014", "12/31/2014"], ["%m/%d/%Y"]),
        (["4/1/2014", "2/3/2014"], ["%m/%d/%Y", "%d/%m/%Y"]),
        (["1.4.2014 10:51", "", "31.12.2014 00:00"], ["%d.%m.%Y %H:%M"]),
        (["April 1, 2014", "Dec 31, 2014"], ["%B %d, %Y"]),
        (["04 1, 2014"], ["%m %d, %Y"]),
        (["4/1/2014 1:05 PM", "4/13/2014 12:05 AM"], ["%m/%d/%Y %I:%M %p"]),
        (["4/1/2014", "soon"], []),
        ([], []),
    ],
)
def test_the_forms_that_read_all_cells_are_found(cells, forms):
    assert times.fitting(cells) == forms
    for form in forms:
        assert times.of_texts(pl.Series(cells), form).seconds.null_count() == cells.count("")


@pytest.mark.parametrize("form", ["%Q", "%", "", "soon", "%H:%M"])
def test_a_form_that_makes_no_date_is_refused(form):
    with pytest.raises(InputError, match="gives no date; write it"):
        times.check_form(form)
