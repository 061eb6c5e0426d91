"""Parquet tables, a row an interaction; faults are named by row, from 1."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import polars as pl

from jaxrec.data.formats.assemble import Part
from jaxrec.data.formats.columns import IDS, Roles, locate
from jaxrec.data.formats.text import LARGEST
from jaxrec.errors import InputError, nearest


def table(
    path: Path,
    columns: Roles,
    event_weights: dict[str, float] | None,
    *,
    split: int | None = None,
) -> Part:
    """Read the needed columns of one Parquet file.

    Ids may be whole numbers (also as floats) or texts; times also dates, which become seconds
    since 1970.

    Raises:
      InputError: damaged, a column missing or of a wrong type, a null, text for a number.
    """
    weights = event_weights or {}
    with opened(path) as lines:
        names = lines.collect_schema().names()
        at = locate(str(path), names, columns, event=bool(weights))
        frame = lines.select(pl.col(names[place]).alias(role) for role, place in at.items())
        frame = frame.collect()
    if frame.is_empty():
        raise InputError(f"{path}: empty; a file with rows is needed")
    made = {}
    for role in at:
        column = frame[role]
        if column.null_count():
            row = int(column.is_null().arg_max() or 0)
            raise InputError(f"{path}: row {row + 1}: the {role} is missing; mend or drop the row")
        if role in IDS:
            made[role] = ids(path, column)
        elif role == "event":
            made["weight"] = _weights(path, column, weights)
        else:
            made[role] = _numbers(path, column)
    return Part(path, pl.DataFrame(made), lambda row: f"{path}: row {row + 1}", split=split)


@contextlib.contextmanager
def opened(path: Path) -> Iterator[pl.LazyFrame]:
    """The file to read from; InputError where it is empty, or reading from it fails."""
    if not path.stat().st_size:
        raise InputError(f"{path}: empty; a file with rows is needed")
    try:
        yield pl.scan_parquet(path)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as e:
        reason = str(e).splitlines()[0]
        raise InputError(
            f"{path}: not a Parquet file, or a damaged or truncated one ({reason}); get it again"
        ) from e


def ids(path: Path, column: pl.Series) -> pl.Series:
    """Whole numbers (as floats too) as Int64 where they fit, texts as they are.

    Raises:
      InputError: naming the first row that is neither.
    """
    if column.dtype.is_float():
        whole = (column == column.round()).fill_null(False) & column.is_finite()
        _refuse_where(path, ~whole, column, "is not a whole number")
    if column.dtype.is_numeric():
        numbers = column.cast(pl.Int64, strict=False)
        return column.cast(pl.String) if numbers.null_count() else numbers
    if column.dtype in (pl.String, pl.Categorical, pl.Enum):
        texts = column.cast(pl.String)
        _refuse_where(path, texts == "", texts, "is an empty text")
        return texts
    raise InputError(f"{path}: column {column.name} is {column.dtype}, not whole numbers or texts")


def _numbers(path: Path, column: pl.Series) -> pl.Series:
    if column.dtype.is_temporal() and column.dtype in (pl.Date, pl.Datetime):
        return column.cast(pl.Datetime("us")).dt.timestamp("us").cast(pl.Float64) / 1e6
    if not (column.dtype.is_numeric() or column.dtype == pl.String):
        raise InputError(f"{path}: column {column.name} is {column.dtype}, not numbers")
    numbers = column.cast(pl.Float64, strict=False)
    _refuse_where(path, numbers.is_null(), column, "is not a number")
    _refuse_where(path, ~(numbers.abs() < LARGEST), column, "is not a finite number")
    return numbers


def _weights(path: Path, column: pl.Series, weights: dict[str, float]) -> pl.Series:
    events = column.cast(pl.String)
    unknown = ~events.is_in(list(weights))
    if unknown.any():
        hint = nearest(events[int(unknown.arg_max() or 0)], weights)
        known = ", ".join(weights)
        _refuse_where(path, unknown, events, f"has no weight{hint}, known: {known}")
    return events.replace_strict(weights, return_dtype=pl.Float64)


def _refuse_where(path: Path, fault: pl.Series, column: pl.Series, what: str) -> None:
    if fault.any():
        row = int(fault.arg_max() or 0)
        raise InputError(
            f"{path}: row {row + 1}: {column.name} {column[row]!r} {what}; mend or drop the row"
        )
