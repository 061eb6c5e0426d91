"""Adds features of users and items, from tables keyed by id, to the interactions."""

from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import polars as pl

from jaxrec.data.dataset import Dataset
from jaxrec.data.formats import compressed, movielens
from jaxrec.data.formats.assemble import id_rows, ids, whole_ids
from jaxrec.data.formats.id_keyed_tables import Keyed, Kind, columnar, delimited
from jaxrec.data.formats.text import TextOptions, unreadable
from jaxrec.data.frame_features import from_frame
from jaxrec.data.itemgraph import ItemGraph
from jaxrec.errors import InputError

__all__ = ["Kind", "attach", "beside", "keyed"]

_Data = TypeVar("_Data", Dataset, ItemGraph)


def keyed(path: Path, kind: Kind, options: TextOptions | None = None) -> Keyed:
    """Read a table keyed by id: Parquet, CSV, TSV, or a file of RecBole or MovieLens.

    The format is detected from the file's name. The id column is the one with the most specific
    common name for such ids, or else the first column.

    Raises:
      InputError: the content is not usable; the message names the file, the line and a fix.
    """
    try:
        return _keyed(path, kind, options)
    except OSError as e:
        raise unreadable(path, e) from e


def _keyed(path: Path, kind: Kind, options: TextOptions | None) -> Keyed:
    reader = movielens.CATALOGUES[kind].get(path.name)
    if reader is not None:
        return reader(path)
    ending = Path(compressed.plain_name(path)).suffix.lower()
    if ending == ".parquet":
        return columnar(path, kind)
    if ending in (".csv", ".tsv"):
        return delimited(path, kind, options=options)
    if ending in (".item", ".user"):
        return delimited(path, kind, typed=True, options=options)
    raise InputError(
        f"{path}: the name does not tell the format of the {kind}s; give a .parquet, .csv, .tsv, "
        ".item or .user file"
    )


def beside(path: Path, format: str, kind: Kind) -> Path | None:
    """Return the feature table in the folder of interactions or of a MovieLens fold, if any.

    Raises:
      InputError: there is more than one such table.
    """
    if not path.is_dir() and not (format == "movielens" and movielens.is_fold(path)):
        return None
    if format == "movielens":
        return movielens.beside(path, kind)
    files = sorted(path.glob(f"*.{kind}")) if format == "recbole" else []
    if len(files) > 1:
        names = ", ".join(file.name for file in files[:8])
        raise InputError(f"{path}: one .{kind} file is needed, found {names}; name it: --{kind}s")
    return files[0] if files else None


def attach(data: _Data, table: Keyed, kind: Kind, *, own: bool, cold: bool) -> _Data:
    """Return the data with the features of ``table``, which replace any earlier features.

    Args:
      own: whether the table comes with the interactions. If so, rows of ids without interactions
        are left out and counted. Otherwise they are refused.
      cold: whether to keep rows without interactions, and add their ids to the id table.

    Raises:
      InputError: :func:`from_frame` refuses the table.
    """
    known_ids = _ids(data, kind)
    if known_ids.dtype.kind == "i":
        named = whole_ids(table.frame[table.id_column])
        table = table._replace(frame=table.frame.with_columns(named))
    if cold:
        data = _grown(data, table.frame[table.id_column], kind)
    features = from_frame(
        table.frame,
        table.id_column,
        _ids(data, kind),
        table.where,
        kind=kind,
        unknown="drop" if own else "refuse",
    )
    named = table.frame[table.id_column].cast(pl.String)
    described = int(named.is_in(_texts(known_ids).implode()).sum())
    left = "kept" if cold else "left out"
    reading = f"{kind}s: {kind} <- `{table.id_column}`"
    notes = {
        **table.notes,
        f"{kind}s of the catalogue that have no pairs, {left}": table.frame.height - described,
        f"{kind}s without a row in the catalogue": len(known_ids) - described,
    }
    changed: dict[str, Any] = {
        f"{kind}_features": features,
        "notes": data.notes | {note: count for note, count in notes.items() if count},
        "reading": (*data.reading, reading),
    }
    return replace(data, **changed)


def _ids(data: Dataset | ItemGraph, kind: Kind) -> np.ndarray:
    if isinstance(data, Dataset) and kind == "user":
        return data.user_ids
    return data.item_ids


def _texts(table: np.ndarray) -> pl.Series:
    return pl.Series(table.astype(np.str_).tolist(), dtype=pl.String)


def _grown(data: _Data, more: pl.Series, kind: Kind) -> _Data:
    """Add ids to an id table of the data; ids and pairs stay in ascending order."""
    old = [ids(_texts(_ids(data, kind)))]
    rows, table = id_rows(old, [ids(more.cast(pl.String).unique())])
    if isinstance(data, ItemGraph):
        ends = rows[data.src], rows[data.dst]
        rest: dict[str, Any] = {name: getattr(data, name) for name in ("name", "notes", "reading")}
        return ItemGraph.of_pairs(*ends, data.weight, table, **rest)
    column = rows[data.user if kind == "user" else data.item]
    changed: dict[str, Any] = {kind: column, f"{kind}_ids": table, f"{kind}_features": None}
    if data.exposed is not None:
        moved = rows[getattr(data.exposed, kind)]
        changed["exposed"] = data.exposed._replace(**{kind: moved})
    data = replace(data, **changed)
    key = data.keys()
    return data if (key[1:] > key[:-1]).all() else data.take(np.argsort(key, kind="stable"))
