"""Builds a Dataset from tables and matrices of other libraries that are in memory.

The data is read like a Parquet file: the same columns are guessed, and the same faults refused.
pandas, pyarrow and scipy are never imported; the methods of the given object are enough.
"""

from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl

from jaxrec.data import array_checks
from jaxrec.data.dataset import Dataset
from jaxrec.data.formats import parquet
from jaxrec.data.formats.assemble import Repeats, to_dataset
from jaxrec.data.formats.columns import IDS, Columns, located
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
    """Build a Dataset from a polars frame with an interaction per row.

    Args:
      event_weights: the weight of each kind of event in the event column, as in ``jaxrec.read``.
      text: which rows are left out and counted, and how times in text are written.
      repeats: how repeated pairs are merged; by default, the latest repeat counts.
      name: the name of the data, also in messages.
      columns: the column of each role (user, item, rating, time, event, weight), such as
        ``user="customer"``. A column that is not given is guessed from common names; ``""`` leaves
        it out.

    Raises:
      InputError: a column is missing or cannot be guessed, or a row cannot be used.

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
    """Build a Dataset from a pyarrow Table or RecordBatch; see :func:`from_polars`.

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
    """Build a Dataset from a pandas DataFrame; see :func:`from_polars`.

    The index is not read; ``frame.reset_index()`` turns it into columns.

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
    at, reading, form = located(
        *(name, names, roles),
        event=bool(weights),
        rows=rows,
        form=options.time_format,
        texts=lambda place: [pl.LazyFrame({"text": _texts(frame.iloc[:, place])})],
    )
    options = replace(options, time_format=form)
    by_role = {role: _of_pandas(frame.iloc[:, place], role, name) for role, place in at.items()}
    part = parquet.of_roles(Path(name), pl.DataFrame(by_role), reading, weights, options=options)
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
    """Build a Dataset from columns of equal length: arrays, lists, or columns of a frame.

    Args:
      user, item: [E] ids, which are whole numbers or texts.
      rating, weight: [E] numbers.
      time: [E] numbers or dates.
      repeats: how repeated pairs are merged; by default, the latest repeat counts.

    Raises:
      InputError: the lengths differ, ids are missing or neither whole numbers nor texts, numbers
        are missing or infinite, or there is no pair.

    >>> import jaxrec
    >>> data = jaxrec.from_numpy(["ann", "bob", "ann"], ["tea", "cup", "cup"], rating=[4, 5, 3])
    >>> data.n_users, data.n_items, data.rating.tolist()
    (2, 2, [3.0, 4.0, 5.0])
    """
    by_role: dict[str, np.ndarray] = {"user": array_checks.id_array(user, f"{name}: user")}
    length = len(by_role["user"])
    by_role["item"] = array_checks.id_array(item, f"{name}: item")
    if len(by_role["item"]) != length:
        raise InputError(
            f"{name}: {length} users and {len(by_role['item'])} items; give one of each per pair"
        )
    for role, given in (("rating", rating), ("time", time), ("weight", weight)):
        if given is not None:
            by_role[role] = _NUMBERS[role](given, f"{name}: {role}", length)
    frame = pl.DataFrame({role: _series(role, column) for role, column in by_role.items()})
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
    """Build a Dataset from a sparse matrix of users by items.

    Rows and columns without an entry are left out and counted, and so are weights of 0. The weights
    of repeated entries are summed.

    Args:
      matrix: any sparse matrix or array of scipy, [U, I].
      user_ids, item_ids: [U] and [I]; row and column numbers if not given.
      values: the meaning of the entries; weights that are all 1 are dropped.

    Raises:
      InputError: the matrix is not sparse, ids have wrong lengths, weights are negative, or there
        is no entry.

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
        raise InputError(f"{name}: values is {values!r}; it must be weight, rating or none")
    entries = matrix.tocoo(copy=True)
    if values == "weight":
        entries.sum_duplicates()
    sides = []
    for axis, (side, ids) in enumerate((("user", user_ids), ("item", item_ids))):
        table = np.arange(matrix.shape[axis]) if ids is None else ids
        sides.append(array_checks.id_table(table, f"{name}: {side}_ids"))
        if len(sides[-1]) != matrix.shape[axis]:
            raise InputError(
                f"{name}: {len(sides[-1])} {side}_ids for {matrix.shape[axis]} "
                f"{('rows', 'columns')[axis]}; give one id for each"
            )
    entry = array_checks.numbers(
        entries.data.astype(np.float64), f"{name}: entries", entries.nnz, np.float64
    )
    used = np.ones(entries.nnz, bool) if values != "weight" else entry != 0
    if not used.any():
        raise InputError(f"{name}: the matrix has no entry; give one with entries")
    row, column, entry = entries.row[used], entries.col[used], entry[used]
    if values == "weight" and entry.min() < 0:
        raise InputError(
            f"{name}: an entry is {entry.min():g}, and weights must not be negative; "
            "values='rating' takes entries as ratings"
        )
    by_role = {"user": sides[0][row], "item": sides[1][column]}
    if values == "rating" or (values == "weight" and not (entry == 1).all()):
        by_role[values] = entry
    frame = pl.DataFrame({role: _series(role, cells) for role, cells in by_role.items()})
    reading = "user <- rows, item <- columns"
    reading += "".join(f", {role} <- entries" for role in by_role if role not in IDS)
    part = parquet.of_roles(Path(name), frame, reading, {}, options=TextOptions())
    part.notes |= {
        "entries of 0, left out": int(entries.nnz - used.sum()),
        "rows without an entry, left out": matrix.shape[0] - len(np.unique(row)),
        "columns without an entry, left out": matrix.shape[1] - len(np.unique(column)),
    }
    return to_dataset([part], name)


