"""Reads tables with typed columns, in Parquet or in memory; messages give row numbers from 1."""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl

from jaxrec.data import times
from jaxrec.data.array_checks import WHOLE_FLOATS
from jaxrec.data.formats.assemble import Part, one_by_one
from jaxrec.data.formats.columns import (
    IDS,
    MISSING,
    NUMBERS,
    Roles,
    known_place,
    located,
)
from jaxrec.data.formats.text import LARGEST, TextOptions, not_finite, role_cure
from jaxrec.errors import InputError, nearest

Places = int | np.ndarray
_SAMPLE = 100
_DEPTH = 3
"""The largest depth of nested structs whose fields become columns."""


def table(
    path: Path,
    columns: Roles,
    event_weights: dict[str, float] | None,
    *,
    split: int | None = None,
    options: TextOptions | None = None,
) -> Part:
    """Read the needed columns of one Parquet file; see :func:`of_lines`."""
    (part,) = pieces(path, columns, event_weights, None, split=split, options=options)
    return part


def pieces(
    path: Path,
    columns: Roles,
    event_weights: dict[str, float] | None,
    rows: int | None,
    *,
    split: int | None = None,
    options: TextOptions | None = None,
    more: Mapping[str, str] | None = None,
) -> Iterator[Part]:
    """Read a Parquet file as :func:`table` does, in parts of ``rows`` rows, or in one part if None.

    Args:
      more: names and values of constant columns, which come from the names of partition folders.
    """
    weights, options = event_weights or {}, options or TextOptions()
    with opened(path) as lines:
        lines = lines.with_columns(pl.lit(value).alias(key) for key, value in (more or {}).items())
        if rows is None:
            yield of_lines(path, lines, columns, weights, split=split, options=options)
            return
        needed, reading, options = _needed(path, lines, columns, weights, options)
        height = int(lines.select(pl.len()).collect().item())
        if not height:
            raise InputError(f"{path}: empty; give a file with rows")
        for first in range(0, height, rows):
            frame = needed.slice(first, rows).collect(engine="streaming")
            yield of_roles(path, frame, reading, weights, split=split, options=options, first=first)


def of_lines(
    path: Path,
    lines: pl.LazyFrame,
    columns: Roles,
    event_weights: dict[str, float] | None = None,
    *,
    split: int | None = None,
    options: TextOptions | None = None,
) -> Part:
    """Read the needed columns of a table.

    Ids may be whole numbers (also as floats) or texts. Times may be numbers, dates or texts;
    they become seconds since 1970.

    Args:
      path: the name of the table in messages.
      options: how times are written, and whether faulty rows, or rows without an id, are left out
        and counted.

    Raises:
      InputError: the file is damaged, a column is missing or has a wrong type, a cell is null, or a
        cell of a column of numbers is not a number.
    """
    weights, options = event_weights or {}, options or TextOptions()
    needed, reading, options = _needed(path, lines, columns, weights, options)
    return of_roles(path, needed.collect(), reading, weights, split=split, options=options)


def _needed(
    path: Path, lines: pl.LazyFrame, columns: Roles, weights: dict[str, float], options: TextOptions
) -> tuple[pl.LazyFrame, str, TextOptions]:
    """Return the needed columns, named by their roles, a line that says which they are, and the
    options with the form of times, if it was found.

    A text column is used as a time only if its texts are times.
    """
    lines = _flat(lines)
    schema = lines.collect_schema()
    names, texts = schema.names(), [name for name, dtype in schema.items() if dtype == pl.String]
    head = lines.select(texts).head(_SAMPLE).collect() if texts else pl.DataFrame()
    rows = [[row.get(name) or "" for name in names] for row in head.to_dicts()]
    at, reading, form = located(
        *(str(path), names, columns),
        event=bool(weights),
        rows=rows,
        form=options.time_format,
        texts=lambda place: [lines.select(text=pl.col(names[place]))],
    )
    needed = lines.select(pl.col(names[place]).alias(role) for role, place in at.items())
    return needed, reading, replace(options, time_format=form)


def of_roles(
    path: Path,
    frame: pl.DataFrame,
    reading: str,
    weights: dict[str, float],
    *,
    split: int | None = None,
    options: TextOptions,
    first: int | None = None,
) -> Part:
    """Read a table whose columns are already named by their roles; see :func:`of_lines`.

    Args:
      reading: a line that says which column has which role.
      first: the number of rows of the table before the frame, if the frame is a piece of a table.
        A piece, unlike a whole table, may have no valid row.
    """
    if frame.is_empty():
        raise InputError(f"{path}: empty; give a file with rows")
    rows, notes = None, {}
    if options.skip_bad_lines or options.skip_missing_ids:
        rows, notes = _without_faults(frame, weights, options)
        frame = frame[rows]
        if frame.is_empty() and first is None:
            raise InputError(f"{path}: no row is left; give a file with rows")
    if isinstance(frame.schema["item"] if "item" in frame.columns else None, pl.List | pl.Array):
        frame, order = one_by_one(frame, _ids_in(frame["item"]))
        rows = order if rows is None else rows[order]
    before = first or 0
    places = before if rows is None else rows + before
    typed, timed = checked(path, frame, weights, places, options.time_format)

    def where(row: int) -> str:
        return f"{path}: row {_row(places, row)}"

    return Part(path, typed, where, split=split, notes=notes | timed, reading=reading)


