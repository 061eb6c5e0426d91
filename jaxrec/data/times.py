"""Converts times in text to seconds since 1970: ISO 8601, and a few other forms found in files.

A time is a date, or a date and a time of day, perhaps with a fraction of a second and a zone
(``2014-04-01``, ``2014-04-01T10:51:00.277Z``, ``2014/04/01 10:51 +02:00``, ``20140401T105100``), or
the form of C's ``ctime`` with a year (``Tue Apr 03 18:00:09 +0000 2012``), or a date with points,
whose day comes first (``1.4.2014 10:51``). ``1/4/2014`` and ``1-4-2014`` are read only in a column
of which some date has a number above 12, which tells the day from the month. A time without a zone
is UTC. Any other form is read only if the caller gives its strptime directives.

Numbers are seconds since 1970 or finer units. If all numbers of a column can be dates written as
digits (``20140401``, ``20140401105100``), they are read as dates.

Source: ISO 8601:2019 (calendar dates, basic and extended format); RFC 3339, section 5.6.
"""

import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

import polars as pl

from jaxrec.errors import InputError

_ZONE = r"(?: ?(?:[Zz]|UTC|GMT|[+-]\d{2}(?::?\d{2})?))"
_ISO = (
    r"^(?:\d{4}-\d{2}-\d{2}|\d{4}/\d{2}/\d{2})"
    rf"(?:[Tt ]\d{{2}}:\d{{2}}(?::\d{{2}}(?:[.,]\d+)?)?{_ZONE}?)?$"
)
_BASIC = rf"^(\d{{4}})(\d{{2}})(\d{{2}})[Tt](\d{{2}})(\d{{2}})(\d{{2}}(?:[.,]\d+)?)?({_ZONE})?$"
_CTIME = (
    r"^[A-Z][a-z]{2} ([A-Z][a-z]{2}) ([ \d]\d) (\d{2}:\d{2}:\d{2})"
    r"(?: ([+-]\d{4}|UTC|GMT))? (\d{4})$"
)
_CLOCK = (
    rf"([0-9]{{1,2}}):([0-9]{{2}})(?::([0-9]{{2}}(?:[.,][0-9]+)?))?(?:\s?([AaPp])[Mm])?({_ZONE})?"
)
_YEAR_LAST = (
    r"^([0-9]{1,2})(?:\.([0-9]{1,2})\.|/([0-9]{1,2})/|-([0-9]{1,2})-)([0-9]{4})"
    rf"(?:(?:,? |T){_CLOCK})?$"
)
_UNORDERED = r"^\s*([0-9]{1,2})[/-]([0-9]{1,2})[/-][0-9]{4}(?:[ ,T]|\s*$)"
_LIKELY = re.compile(r"^\d{4}[-/]\d\d|^\d{8}[Tt]\d|^[A-Z][a-z]{2} [A-Z]|^\d\d?([./-])\d\d?\1\d{4}")
DAY_FIRST, MONTH_FIRST = "day first", "month first"
ORDERS = (DAY_FIRST, MONTH_FIRST)
"""Forms of a column of dates in any known form, with the day or the month first in ``1/4/2014``."""
UNTOLD = "no line tells whether the day or the month comes first"
MIXED = "some lines have the day first, and some the month"
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_ZONED = rf"[\d]{_ZONE}$|^[A-Z].* (?:[+-]\d{{4}}|UTC|GMT) "
_DATE = "%Y-%m-%d"
_BARE = ("%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M:%S%.f")
_FAST = (
    _DATE,
    "%Y-%m-%dT%H:%M:%S%.fZ",
    *_BARE,
    "%Y-%m-%d %H:%M:%S%.f%z",
    "%Y-%m-%dT%H:%M:%S%.f%z",
    "%a %b %d %H:%M:%S %z %Y",
)
"""The most common forms, which are tried first. :func:`_seconds` parses all others, more slowly."""
_FAST_YEAR_LAST = {
    None: ("%d.%m.%Y",),
    DAY_FIRST: ("%d.%m.%Y", "%d/%m/%Y", "%d-%m-%Y"),
    MONTH_FIRST: ("%d.%m.%Y", "%m/%d/%Y", "%m-%d-%Y"),
}
_FAST_CLOCKS = ("", " %H:%M", " %H:%M:%S%.f", " %I:%M %p", " %I:%M:%S %p")
_YEAR_1000 = -30_610_224_000
"""Seconds since 1970 of the year 1000."""
_TEXT = pl.col("text")
_UNITS = {
    "milliseconds": (1e11, 5e12, 1e3),
    "microseconds": (1e14, 5e15, 1e6),
    "nanoseconds": (1e17, 5e18, 1e9),
}
"""For each unit finer than seconds: the smallest number that is read in this unit, the end of the
range (a time in the year 2128), and how many of the unit make a second."""
_DIGITS = {
    "%Y%m%d": (19_000_101, 21_001_231),
    "%Y%m%d%H%M": (190_001_010_000, 210_012_312_359),
    "%Y%m%d%H%M%S": (19_000_101_000_000, 21_001_231_235_959),
}
"""For each form of a date written as digits: the smallest and the largest number."""
EPOCH = (946_684_800, 2_051_222_400)
"""The range of seconds since 1970 in the years 2000 to 2034. A column with numbers in this range is
recognised as times in seconds."""
_START, _END = -2_208_988_800, 4_102_444_800
"""The start of the years 1900 and 2100, in seconds since 1970."""
_CLOCKS = ("", " %H:%M", " %H:%M:%S", " %I:%M %p", " %I:%M:%S %p")
_DATES = [
    *("%m/%d/%Y", "%d/%m/%Y", "%d.%m.%Y", "%m-%d-%Y", "%d-%m-%Y"),
    *("%m/%d/%y", "%d/%m/%y", "%d.%m.%y", "%Y.%m.%d"),
    *("%B %d, %Y", "%d %B %Y", "%m %d, %Y", "%d-%B-%Y", "%d-%B-%y"),
]
_ZONELESS = "times without a zone, read as UTC"
EXAMPLES = "2014-04-01 or 2014-04-01T10:51:00+02:00"


