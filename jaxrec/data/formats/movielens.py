"""Reads MovieLens in its three layouts: ratings, and the films and users that come with them.

Source: F. M. Harper and J. A. Konstan, "The MovieLens Datasets: History and Context", ACM TiiS,
2015, and the README of each set at files.grouplens.org/datasets/movielens.
"""

import dataclasses
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import polars as pl

from jaxrec.data.dataset import TEST, TRAIN
from jaxrec.data.formats import tables
from jaxrec.data.formats.assemble import Part
from jaxrec.data.formats.columns import Columns
from jaxrec.data.formats.id_keyed_tables import Keyed, delimited, numbers
from jaxrec.data.formats.text import TextOptions, read_bytes
from jaxrec.errors import InputError

_RATINGS = {
    "ratings.dat": (":", Columns("1", "3", "5", "7")),  # each :: is read as two separators
    "u.data": ("\t", Columns("1", "2", "3", "4")),
    "ratings.csv": (",", Columns("userId", "movieId", "rating", "timestamp")),
}
_BESIDE = {
    "ratings.dat": {"item": "movies.dat", "user": "users.dat"},
    "u.data": {"item": "u.item", "user": "u.user"},
    "ratings.csv": {"item": "movies.csv"},
}
_U_GENRES = (
    *("unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime"),
    *("Documentary", "Drama", "Fantasy", "Film-Noir", "Horror", "Musical", "Mystery"),
    *("Romance", "Sci-Fi", "Thriller", "War", "Western"),
)
"""The genres whose flags are the last columns of ``u.item``, in their order."""
_NO_GENRES = "(no genres listed)"
_YEAR = r"\((\d{4})(?:[-–]\d*)?\)\s*$"


def parts(path: Path, text: TextOptions, rows: int | None = None) -> Iterator[Part]:
    """Read the ratings of a folder, or one file of ratings.

    A file such as ``u1.base`` is the train part, and ``u1.test`` in the same folder the test part.

    Args:
      rows: about how many rows are read at a time; None for all of a file.

    Raises:
      InputError: there is no such file, or a line is not usable; the message names the line.
    """
    if is_fold(path):
        for file, split in ((path, TRAIN), (path.with_suffix(".test"), TEST)):
            yield from _interactions(file, "u.data", text, rows, split)
        return
    if path.is_dir():
        path = _ratings(path)
    if path.name not in _RATINGS:
        raise InputError(
            f"{path}: not a MovieLens file; give one of {', '.join(_RATINGS)}, u1.base"
        )
    yield from _interactions(path, path.name, text, rows)


def is_fold(path: Path) -> bool:
    """Return whether the file is the train part of a fold of 100K (u1 to u5, ua, ub)."""
    return re.fullmatch(r"u[1-5ab]\.base", path.name) is not None


def _interactions(
    path: Path, layout: str, text: TextOptions, rows: int | None, split: int | None = None
) -> Iterator[Part]:
    separator, columns = _RATINGS[layout]
    options = dataclasses.replace(text, separator=separator, header=layout == "ratings.csv")
    for part in tables.pieces(path, columns, None, rows, options=options, quote=False, split=split):
        yield dataclasses.replace(part, reading="")  # the format fixes the columns


def beside(path: Path, kind: str) -> Path | None:
    """Return the file of films or users that comes with a folder or a fold, if there is one."""
    folder, layout = (path.parent, "u.data") if is_fold(path) else (path, _ratings(path).name)
    name = _BESIDE[layout].get(kind)
    return folder / name if name and (folder / name).is_file() else None


def films_dat(path: Path) -> Keyed:
    """Read ``movies.dat``: genres, and the year from the title."""
    return _films(_lines(path, "::", ["item", "title", "genres"]))


def films_csv(path: Path) -> Keyed:
    """Read ``movies.csv``: genres, and the year from the title; read other tables unchanged."""
    table = delimited(path, "item")
    return _films(table) if {"title", "genres"} <= set(table.frame.columns) else table


def films_100k(path: Path) -> Keyed:
    """Read ``u.item``: genres from 19 flags, and the year of the release date."""
    table = _lines(path, "|", ["item", "title", "date", "video", "url", *_U_GENRES])
    flags = table.frame.select(_U_GENRES)
    for name in _U_GENRES:
        odd = ~flags[name].is_in(["0", "1"])
        if odd.any():
            row = int(odd.arg_max() or 0)
            raise InputError(
                f"{table.where(row)}: genre {name} is {flags[name][row]!r}, not 0 or 1; "
                "fix or drop the line"
            )
    named = [pl.when(pl.col(name) == "1").then(pl.lit(name)) for name in _U_GENRES]
    frame = table.frame.select(
        "item",
        genres=pl.concat_list(named).list.drop_nulls(),
        year=pl.col("date").str.extract(r"(\d{4})$").cast(pl.Float64),
    )
    return table._replace(frame=frame)


def users_100k(path: Path) -> Keyed:
    """Read ``u.user``: age, gender and occupation."""
    return _users(_lines(path, "|", ["user", "age", "gender", "occupation", "zip"]))


def users_dat(path: Path) -> Keyed:
    """Read ``users.dat``: age, gender and occupation."""
    return _users(_lines(path, "::", ["user", "gender", "age", "occupation", "zip"]))


def _ratings(folder: Path) -> Path:
    files = [folder / name for name in _RATINGS if (folder / name).is_file()]
    if not files:
        raise InputError(
            f"{folder}: has no file of MovieLens ratings; give a folder with one of "
            f"{', '.join(_RATINGS)}"
        )
    return files[0]


def _films(table: Keyed) -> Keyed:
    genres = pl.when(pl.col("genres") != _NO_GENRES).then(pl.col("genres"))
    frame = table.frame.select(
        table.id_column,
        genres=genres.str.split("|"),
        year=pl.col("title").str.extract(_YEAR).cast(pl.Float64),
    )
    return table._replace(frame=frame)


def _users(table: Keyed) -> Keyed:
    names = (pl.col(name).cast(pl.Categorical) for name in ("gender", "occupation"))
    frame = table.frame.select("user", numbers(table.frame["age"], table.where), *names)
    return table._replace(frame=frame)


def _lines(path: Path, separator: str, names: Sequence[str]) -> Keyed:
    """Read lines without a header, in Latin-1, keyed by the first column.

    Raises:
      InputError: a line has more or fewer columns.
    """
    rows, line_of = [], []
    for number, line in enumerate(read_bytes(path).decode("latin-1").split("\n"), start=1):
        cells = [cell.strip() for cell in line.split(separator)]
        if cells == [""]:
            continue
        if len(cells) != len(names):
            raise InputError(
                f"{path}:{number}: {len(cells)} columns, where {path.name} has {len(names)}; "
                "fix or drop the line"
            )
        rows.append(cells)
        line_of.append(number)
    frame = pl.DataFrame(rows, schema=dict.fromkeys(names, pl.String), orient="row")
    return Keyed(frame, names[0], lambda row: f"{path}:{line_of[row] if row >= 0 else 1}")


CATALOGUES = {
    "item": {"u.item": films_100k, "movies.dat": films_dat, "movies.csv": films_csv},
    "user": {"u.user": users_100k, "users.dat": users_dat},
}