def _ids_in(lists: pl.Series) -> pl.Series:
    """Return lists of ids; if the lists hold structs, take the field with a common item name."""
    inner = lists.dtype.inner if isinstance(lists.dtype, pl.List | pl.Array) else None
    if not isinstance(inner, pl.Struct):
        return lists
    names = [field.name for field in inner.fields]
    place = known_place(names, "item")
    if place is None:
        return lists
    return lists.list.eval(pl.element().struct.field(names[place]))


def _without_faults(
    frame: pl.DataFrame, weights: dict[str, float], options: TextOptions
) -> tuple[np.ndarray, dict[str, int]]:
    """Return the rows without a fault, and counts of faults; columns of wrong types are ignored."""
    ids_only = not options.skip_bad_lines
    absent = MISSING if options.skip_missing_ids else frozenset[str]()
    left, notes = pl.repeat(True, frame.height, eager=True), {}

    def leave_out(fault: pl.Series, note: str) -> None:
        nonlocal left
        count = int((fault & left).sum())
        if count:
            notes[f"left out: {note}"] = count
        left = left & ~fault

    for column in frame:
        role, text = column.name, column.dtype == pl.String
        if role in IDS or not ids_only:
            missing = column.is_null()
            if column.dtype.is_float():
                missing = missing | column.is_nan().fill_null(True)
            elif role in IDS and column.dtype in (pl.String, pl.Categorical, pl.Enum):
                missing = missing | column.cast(pl.String).is_in(["", *absent]).fill_null(True)
            elif text:
                missing = missing | (column == "").fill_null(True)
            leave_out(missing, f"no {role}")
        if ids_only:
            continue
        if role in IDS and column.dtype.is_float():
            whole = (column == column.round()) & column.is_finite()
            leave_out(~whole, f"{role} not a whole number")
        elif role == "event":
            leave_out(~column.cast(pl.String).is_in(list(weights)), "event without a weight")
        elif role in NUMBERS and (text or column.dtype.is_numeric()):
            numbers = _as_numbers(column, options.time_format).seconds
            leave_out(~(numbers.abs() < LARGEST).fill_null(False), f"{role} not a number")
            if role == "weight":
                leave_out((numbers < 0).fill_null(False), "weight negative")
    return left.arg_true().to_numpy(), notes


def _flat(lines: pl.LazyFrame, depth: int = 0) -> pl.LazyFrame:
    """Turn a column of structs into a column for each field, such as ``user.id``."""
    schema, columns, found = lines.collect_schema(), [], False
    for name, dtype in schema.items():
        inner = [field.name for field in dtype.fields] if isinstance(dtype, pl.Struct) else []
        if not inner or any(f"{name}.{field}" in schema for field in inner):
            columns.append(pl.col(name))
            continue
        found = True
        whole = pl.col(name).struct
        columns += [whole.field(field).alias(f"{name}.{field}") for field in inner]
    if not found or depth == _DEPTH:
        return lines
    return _flat(lines.select(columns), depth + 1)


def checked(
    path: Path,
    frame: pl.DataFrame,
    weights: dict[str, float],
    first: Places = 0,
    form: str | None = None,
) -> tuple[pl.DataFrame, dict[str, int]]:
    """Convert columns to the types of a :class:`Part`; also count how times were read.

    Args:
      first: the position in the file of the frame's first row, or positions of all its rows, for
        messages.
      form: how times are written.

    Raises:
      InputError: a column has a wrong type, a cell is null, or a cell of a column of numbers is not
        a number.
    """
    typed, notes = {}, {}
    for column in frame:
        role = column.name
        if column.null_count():
            row = _row(first, int(column.is_null().arg_max() or 0))
            raise InputError(f"{path}: row {row}: the {role} is missing; fix or drop the row")
        if role in IDS:
            typed[role] = ids(path, column, first)
        elif role == "event":
            typed["weight"] = _weights(path, column, weights, first)
        else:
            typed[role], timed = _numbers(path, column, first, form)
            notes |= timed
            if role == "weight" and "user" in frame.columns:
                _refuse_where(path, typed[role] < 0, column, "is negative", first)
    return pl.DataFrame(typed), notes


