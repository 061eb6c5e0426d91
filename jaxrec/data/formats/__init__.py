"""Reads files of many formats into a Dataset.

If no format is given, ``read`` detects it from the path. Ids of any type become int32 row numbers,
in the order of the sorted unique ids. Content that is odd but usable is counted in
``Dataset.notes``; content that is not usable raises InputError with the file, the line and a fix.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from jaxrec import registry
from jaxrec.data import array_checks, itemgraph, synthetic
from jaxrec.data.dataset import Dataset
from jaxrec.data.formats import (
    compressed,
    jsonl,
    lightgcn,
    movielens,
    parquet,
    paths,
    recbole,
    remote,
    side_features,
    tables,
    well_known,
)
from jaxrec.data.formats.assemble import Part, Repeats, to_dataset
from jaxrec.data.formats.columns import Columns
from jaxrec.data.formats.text import TextOptions, unreadable
from jaxrec.data.prepared import PARTED, format_of, is_prepared
from jaxrec.errors import InputError, nearest

__all__ = [
    "FORMATS",
    "Columns",
    "Repeats",
    "TextOptions",
    "checked_weights",
    "detect",
    "name_of",
    "pieces",
    "read",
    "resolve",
]

FORMATS = (
    *("prepared", "lightgcn", "csv", "tsv", "parquet", "jsonl", "recbole", "movielens"),
    *well_known.NAMES,
)
registry.FORMATS.builtin = FORMATS
_FOR_ITEMS = "for item models (skipgram, item-mf); `jaxrec presets` lists some"
_ENDINGS = {
    "csv": (".csv",),
    "tsv": (".tsv",),
    "parquet": (".parquet",),
    "jsonl": (".jsonl", ".ndjson"),
    "recbole": (".inter",),
}
_JSON = (*_ENDINGS["jsonl"], ".json")


_WORKBOOK = "a workbook is not read; save its sheet as CSV"
_DATABASE = "a database is not read; write its table as Parquet or CSV"
_PICKLE = "a pickle is not read, because it may run code; write its table as Parquet"
_ARROW = "an Arrow file is not read; in Python, jaxrec.from_polars(polars.scan_ipc(PATH)) reads it"
_OTHER_FILES = {
    **dict.fromkeys((".xlsx", ".xls", ".ods"), _WORKBOOK),
    **dict.fromkeys((".db", ".sqlite", ".sqlite3", ".duckdb"), _DATABASE),
    **dict.fromkeys((".pkl", ".pickle"), _PICKLE),
    **dict.fromkeys((".arrow", ".feather", ".ipc"), _ARROW),
    ".npz": "an archive of NumPy is not read; in Python, "
    "jaxrec.from_scipy(scipy.sparse.load_npz(PATH)) reads a sparse matrix from it",
}
"""Endings of files that are not read, each with the reason and another way to read the content."""


def resolve(path_or_name: str) -> Dataset:
    """Return the data that a configuration names by a path or a name such as ``synthetic``."""
    if path_or_name in synthetic.EMBEDDED:
        return synthetic.embedded(path_or_name)
    return read(path_or_name)


def read(
    path: str | Path,
    format: str | None = None,
    columns: Columns | None = None,
    event_weights: dict[str, float] | None = None,
    *,
    items: str | Path | None = None,
    users: str | Path | None = None,
    cold_items: bool = False,
    cold_users: bool = False,
    text: TextOptions | None = None,
    repeats: Repeats | None = None,
) -> Dataset:
    """Read interactions from a file, folder, pattern or address (``s3://...``, by fsspec), and the
    features of items and users.

    Feature tables in RecBole and MovieLens folders are read too, without the rows of users and
    items that have no interactions. A MovieLens fold such as ``u1.base`` is read with its test part
    ``u1.test`` and the feature tables in the same folder.

    Args:
      format: one of ``FORMATS``; detected from the path if not given.
      columns: the column of each role; guessed from common names if not given.
      event_weights: the weight of each kind of event in the event column. A pair counts as shown
        and not chosen if all its events have weight 0.
      items, users: a table of features keyed by id, as :func:`side_features.keyed` reads it; it
        replaces the features in the folder.
      text: settings that cannot be detected from the file: separator, header, encoding, and which
        lines to leave out.
      repeats: how repeated pairs are merged; by default, the latest repeat counts.
      cold_items, cold_users: keep ids that only the table ``items`` or ``users`` has, as nodes
        without interactions.

    Raises:
      InputError: the path, the format or the content is not usable.

    >>> import jaxrec
    >>> import polars as pl
    >>> pl.DataFrame({"user": ["ann", "bob"], "item": ["tea", "cup"]}).write_csv("sales.csv")
    >>> data = jaxrec.read("sales.csv")
    >>> data.name, data.n_edges, data.item_ids.tolist()
    ('sales', 2, ['cup', 'tea'])
    """
    array_checks.refuse_foreign(path, option="path")
    event_weights = checked_weights(columns, event_weights)
    if remote.is_address(path):
        with remote.local(path) as file:
            return read(
                file,
                format,
                columns,
                event_weights,
                items=items,
                users=users,
                cold_items=cold_items,
                cold_users=cold_users,
                text=text,
                repeats=repeats,
            )
    path = Path(path)
    try:
        text = text or TextOptions()
        format = format or _detected(path, columns, event_weights, text)
        data = _read(path, format, columns, event_weights, text, repeats)
        text = text.of_tables_beside()
        data = _described(data, path, format, "user", users, cold_users, text)
        return _described(data, path, format, "item", items, cold_items, text)
    except OSError as e:
        raise unreadable(path, e) from e


def pieces(
    path: Path,
    format: str | None = None,
    columns: Columns | None = None,
    event_weights: dict[str, float] | None = None,
    *,
    text: TextOptions | None = None,
    rows: int,
) -> Iterator[Part]:
    """Read interactions as :func:`read` does, about ``rows`` rows at a time.

    Some files are read whole, one after another: files of the formats lightgcn, mind, instacart and
    netflix, and files compressed by Zstandard. Prepared data is memory-mapped.

    Raises:
      InputError: the path, the format or the content is not usable.
    """
    event_weights = checked_weights(columns, event_weights)
    try:
        text = text or TextOptions()
        format = format or _detected(path, columns, event_weights, text)
        _refuse_options(path, format, columns, event_weights, text, None)
        if format == "prepared" or format in registry.FORMATS:
            yield from _of_dataset(path, _whole(path, format), rows)
        else:
            yield from _parts(path, format, columns, event_weights, text, rows)
    except OSError as e:
        raise unreadable(path, e) from e


def checked_weights(
    columns: Columns | None, event_weights: dict[str, float] | None
) -> dict[str, float] | None:
    """Return the weights of events as floats.

    Raises:
      InputError: a weight is negative or infinite, all are 0, or the caller names a weight column.
    """
    if event_weights is not None:
        event_weights = {event: float(weight) for event, weight in event_weights.items()}
    for event, weight in (event_weights or {}).items():
        if not 0 <= weight < math.inf:
            raise InputError(
                f"the weight of event {event!r} is {weight}; give a finite weight of 0 or more"
            )
    if event_weights and not any(event_weights.values()):
        raise InputError(
            "all events have weight 0, so no pair is a positive; give one a weight above 0"
        )
    if columns is not None and columns.weight and event_weights:
        raise InputError(
            "--event-weights and --columns.weight both set the weight of a pair; give one of them"
        )
    return event_weights


def _detected(
    path: Path,
    columns: Columns | None,
    event_weights: dict[str, float] | None,
    text: TextOptions,
) -> str:
    return detect(path, named=not (columns or event_weights) and text == TextOptions())


def _read(
    path: Path,
    format: str,
    columns: Columns | None,
    event_weights: dict[str, float] | None,
    text: TextOptions,
    repeats: Repeats | None,
) -> Dataset:
    _refuse_options(path, format, columns, event_weights, text, repeats)
    if format == "prepared" or format in registry.FORMATS:
        return _whole(path, format)
    parts = list(_parts(path, format, columns, event_weights, text))
    if format == "recbole" and repeats is None:
        repeats = recbole.settings(path).repeats
    return to_dataset(parts, name_of(path), repeats)


def name_of(path: Path) -> str:
    """Return the name of the data at a path: the name of its file or folder, without endings."""
    if path.is_file():
        return Path(compressed.plain_name(path.resolve())).stem
    return path.resolve().parent.name if paths.is_pattern(path) else path.resolve().name


def _refuse_options(
    path: Path,
    format: str,
    columns: Columns | None,
    event_weights: dict[str, float] | None,
    text: TextOptions,
    repeats: Repeats | None,
) -> None:
    """Raise InputError if a format is not known, or if an option has no effect on it."""
    if repeats is not None and (format == "prepared" or format in registry.FORMATS):
        raise InputError(
            f"{path}: format {format} has no repeated pairs to merge; leave the repeats option out"
        )
    if format in registry.FORMATS:
        if columns or event_weights:
            raise InputError(
                f"{path}: format {format} reads fixed columns; leave out columns and event weights"
            )
        return
    if format not in FORMATS:
        raise InputError(
            f"unknown format {format!r}{nearest(format, registry.FORMATS.names())}; "
            f"formats: {', '.join(registry.FORMATS.names())}"
        )
    if format in ("prepared", "lightgcn", "movielens") and (columns or event_weights):
        raise InputError(
            f"{path}: format {format} has fixed columns; leave out columns and event weights"
        )
    if format not in well_known.TABLES:
        _refuse_idle(path, format, text)


def _whole(path: Path, format: str) -> Dataset:
    """Return the data of a prepared folder, or of a registered format."""
    if format != "prepared":
        data = registry.FORMATS.get(format)(path)
        if not isinstance(data, Dataset):
            raise InputError(
                f"{path}: the reader of format {format} returned a {type(data).__name__}; it must "
                "return a Dataset"
            )
        return data
    if format_of(path) == itemgraph.FORMAT:
        raise InputError(f"{path}: this is an item graph, {_FOR_ITEMS}")
    if format_of(path) == PARTED:
        raise InputError(
            f"{path}: data in parts cannot be read as a whole; only lightgcn and mf train on "
            "it, with --mesh.table; for everything else, import its source by `jaxrec data import`"
        )
    return Dataset.load(path)


def _parts(
    path: Path,
    format: str,
    columns: Columns | None,
    event_weights: dict[str, float] | None,
    text: TextOptions,
    rows: int | None = None,
) -> Iterable[Part]:
    """Return one part per file or, if ``rows`` is given, per piece of about ``rows`` rows."""
    if format in well_known.TABLES:
        return well_known.parts(path, format, columns, event_weights, text, rows)
    if format == "lightgcn":
        return lightgcn.parts(path)
    if format == "movielens":
        return movielens.parts(path, text, rows)
    columns = columns or Columns()
    if format == "recbole":
        known = recbole.settings(path)
        return recbole.parts(path, known, columns, event_weights, text, rows)
    return _tables(path, format, columns, event_weights, text, rows)


def _of_dataset(path: Path, data: Dataset, rows: int) -> Iterator[Part]:
    """Yield the pairs of a Dataset in blocks of ``rows`` pairs, with a part per split label."""
    users, items = _ids(data.user_ids), _ids(data.item_ids)
    for first in range(0, max(data.n_edges, 1), rows):
        block = slice(first, first + rows)
        columns = {"user": _ids(data.user_ids[data.user[block]])}
        columns["item"] = _ids(data.item_ids[data.item[block]])
        for role in ("rating", "time", "weight"):
            if (column := getattr(data, role)) is not None:
                columns[role] = pl.Series(np.array(column[block], np.float64))
        frame = pl.DataFrame(columns)
        label = None if data.split is None else np.array(data.split[block])
        for part in (None,) if label is None else np.unique(label).tolist():
            own = frame if label is None else frame.filter(pl.Series(label == part))
            yield Part(path, own, lambda row: str(path), part, users, items)
            users = items = None


def _ids(column: np.ndarray) -> pl.Series:
    return pl.Series(column.tolist() if column.dtype.kind == "U" else np.array(column))


_TEXT_FOR = {
    "csv": {field.name for field in fields(TextOptions)},
    "tsv": {field.name for field in fields(TextOptions)},
    "recbole": {"encoding", "skip_bad_lines", "skip_missing_ids", "time_format"},
    "jsonl": {"encoding", "skip_bad_lines", "skip_missing_ids", "time_format"},
    "parquet": {"skip_bad_lines", "skip_missing_ids", "time_format"},
}
"""The text options that each format uses. All other formats use only those of feature tables."""


def _refuse_idle(path: Path, format: str, text: TextOptions) -> None:
    """Raise InputError if a text option has no effect on this format."""
    beside = {"encoding", "skip_bad_lines", "skip_missing_ids"}
    for field in fields(TextOptions):
        given = getattr(text, field.name) != field.default
        if given and field.name not in _TEXT_FOR.get(format, beside):
            name = field.name.replace("_", "-")
            raise InputError(
                f"{path}: --{name} is for text tables, and this is {format}; leave it out"
            )


def _described(
    data: Dataset,
    path: Path,
    format: str,
    kind: side_features.Kind,
    given: str | Path | None,
    cold: bool,
    text: TextOptions,
) -> Dataset:
    """Add the features of users or items to the data, if there is a table of them."""
    file = side_features.beside(path, format, kind) if given is None else Path(given)
    table = None
    if file is not None and format == "recbole" and given is None:
        table = recbole.features(file, kind, recbole.settings(path), text)
    elif file is not None:
        table = side_features.keyed(file, kind, text)
    if table is not None:
        return side_features.attach(data, table, kind, own=given is None, cold=cold)
    if cold:
        raise InputError(
            f"{path}: there is no catalogue to take cold {kind}s from; give it: --{kind}s FILE"
        )
    return data


def detect(path: str | Path, *, named: bool = True) -> str:
    """Return the format of a file or folder, detected from the names of its files.

    Args:
      named: whether well-known data sets are recognised by name too. Callers that set the columns
        of a table turn this off.

    Raises:
      InputError: the path does not exist, or its format is unknown or ambiguous.
    """
    path = Path(path)
    if named and (found := well_known.detect(path)) is not None:
        return found
    if paths.is_pattern(path):
        found = sorted({detect(file, named=named) for file in paths.matching(path)})
        if len(found) > 1:
            raise InputError(
                f"{path}: has files of the formats {' and '.join(found)}; import the files of "
                "each format by themselves"
            )
        return found[0]
    if path.is_file():
        plain = compressed.plain_name(path).lower()
        if path.name in ("u.data", "ratings.dat") or movielens.is_fold(path):
            return "movielens"
        if path.name == "train.txt":
            return "lightgcn"
        for format, endings in _ENDINGS.items():
            if Path(plain).suffix in endings:
                return format
        if is_json_name(path.name):
            if jsonl.is_reviews(path):
                return "jsonl"
            raise InputError(f"{path}: this is product metadata without users, {_FOR_ITEMS}")
        other = _OTHER_FILES.get(path.suffix.lower())
        if other is not None:
            raise InputError(f"{path}: {other}")
        raise InputError(f"{path}: the name does not tell the format; {_choose()}")
    if not path.is_dir():
        raise InputError(f"{path}: no such file or folder")
    if is_prepared(path):
        return "prepared"
    names = {entry.name for entry in path.iterdir()}
    files = {compressed.plain_name(file).lower() for file in paths.inside(path)}
    found = ["lightgcn"] if "train.txt" in names else []
    if {"u.data", "ratings.dat"} & names or {"ratings.csv", "movies.csv"} <= names:
        found.append("movielens")
    for format, endings in _ENDINGS.items():
        covered = format == "csv" and "movielens" in found
        if not covered and any(name.endswith(endings) for name in files):
            found.append(format)
    if len(found) == 1:
        return found[0]
    if found:
        raise InputError(f"{path}: could be {' or '.join(found)}; {_choose()}")
    listed = ", ".join(sorted(names)[:8]) or "nothing"
    raise InputError(f"{path}: none of its files has a known format ({listed}); {_choose()}")


def is_json_name(name: str) -> bool:
    """Return whether a name, without the ending of a compression, ends as files of JSON do."""
    path = Path(name.lower())
    name = path.stem if path.suffix in compressed.ENDINGS else path.name
    return name.endswith(_JSON)


def _choose() -> str:
    return f"choose one with jaxrec data import ... --format: {', '.join(FORMATS)}"


def _tables(
    path: Path,
    format: str,
    columns: Columns,
    event_weights: dict[str, float] | None,
    text: TextOptions,
    rows: int | None,
) -> Iterator[Part]:
    endings = _JSON if format == "jsonl" and paths.is_pattern(path) else _ENDINGS[format]
    for file, label in paths.files_of(path, endings).items():
        options: dict[str, Any] = {"split": label, "options": text}
        options["more"] = paths.partition(path, file)
        if format == "parquet":
            yield from parquet.pieces(file, columns, event_weights, rows, **options)
        elif format == "jsonl":
            yield from jsonl.pieces(file, columns, event_weights, rows, **options)
        else:
            options["ending"] = f".{format}"
            yield from tables.pieces(file, columns, event_weights, rows, **options)
