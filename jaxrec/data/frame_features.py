"""Convert a polars frame keyed by id to :class:`Features` of an id table."""

from collections.abc import Callable
from typing import Literal

import numpy as np
import polars as pl

from jaxrec.data.features import Bag, Category, Column, Features, Number, Vector
from jaxrec.data.pair_keys import distinct
from jaxrec.errors import InputError, nearest

_MISTAKES = 10
"""A column of texts counts as numbers with mistakes if at most one in this many filled cells is not
a number."""

Where = Callable[[int], str]


def from_frame(
    frame: pl.DataFrame,
    id_column: str,
    ids: np.ndarray,
    where: Where,
    *,
    kind: Literal["user", "item"],
    bag_separator: str = "|",
    unknown: Literal["refuse", "drop"] = "refuse",
) -> Features:
    """Convert ``frame`` to typed columns with one row per id of ``ids``.

    * Numbers and dates (as seconds since 1970) become Number.
    * Texts become Bag if any text of the column contains the separator, else Category.
    * Booleans, and categories of polars, become Category.
    * Lists of texts or whole numbers become Bag.
    * Lists of other numbers, and numeric arrays, become Vector.

    Empty texts, null and NaN are missing values, and so is every value of an id without a row. Ids
    are compared as texts.

    Args:
      frame: one row per id, with ``id_column`` and one column per feature.
      ids: the id table, [n] int64 or unicode.
      where: returns ``file:line`` of a row; row -1 is the header.
      kind: whether the ids are of users or items, for messages.
      unknown: whether a row whose id is not in ``ids`` is refused or dropped.

    Raises:
      InputError: there is no such id column or no other column; an id is missing, repeated or
        unknown; there are texts among numbers, or infinite numbers; or vectors have unequal lengths
        or lack some of their numbers.
    """
    if id_column not in frame.columns:
        listed = ", ".join(frame.columns[:12]) or "none"
        hint = nearest(id_column, frame.columns)
        raise InputError(f"{where(-1)}: no column {id_column!r}{hint}; there are: {listed}")
    if frame.width < 2:
        raise InputError(f"{where(-1)}: no column besides {id_column!r}; add one to read features")
    place = _places(frame[id_column], ids, where, kind, unknown)
    kept = np.flatnonzero(place >= 0)
    row_of_id = np.full(len(ids), -1)
    row_of_id[place[kept]] = np.arange(len(kept))
    frame = frame.drop(id_column)[kept]

    def source(row: int) -> str:
        return where(int(kept[row]) if row >= 0 else row)

    columns = {column.name: _column(column, source, bag_separator) for column in frame}
    return Features(columns).take(row_of_id)


def _places(
    column: pl.Series, ids: np.ndarray, where: Where, kind: str, unknown: str
) -> np.ndarray:
    """Return for each row of the frame the row of its id in the id table; -1 for unknown ids."""
    texts = column.cast(pl.String)
    lacking = texts.is_null() | (texts == "")
    if lacking.any():
        raise InputError(f"{where(_first(lacking))}: the {kind} is missing; fix or drop the row")
    if texts.n_unique() < len(texts):
        again = _first(~texts.is_first_distinct())
        before = _first(texts == texts[again])
        raise InputError(
            f"{where(again)}: {kind} {texts[again]} is already at {where(before)}; drop one of them"
        )
    table = pl.DataFrame({"id": ids.astype(np.str_).tolist()}, schema={"id": pl.String})
    place = texts.to_frame("id").join(
        table.with_row_index("place"), on="id", how="left", maintain_order="left"
    )["place"]
    strange = place.is_null()
    if unknown == "refuse" and strange.any():
        row = _first(strange)
        raise InputError(
            f"{where(row)}: {kind} {texts[row]} is not in the interactions; drop the row, or keep "
            f"such {kind}s as nodes without interactions: --cold-{kind}s"
        )
    return place.cast(pl.Int64).fill_null(-1).to_numpy()