class Moments(NamedTuple):
    """The times of a column.

    Attributes:
      seconds: seconds since 1970, null where a cell is not a time.
      notes: for each way in which cells were read, the number of these cells.
    """

    seconds: pl.Series
    notes: dict[str, int]


def parse(text: str) -> float:
    """Return the seconds since 1970 of a time in text.

    Raises:
      InputError: the text has none of the known forms, or there is no such time.
    """
    seconds = of_texts(pl.Series([text.strip()], dtype=pl.String)).seconds[0]
    if seconds is None:
        raise InputError(f"{text!r} is not a date or a time; write it as {EXAMPLES}")
    return seconds


def is_moment(text: str, form: str | None = None) -> bool:
    """Return whether the text is a time in this form or, by default, in one of the known forms."""
    if form in (None, *ORDERS) and _LIKELY.search(text) is None:
        return False
    return of_texts(pl.Series([text], dtype=pl.String), form).seconds[0] is not None


def is_unordered(text: str) -> bool:
    """Return whether the text is a date such as 1/4/2014, whose first number is day or month."""
    return re.match(_UNORDERED, text) is not None and any(is_moment(text, o) for o in ORDERS)


def has_points(text: str) -> bool:
    """Return whether the text is a date such as 1.4.2014, whose day comes first."""
    return re.match(r"\d\d?\.\d", text) is not None and is_moment(text)


def order(columns: Iterable[pl.LazyFrame]) -> str:
    """Return whether dates such as 1/4/2014 have the day or the month first.

    A number above 12 can only be the day. If no number is, or if both places have such numbers, the
    result is ``UNTOLD`` or ``MIXED``. Other texts are ignored.

    Args:
      columns: tables that have all texts in the column ``text``.
    """
    first, second = (_TEXT.str.extract(_UNORDERED, n).cast(pl.Int64) for n in (1, 2))
    day = month = False
    for lines in columns:
        found = lines.select(day=(first > 12).any(), month=(second > 12).any())
        has_day, has_month = found.collect(engine="streaming").row(0)
        day, month = day or has_day, month or has_month
    if day and month:
        return MIXED
    return DAY_FIRST if day else MONTH_FIRST if month else UNTOLD


