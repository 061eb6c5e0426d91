"""Tables and matrices of other libraries, in memory, to a Dataset.

They go the way of a Parquet file: the same columns are guessed, and the same faults are refused.
pandas, pyarrow and scipy are never imported: an object of theirs brings what is needed.
"""

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl

from jaxrec.data import array_checks
from jaxrec.data.dataset import Dataset
from jaxrec.data.formats import parquet
from jaxrec.data.formats.assemble import Repeats, to_dataset
from jaxrec.data.formats.columns import IDS, Columns, described, locate
from jaxrec.data.formats.text import TextOptions
from jaxrec.errors import InputError, nearest

_SAMPLE = 100
_NUMBERS = {
    "rating": array_checks.numbers,
    "time": array_checks.times,
    "weight": array_checks.numbers,
}


def from_polars(
    frame: pl.DataFrame | pl.LazyFrame,
    *,
    event_weights: dict[str, float] | None = None,
    text: TextOptions | None = None,
    repeats: Repeats | None = None,
    name: str = "data",
    **columns: str | None,
) -> Dataset:
    """A Dataset of a polars frame, a row an interaction.

    Args:
      event_weights: weight of each kind of event in the event column, as ``jaxrec.read`` has it.
      text: which rows are left out and counted, and how times in text are written.
      repeats: what stands for a pair that is there several times; the latest where not given.
      name: of the data, for people and for messages.
      columns: ``user="customer", item="sku"``, and so on: rating, time, event, weight; guessed
        from common names where not given, left out where ``""``.

    Raises:
      InputError: a column that is not there or cannot be guessed, or a row that cannot be used.

    >>> import jaxrec
    >>> import polars as pl
    >>> frame = pl.DataFrame({"who": ["ann", "bob"], "sku": ["tea", "cup"], "how": ["buy", "view"]})
    >>> weights = {"buy": 3.0, "view": 1.0}
    >>> columns = {"user": "who", "item": "sku", "event": "how"}
    >>> data = jaxrec.from_polars(frame, event_weights=weights, **columns)
    >>> data.weight.tolist()
    [3.0, 1.0]
    """
    if not isinstance(frame, pl.DataFrame | pl.LazyFrame):
        raise _not_taken(frame, "from_polars")
    part = parquet.of_lines(
        Path(name), frame.lazy(), _roles(columns), event_weights, options=text or TextOptions()
    )
    return to_dataset([part], name, repeats)


def from_arrow(
    table: Any,
    *,
    event_weights: dict[str, float] | None = None,
    text: TextOptions | None = None,
    repeats: Repeats | None = None,
    name: str = "data",
    **columns: str | None,
) -> Dataset:
    """A Dataset of a pyarrow Table or RecordBatch; arguments and errors of :func:`from_polars`.

    >>> import jaxrec
    >>> import pyarrow as pa
    >>> jaxrec.from_arrow(pa.table({"user": ["ann", "bob"], "item": ["tea", "cup"]})).n_edges
    2
    """
    if array_checks.taken_by(table) != "from_arrow":
        raise _not_taken(table, "from_arrow")
    frame = pl.DataFrame(pl.from_arrow(table))
    return from_polars(
        frame, event_weights=event_weights, text=text, repeats=repeats, name=name, **columns
    )


def from_pandas(
    frame: Any,
    *,
    event_weights: dict[str, float] | None = None,
    text: TextOptions | None = None,
    repeats: Repeats | None = None,
    name: str = "data",
    **columns: str | None,
) -> Dataset:
    """A Dataset of a pandas DataFrame; arguments and errors of :func:`from_polars`.

    The index is not read; ``frame.reset_index()`` makes columns of it.

    >>> import jaxrec
    >>> import pandas as pd
    >>> frame = pd.DataFrame({"user": ["ann", "bob", "ann"], "item": ["tea", "cup", "cup"]})
    >>> jaxrec.from_pandas(frame).n_edges
    3
    """
    if array_checks.taken_by(frame) != "from_pandas":
        raise _not_taken(frame, "from_pandas")
    names, roles = [str(label) for label in frame.columns], _roles(columns)
    options, weights = text or TextOptions(), event_weights or {}
    head = frame.head(_SAMPLE)
    texts = [_texts(head.iloc[:, place]) for place in range(len(names))]
    rows = [list(row) for row in zip(*texts, strict=True)]
    form = options.time_format
    at = locate(name, names, roles, event=bool(weights), rows=rows, form=form)
    made = {role: _of_pandas(frame.iloc[:, place], role, name) for role, place in at.items()}
    reading = described(at, len(names), names, rows=rows, columns=roles)
    part = parquet.of_roles(Path(name), pl.DataFrame(made), reading, weights, options=options)
    return to_dataset([part], name, repeats)


