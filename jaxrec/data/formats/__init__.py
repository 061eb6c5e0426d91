"""Readers: files of many formats to a Dataset.

``read`` tells the format from the path where none is named. Ids of any type become int32 row
numbers by the sorted unique ids; what is odd but usable is counted in ``Dataset.notes``; what
is not usable raises InputError naming the file, the line and the mend.
"""

import math
from pathlib import Path

from jaxrec.data import synthetic
from jaxrec.data.dataset import Dataset, is_prepared
from jaxrec.data.formats import lightgcn, parquet, tables
from jaxrec.data.formats.assemble import Part, to_dataset
from jaxrec.data.formats.columns import Columns
from jaxrec.errors import InputError, nearest

__all__ = ["FORMATS", "Columns", "detect", "read", "resolve"]

FORMATS = ("prepared", "lightgcn", "csv", "tsv", "parquet", "recbole", "movielens")
_ENDINGS = {"csv": ".csv", "tsv": ".tsv", "parquet": ".parquet", "recbole": ".inter"}
_MOVIELENS = {
    "ratings.dat": (":", Columns("1", "3", "5", "7")),  # the separator is ::
    "u.data": ("\t", Columns("1", "2", "3", "4")),
    "ratings.csv": (",", Columns("userId", "movieId", "rating", "timestamp")),
}


def resolve(path_or_name: str) -> Dataset:
    """The data that a configuration names: ``synthetic``, or a path for :func:`read`."""
    return synthetic.embedded() if path_or_name == "synthetic" else read(path_or_name)


def read(
    path: str | Path,
    format: str | None = None,
    columns: Columns | None = None,
    event_weights: dict[str, float] | None = None,
) -> Dataset:
    """Read interactions from a file or folder.

    Args:
      format: one of ``FORMATS``; told from the path where not given.
      columns: which column of a table is what; guessed from common names where not given.
      event_weights: weight of each kind of event in the event column.

    Raises:
      InputError: the path, the format or the content is not usable.
    """
    path = Path(path)
    if event_weights is not None:
        event_weights = {event: float(weight) for event, weight in event_weights.items()}
    for event, weight in (event_weights or {}).items():
        if not 0 < weight < math.inf:
            raise InputError(f"the weight of event {event!r} must be positive, not {weight}")
    try:
        return _read(path, format or detect(path), columns, event_weights)
    except OSError as e:
        place = e.filename or path
        raise InputError(
            f"{place}: cannot be read ({e.strerror or e}); check the path and its rights"
        ) from e


def _read(
    path: Path, format: str, columns: Columns | None, event_weights: dict[str, float] | None
) -> Dataset:
    if format not in FORMATS:
        raise InputError(
            f"unknown format {format!r}{nearest(format, FORMATS)}; formats: {', '.join(FORMATS)}"
        )
    if format in ("prepared", "lightgcn", "movielens") and (columns or event_weights):
        raise InputError(f"{path}: format {format} has fixed columns; leave out the columns' names")
    if format == "prepared":
        return Dataset.load(path)
    if format == "lightgcn":
        parts = lightgcn.parts(path)
    elif format == "movielens":
        parts = [_movielens(path)]
    else:
        parts = _tables(path, format, columns or Columns(), event_weights)
    return to_dataset(parts, name=path.resolve().stem if path.is_file() else path.resolve().name)


def detect(path: str | Path) -> str:
    """The format of a file or folder, by the names of its files.

    Raises:
      InputError: there is nothing, nothing known, or more than one format.
    """
    path = Path(path)
    if path.is_file():
        if path.name in ("u.data", "ratings.dat"):
            return "movielens"
        if path.name == "train.txt":
            return "lightgcn"
        for format, ending in _ENDINGS.items():
            if path.suffix.lower() == ending:
                return format
        raise InputError(f"{path}: format not told by its name; {_choose()}")
    if not path.is_dir():
        raise InputError(f"{path}: no such file or folder")
    if is_prepared(path):
        return "prepared"
    names = {entry.name for entry in path.iterdir()}
    found = ["lightgcn"] if "train.txt" in names else []
    if {"u.data", "ratings.dat"} & names or {"ratings.csv", "movies.csv"} <= names:
        found.append("movielens")
    for format, ending in _ENDINGS.items():
        covered = format == "csv" and "movielens" in found
        if not covered and any(name.endswith(ending) for name in names):
            found.append(format)
    if len(found) == 1:
        return found[0]
    if found:
        raise InputError(f"{path}: could be {' or '.join(found)}; {_choose()}")
    listed = ", ".join(sorted(names)[:8]) or "nothing"
    raise InputError(f"{path}: no known format among its files ({listed}); {_choose()}")


def _choose() -> str:
    return f"choose one with --format: {', '.join(FORMATS)}"


def _movielens(path: Path) -> Part:
    if path.is_dir():
        there = [path / name for name in _MOVIELENS if (path / name).is_file()]
        if not there:
            raise InputError(f"{path}: none of {', '.join(_MOVIELENS)} of a MovieLens folder")
        path = there[0]
    if path.name not in _MOVIELENS:
        raise InputError(f"{path}: no MovieLens file ({', '.join(_MOVIELENS)})")
    separator, columns = _MOVIELENS[path.name]
    return tables.delimited(path, columns, None, separator=separator, quote=False)


def _tables(
    path: Path, format: str, columns: Columns, event_weights: dict[str, float] | None
) -> list[Part]:
    files: dict[Path, int | None] = {path: None}
    if path.is_dir():
        files = tables.split_files(path, _ENDINGS[format])
    parts = []
    for file, label in files.items():
        if format == "parquet":
            parts.append(parquet.table(file, columns, event_weights, split=label))
        else:
            part = tables.delimited(
                file,
                columns,
                event_weights,
                separator="\t" if format == "recbole" else None,
                typed=format == "recbole",
                quote=format != "recbole",
                split=label,
            )
            parts.append(part)
    return parts
