"""What people call the items of a run: titles and other columns to show, and filters by them."""

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
"""Columns of a list, which none of a catalogue may be called."""


class Catalogue:
    """A table of items, a row for each item of a run in the run's order.

    Attributes:
      frame: [I] rows; numbers, texts, or lists of texts; null where the table has nothing.
      item_ids: [I] of the run.
    """

    def __init__(self, frame: pl.DataFrame, item_ids: Sequence[str] | np.ndarray) -> None:
        self.frame, self.item_ids = frame, item_ids
        self._bags: dict[str, pl.Series] = {}

    @classmethod
    def load(cls, path: str | Path, item_ids: Sequence[str] | np.ndarray) -> Catalogue:
        """Read a table keyed by item id.

        Args:
          path: .parquet, .jsonl, RecBole's .item, or a .csv or .tsv with a header.
          item_ids: of the run, in its order. Items that the table lacks have no values.

        Raises:
          InputError: no readable table, an id twice, no column of ids, or not one item of the run.
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
                f"{path}: none of its items is among the {len(ids):,} of the run; column "
                f"{name!r} was taken for the ids, {table[name][0]!r} is the first of them and "
                f"{ids[0] if len(ids) else ''!r} the run's"
            )
        frame = pl.DataFrame([ids]).join(table, on=name, how="left", maintain_order="left")
        frame = frame.drop(name)
        taken = [column for column in frame.columns if column in _RESERVED]
        frame = frame.rename({column: f"item_{column}" for column in taken})
        return cls(pl.DataFrame([_plain(column) for column in frame]), item_ids)

    @property
    def title(self) -> str | None:
        """The column that is shown as an item's title: one called so, else the first of texts."""
        plain = {name.lower().replace(" ", "_"): name for name in reversed(self.frame.columns)}
        named = next((plain[name] for name in _TITLES if name in plain), None)
        texts = [c.name for c in self.frame if c.dtype == pl.String]
        return named or (texts[0] if texts else None)

    def titles(self) -> list[str | None]:
        """[I] the title of each item; None where it has none."""
        if self.title is None:
            return [None] * len(self.frame)
        return self.frame[self.title].cast(pl.String).to_list()

    def joined(self, lists: pl.DataFrame, item: str = "item") -> pl.DataFrame:
        """Lists with the columns of this table behind theirs, matched by the column ``item``."""
        ids = pl.Series(item, self.item_ids, dtype=pl.String)
        own = self.frame.with_columns(ids)
        return lists.join(own, on=item, how="left", maintain_order="left")

    def flat(self, lists: pl.DataFrame, item: str = "item") -> pl.DataFrame:
        """:meth:`joined`, with lists of texts as one text ``a|b``, for formats without lists."""
        frame = self.joined(lists, item)
        bags = [c.name for c in frame if isinstance(c.dtype, pl.List)]
        return frame.with_columns(pl.col(n).cast(pl.List(pl.String)).list.join("|") for n in bags)

    def where(self, conditions: Iterable[str]) -> np.ndarray:
        """[I] bool: the items for which every condition holds.

        Args:
          conditions: ``column=value``, with several values as ``a|b`` any of which will do;
            ``column!=value``; ``column<number``, and likewise with <=, > and >=. Of a cell that
            holds several (a list, or the text ``a|b``) one that is equal will do. What is missing
            equals nothing and is neither less nor more.

        Raises:
          InputError: no such form, no such column, or a number is needed.
        """
        fits = np.ones(len(self.frame), bool)
        for condition in conditions:
            fits &= self._fits(condition)
        return fits

    def codes(self, column: str) -> np.ndarray:
        """[I] int64: a number for each value of a column; -1 where it is missing.

        Raises:
          InputError: no such column.
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
            raise InputError(f"no column {column!r} of items{hint}; there are: {listed}")

    def _fits(self, condition: str) -> np.ndarray:
        found = _CONDITION.fullmatch(condition)
        if found is None:
            raise InputError(f"{condition!r} is no condition; write column=value or column<number")
        name, sign, value = found["name"], found["sign"], found["value"]
        self._check(name)
        column = self.frame[name]
        if sign in ("=", "!="):
            equal = self._equals(column, value.split("|"))
            return ~equal if sign == "!=" else equal
        if not column.dtype.is_numeric():
            raise InputError(f"{condition!r}: {name} is no number; compare it by = or !=")
        try:
            number = float(value)
        except ValueError:
            raise InputError(f"{condition!r}: {value!r} is no number") from None
        made = {"<": column < number, "<=": column <= number}
        made |= {">": column > number, ">=": column >= number}
        return made[sign].fill_null(False).to_numpy()

    def _equals(self, column: pl.Series, values: list[str]) -> np.ndarray:
        if column.dtype.is_numeric():
            numbers = []
            for value in values:
                try:
                    numbers.append(float(value))
                except ValueError:
                    raise InputError(f"{column.name} is a number, and {value!r} is none") from None
            return column.cast(pl.Float64).is_in(numbers).fill_null(False).to_numpy()
        if column.name not in self._bags:
            bag = column
            if not isinstance(column.dtype, pl.List):
                bag = column.cast(pl.String).str.split("|")
            self._bags[column.name] = bag.cast(pl.List(pl.String))
        bag, equal = self._bags[column.name], np.zeros(len(column), bool)
        for value in values:
            equal |= bag.list.contains(value).fill_null(False).to_numpy()
        return equal


def _plain(column: pl.Series) -> pl.Series:
    """A column as finite numbers, texts, truths or lists of such, which any format can hold."""
    kind = column.dtype
    if kind.is_float():
        finite = column.set(~column.is_finite(), None)
        whole = bool((finite.drop_nulls() % 1 == 0).all()) and len(finite.drop_nulls()) > 0
        return finite.cast(pl.Int64, strict=False) if whole else finite
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
    """A table of items and the name of its ids' column; the ids are texts."""
    if not path.is_file():
        raise InputError(f"{path}: no such file; a table of items with their ids is needed")
    if path.suffix in (".parquet", ".pq"):
        table, name, *_ = id_keyed_tables.columnar(path, "item")
    elif path.suffix in (".jsonl", ".ndjson"):
        try:
            table = pl.read_ndjson(path)
        except (OSError, pl.exceptions.PolarsError, pl.exceptions.PanicException) as e:
            raise InputError(f"{path}: no readable table, an object a line") from e
        name = table.columns[locate_id(table.columns, "item")]
        table = table.with_columns(pl.col(name).cast(pl.String)).drop_nulls(name)
    else:
        table, name, *_ = id_keyed_tables.delimited(path, "item", typed=path.suffix == ".item")
        table = table.drop_nulls(name)
    return table.with_columns(pl.col(name).cast(pl.String)), name