def why_not(text: str, form: str | None = None) -> str | None:
    """Return why a text is not a time in this form; None if it is one."""
    if is_moment(text, form):
        return None
    if form is not None:
        return f"is not of the form {form}"
    if is_unordered(text):
        return "is a date, but the lines do not settle whether the day or the month comes first"
    return f"is not a date or time such as {EXAMPLES}"


def check_form(form: str) -> None:
    """Raise InputError unless ``form`` is one of ``ORDERS`` or strptime directives of a date."""
    if form in ORDERS:
        return
    moment = datetime(2014, 4, 1, 10, 51, tzinfo=UTC)
    try:
        seconds = _parsed(pl.Series([moment]).dt.strftime(form), form)[0]
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException):
        seconds = None
    if seconds is None or abs(seconds - moment.timestamp()) > 366 * 86_400:
        raise InputError(
            f"time format {form!r} gives no date; write it in directives of strptime, such as "
            f"'%d/%m/%Y' or '%m/%d/%Y %H:%M', or give '{DAY_FIRST}' or '{MONTH_FIRST}'"
        )


def fitting(cells: Sequence[str]) -> list[str]:
    """Return the common forms, as strptime directives, in which all the texts can be read."""
    texts = pl.Series("text", [cell for cell in cells if cell], dtype=pl.String)
    if texts.is_empty():
        return []
    forms = []
    for form in (date + clock for clock in _CLOCKS for date in _DATES):
        seconds = _parsed(texts, form)
        if seconds.null_count() == 0 and bool((seconds > _START).all()):  # %Y reads 21 as year 21
            forms.append(form)
    return forms


def of_column(column: pl.Series, form: str | None = None) -> Moments:
    """Return the times of a column of texts or numbers; texts of digits are read as numbers."""
    if form not in (None, *ORDERS):
        return of_texts(column.cast(pl.String).str.strip_chars(), form)
    seconds, notes = of_numbers(column.cast(pl.Float64, strict=False))
    odd = seconds.is_null() & column.is_not_null()
    if column.dtype == pl.String and odd.any():
        texts = of_texts(column.filter(odd).str.strip_chars(), form)
        seconds, notes = seconds.scatter(odd.arg_true(), texts.seconds), notes | texts.notes
    return Moments(seconds, notes)


def of_texts(texts: pl.Series, form: str | None = None) -> Moments:
    """Return the times of stripped texts, read in ``form`` if given, else in any known form."""
    ordered = form if form in ORDERS else None
    if form is not None and ordered is None:
        parsed = _parsed(texts, form)
        bare = 0 if "%z" in form or not _has_clock(form) else len(parsed) - parsed.null_count()
        return Moments(parsed.rename(texts.name), {_ZONELESS: bare})
    seconds = pl.repeat(None, len(texts), dtype=pl.Float64, eager=True)
    zoneless = 0
    year_last = [date + clock for date in _FAST_YEAR_LAST[ordered] for clock in _FAST_CLOCKS]
    forms: list[str] = [*_FAST, *year_last]
    while (left := texts.is_not_null() & seconds.is_null()).any():
        rest = texts.filter(left)
        form = next((f for f in forms if _tried(rest.head(1), f).null_count() == 0), None)
        if form is None:  # parsing a rarer form takes about twenty times as long
            frame = rest.to_frame("text").with_columns(iso=_in_iso(_TEXT, ordered))
            frame = frame.select(seconds=_seconds(pl.col("iso")), bare=_is_bare(_TEXT))
            parsed = frame["seconds"]
            zoneless += int((parsed.is_not_null() & frame["bare"]).sum())
        else:
            forms.remove(form)
            parsed = _tried(rest, form)
            bare = form in _BARE or (form in year_last and _has_clock(form))
            zoneless += (len(parsed) - parsed.null_count()) * bare
        seconds = parsed if len(rest) == len(texts) else seconds.scatter(left.arg_true(), parsed)
        if form is None:
            break
    return Moments(seconds.rename(texts.name), {_ZONELESS: zoneless})


