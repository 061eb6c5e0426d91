"""Moments as they stand in text, to seconds since 1970: ISO 8601, and a few forms that files have.

A moment is a date, or a date and a time of day, perhaps with a fraction of a second and a zone
(``2014-04-01``, ``2014-04-01T10:51:00.277Z``, ``2014/04/01 10:51 +02:00``, ``20140401T105100``), or
the form of C's ``ctime`` with a year (``Tue Apr 03 18:00:09 +0000 2012``). Where no zone is given
it is UTC.

Source: ISO 8601:2019 (calendar dates, basic and extended format); RFC 3339, section 5.6.
"""

import re
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
"""Forms that most files have, tried before the pieces of a text are looked at one by one."""
_TEXT = pl.col("text")
_UNITS = ((1e11, 5e12, 1e3), (1e14, 5e15, 1e6), (1e17, 5e18, 1e9))
"""Numbers from, up to: milliseconds, microseconds and nanoseconds since 1970, until 2128."""
EXAMPLES = "2014-04-01 or 2014-04-01T10:51:00+02:00"


class Moments(NamedTuple):
    """Seconds since 1970 of texts, null where they are no moments; and how many named no zone."""

    seconds: pl.Series
    zoneless: int


def parse(text: str) -> float:
    """Seconds since 1970 of a moment in text.

    Raises:
      InputError: the text is in none of the known forms, or no such moment exists.
    """
    made = of_texts(pl.Series([text.strip()], dtype=pl.String)).seconds[0]
    if made is None:
        raise InputError(f"{text!r} is not a date or a time; write it as {EXAMPLES}")
    return made


def is_moment(text: str) -> bool:
    """Whether the text is a moment in one of the known forms."""
    if _LIKELY.search(text) is None:
        return False
    return of_texts(pl.Series([text], dtype=pl.String)).seconds[0] is not None


def of_texts(texts: pl.Series) -> Moments:
    """Moments of texts without spaces around them."""
    made = pl.repeat(None, len(texts), dtype=pl.Float64, eager=True)
    zoneless = 0
    forms: list[str] = list(_FAST)
    while (left := texts.is_not_null() & made.is_null()).any():
        rest = texts.filter(left)
        form = next((f for f in forms if _parsed(rest.head(1), f).null_count() == 0), None)
        if form is None:  # rarer forms; they take some twenty times as long
            frame = rest.to_frame("text").select(seconds=_seconds(_TEXT), bare=_is_bare(_TEXT))
            found = frame["seconds"]
            zoneless += int((found.is_not_null() & frame["bare"]).sum())
        else:
            forms.remove(form)
            found = _parsed(rest, form)
            zoneless += (len(found) - found.null_count()) * (form in _BARE)
        made = found if len(rest) == len(texts) else made.scatter(left.arg_true(), found)
        if form is None:
            break
    return Moments(made.rename(texts.name), zoneless)


def _parsed(texts: pl.Series, form: str) -> pl.Series:
    kind = pl.Datetime("us", "UTC") if "%z" in form else pl.Datetime("us")
    if form == _DATE:
        days = texts.str.to_date(form, strict=False).cast(pl.Int64)
        return days.cast(pl.Float64) * 86_400
    return texts.str.strptime(kind, form, strict=False).dt.timestamp("us").cast(pl.Float64) / 1e6


def _seconds(text: pl.Expr) -> pl.Expr:
    """Seconds of a moment in any known form, by its pieces."""
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
    there = (
        (minute <= 59)
        & (second <= 60)
        & ((hour <= 23) | ((of_day == 86_400) & (hour == 24)))
        & (ahead_hours <= 23)
        & (ahead_minutes <= 59)
    )
    whole = days * 86_400 + of_day - ahead
    return pl.when(there).then(whole.cast(pl.Float64) + fraction)


def _is_bare(text: pl.Expr) -> pl.Expr:
    """Whether a moment has a time of day and no zone."""
    return (text.str.len_bytes() > 10) & ~text.str.contains(_ZONED)


def scaled(numbers: pl.Series) -> pl.Series:
    """Numbers as seconds, where they can only be finer units of the time since 1970."""
    greatest = numbers.max()
    if not isinstance(greatest, float) or greatest < _UNITS[0][0]:
        return numbers
    made = number = pl.col(numbers.name)
    for low, high, unit in _UNITS:
        made = pl.when((number >= low) & (number < high)).then(number / unit).otherwise(made)
    return numbers.to_frame().select(made.alias(numbers.name)).to_series()


def _of_basic(text: pl.Expr) -> pl.Expr:
    """``20140401T105100Z`` as ``2014-04-01T10:51:00Z``; null where it is of another form."""
    part = {n: text.str.extract(_BASIC, n) for n in range(1, 8)}
    date = pl.concat_str(part[1], part[2], part[3], separator="-")
    clock = pl.concat_str(part[4], part[5], part[6].fill_null("00"), separator=":")
    return pl.concat_str(date, pl.lit("T"), clock, part[7].fill_null(""))


def _of_ctime(text: pl.Expr) -> pl.Expr:
    """``Tue Apr 03 18:00:09 +0000 2012`` in ISO 8601; null where it is of another form."""
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