def from_numpy(
    user: Any,
    item: Any,
    *,
    rating: Any = None,
    time: Any = None,
    weight: Any = None,
    repeats: Repeats | None = None,
    name: str = "data",
) -> Dataset:
    """A Dataset of columns of one length: arrays, lists, or columns of a frame.

    Args:
      user, item: ids, [E]: whole numbers or texts.
      rating, weight: numbers, [E].
      time: numbers or dates, [E].
      repeats: what stands for a pair that is there several times; the latest where not given.

    Raises:
      InputError: columns of other lengths, ids that are missing or neither whole numbers nor
        texts, numbers that are missing or infinite, or no pair.

    >>> import jaxrec
    >>> data = jaxrec.from_numpy(["ann", "bob", "ann"], ["tea", "cup", "cup"], rating=[4, 5, 3])
    >>> data.n_users, data.n_items, data.rating.tolist()
    (2, 2, [3.0, 4.0, 5.0])
    """
    made: dict[str, np.ndarray] = {"user": array_checks.id_array(user, f"{name}: user")}
    length = len(made["user"])
    made["item"] = array_checks.id_array(item, f"{name}: item")
    if len(made["item"]) != length:
        raise InputError(f"{name}: {length} users and {len(made['item'])} items; pairs have both")
    for role, given in (("rating", rating), ("time", time), ("weight", weight)):
        if given is not None:
            made[role] = _NUMBERS[role](given, f"{name}: {role}", length)
    frame = pl.DataFrame({role: _series(role, column) for role, column in made.items()})
    part = parquet.of_roles(Path(name), frame, "", {}, options=TextOptions())
    return to_dataset([part], name, repeats)


def from_scipy(
    matrix: Any,
    user_ids: Any = None,
    item_ids: Any = None,
    *,
    values: Literal["weight", "rating", "none"] = "weight",
    name: str = "data",
) -> Dataset:
    """A Dataset of a sparse matrix of users by items.

    Rows and columns without an entry are left out and counted, as are entries of 0 among weights;
    entries of one place add up.

    Args:
      matrix: any sparse matrix or array of scipy, [U, I].
      user_ids, item_ids: [U] and [I]; row and column numbers where not given.
      values: what the entries are; weights that are all 1 say nothing, and are none.

    Raises:
      InputError: no sparse matrix, ids of other lengths, negative weights, or no entry.

    >>> import jaxrec
    >>> import scipy.sparse as sp
    >>> bought = sp.coo_array(([2.0, 1.0, 1.0], ([0, 0, 1], [0, 1, 1])))
    >>> data = jaxrec.from_scipy(bought, ["ann", "bob"], ["tea", "cup"])
    >>> data.n_edges, data.weight.tolist()
    (3, [1.0, 2.0, 1.0])
    """
    if array_checks.taken_by(matrix) != "from_scipy" or not hasattr(matrix, "tocoo"):
        raise _not_taken(matrix, "from_scipy")
    if len(matrix.shape) != 2:
        raise InputError(f"{name}: a matrix of users by items has 2 axes, not {len(matrix.shape)}")
    if values not in ("weight", "rating", "none"):
        raise InputError(f"{name}: values {values!r} are none of weight, rating and none")
    found = matrix.tocoo(copy=True)
    if values == "weight":
        found.sum_duplicates()
    sides = []
    for side, ids, count in (("user", user_ids, 0), ("item", item_ids, 1)):
        table = np.arange(matrix.shape[count]) if ids is None else ids
        sides.append(array_checks.id_table(table, f"{name}: {side}_ids"))
        if len(sides[-1]) != matrix.shape[count]:
            raise InputError(
                f"{name}: {len(sides[-1])} {side}_ids for {matrix.shape[count]} "
                f"{('rows', 'columns')[count]}"
            )
    entry = array_checks.numbers(
        found.data.astype(np.float64), f"{name}: entries", found.nnz, np.float64
    )
    there = np.ones(found.nnz, bool) if values != "weight" else entry != 0
    if not there.any():
        raise InputError(f"{name}: no entry in the matrix; a matrix with some is needed")
    row, column, entry = found.row[there], found.col[there], entry[there]
    if values == "weight" and entry.min() < 0:
        raise InputError(
            f"{name}: an entry is {entry.min():g}; weights are not negative, and values='rating' "
            "takes ratings"
        )
    made = {"user": sides[0][row], "item": sides[1][column]}
    if values == "rating" or (values == "weight" and not (entry == 1).all()):
        made[values] = entry
    frame = pl.DataFrame({role: _series(role, cells) for role, cells in made.items()})
    reading = "user <- rows, item <- columns"
    reading += "".join(f", {role} <- entries" for role in made if role not in IDS)
    part = parquet.of_roles(Path(name), frame, reading, {}, options=TextOptions())
    part.notes |= {
        "entries of 0, left out": int(found.nnz - there.sum()),
        "rows without an entry, left out": matrix.shape[0] - len(np.unique(row)),
        "columns without an entry, left out": matrix.shape[1] - len(np.unique(column)),
    }
    return to_dataset([part], name)


