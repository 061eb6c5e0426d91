"""Read lists of ids from files, and write recommendations to files."""

import csv
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO

import polars as pl

from jaxrec.data.formats.columns import known_place
from jaxrec.errors import InputError
from jaxrec.files import replacing

SUFFIXES = (".parquet", ".csv", ".tsv", ".json", ".jsonl")
"""Suffixes of the files that :func:`write` can write."""
STDOUT = "-"
"""Name that stands for standard output."""
SEPARATORS = (",", "\t", ";", "|")
"""Separators of cells that :func:`read_ids` recognises."""
_NO_SEPARATOR = "\x1f"


def write(frames: pl.DataFrame | Iterable[pl.DataFrame], path: str | Path) -> None:
    """Write frames one after another to a file, atomically, in the format of its suffix.

    Frames are written as they come, so only one is in memory at a time.

    Args:
      frames: one or more frames with the same columns.
      path: .parquet, .csv, .tsv, .json (one array of objects) or .jsonl (one object per line). An
        existing file is replaced. "-" writes CSV to standard output.

    Raises:
      InputError: the suffix is unknown, or the path cannot be written.
    """
    frames = [frames] if isinstance(frames, pl.DataFrame) else frames
    if str(path) == STDOUT:
        sys.stdout.flush()
        _write_text(frames, sys.stdout.buffer, ".csv")
        sys.stdout.buffer.flush()
        return
    path = Path(path)
    suffix = check_suffix(path)
    with replacing(path) as partial:
        if suffix == ".parquet":
            _write_parquet(frames, partial)
            return
        with partial.open("wb") as file:
            _write_text(frames, file, suffix)


def check_suffix(path: str | Path) -> str:
    """Return the suffix of a file name. Raises InputError if :func:`write` cannot write it."""
    suffix = Path(path).suffix.lower()
    if suffix not in SUFFIXES:
        *most, last = SUFFIXES
        raise InputError(f"{path}: the name must end in {', '.join(most)} or {last}")
    return suffix


def _write_text(frames: Iterable[pl.DataFrame], file: IO[bytes], suffix: str) -> None:
    if suffix == ".json":
        # polars writes one array per frame: strip the brackets to join the frames into one array.
        file.write(b"[")
        comma = b""
        for frame in frames:
            if len(frame):
                file.write(comma + frame.write_json().strip()[1:-1].encode())
                comma = b","
        file.write(b"]\n")
        return
    for number, frame in enumerate(frames):
        if suffix == ".jsonl":
            frame.write_ndjson(file)
        else:
            separator = "," if suffix == ".csv" else "\t"
            frame.write_csv(file, separator=separator, include_header=number == 0)


def _write_parquet(frames: Iterable[pl.DataFrame], path: Path) -> None:
    # A Parquet file cannot be appended to, so each frame is written to a separate file, and the
    # files are then joined. Only one frame is in memory at a time.
    with tempfile.TemporaryDirectory(prefix=f"{path.name}.", dir=path.parent) as folder:
        parts = []
        for number, frame in enumerate(frames):
            parts.append(Path(folder, f"{number}.parquet"))
            frame.write_parquet(parts[-1])
        pl.scan_parquet(parts).sink_parquet(path)


def read_ids(path: str | Path, role: str, *, may_be_empty: bool = False) -> list[str]:
    """Read ids of a role, "user" or "item", from a table or from a file with one id per line.

    A table is a .parquet file, or text with cells separated by commas, semicolons, tabs or bars.
    Its header must have a usual name for the role, such as ``user`` or ``user_id``. A file with one
    id per line may have such a header too.

    Args:
      may_be_empty: whether a file without ids is accepted.

    Raises:
      InputError: the file cannot be read, has several columns but none with a known name for the
        role, or holds no ids and ``may_be_empty`` is not set.
    """
    return _read_columns(Path(path), (role,), may_be_empty)[role].to_list()


def given_ids(given: Sequence[str], role: str, *, may_be_empty: bool = False) -> list[str]:
    """Return the ids of a command-line option, which lists the ids or names a file of ids.

    Raises:
      InputError: as :func:`read_ids` raises.
    """
    if names_file(given):
        return read_ids(given[0], role, may_be_empty=may_be_empty)
    return list(given)


def names_file(given: Sequence[str]) -> bool:
    """Return whether the values of a command-line option name a file instead of listing ids.

    A single value names a file if the file exists, or if it has a slash or ends in a known suffix.
    """
    if len(given) != 1:
        return False
    path = Path(given[0])
    return "/" in given[0] or path.suffix in (*SUFFIXES, ".txt") or path.is_file()


