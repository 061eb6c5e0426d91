"""News impressions of MIND: what a user had clicked before, was shown, and clicked then."""

from pathlib import Path

import polars as pl

from jaxrec.data import times
from jaxrec.data.formats.assemble import Part
from jaxrec.data.formats.text import TextOptions, all_lines
from jaxrec.errors import InputError

SOURCE = "F. Wu et al., MIND: A Large-scale Dataset for News Recommendation, ACL 2020"
_FIELDS = ("impression", "user", "time", "history", "shown")
_FORM = "%m/%d/%Y %I:%M:%S %p"


def parts(path: Path, options: TextOptions) -> list[Part]:
    """Read ``behaviors.tsv``: impression, user, time, history, and news as ``N1-1`` (clicked) or
    ``N1-0`` (left alone).

    Clicks of the history, whose times are not there, count as of the user's first impression.

    Raises:
      InputError: names the file, the line and what to do.
    """
    lines = all_lines(path, options)
    cells = lines["line"].str.split("\t")
    frame = lines.with_columns(
        cells.list.get(n, null_on_oob=True).str.strip_chars().alias(name)
        for n, name in enumerate(_FIELDS)
    ).with_columns(time=times.of_texts(cells.list.get(2, null_on_oob=True), _FORM).seconds)
    news = pl.col("shown").str.split(" ")
    sound = (cells.list.len() == len(_FIELDS)) & frame["time"].is_not_null() & (frame["user"] != "")
    sound &= frame["shown"].str.contains(r"^\S+-[01]( \S+-[01])*$").fill_null(False)
    if not sound.all():
        row = int((~sound).arg_max() or 0)
        raise InputError(
            f"{path}:{lines['number'][row]}: not impression, user, time such as 11/11/2019 9:05:58 "
            "AM, history and news such as N1-0 N2-1, cut at tabs; fix or drop the line"
        )
    shown = frame.select("number", "user", "time", item=news).explode("item")
    shown = shown.with_columns(
        weight=pl.col("item").str.slice(-1).cast(pl.Float64),
        item=pl.col("item").str.head(-2),
    )
    history = frame.select(
        "number",
        "user",
        pl.col("time").min().over("user"),
        item=pl.col("history").str.split(" "),
        weight=pl.lit(1.0),
    ).explode("item")
    history = history.unique(["user", "item"], keep="first", maintain_order=True)
    made = pl.concat([history.filter(pl.col("item") != ""), shown], how="diagonal")
    number = made["number"].to_numpy()
    return [
        Part(
            path,
            made.select("user", "item", "time", "weight"),
            lambda row: f"{path}:{number[row]}",
            reading="clicked <- news-1 and the history, left alone <- news-0",
        )
    ]
