"""The files around a Recommender: lists of ids in, recommendations out."""

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
"""Names of files that lists are written to end so."""
STDOUT = "-"
"""Stands for standard output."""
SEPARATORS = (",", "\t", ";", "|")
"""What may be between the cells of a list of ids."""
_NO_SEPARATOR = "\x1f"


def write(frames: pl.DataFrame | Iterable[pl.DataFrame], path: str | Path) -> None:
    """Write frames below one another, in the format of the suffix, whole or not at all.

    Several are written as they come: none needs to be in memory with the next.

    Args:
      frames: of the same columns, one or more.
      path: .parquet, .csv, .tsv, .json (one array of objects) or .jsonl (an object a line); a file
        that is there is replaced. "-" writes CSV to standard output.

    Raises:
      InputError: another suffix, or a place that cannot be written.
    """
    several = [frames] if isinstance(frames, pl.DataFrame) else frames
    if str(path) == STDOUT:
        sys.stdout.flush()
        _write_text(several, sys.stdout.buffer, ".csv")
        sys.stdout.buffer.flush()
        return
    path = Path(path)
    suffix = check_suffix(path)
    with replacing(path) as partial:
        if suffix == ".parquet":
            _write_parquet(several, partial)
            return
        with partial.open("wb") as file:
            _write_text(several, file, suffix)


def check_suffix(path: str | Path) -> str:
    """The suffix of a file that :func:`write` can write, or raise InputError."""
    suffix = Path(path).suffix.lower()
    if suffix not in SUFFIXES:
        *most, last = SUFFIXES
        raise InputError(f"{path}: the name must end in {', '.join(most)} or {last}")
    return suffix


def _write_text(frames: Iterable[pl.DataFrame], file: IO[bytes], suffix: str) -> None:
    if suffix == ".json":
        # polars writes an array a frame; the brackets between them go.
        file.write(b"[")
        between = b""
        for frame in frames:
            if len(frame):
                file.write(between + frame.write_json().strip()[1:-1].encode())
                between = b","
        file.write(b"]\n")
        return
    for number, frame in enumerate(frames):
        if suffix == ".jsonl":
            frame.write_ndjson(file)
        else:
            separator = "," if suffix == ".csv" else "\t"
            frame.write_csv(file, separator=separator, include_header=number == 0)


def _write_parquet(frames: Iterable[pl.DataFrame], path: Path) -> None:
    # A parquet file cannot be appended to; parts on disk keep one frame in memory at a time.
    with tempfile.TemporaryDirectory(prefix=f"{path.name}.", dir=path.parent) as folder:
        parts = []
        for number, frame in enumerate(frames):
            parts.append(Path(folder, f"{number}.parquet"))
            frame.write_parquet(parts[-1])
        pl.scan_parquet(parts).sink_parquet(path)


def read_ids(path: str | Path, role: str, *, may_be_empty: bool = False) -> list[str]:
    """Ids of a role, "user" or "item", from a file: a table, or an id a line.

    A table is a .parquet, or text with commas, semicolons, tabs or bars between its cells, whose
    header has a name that is known for the role, as in the data: ``user``, ``user_id``, ... An id a
    line may have such a name above it.

    Args:
      may_be_empty: whether a file without ids gives none.

    Raises:
      InputError: the file cannot be read, holds several columns and no known name for the role, or
        is empty and may not be.
    """
    return _read_columns(Path(path), (role,), may_be_empty)[role].to_list()


def given_ids(given: Sequence[str], role: str, *, may_be_empty: bool = False) -> list[str]:
    """Ids of the command line: of a file as :func:`read_ids` takes it, or the ids themselves.

    Raises:
      InputError: as :func:`read_ids`.
    """
    if names_file(given):
        return read_ids(given[0], role, may_be_empty=may_be_empty)
    return list(given)


def names_file(given: Sequence[str]) -> bool:
    """Whether a value of the command line names a file, and is no list of ids.

    A single one does that is a file or is called like one: with a folder, or one of the suffixes.
    """
    if len(given) != 1:
        return False
    path = Path(given[0])
    return "/" in given[0] or path.suffix in (*SUFFIXES, ".txt") or path.is_file()


def read_history(path: str | Path) -> pl.DataFrame:
    """Items as :func:`read_ids` takes them, of one user; with a column of users too, of many.

    Raises:
      InputError: as :func:`read_ids`.
    """
    return _read_columns(Path(path), ("item", "user"))


def read_pairs(path: str | Path, *more: str) -> pl.DataFrame:
    """Columns user and item, and ``more`` roles, of a table as :func:`read_ids` takes them.

    Raises:
      InputError: as :func:`read_ids`, or a column lacks.
    """
    return _read_columns(Path(path), ("user", "item", *more), every=True)


def _read_columns(
    path: Path, roles: tuple[str, ...], may_be_empty: bool = False, *, every: bool = False
) -> pl.DataFrame:
    """The columns of some roles, without rows that lack an id.

    The first of the roles must be there, or be all there is; the others may be, or with ``every``
    must.
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
            raise InputError(f"{path}: no readable table with columns {listed}") from e
        raise InputError(f"{path}: no readable list of ids; one id a line will do") from e
    places = {role: known_place(frame.columns, role) for role in roles}
    if places[roles[0]] is None and frame.width == 1 and not every:
        places[roles[0]] = 0
    for role in roles if every else roles[:1]:
        if places[role] is None:
            raise _not_named(path, role, frame.columns, table=every)
    columns = {
        role: _texts(frame.to_series(place)).str.strip_chars().replace("", None)
        for role, place in places.items()
        if place is not None
    }
    ids = pl.DataFrame(columns).drop_nulls()
    if ids.is_empty() and not may_be_empty:
        raise InputError(f"{path}: holds no ids; give one id a line")
    return ids


def _texts(column: pl.Series) -> pl.Series:
    """A column as texts; whole numbers that a gap in a table has made floats, as whole numbers."""
    if column.dtype.is_float() and bool((column.fill_null(0).fill_nan(0) % 1 == 0).all()):
        column = column.fill_nan(None).cast(pl.Int64, strict=False)
    return column.cast(pl.String)


def _read_text(path: Path, roles: tuple[str, ...], *, table: bool) -> pl.DataFrame:
    """A table with a header that names one of the roles, or an id a line."""
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
        # Bars and semicolons may be part of an id; in a file called .csv they are not.
        for between in SEPARATORS if path.suffix in (".csv", ".tsv") else SEPARATORS[:2]:
            if len(rows[between]) > 1:
                raise _not_named(path, roles[0], rows[between], table=table)
        separator = _NO_SEPARATOR
    return pl.read_csv(
        text.encode(),
        has_header=separator != _NO_SEPARATOR,
        infer_schema=False,
        separator=separator,
    )


def _not_named(path: Path, role: str, header: Sequence[str], *, table: bool) -> InputError:
    listed = ", ".join(f"`{name.strip()}`" for name in header[:12])
    return InputError(
        f"{path}: no column of {listed} is known as the {role}; name it `{role}`"
        + ("" if table else ", or give one id a line")
    )