def read_history(path: str | Path) -> pl.DataFrame:
    """Read the items of one user, or of several users if the file has a column of users.

    Raises:
      InputError: as :func:`read_ids` raises.
    """
    return _read_columns(Path(path), ("item", "user"))


def read_pairs(path: str | Path, *more: str) -> pl.DataFrame:
    """Read the columns user and item, and the columns of the roles ``more``, from a table.

    Raises:
      InputError: as :func:`read_ids` raises, or a column is missing.
    """
    return _read_columns(Path(path), ("user", "item", *more), every=True)


def _read_columns(
    path: Path, roles: tuple[str, ...], may_be_empty: bool = False, *, every: bool = False
) -> pl.DataFrame:
    """Read the columns of some roles, dropping rows with a missing id.

    The first role's column must exist, unless the file has a single column. The columns of other
    roles are optional, unless ``every`` is set.
    """
    try:
        frame = (
            pl.read_parquet(path)
            if path.suffix == ".parquet"
            else _read_text(path, roles, table=every)
        )
    except (
        OSError,
        UnicodeDecodeError,
        csv.Error,
        pl.exceptions.PolarsError,
        pl.exceptions.PanicException,
    ) as e:
        if every:
            listed = " and ".join(roles)
            raise InputError(
                f"{path}: cannot be read as a table; give a CSV, TSV or Parquet file with columns "
                f"{listed}"
            ) from e
        raise InputError(
            f"{path}: cannot be read as a list of ids; give a UTF-8 text file with one id per line"
        ) from e
    places = {role: known_place(frame.columns, role) for role in roles}
    if places[roles[0]] is None and frame.width == 1 and not every:
        places[roles[0]] = 0
    for role in roles if every else roles[:1]:
        if places[role] is None:
            raise _missing_column(path, role, frame.columns, table=every)
    columns = {
        role: _texts(path, frame.to_series(place)).str.strip_chars().replace("", None)
        for role, place in places.items()
        if place is not None
    }
    ids = pl.DataFrame(columns).drop_nulls()
    if ids.is_empty() and not may_be_empty:
        raise InputError(f"{path}: holds no ids; give one id per line")
    return ids


def _texts(path: Path, column: pl.Series) -> pl.Series:
    """Convert a column to strings, writing floats that are all integers as integers.

    Raises:
      InputError: the cells are lists, structs or other values that are not ids.
    """
    if column.dtype.is_float() and bool((column.fill_null(0).fill_nan(0) % 1 == 0).all()):
        column = column.fill_nan(None).cast(pl.Int64, strict=False)
    if not column.dtype.is_nested():
        try:
            return column.cast(pl.String)
        except pl.exceptions.PolarsError:  # bytes that are not UTF-8, for example
            pass
    raise InputError(
        f"{path}: the cells of column {column.name} are {column.dtype}; give one id per cell, as "
        "text or a number"
    )


def _read_text(path: Path, roles: tuple[str, ...], *, table: bool) -> pl.DataFrame:
    """Read a table with a header that names one of the roles, or a list with one id per line."""
    text = path.read_text(encoding="utf-8-sig").lstrip("\r\n")
    head = text.partition("\n")[0].rstrip("\r")
    if not text.strip():
        return pl.DataFrame({roles[0]: []}, {roles[0]: pl.String})
    rows = {separator: next(csv.reader([head], delimiter=separator)) for separator in SEPARATORS}
    named = {
        separator: sum(known_place(cells, role) is not None for role in roles)
        for separator, cells in rows.items()
    }
    separator = max(SEPARATORS, key=lambda s: named[s])
    if not named[separator]:
        # Bars and semicolons may belong to ids, except in .csv and .tsv files.
        for mark in SEPARATORS if path.suffix in (".csv", ".tsv") else SEPARATORS[:2]:
            if len(rows[mark]) > 1:
                raise _missing_column(path, roles[0], rows[mark], table=table)
        separator = _NO_SEPARATOR
    return pl.read_csv(
        text.encode(),
        has_header=separator != _NO_SEPARATOR,
        infer_schema=False,
        separator=separator,
    )


def _missing_column(path: Path, role: str, header: Sequence[str], *, table: bool) -> InputError:
    listed = ", ".join(f"`{name.strip()}`" for name in header[:12])
    return InputError(
        f"{path}: none of the columns {listed} is recognised as the {role}; rename the right one "
        f"to `{role}`" + ("" if table else ", or give one id per line")
    )
