"""Reads weighted lists of item pairs in CSV, TSV and Parquet files, with a pair per row."""

from pathlib import Path

import numpy as np
import polars as pl

from jaxrec.data.formats import compressed, parquet, tables
from jaxrec.data.formats.assemble import Part, id_rows
from jaxrec.data.formats.columns import EdgeColumns, names_pairs
from jaxrec.data.formats.text import TextOptions, look, opened
from jaxrec.data.itemgraph import ItemGraph
from jaxrec.errors import InputError

ENDINGS = (".csv", ".tsv", ".parquet")


def is_list(path: Path, options: TextOptions | None = None) -> bool:
    """Return whether a table's header names both items of a pair (``src``, ``dst``), and no user.

    Raises:
      InputError: the file cannot be read as a table.
    """
    ending = Path(compressed.plain_name(path)).suffix.lower()
    if ending == ".parquet":
        with parquet.opened(path) as lines:
            return names_pairs(lines.collect_schema().names())
    if ending not in ENDINGS:
        return False
    options = options or TextOptions()
    head = look(opened(path, options), separator=options.separator)
    return names_pairs(head.rows[0]) and options.header is not False


def read(
    path: Path, columns: EdgeColumns | None = None, options: TextOptions | None = None
) -> ItemGraph:
    """Read a list of pairs, and sum the weights of repeated pairs, in either direction.

    The columns are ``src``, ``dst`` and optionally ``weight`` (default 1). They are found by common
    names or, in a text file without a header, by their order. Pairs of an item with itself are left
    out.

    Raises:
      InputError: the content is not usable; the message names the file, the line and a fix.
    """
    columns = columns or EdgeColumns()
    if path.suffix.lower() == ".parquet":
        part = parquet.table(path, columns, None)
    else:
        part = tables.delimited(path, columns, None, options=options)
    weight = _weights(part)
    notes, reading = dict(part.notes), (f"{path.name}: {part.reading}",)
    ends = [part.frame.drop_in_place(role) for role in columns.required()]
    rows, ids = id_rows(ends, [])
    src, dst = np.split(rows, 2)
    graph = ItemGraph.of_pairs(src, dst, weight, ids, name=path.resolve().stem, reading=reading)
    itself = int((src == dst).sum())
    notes["pairs of an item with itself"] = itself
    notes["repeated pairs"] = len(src) - itself - graph.n_pairs
    graph.notes.update({note: count for note, count in notes.items() if count})
    return graph


def _weights(part: Part) -> np.ndarray:
    if "weight" not in part.frame.columns:
        return np.ones(part.frame.height, np.float32)
    weight = part.frame["weight"]
    # A weight that float32 rounds to 0 is refused too.
    wrong = weight.cast(pl.Float32) <= 0
    if wrong.any():
        row = int(wrong.arg_max() or 0)
        raise InputError(
            f"{part.where(row)}: weight {weight[row]:g} is not positive; fix or drop the row"
        )
    return weight.to_numpy().astype(np.float32)
