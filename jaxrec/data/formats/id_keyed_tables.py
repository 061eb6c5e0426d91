"""Reads tables with one row per item or user: CSV, TSV, RecBole's ``.item``, Parquet."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Literal, NamedTuple

import polars as pl

from jaxrec.data.formats import parquet
from jaxrec.data.formats.columns import MISSING, first_names, is_number, locate_id
from jaxrec.data.formats.faults import Faults
from jaxrec.data.formats.tables import not_a_table
from jaxrec.data.formats.text import (
    Layout,
    TextOptions,
    find_fault,
    find_stray_quote,
    line_of,
    look,
    none_left,
    opened,
    sifted,
)
from jaxrec.data.frame_features import Where
from jaxrec.errors import InputError, nearest

Kind = Literal["user", "item"]
_TYPES = ("token", "token_seq", "float", "float_seq")


class Keyed(NamedTuple):
    """A table with one row per id.

    Attributes:
      id_column: the name of the column with the ids.
      where: returns ``file:line`` of a row; row -1 is the header.
      notes: counts of irregularities of the file.
    """

    frame: pl.DataFrame
    id_column: str
    where: Where
    notes: Mapping[str, int] = MappingProxyType({})


def columnar(path: Path, kind: Kind) -> Keyed:
    """Read a Parquet file with one row per id. Raises InputError if it or an id is not usable."""
    with parquet.opened(path) as lines:
        frame = lines.collect()
    if frame.is_empty():
        raise InputError(f"{path}: empty; a file with rows is needed")
    name = frame.columns[locate_id(frame.columns, kind)]

    def where(row: int) -> str:
        return f"{path}: row {row + 1}" if row >= 0 else str(path)

    missing = frame[name].is_null()
    if missing.any():
        row = int(missing.arg_max() or 0)
        raise InputError(f"{where(row)}: the {kind} is missing; fix or drop the row")
    return Keyed(frame.with_columns(parquet.ids(path, frame[name]).alias(name)), name, where)


def delimited(
    path: Path,
    kind: Kind,
    *,
    typed: bool = False,
    options: TextOptions | None = None,
    between: str = " ",
) -> Keyed:
    """Read a text file with a header and one row per id.

    A column becomes numbers if all its cells are numbers, and stays text otherwise.

    Args:
      options: settings that cannot be detected from the file.
      typed: whether the file is RecBole's: tabs unless another separator is given, no quotes, and
        types in the header (``price:float``).
      between: in RecBole's files, the separator between the elements of a sequence; a space stands
        for any white space.

    Raises:
      InputError: the content is not usable; the message names the file, the line and a fix.
    """
    options = options or TextOptions()
    source = opened(path, options)
    separator = options.separator or ("\t" if typed else None)
    head = look(source, separator=separator, quote=not typed, needed="ids and features")
    names, types = _header(f"{path}:{head.blank + 1}", head.rows, kind, typed)
    if len(head.rows) == 1:
        raise InputError(f"{path}: a header without rows; give a file with rows")
    id_column = names[locate_id(names, kind)]
    layout = Layout(
        source=source,
        separator=head.separator,
        skip=head.blank + 1 + head.gap,
        width=len(names),
        at={kind: names.index(id_column)},
        quote=not typed,
        guessed=head.guessed,
        absent=MISSING if options.skip_missing_ids else frozenset(),
    )
    faults = Faults(path, strict=False)
    if options.skip_bad_lines or options.skip_missing_ids:
        kept = sifted(layout, faults, ids_only=not options.skip_bad_lines)
        if kept is None:
            raise none_left(path, faults)
        layout = kept

    def where(row: int) -> str:
        return line_of(layout, row) if row >= 0 else f"{path}:{head.blank + 1}"

    frame = _cells(layout, names)
    columns = []
    for column in frame:
        type = types.get(column.name)
        if column.name == id_column:
            columns.append(column)
        elif type is None:
            columns.append(_numbers_if_all(column))
        elif type == "float":
            columns.append(numbers(column, where))
        elif type == "token":
            columns.append(column.cast(pl.Categorical))
        else:
            columns.append(_sequence(column, where, type, between))
    notes = {f"left out of {path.name}: {fault}": n for fault, n in faults.notes().items()}
    return Keyed(pl.DataFrame(columns), id_column, where, notes)


def numbers(texts: pl.Series, where: Where) -> pl.Series:
    """Convert texts to Float64, null where empty.

    Raises:
      InputError: a text is not a number; the message names its line.
    """
    converted = texts.cast(pl.Float64, strict=False)
    odd = converted.is_null() & (texts != "")
    if odd.any():
        row = int(odd.arg_max() or 0)
        raise InputError(
            f"{where(row)}: {texts.name} {texts[row]!r} is not a number; fix it, or leave it "
            "empty where missing"
        )
    return converted


def _header(
    place: str, rows: Sequence[Sequence[str]], kind: Kind, typed: bool
) -> tuple[list[str], dict[str, str]]:
    """Return the names of the columns, and the types of the columns that have a type."""
    cells = rows[0]
    if typed:
        parts = [cell.rpartition(":") for cell in cells]
        for (name, _, type), cell in zip(parts, cells, strict=True):
            if not name or type not in _TYPES:
                raise InputError(
                    f"{place}: {cell!r} is not of the form name:type{nearest(type, _TYPES)}; "
                    f"types: {', '.join(_TYPES)}"
                )
        names, types = [part[0] for part in parts], {part[0]: part[2] for part in parts}
    else:
        names, types = list(cells), {}
    for n, name in enumerate(names):
        if not name or name in names[:n]:
            fault = f"two columns are named {name!r}" if name else f"column {n + 1} has no name"
            raise InputError(f"{place}: {fault}; give each column its own name")
    name = names[locate_id(names, kind)]
    if is_number(name) or not (typed or first_names(rows, [kind], [kind]) is not False):
        raise InputError(
            f"{place}: no header ({name!r} is not a name); put the names of the columns on "
            "the first line"
        )
    return names, types


def _cells(layout: Layout, names: Sequence[str]) -> pl.DataFrame:
    """Return all cells as stripped texts, null where empty, without blank lines."""
    rows = find_fault(layout)
    try:
        frame = layout.scan(names).collect()
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as e:
        find_stray_quote(layout)
        raise not_a_table(layout.path, str(e).splitlines()[0]) from e
    frame = frame.filter(~pl.all_horizontal(pl.all().is_null()))
    if frame.height != rows:
        raise not_a_table(layout.path, f"{frame.height} rows by one count, by another {rows}")
    frame = frame.with_columns(pl.all().str.strip_chars())
    return frame.with_columns(pl.when(pl.col(name) != "").then(pl.col(name)) for name in names)


def _numbers_if_all(texts: pl.Series) -> pl.Series:
    converted = texts.cast(pl.Float64, strict=False)
    all_numbers = converted.null_count() == texts.null_count() < len(texts)
    return converted if all_numbers else texts


def _sequence(texts: pl.Series, where: Where, type: str, between: str) -> pl.Series:
    if between.strip():
        cell = pl.element().str.strip_chars()
        lists = texts.str.split(between).list.eval(cell.filter(cell != ""))
    else:
        lists = texts.str.extract_all(r"\S+")
    if type == "token_seq":
        return lists
    flat = lists.explode()
    row_of = pl.Series(range(len(texts))).repeat_by(lists.list.len().fill_null(1)).explode()
    numbers(flat, lambda place: where(int(row_of[place])))
    return lists.cast(pl.List(pl.Float64))
