"""Converts times in text to seconds since 1970: ISO 8601, and a few other forms found in files.

A time is a date, or a date and a time of day, perhaps with a fraction of a second and a zone
(``2014-04-01``, ``2014-04-01T10:51:00.277Z``, ``2014/04/01 10:51 +02:00``, ``20140401T105100``), or
the form of C's ``ctime`` with a year (``Tue Apr 03 18:00:09 +0000 2012``). A time without a zone
is UTC. Any other form is read only if the caller gives its strptime directives.

Numbers are seconds since 1970 or finer units. If all numbers of a column can be dates written as
digits (``20140401``, ``20140401105100``), they are read as dates.

Source: ISO 8601:2019 (calendar dates, basic and extended format); RFC 3339, section 5.6.
"""

import re
from collections.abc import Sequence
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
_LIKELY = re.compile(r"^\d{4}[-/]\d\d|^\d{8}[Tt]\d|^[A-Z][a-z]{2} [A-Z]")
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


def is_moment(text: str) -> bool:
    """Return whether the text is a time in one of the known forms."""
    if _LIKELY.search(text) is None:
        return False
    return of_texts(pl.Series([text], dtype=pl.String)).seconds[0] is not None


def check_form(form: str) -> None:
    """Raise InputError unless the strptime directives ``form`` give a date."""
    moment = datetime(2014, 4, 1, 10, 51, tzinfo=UTC)
    try:
        seconds = _parsed(pl.Series([moment]).dt.strftime(form), form)[0]
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException):
        seconds = None
    if seconds is None or abs(seconds - moment.timestamp()) > 366 * 86_400:
        raise InputError(
            f"time format {form!r} gives no date; write it in directives of strptime, such as "
            "'%d/%m/%Y' or '%m/%d/%Y %H:%M'"
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
    if form is not None:
        return of_texts(column.cast(pl.String).str.strip_chars(), form)
    seconds, notes = of_numbers(column.cast(pl.Float64, strict=False))
    odd = seconds.is_null() & column.is_not_null()
    if column.dtype == pl.String and odd.any():
        texts = of_texts(column.filter(odd).str.strip_chars())
        seconds, notes = seconds.scatter(odd.arg_true(), texts.seconds), notes | texts.notes
    return Moments(seconds, notes)


def of_texts(texts: pl.Series, form: str | None = None) -> Moments:
    """Return the times of stripped texts, read in ``form`` if given, else in any known form."""
    if form is not None:
        parsed = _parsed(texts, form)
        bare = 0 if "%z" in form or not _has_clock(form) else len(parsed) - parsed.null_count()
        return Moments(parsed.rename(texts.name), {_ZONELESS: bare})
    seconds = pl.repeat(None, len(texts), dtype=pl.Float64, eager=True)
    zoneless = 0
    forms: list[str] = list(_FAST)
    while (left := texts.is_not_null() & seconds.is_null()).any():
        rest = texts.filter(left)
        form = next((f for f in forms if _parsed(rest.head(1), f).null_count() == 0), None)
        if form is None:  # parsing a rarer form takes about twenty times as long
            frame = rest.to_frame("text").select(seconds=_seconds(_TEXT), bare=_is_bare(_TEXT))
            parsed = frame["seconds"]
            zoneless += int((parsed.is_not_null() & frame["bare"]).sum())
        else:
            forms.remove(form)
            parsed = _parsed(rest, form)
            zoneless += (len(parsed) - parsed.null_count()) * (form in _BARE)
        seconds = parsed if len(rest) == len(texts) else seconds.scatter(left.arg_true(), parsed)
        if form is None:
            break
    return Moments(seconds.rename(texts.name), {_ZONELESS: zoneless})


def _has_clock(form: str) -> bool:
    return re.search("%[HIklTRrXcMs]", form) is not None


def _parsed(texts: pl.Series, form: str) -> pl.Series:
    kind = pl.Datetime("us", "UTC") if "%z" in form else pl.Datetime("us")
    if not _has_clock(form):
        days = texts.str.to_date(form, strict=False).cast(pl.Int64)
        return days.cast(pl.Float64) * 86_400
    return texts.str.strptime(kind, form, strict=False).dt.timestamp("us").cast(pl.Float64) / 1e6


def _seconds(text: pl.Expr) -> pl.Expr:
    """Convert texts in any known form to seconds since 1970.

    The year, month, hour and so on are cut out of the text and converted one by one. The result is
    null for other forms, and for times that do not exist, such as 10:61.
    """
    iso = pl.coalesce(pl.when(text.str.contains(_ISO)).then(text), _of_basic(text), _of_ctime(text))
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
