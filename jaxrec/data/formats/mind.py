"""Reads news impressions of MIND: a user's earlier clicks, the news shown, and the news clicked."""

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
    """Read ``behaviors.tsv``, with the columns impression, user, time, history and shown news.

    The shown news are written as ``N1-1`` (clicked) or ``N1-0`` (not clicked). Clicks of the
    history have no times; they get the time of the user's first impression.

    Raises:
      InputError: the content is not usable; the message names the file, the line and a fix.
    """
    lines = all_lines(path, options)
    cells = lines["line"].str.split("\t")
    frame = lines.with_columns(
        cells.list.get(n, null_on_oob=True).str.strip_chars().alias(name)
        for n, name in enumerate(_FIELDS)
    ).with_columns(time=times.of_texts(cells.list.get(2, null_on_oob=True), _FORM).seconds)
    news = pl.col("shown").str.split(" ")
    valid = (cells.list.len() == len(_FIELDS)) & frame["time"].is_not_null() & (frame["user"] != "")
    valid &= frame["shown"].str.contains(r"^\S+-[01]( \S+-[01])*$").fill_null(False)
    if not valid.all():
        row = int((~valid).arg_max() or 0)
        raise InputError(
            f"{path}:{lines['number'][row]}: the line must have five cells between tabs: an "
            "impression, a user, a time such as 11/11/2019 9:05:58 AM, a history, and news such as "
            "N1-0 N2-1; fix or drop the line"
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
    clicks = pl.concat([history.filter(pl.col("item") != ""), shown], how="diagonal")
    number = clicks["number"].to_numpy()
    return [
        Part(
            path,
            clicks.select("user", "item", "time", "weight"),
            lambda row: f"{path}:{number[row]}",
            reading="clicked <- news-1 and the history, left alone <- news-0",
        )
    ]