def _tried(texts: pl.Series, form: str) -> pl.Series:
    """Parse texts in a fast form; null where a year has less than four digits."""
    parsed = _parsed(texts, form)
    return parsed if form in _FAST else parsed.set(parsed < _YEAR_1000, None)


def _has_clock(form: str) -> bool:
    return re.search("%[HIklTRrXcMs]", form) is not None


def _parsed(texts: pl.Series, form: str) -> pl.Series:
    kind = pl.Datetime("us", "UTC") if "%z" in form else pl.Datetime("us")
    if not _has_clock(form):
        days = texts.str.to_date(form, strict=False).cast(pl.Int64)
        return days.cast(pl.Float64) * 86_400
    return texts.str.strptime(kind, form, strict=False).dt.timestamp("us").cast(pl.Float64) / 1e6


def _in_iso(text: pl.Expr, order: str | None) -> pl.Expr:
    """Write a time in any known form in the form of ISO 8601, such as 2014-04-01T10:51."""
    as_it_is = pl.when(text.str.contains(_ISO)).then(text)
    return pl.coalesce(as_it_is, _of_basic(text), _of_ctime(text), _of_year_last(text, order))


def _seconds(iso: pl.Expr) -> pl.Expr:
    """Convert texts in the form of ISO 8601 to seconds since 1970.

    The year, month, hour and so on are cut out of the text and converted one by one. The result is
    null for other texts, and for times that do not exist, such as 10:61.
    """
    date = iso.str.slice(0, 10).str.replace_all("/", "-", literal=True)
    days = date.str.to_date(_DATE, strict=False).cast(pl.Int64)
    clock, tail = iso.str.slice(11, 5), iso.str.slice(16)
    hour = clock.str.slice(0, 2).cast(pl.Int64, strict=False).fill_null(0)
    minute = clock.str.slice(3, 2).cast(pl.Int64, strict=False).fill_null(0)
    second = tail.str.extract(r"^:(\d{2})").cast(pl.Int64).fill_null(0)
    fraction = ("0." + tail.str.extract(r"^:\d{2}[.,](\d+)")).cast(pl.Float64).fill_null(0.0)
    sign = tail.str.extract(r"([+-])\d{2}(?::?\d{2})?$")
    ahead_hours = tail.str.extract(r"[+-](\d{2})(?::?\d{2})?$").cast(pl.Int64).fill_null(0)
    ahead_minutes = tail.str.extract(r"[+-]\d{2}:?(\d{2})$").cast(pl.Int64).fill_null(0)
    ahead = (ahead_hours * 60 + ahead_minutes) * pl.when(sign == "-").then(-60).otherwise(60)
    # A leap second counts as the first second of the next minute, and 24:00 as the next day's 0:00.
    of_day = hour * 3600 + minute * 60 + second
    exists = (
        (minute <= 59)
        & (second <= 60)
        & ((hour <= 23) | ((of_day == 86_400) & (hour == 24)))
        & (ahead_hours <= 23)
        & (ahead_minutes <= 59)
    )
    whole = days * 86_400 + of_day - ahead
    return pl.when(exists).then(whole.cast(pl.Float64) + fraction)


def _is_bare(text: pl.Expr) -> pl.Expr:
    """Return whether a time has a time of day but no zone."""
    return (text.str.len_bytes() > 10) & ~text.str.contains(_ZONED)


