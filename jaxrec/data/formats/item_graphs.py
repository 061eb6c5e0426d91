"""Builds an ItemGraph from anything that an item model's ``--data`` takes."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from jaxrec.config import RELATIONS, PairsConfig
from jaxrec.data import array_checks, formats, itemgraph, synthetic_items
from jaxrec.data.cooccurrence import of_interactions
from jaxrec.data.dataset import Dataset
from jaxrec.data.formats import amazon_metadata, compressed, item_pair_tables, jsonl, side_features
from jaxrec.data.formats.columns import Columns, EdgeColumns
from jaxrec.data.formats.text import TextOptions, unreadable
from jaxrec.data.itemgraph import ItemGraph
from jaxrec.data.prepared import format_of, is_prepared
from jaxrec.errors import InputError, nearest

FORMATS = ("amazon-meta", "pairs", "co-occurrence")
"""Formats that give an item graph, besides ``prepared``."""


def resolve_items(path_or_name: str, pairs: PairsConfig) -> ItemGraph:
    """Return the item graph that a configuration names: ``synthetic``, or a path to read.

    Raises:
      InputError: :func:`read_items` refuses the path or the options.
    """
    if path_or_name == "synthetic":
        _refuse_idle(path_or_name, "synthetic", pairs)
        return _without_light(synthetic_items.embedded(), pairs.min_weight)
    return read_items(path_or_name, pairs=pairs)


def read_items(
    path: str | Path,
    format: str | None = None,
    pairs: PairsConfig | None = None,
    columns: EdgeColumns | Columns | None = None,
    *,
    items: str | Path | None = None,
    cold_items: bool = False,
    strict: bool = False,
    text: TextOptions | None = None,
) -> ItemGraph:
    """Read pairs of items from a file or folder.

    Args:
      path: a prepared item graph, or data of one of these formats:

        * ``amazon-meta``: product metadata in a .json or .jsonl file, perhaps compressed;
        * ``pairs``: a table of item pairs, with columns such as src, dst and weight;
        * ``co-occurrence``: interactions in any format of :func:`jaxrec.read`; the items of each
          user are paired.
      format: ``prepared`` or one of ``FORMATS``; detected from the path if not given.
      pairs: the weights of relations, the window and history of interactions, and the least
        weight of a pair.
      columns: columns of a list of pairs, or of interactions; guessed if not given.
      items: a table of features keyed by item id.
      cold_items: keep items that only the table ``items`` has, as items without a pair.
      strict: refuse faults in metadata instead of counting them in the notes.
      text: settings of text tables that cannot be detected from the file.

    Raises:
      InputError: the path, the format or the content is not usable, or ``pairs`` sets an option
        that has no effect on the format.

    >>> import jaxrec
    >>> import polars as pl
    >>> pairs = pl.DataFrame({"src": ["tea", "cup"], "dst": ["cup", "pot"], "weight": [2.0, 1.0]})
    >>> pairs.write_csv("together.csv")
    >>> jaxrec.read_items("together.csv").n_pairs
    2
    """
    array_checks.refuse_foreign(path, option="path")
    path, pairs = Path(path), pairs or PairsConfig()
    known = ("prepared", *FORMATS)
    if format is not None and format not in known:
        raise InputError(
            f"unknown format {format!r}{nearest(format, known)}; formats of item graphs: "
            f"{', '.join(known)}"
        )
    try:
        text = text or TextOptions()
        format = format or detect_items(path, text)
        if strict and format != "amazon-meta":
            raise InputError(
                f"{path}: strict is for format amazon-meta; other formats are always strict, so "
                "leave it out"
            )
        _refuse_idle(path, format, pairs)
        graph = _READERS[format](path, pairs, columns, strict, text)
        if items is not None:
            table = side_features.keyed(Path(items), "item", text.of_tables_beside())
            graph = side_features.attach(graph, table, "item", own=False, cold=cold_items)
        elif cold_items:
            raise InputError(f"{path}: --cold-items needs a table that names them: --items FILE")
        graph = _without_light(graph, pairs.min_weight)
        if not graph.n_pairs:
            raise InputError(_without_pairs(path, format, graph))
        return graph
    except OSError as e:
        raise unreadable(path, e) from e


def _without_pairs(path: Path, format: str, graph: ItemGraph) -> str:
    """Say why a file has no pair to train on."""
    if format == "amazon-meta":
        return (
            f"{path}: has {graph.n_items} products but no pair, because their `related` items "
            "(also_bought and so on) are missing or are not among the products; give more data"
        )
    why = {"co-occurrence": "no user has two of the items"}.get(format, "every pair was left out")
    return f"{path}: has {graph.n_items} items but no pair, because {why}; give more data"


def detect_items(path: str | Path, text: TextOptions | None = None) -> str:
    """Return the format, ``prepared`` or one of ``FORMATS``, in which the path is an item graph.

    Raises:
      InputError: the path does not exist, or its format is unknown or ambiguous.
    """
    path = Path(path)
    if is_prepared(path) and format_of(path) == itemgraph.FORMAT:
        return "prepared"
    if path.is_file() and formats.is_json_name(path.name) and not jsonl.is_reviews(path):
        return "amazon-meta"
    if path.is_file() and item_pair_tables.is_list(path, text):
        return "pairs"
    formats.detect(path)
    return "co-occurrence"


def is_item_graph(path: str | Path, text: TextOptions | None = None) -> bool:
    """Return whether a file or folder holds item pairs, not interactions.

    Raises:
      InputError: the path does not exist, or its format is unknown or ambiguous.
    """
    return detect_items(path, text) != "co-occurrence"


Reader = Callable[[Path, PairsConfig, Any, bool, TextOptions], ItemGraph]


def _prepared(
    path: Path, pairs: PairsConfig, columns: Any, strict: bool, text: TextOptions
) -> ItemGraph:
    _refuse_columns(path, "prepared", columns)
    return ItemGraph.load(path)


def _metadata(
    path: Path, pairs: PairsConfig, columns: Any, strict: bool, text: TextOptions
) -> ItemGraph:
    _refuse_columns(path, "amazon-meta", columns)
    if not path.is_file():
        raise InputError(f"{path}: no such file; give a file of product metadata")
    if jsonl.is_reviews(path):
        raise InputError(
            f"{path}: holds reviews (a user and an item per line), not product metadata; leave "
            "--format out, or pair the items of each user with --format co-occurrence"
        )
    return amazon_metadata.read(path, pairs.relations(), strict=strict)


def _list(
    path: Path, pairs: PairsConfig, columns: Any, strict: bool, text: TextOptions
) -> ItemGraph:
    if not (
        path.is_file() and compressed.plain_name(path).lower().endswith(item_pair_tables.ENDINGS)
    ):
        raise InputError(
            f"{path}: a list of pairs is a file that ends in {', '.join(item_pair_tables.ENDINGS)}"
        )
    return item_pair_tables.read(path, columns, text)


def _co_occurring(
    path: Path, pairs: PairsConfig, columns: Any, strict: bool, text: TextOptions
) -> ItemGraph:
    data: Dataset = formats.read(path, columns=columns, text=text)
    return of_interactions(data, window=pairs.window, history=pairs.history)


_READERS: dict[str, Reader] = {
    "prepared": _prepared,
    "amazon-meta": _metadata,
    "pairs": _list,
    "co-occurrence": _co_occurring,
}


_FORMAT_OF_OPTION = {
    **dict.fromkeys(RELATIONS, "amazon-meta"),
    **dict.fromkeys(("window", "history"), "co-occurrence"),
}


def _refuse_idle(path: str | Path, format: str, pairs: PairsConfig) -> None:
    """Raise InputError if an option that has no effect on this format was changed."""
    for name, only in _FORMAT_OF_OPTION.items():
        if format != only and getattr(pairs, name) != getattr(PairsConfig(), name):
            raise InputError(
                f"{path}: pairs.{name} has an effect only where a source of format {only} is "
                f"read, and this is {format}; leave it out, or give such a source"
            )


def _refuse_columns(path: Path, format: str, columns: Any) -> None:
    if columns is not None:
        raise InputError(f"{path}: format {format} has no columns to name; leave them out")


def _without_light(graph: ItemGraph, least: float) -> ItemGraph:
    """Drop the pairs that weigh less than ``least``, and keep all items."""
    light = graph.weight < least
    if not light.any():
        return graph
    kept = graph.take(~light)
    return replace(kept, notes=graph.notes | {f"pairs lighter than {least:g}": int(light.sum())})