_BUILDERS: dict[str, Callable[[Any], Dataset]] = {
    "from_pandas": from_pandas,
    "from_polars": from_polars,
    "from_arrow": from_arrow,
    "from_scipy": from_scipy,
}


def taken(data: Any) -> Any:
    """Convert a table or matrix of another library to a Dataset; return anything else unchanged."""
    function = array_checks.taken_by(data)
    return data if function is None else _BUILDERS[function](data)


def _not_taken(data: Any, function: str) -> InputError:
    kind = f"{type(data).__module__.partition('.')[0]}.{type(data).__qualname__}"
    other = array_checks.taken_by(data)
    fix = f"jaxrec.{other} takes it" if other else "jaxrec.from_numpy takes columns"
    return InputError(f"jaxrec.{function} does not take a {kind}; {fix}")


def _roles(columns: dict[str, str | None]) -> Columns:
    known = [f.name for f in fields(Columns)]
    for role in columns:
        if role not in known:
            listed = ", ".join(known)
            raise InputError(
                f"there is no role {role!r} of a column{nearest(role, known)}; roles: {listed}"
            )
    return Columns(**columns)


def _texts(column: Any) -> list[str]:
    """Return the cells of a pandas column as texts; cells of other types become empty texts."""
    cells = np.asarray(column, dtype=object).tolist()
    return [str(cell) if isinstance(cell, str | int | float) else "" for cell in cells]


def _of_pandas(column: Any, role: str, name: str) -> pl.Series:
    """Convert a pandas column to polars; missing numbers become null."""
    if getattr(column.dtype, "tz", None) is not None:
        column = column.dt.tz_convert(None)
    missing = column.isna().to_numpy()
    if isinstance(column.dtype, np.dtype) and column.dtype.kind in "iufM":
        cells = column.to_numpy()
        cells = cells.astype("M8[us]") if cells.dtype.kind == "M" else cells
        return pl.Series(role, cells).scatter(np.flatnonzero(missing), None)
    cells = np.asarray(column, dtype=object)[~missing]
    if role in IDS or role == "event":
        present = _series(role, array_checks.id_array(cells, f"{name}: {role}"))
    else:
        try:
            present = pl.Series(role, cells.tolist())
        except (TypeError, pl.exceptions.PolarsError):
            present = pl.Series(role, [str(cell) for cell in cells], dtype=pl.String)
    if not missing.any():
        return present
    place = pl.Series(np.cumsum(~missing) - 1).scatter(np.flatnonzero(missing), None)
    return present.gather(place)


def _series(role: str, cells: np.ndarray) -> pl.Series:
    return pl.Series(role, cells.tolist() if cells.dtype.kind == "U" else cells)