def of_numbers(numbers: pl.Series) -> Moments:
    """Convert dates written as digits, and units finer than seconds, to seconds since 1970.

    Other numbers stay unchanged, because a time may be any number that orders the pairs.
    """
    low, high = numbers.min(), numbers.max()
    if not (isinstance(low, float) and isinstance(high, float)):
        return Moments(numbers, {})
    for form, (first, last) in _DIGITS.items():
        if first <= low and high <= last:
            texts = numbers.cast(pl.Int64).cast(pl.String)
            parsed = _parsed(texts, form)
            if (numbers == numbers.round()).all() and parsed.null_count() == numbers.null_count():
                note = f"times such as {texts.drop_nulls()[0]}, read as dates ({form})"
                clock = {_ZONELESS: len(numbers)} if _has_clock(form) else {}
                return Moments(parsed.rename(numbers.name), {note: len(numbers)} | clock)
    number = pl.col(numbers.name)
    seconds, counts = number, {}
    for unit, (first, last, parts) in _UNITS.items():
        within = (number >= first) & (number < last)
        seconds = pl.when(within).then(number / parts).otherwise(seconds)
        counts[unit] = within.sum()
    frame = numbers.to_frame()
    units = frame.select(**counts).row(0, named=True) if high >= 1e11 else {}
    notes = {}
    for unit, count in units.items():
        among = "" if count == len(numbers) else " (the unit of each is inferred from its size)"
        notes[f"times in {unit}{among}, converted to seconds"] = count
    if any(units.values()):
        numbers = frame.select(seconds.alias(numbers.name)).to_series()
    if 10 * int(numbers.is_between(*EPOCH).sum()) >= len(numbers):
        odd = int(((numbers <= 0) | (numbers > _END)).sum())
        notes["times before 1970 or after 2100, kept as they are"] = odd
    return Moments(numbers, notes)


def _of_basic(text: pl.Expr) -> pl.Expr:
    """Convert ``20140401T105100Z`` to ``2014-04-01T10:51:00Z``; null for other forms."""
    part = {n: text.str.extract(_BASIC, n) for n in range(1, 8)}
    date = pl.concat_str(part[1], part[2], part[3], separator="-")
    clock = pl.concat_str(part[4], part[5], part[6].fill_null("00"), separator=":")
    return pl.concat_str(date, pl.lit("T"), clock, part[7].fill_null(""))


def _of_year_last(text: pl.Expr, order: str | None) -> pl.Expr:
    """Convert ``1.4.2014 1:05 PM`` to ``2014-04-01T13:05:00``; null for other forms."""
    part = {n: text.str.extract(_YEAR_LAST, n) for n in range(1, 11)}
    first, second = part[1].str.zfill(2), pl.coalesce(part[2], part[3], part[4]).str.zfill(2)
    day, month = (second, first) if order == MONTH_FIRST else (first, second)
    day, month = (
        pl.when(part[2].is_null()).then(a).otherwise(b) for a, b in ((day, first), (month, second))
    )
    date = pl.concat_str(part[5], month, day, separator="-")
    if order is None:
        date = pl.when(part[2].is_not_null()).then(date)
    hour, half = part[6].cast(pl.Int64), part[9].str.to_lowercase()
    of_half = pl.when(hour.is_between(1, 12)).then(hour % 12 + 12 * (half == "p")).otherwise(99)
    hour = pl.when(half.is_null()).then(hour).otherwise(of_half).cast(pl.String).str.zfill(2)
    clock = pl.concat_str(hour, part[7], part[8].fill_null("00"), separator=":")
    return pl.concat_str(date, pl.lit("T"), clock.fill_null("00:00:00"), part[10].fill_null(""))


def _of_ctime(text: pl.Expr) -> pl.Expr:
    """Convert ``Tue Apr 03 18:00:09 +0000 2012`` to ISO 8601; null for other forms."""
    month, day, clock, zone, year = (text.str.extract(_CTIME, n) for n in range(1, 6))
    numbers = [f"{n:02}" for n in range(1, 13)]
    month = month.replace_strict(_MONTHS, numbers, default=None, return_dtype=pl.String)
    date = pl.concat_str(year, month, day.str.replace(" ", "0"), separator="-")
    zone = (
        pl.when(zone.str.starts_with("U") | zone.str.starts_with("G"))
        .then(pl.lit("Z"))
        .otherwise(zone.fill_null(""))
    )
    return pl.concat_str(date, pl.lit("T"), clock, zone)
