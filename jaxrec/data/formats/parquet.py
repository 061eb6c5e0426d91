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
    made = checked(path, frame, weights)
    return Part(path, made, lambda row: f"{path}: row {row + 1}", split=split)


def checked(
    path: Path, frame: pl.DataFrame, weights: dict[str, float], first: int = 0
) -> pl.DataFrame:
    """Columns by role as a :class:`Part` has them.

    Args:
      first: the place of the frame's first row in the file, for messages.

    Raises:
      InputError: a wrong type, a null, text for a number.
    """
    made = {}
    for column in frame:
        role = column.name
        if column.null_count():
            row = first + int(column.is_null().arg_max() or 0)
            raise InputError(f"{path}: row {row + 1}: the {role} is missing; mend or drop the row")
        if role in IDS:
            made[role] = ids(path, column, first)
        elif role == "event":
            made["weight"] = _weights(path, column, weights, first)
        else:
            made[role] = _numbers(path, column, first)
    return pl.DataFrame(made)


def batches(
    path: Path, columns: Roles, weights: dict[str, float], rows: int
) -> Iterator[pl.DataFrame]:
    """:func:`table` lazily: frames of so many rows, one after the other."""
    with opened(path) as lines:
        names = lines.collect_schema().names()
        at = locate(str(path), names, columns, event=bool(weights))
        needed = lines.select(pl.col(names[place]).alias(role) for role, place in at.items())
        height = int(lines.select(pl.len()).collect().item())
        if not height:
            raise InputError(f"{path}: empty; a file with rows is needed")
        for first in range(0, height, rows):
            frame = needed.slice(first, rows).collect(engine="streaming")
            made = checked(path, frame, weights, first)
            for role in set(IDS) & at.keys():
                if frame[role].dtype.is_float() and made[role].dtype == pl.String:
                    raise InputError(f"{path}: the {role}s are floats beyond 2^63; write texts")
            yield made


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


def ids(path: Path, column: pl.Series, first: int = 0) -> pl.Series:
    """Whole numbers (as floats too) as Int64 where they fit, texts as they are.

    Raises:
      InputError: naming the first row that is neither.
    """
    if column.dtype.is_float():
        whole = (column == column.round()).fill_null(False) & column.is_finite()
        _refuse_where(path, ~whole, column, "is not a whole number", first)
    if column.dtype.is_numeric():
        numbers = column.cast(pl.Int64, strict=False)
        return column.cast(pl.String) if numbers.null_count() else numbers
    if column.dtype in (pl.String, pl.Categorical, pl.Enum):
        texts = column.cast(pl.String)
        _refuse_where(path, texts == "", texts, "is an empty text", first)
        return texts
    raise InputError(f"{path}: column {column.name} is {column.dtype}, not whole numbers or texts")


def _numbers(path: Path, column: pl.Series, first: int) -> pl.Series:
    if column.dtype.is_temporal() and column.dtype in (pl.Date, pl.Datetime):
        return column.cast(pl.Datetime("us")).dt.timestamp("us").cast(pl.Float64) / 1e6
    if not (column.dtype.is_numeric() or column.dtype == pl.String):
        raise InputError(f"{path}: column {column.name} is {column.dtype}, not numbers")
    numbers = column.cast(pl.Float64, strict=False)
    _refuse_where(path, numbers.is_null(), column, "is not a number", first)
    _refuse_where(path, ~(numbers.abs() < LARGEST), column, "is not a finite number", first)
    return numbers


def _weights(path: Path, column: pl.Series, weights: dict[str, float], first: int) -> pl.Series:
    events = column.cast(pl.String)
    unknown = ~events.is_in(list(weights))
    if unknown.any():
        hint = nearest(events[int(unknown.arg_max() or 0)], weights)
        known = ", ".join(weights)
        _refuse_where(path, unknown, events, f"has no weight{hint}, known: {known}", first)
    return events.replace_strict(weights, return_dtype=pl.Float64)


def _refuse_where(path: Path, fault: pl.Series, column: pl.Series, what: str, first: int) -> None:
    if fault.any():
        row = int(fault.arg_max() or 0)
        raise InputError(
            f"{path}: row {first + row + 1}: {column.name} {column[row]!r} {what}; "
            "mend or drop the row"
        )