def _column(column: pl.Series, where: Where, separator: str) -> Column:
    dtype = column.dtype
    if dtype in (pl.Date, pl.Datetime):
        column = column.cast(pl.Datetime("us")).dt.timestamp("us") / 1e6
    if column.dtype.is_numeric():
        return Number(_finite(column, where))
    if dtype == pl.Boolean or dtype in (pl.Categorical, pl.Enum):
        return _category(column.cast(pl.String))
    if dtype in (pl.String, pl.Null):
        return _texts(column.cast(pl.String), where, separator)
    if isinstance(dtype, pl.Array) and dtype.inner.is_numeric():
        return _vector(column.arr.to_list(), where)
    if isinstance(dtype, pl.List):
        if dtype.inner.is_float() or dtype.inner.is_decimal():
            return _vector(column, where)
        if dtype.inner.is_integer() or dtype.inner in (pl.String, pl.Categorical, pl.Enum):
            return _bag(column.cast(pl.List(pl.String)))
    raise InputError(
        f"{where(-1)}: column {column.name!r} cannot be a feature ({dtype}); leave it out"
    )


def _texts(column: pl.Series, where: Where, separator: str) -> Category | Bag:
    if column.str.contains(separator, literal=True).any():
        return _bag(column.str.split(separator))
    texts = column.str.strip_chars()
    filled = (texts != "").fill_null(False)
    odd = filled & texts.cast(pl.Float64, strict=False).is_null()
    if odd.any() and odd.sum() * _MISTAKES <= filled.sum():
        row = _first(odd)
        raise InputError(
            f"{where(row)}: {column.name} {texts[row]!r} is not a number, in a column of mixed "
            "types (most are numbers); fix it, or leave the cell empty"
        )
    return _category(texts)


def _category(texts: pl.Series) -> Category:
    return Category(*_coded(texts))


def _bag(lists: pl.Series) -> Bag:
    frame = pl.DataFrame({"row": np.arange(len(lists)), "name": lists}).explode("name")
    code, names = _coded(frame["name"])
    rows = frame["row"].to_numpy()[code > 0]
    key = distinct(rows * len(names) + code[code > 0])
    row, code = np.divmod(key, len(names))
    indptr = np.searchsorted(row, np.arange(len(lists) + 1))
    return Bag(indptr.astype(np.int32), code.astype(np.int32), names)


def _coded(texts: pl.Series) -> tuple[np.ndarray, np.ndarray]:
    """Return codes [n] int32 and the sorted names, with the empty text first."""
    texts = texts.str.strip_chars()
    texts = texts.to_frame("text").select(pl.when(pl.col("text") != "").then("text"))["text"]
    names = texts.drop_nulls().unique().sort()
    code = texts.cast(pl.Enum(names)).to_physical().cast(pl.Int64).fill_null(-1) + 1
    return code.to_numpy().astype(np.int32), np.array(["", *names.to_list()], dtype=np.str_)


def _vector(lists: pl.Series, where: Where) -> Vector:
    length = lists.list.len().fill_null(0).to_numpy()
    there = np.flatnonzero(length)
    width = int(length[there[0]]) if len(there) else 0
    unequal = there[length[there] != width]
    if len(unequal):
        row = int(unequal[0])
        raise InputError(
            f"{where(row)}: {lists.name} has length {length[row]}, but length {width} at "
            f"{where(int(there[0]))}; give vectors of one length"
        )
    value = np.full((len(lists), width), np.nan, np.float32)
    flat = lists.gather(there).explode()
    value[there] = _finite(flat, lambda place: where(int(there[place // width]))).reshape(-1, width)
    lack = np.isnan(value).sum(axis=1)
    holed = np.flatnonzero((lack > 0) & (lack < width))
    if len(holed):
        raise InputError(
            f"{where(int(holed[0]))}: {lists.name} lacks some of its {width} numbers; "
            "fix it, or leave the cell empty"
        )
    return Vector(value)


def _finite(column: pl.Series, where: Where) -> np.ndarray:
    value = column.cast(pl.Float32).to_numpy().astype(np.float32)
    infinite = np.flatnonzero(np.isinf(value))
    if len(infinite):
        row = int(infinite[0])
        raise InputError(
            f"{where(row)}: {column.name} {column[row]} is not a finite number; fix or drop the row"
        )
    return value


def _first(found: pl.Series) -> int:
    return int(found.arg_max() or 0)
