"""Item metadata of a run: titles and other columns, which are shown or used as filters."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import polars as pl

from jaxrec.data.formats import id_keyed_tables
from jaxrec.data.formats.columns import locate_id
from jaxrec.errors import InputError, nearest

_CONDITION = re.compile(r"\s*(?P<name>[^=!<>]+?)\s*(?P<sign>!=|<=|>=|=|<|>)\s*(?P<value>.*?)\s*")
_TITLES = ("title", "name", "item_name", "product_name", "movie_title", "label")
_RESERVED = ("user", "item", "similar", "rank", "score")
"""Columns of recommendation lists; a catalogue's columns of the same name get a prefix."""


class Catalogue:
    """A table with one row for each item of a run, in the run's order.

    Attributes:
      frame: [I] rows of numbers, strings or lists; null where a value is missing.
      item_ids: [I] ids of the run's items.
    """

    def __init__(self, frame: pl.DataFrame, item_ids: Sequence[str] | np.ndarray) -> None:
        self.frame, self.item_ids = frame, item_ids
        self._split: dict[str, pl.Series] = {}  # by column name: the values of each cell as a list

    @classmethod
    def load(cls, path: str | Path, item_ids: Sequence[str] | np.ndarray) -> Catalogue:
        """Read a table keyed by item id.

        Args:
          path: .parquet, .jsonl, RecBole's .item, or a .csv or .tsv with a header.
          item_ids: ids of the run's items in its order. Items that the table lacks get nulls.

        Raises:
          InputError: the table cannot be read, has no column of ids, has an id twice, or has no
            item of the run.
        """
        path = Path(path)
        table, name = _read(path)
        ids = pl.Series(name, item_ids, dtype=pl.String)
        twice = table[name].is_duplicated()
        if twice.any():
            first = table[name].filter(twice)[0]
            raise InputError(f"{path}: item {first!r} has several rows; keep one of them")
        if not ids.is_in(table[name].implode()).any():
            raise InputError(
                f"{path}: none of its items is among the run's {len(ids):,} items; column {name!r} "
                f"must hold ids such as {ids[0] if len(ids) else ''!r}, but holds "
                f"{table[name][0]!r}"
            )
        frame = pl.DataFrame([ids]).join(table, on=name, how="left", maintain_order="left")
        frame = frame.drop(name)
        reserved = [column for column in frame.columns if column in _RESERVED]
        frame = frame.rename({column: f"item_{column}" for column in reserved})
        return cls(pl.DataFrame([_plain(column) for column in frame]), item_ids)

    @property
    def title(self) -> str | None:
        """Name of the column of titles; None without one.

        It is the column with a usual name, such as "title", or else the first column of strings.
        """
        by_name = {name.lower().replace(" ", "_"): name for name in reversed(self.frame.columns)}
        named = next((by_name[name] for name in _TITLES if name in by_name), None)
        texts = [c.name for c in self.frame if c.dtype == pl.String]
        return named or (texts[0] if texts else None)

    def titles(self) -> list[str | None]:
        """Return the title of each item [I], or None where it is missing."""
        if self.title is None:
            return [None] * len(self.frame)
        return self.frame[self.title].cast(pl.String).to_list()

    def joined(self, lists: pl.DataFrame, item: str = "item") -> pl.DataFrame:
        """Append this table's columns to a frame whose column named ``item`` holds item ids."""
        ids = pl.Series(item, self.item_ids, dtype=pl.String)
        catalogue = self.frame.with_columns(ids)
        return lists.join(catalogue, on=item, how="left", maintain_order="left")

    def flat(self, lists: pl.DataFrame, item: str = "item") -> pl.DataFrame:
        """Append columns as :meth:`joined` does, but convert lists to strings ``a|b``, for CSV."""
        frame = self.joined(lists, item)
        nested = [c.name for c in frame if isinstance(c.dtype, pl.List)]
        return frame.with_columns(pl.col(n).cast(pl.List(pl.String)).list.join("|") for n in nested)

    def where(self, conditions: Iterable[str]) -> np.ndarray:
        """Return which items meet all conditions, [I] bool.

        Args:
          conditions: each is ``column=value``, ``column=a|b`` (one of several values),
            ``column!=value``, or ``column<number``, and likewise with <=, > and >=. A cell with
            several values (a list, or the text ``a|b``) equals each of them. A missing cell equals
            no value, and is neither below nor above a number.

        Raises:
          InputError: a condition is malformed, names an unknown column, or needs a number.
        """
        fits = np.ones(len(self.frame), bool)
        for condition in conditions:
            fits &= self._fits(condition)
        return fits

    def codes(self, column: str) -> np.ndarray:
        """Return a number for each item's value in a column, [I] int64.

        Equal values have equal numbers; -1 stands for a missing value.

        Raises:
          InputError: there is no such column.
        """
        self._check(column)
        values = self.frame[column]
        if isinstance(values.dtype, pl.List):
            values = values.cast(pl.List(pl.String)).list.join("|")
        texts = values.cast(pl.String)
        codes = texts.rank("dense").cast(pl.Int64).fill_null(0) - 1
        return codes.to_numpy()

    def _check(self, column: str) -> None:
        if column not in self.frame.columns:
            hint = nearest(column, self.frame.columns)
            listed = ", ".join(self.frame.columns[:12])
            raise InputError(
                f"the table of items has no column {column!r}{hint}; its columns are {listed}"
            )

    def _fits(self, condition: str) -> np.ndarray:
        found = _CONDITION.fullmatch(condition)
        if found is None:
            raise InputError(
                f"{condition!r} is not a condition; write column=value or column<number"
            )
        name, sign, value = found["name"], found["sign"], found["value"]
        self._check(name)
        column = self.frame[name]
        if sign in ("=", "!="):
            equal = self._equals(column, value.split("|"))
            return ~equal if sign == "!=" else equal
        if not column.dtype.is_numeric():
            raise InputError(f"{condition!r}: column {name} is not numeric; use = or !=")
        try:
            number = float(value)
        except ValueError:
            raise InputError(
                f"{condition!r}: {value!r} is not a number; compare {name} with a number"
            ) from None
        fits = {"<": column < number, "<=": column <= number}
        fits |= {">": column > number, ">=": column >= number}
        return fits[sign].fill_null(False).to_numpy()

    def _equals(self, column: pl.Series, values: list[str]) -> np.ndarray:
        if column.dtype.is_numeric():
            numbers = []
            for value in values:
                try:
                    numbers.append(float(value))
                except ValueError:
                    raise InputError(
                        f"column {column.name} is numeric, but {value!r} is not a number"
                    ) from None
            return column.cast(pl.Float64).is_in(numbers).fill_null(False).to_numpy()
        if column.name not in self._split:
            lists = column
            if not isinstance(column.dtype, pl.List):
                lists = column.cast(pl.String).str.split("|")
            self._split[column.name] = lists.cast(pl.List(pl.String))
        lists, equal = self._split[column.name], np.zeros(len(column), bool)
        for value in values:
            equal |= lists.list.contains(value).fill_null(False).to_numpy()
        return equal