_TAKES: dict[str, Callable[[Any], Dataset]] = {
    "from_pandas": from_pandas,
    "from_polars": from_polars,
    "from_arrow": from_arrow,
    "from_scipy": from_scipy,
}


def taken(data: Any) -> Any:
    """A Dataset of a table or matrix of another library; anything else as it is."""
    function = array_checks.taken_by(data)
    return data if function is None else _TAKES[function](data)


def _not_taken(data: Any, function: str) -> InputError:
    kind = f"{type(data).__module__.partition('.')[0]}.{type(data).__qualname__}"
    other = array_checks.taken_by(data)
    way = f"jaxrec.{other} takes it" if other else "jaxrec.from_numpy takes columns"
    return InputError(f"jaxrec.{function} does not take a {kind}; {way}")


def _roles(columns: dict[str, str | None]) -> Columns:
    known = [f.name for f in fields(Columns)]
    for role in columns:
        if role not in known:
            listed = ", ".join(known)
            raise InputError(f"no column {role!r}{nearest(role, known)}; there are {listed}")
    return Columns(**columns)


def _texts(column: Any) -> list[str]:
    """Cells of a column of pandas as texts, empty where they are no text or number."""
    cells = np.asarray(column, dtype=object).tolist()
    return [str(cell) if isinstance(cell, str | int | float) else "" for cell in cells]


def _of_pandas(column: Any, role: str, name: str) -> pl.Series:
    """A column of pandas; missing numbers are null."""
    if getattr(column.dtype, "tz", None) is not None:
        column = column.dt.tz_convert(None)
    missing = column.isna().to_numpy()
    if isinstance(column.dtype, np.dtype) and column.dtype.kind in "iufM":
        cells = column.to_numpy()
        cells = cells.astype("M8[us]") if cells.dtype.kind == "M" else cells
        return pl.Series(role, cells).scatter(np.flatnonzero(missing), None)
    cells = np.asarray(column, dtype=object)[~missing]
    if role in IDS or role == "event":
        made = _series(role, array_checks.id_array(cells, f"{name}: {role}"))
    else:
        try:
            made = pl.Series(role, cells.tolist())
        except (TypeError, pl.exceptions.PolarsError):
            made = pl.Series(role, [str(cell) for cell in cells], dtype=pl.String)
    if not missing.any():
        return made
    place = pl.Series(np.cumsum(~missing) - 1).scatter(np.flatnonzero(missing), None)
    return made.gather(place)


def _series(role: str, cells: np.ndarray) -> pl.Series:
    return pl.Series(role, cells.tolist() if cells.dtype.kind == "U" else cells)
