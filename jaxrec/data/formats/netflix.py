"""Reads the ratings of the Netflix Prize: a line ``1:`` names a film, and its ratings follow."""

from pathlib import Path

import polars as pl

from jaxrec.data import times
from jaxrec.data.formats import compressed
from jaxrec.data.formats.assemble import Part
from jaxrec.data.formats.text import SKIP_CURE, TextOptions, all_lines
from jaxrec.errors import InputError

SOURCE = "J. Bennett and S. Lanning, The Netflix Prize, KDD Cup 2007 (user, rating, date)"
_FILM = r"^(\d{1,18}):$"
_RATING = r"^(\d{1,18}),([0-9.]{1,8}),(\d{4}-\d{2}-\d{2})$"


def parts(path: Path, options: TextOptions) -> list[Part]:
    """Read a file, and for ``combined_data_1.txt`` or ``mv_*.txt`` also the other numbered files.

    Raises:
      InputError: the content is not usable; the message names the file, the line and a fix.
    """
    name = compressed.plain_name(path)
    siblings = {"combined_data_1.txt": "combined_data_*.txt*"}.get(name)
    siblings = "mv_*.txt*" if name.startswith("mv_") else siblings
    files = sorted(path.parent.glob(siblings)) if siblings else [path]
    return [_part(file, options) for file in files]


def _part(path: Path, options: TextOptions) -> Part:
    lines = all_lines(path, options)
    film, text = pl.col("line").str.extract(_FILM).forward_fill(), pl.col("line")
    rows = lines.with_columns(item=film).filter(~text.str.contains(_FILM))
    ratings = rows.select(
        "number",
        "line",
        pl.col("item").cast(pl.Int64),
        user=text.str.extract(_RATING, 1).cast(pl.Int64),
        rating=text.str.extract(_RATING, 2).cast(pl.Float64, strict=False),
    )
    ratings = ratings.with_columns(
        time=times.of_texts(rows["line"].str.extract(_RATING, 3)).seconds
    )
    odd = pl.any_horizontal(pl.col("item", "user", "rating", "time").is_null())
    wrong = ratings.filter(odd)
    notes = {}
    if wrong.height:
        if not options.skip_bad_lines:
            raise InputError(
                f"{path}:{wrong['number'][0]}: {wrong['line'][0][:60]!r} is neither a film such as "
                f"'1:' nor a rating such as '1488844,3,2005-09-06' below a film{SKIP_CURE}"
            )
        notes["left out: neither a film nor a rating"] = wrong.height
        ratings = ratings.filter(~odd)
    number = ratings["number"].to_numpy()
    frame = ratings.select("user", "item", "rating", "time")
    return Part(path, frame, lambda row: f"{path}:{number[row]}", notes=notes)