def _plain(column: pl.Series) -> pl.Series:
    """Convert a column to finite numbers, strings, booleans or lists, for all file formats."""
    kind = column.dtype
    if kind.is_float():
        finite = column.set(~column.is_finite(), None)
        integral = bool((finite.drop_nulls() % 1 == 0).all()) and len(finite.drop_nulls()) > 0
        return finite.cast(pl.Int64, strict=False) if integral else finite
    if isinstance(kind, pl.List | pl.Array):
        inner = pl.Float64 if kind.inner.is_numeric() else pl.String  # pyright: ignore
        return column.cast(pl.List(inner))
    if isinstance(kind, pl.Struct):
        return column.struct.json_encode()
    if kind.is_integer() or kind == pl.Boolean:
        return column
    if kind == pl.Binary:
        return column.bin.encode("hex")
    return column.cast(pl.String)


def _read(path: Path) -> tuple[pl.DataFrame, str]:
    """Read a table of items, with ids as strings, and return it with the name of its id column."""
    if not path.is_file():
        raise InputError(f"{path}: no such file; give a table with a column of item ids")
    if path.suffix in (".parquet", ".pq"):
        table, name, *_ = id_keyed_tables.columnar(path, "item")
    elif path.suffix in (".jsonl", ".ndjson"):
        try:
            table = pl.read_ndjson(path)
        except (OSError, pl.exceptions.PolarsError, pl.exceptions.PanicException) as e:
            raise InputError(
                f"{path}: cannot be read as JSON Lines; it needs one object per line"
            ) from e
        name = table.columns[locate_id(table.columns, "item")]
        table = table.with_columns(pl.col(name).cast(pl.String)).drop_nulls(name)
    else:
        table, name, *_ = id_keyed_tables.delimited(path, "item", typed=path.suffix == ".item")
        table = table.drop_nulls(name)
    return table.with_columns(pl.col(name).cast(pl.String)), name