@contextlib.contextmanager
def opened(path: Path) -> Iterator[pl.LazyFrame]:
    """Open a file for reading. Raises InputError if it is empty or reading it fails."""
    if not path.stat().st_size:
        raise InputError(f"{path}: empty; give a file with rows")
    try:
        yield pl.scan_parquet(path, glob=False)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as e:
        reason = str(e).splitlines()[0]
        raise InputError(
            f"{path}: not a Parquet file, or a damaged or truncated one ({reason}); get it again"
        ) from e


def ids(path: Path, column: pl.Series, first: Places = 0) -> pl.Series:
    """Convert ids to Int64 if they are whole numbers (also as floats or decimals), else to texts.

    Binary columns, in which some programs write texts, are read as UTF-8.

    Raises:
      InputError: an id is neither a whole number nor a text; the message names its row.
    """
    if column.dtype.is_float() or column.dtype.is_decimal():
        numbers = column.cast(pl.Float64)
        _refuse_where(path, numbers.is_nan().fill_null(True), column, "is missing", first)
        whole = (numbers == numbers.round()).fill_null(False) & numbers.is_finite()
        _refuse_where(path, ~whole, column, "is not a whole number", first)
        beyond = (numbers.abs() > WHOLE_FLOATS) & column.dtype.is_float()
        fault = "is beyond 2^53, where floats are not exact; store ids as whole numbers or texts"
        _refuse_where(path, beyond, column, fault, first)
    if column.dtype == pl.Binary:
        texts = column.cast(pl.String, strict=False)
        _refuse_where(path, texts.is_null(), column, "is not UTF-8 text", first)
        column = texts
    if column.dtype.is_numeric():
        numbers = column.cast(pl.Int64, strict=False)
        return column.cast(pl.String) if numbers.null_count() else numbers
    if column.dtype in (pl.String, pl.Categorical, pl.Enum):
        texts = column.cast(pl.String)
        _refuse_where(path, texts == "", texts, "is an empty text", first)
        return texts
    raise InputError(
        f"{path}: column {column.name} has type {column.dtype}; convert it to whole numbers or "
        "texts"
    )


def _numbers(
    path: Path, column: pl.Series, first: Places, form: str | None
) -> tuple[pl.Series, dict[str, int]]:
    if column.dtype.is_temporal() and column.dtype in (pl.Date, pl.Datetime):
        return column.cast(pl.Datetime("us")).dt.timestamp("us").cast(pl.Float64) / 1e6, {}
    if not (column.dtype.is_numeric() or column.dtype == pl.String):
        raise InputError(
            f"{path}: column {column.name} has type {column.dtype}; convert it to numbers, or "
            f'leave it out: --columns.{column.name} ""'
        )
    numbers, notes = _as_numbers(column, form)
    odd = numbers.is_null()
    if odd.any() and column.dtype == pl.String:
        # If no sampled cell is a number, the column is at fault and not this row. The message
        # then suggests reading the column with another option, or leaving it out.
        cells = column.slice(int(odd.arg_max() or 0), _SAMPLE).to_list()
        cure = role_cure(column.name, cells, form).replace("the line", "the row")
        _refuse_where(path, odd, column, "is not a number", first, cure)
    _refuse_where(path, odd, column, "is not a number", first)
    large = ~(numbers.abs() < LARGEST)
    if large.any():
        _refuse_where(path, large, column, not_finite(column[int(large.arg_max() or 0)]), first)
    return numbers, notes


def _as_numbers(column: pl.Series, form: str | None) -> times.Moments:
    """Convert a column to numbers (times to seconds since 1970); null where that is impossible."""
    if column.name == "time":
        return times.of_column(column, form)
    return times.Moments(column.cast(pl.Float64, strict=False), {})


def _weights(path: Path, column: pl.Series, weights: dict[str, float], first: Places) -> pl.Series:
    events = column.cast(pl.String)
    unknown = ~events.is_in(list(weights))
    if unknown.any():
        hint = nearest(events[int(unknown.arg_max() or 0)], weights)
        known = ", ".join(weights)
        _refuse_where(
            path, unknown, events, f"has no weight{hint}, known: {known}", first, role_cure("event")
        )
    return events.replace_strict(weights, return_dtype=pl.Float64)


def _row(first: Places, row: int) -> int:
    """Return the number of a row in the file, from 1."""
    return (first + row if isinstance(first, int) else int(first[row])) + 1


def _refuse_where(
    path: Path,
    fault: pl.Series,
    column: pl.Series,
    fault_text: str,
    first: Places,
    cure: str = "; fix or drop the row",
) -> None:
    if fault.any():
        row = int(fault.arg_max() or 0)
        raise InputError(
            f"{path}: row {_row(first, row)}: {column.name} {column[row]!r} {fault_text}{cure}"
        )
