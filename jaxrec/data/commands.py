"""The commands of ``jaxrec data``: import, split, describe and generate data. Each returns the text
to print."""

import shlex
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from jaxrec.data import formats, synthetic, synthetic_items
from jaxrec.data.dataset import TEST, TRAIN, VALIDATION, Dataset
from jaxrec.data.features import Bag, Category, Column, Vector
from jaxrec.data.formats import item_graphs, remote
from jaxrec.data.itemgraph import ItemGraph
from jaxrec.data.prepared import refuse_occupied
from jaxrec.data.split import Splits, labelled
from jaxrec.files import replacing, write_json


def import_data(
    src: str | Path,
    out: str | Path,
    format: str | None = None,
    columns: formats.Columns | None = None,
    event_weights: dict[str, float] | None = None,
    **catalogues: Any,
) -> str:
    """Read ``src`` and write it as a prepared folder ``out``, either whole or not at all.

    Args:
      catalogues: the arguments ``items``, ``users``, ``cold_items``, ``cold_users``, ``text`` and
        ``repeats`` of :func:`formats.read`.

    Raises:
      InputError: the source cannot be used, or the folder cannot be written.
    """
    refuse_occupied(out)
    return _write(formats.read(src, format, columns, event_weights, **catalogues), out)


def import_items(
    src: str | Path, out: str | Path, format: str | None = None, **options: Any
) -> str:
    """Read ``src`` as an item graph and write it as a prepared folder ``out``.

    Args:
      options: the arguments ``pairs``, ``columns``, ``items``, ``cold_items``, ``strict`` and
        ``text`` of :func:`read_items`.

    Raises:
      InputError: the source cannot be used, or the folder cannot be written.
    """
    refuse_occupied(out)
    return _write(item_graphs.read_items(src, format, **options), out)


def synth_items(
    n_items: int, pairs: int, out: str | Path, seed: int = 0, missing: float | None = None
) -> str:
    """Generate an item graph and write it as a prepared folder ``out``.

    Raises:
      InputError: the sizes do not fit together, or the folder cannot be written.
    """
    refuse_occupied(out)
    communities = max(1, min(20, n_items))
    graph = synthetic_items.make(
        n_items, pairs, communities=communities, seed=seed, missing=missing
    )
    return _write(graph, out)


def synth(users: int, items: int, edges: int, out: str | Path, seed: int = 0) -> str:
    """Generate a data set and write it as a prepared folder ``out``.

    Raises:
      InputError: the sizes do not fit together, or the folder cannot be written.
    """
    refuse_occupied(out)
    communities = max(1, min(12, users, items))
    return _write(synthetic.make(users, items, edges, communities=communities, seed=seed), out)


def stats(
    path: str,
    format: str | None = None,
    columns: formats.Columns | None = None,
    event_weights: dict[str, float] | None = None,
    text: formats.TextOptions | None = None,
    *,
    options: Sequence[str] = (),
) -> str:
    """Return sizes, degrees, popularity, split, times, notes, fingerprint and a training command.

    Args:
      format, columns, event_weights, text: how interactions are read; see :func:`formats.read`.
      options: the same settings as command-line options, to include in the training command.

    Raises:
      InputError: the data cannot be used.
    """
    if path in synthetic.EMBEDDED:
        table = _table(synthetic.embedded(path))
        return f"{table}\n{'to train':<14}{_how_to_train(path, 'lightgcn', ())}"
    with remote.local(path) as file:
        of_items = format in item_graphs.FORMATS or (
            format is None and columns is None and item_graphs.is_item_graph(file, text)
        )
        if of_items:
            table = _item_table(item_graphs.read_items(file, format, text=text))
        else:
            table = _table(formats.read(file, format, columns, event_weights, text=text))
    command = _how_to_train(path, "skipgram" if of_items else "lightgcn", options)
    return f"{table}\n{'to train':<14}{command}"


def _how_to_train(path: str, preset: str, options: Sequence[str]) -> str:
    """Return the command that trains on the data; with options, it first imports the data."""
    if not options:
        return shlex.join(["jaxrec", "train", preset, "--data", path])
    imported = shlex.join(["jaxrec", "data", "import", path, "--out", "prepared", *options])
    return f"{imported} && jaxrec train {preset} --data prepared"


def write_split(splits: Splits, out: str | Path, format: str, about: dict[str, Any]) -> str:
    """Write a split to a folder that ``--split.name given`` reads as the same split.

    Args:
      format: ``prepared`` for a prepared folder, or the ending (such as ``csv``) of the files
        ``train``, ``validation`` and ``test``. Each row of these files is a pair of ids, with its
        rating, time and weight if the data has them.
      about: the settings of the split, for ``split.json``.

    Raises:
      InputError: the folder cannot be written.
    """
    refuse_occupied(out)
    counts = {name: part.n_edges for name, part in splits._asdict().items()}
    lines = [("pairs", ", ".join(f"{count:,} {name}" for name, count in counts.items()))]
    if format == "prepared":
        labelled(splits).save(out)
    else:
        with replacing(Path(out).absolute()) as partial:
            partial.mkdir()
            for name, part in splits._asdict().items():
                if part.n_edges:  # an empty file cannot be read
                    pairs, path = _pairs(part), partial / f"{name}.{format}"
                    pairs.write_csv(path) if format == "csv" else pairs.write_parquet(path)
            write_json(partial / "split.json", about | {"pairs": counts})
        left_out = [side.replace("_", " ") for side in splits.train.features()]
        left_out += ["pairs shown and not chosen"] if splits.train.exposed is not None else []
        if left_out:
            more = f"{' and '.join(left_out)}; --format prepared keeps them"
            lines.append(("not written", more))
    command = ["jaxrec", "train", "lightgcn", "--data", str(out)]
    # Without a validation part, a run would draw one from train.
    command += [] if splits.validation.n_edges else ["--split.validation", "0"]
    lines += [("written to", str(out)), ("to train", shlex.join(command))]
    return "\n".join(f"{name:<14}{text}" for name, text in lines)


def _pairs(data: Dataset) -> pl.DataFrame:
    """Return the pairs by their ids, with the columns that the data has."""
    columns = {name: data.columns().get(name) for name in ("rating", "time", "weight")}
    ids = {"user": data.user_ids[data.user], "item": data.item_ids[data.item]}
    return pl.DataFrame(ids | {name: c for name, c in columns.items() if c is not None})


def gini(counts: np.ndarray) -> float:
    """Return the Gini coefficient of counts: 0 if all are equal, near 1 if one count dominates."""
    total, n = counts.sum(), len(counts)
    if not total:
        return 0.0
    rank = np.arange(1, n + 1)
    return float(2 * (rank * np.sort(counts)).sum() / (n * total) - (n + 1) / n)


def _write(data: Dataset | ItemGraph, out: str | Path) -> str:
    data.save(out)
    table = _item_table(data) if isinstance(data, ItemGraph) else _table(data)
    return f"{table}\n{'written to':<14}{out}"


def _item_table(graph: ItemGraph) -> str:
    degree = graph.degree()
    rows = [
        ("name", graph.name),
        ("items", f"{graph.n_items:,}, {(degree == 0).sum():,} without a pair"),
        ("pairs", f"{graph.n_pairs:,}"),
        ("density", f"{2 * graph.n_pairs / max(graph.n_items * (graph.n_items - 1), 1):.4%}"),
        ("pairs an item", _degrees(degree)),
        ("popularity", f"Gini {gini(degree):.3f}"),
    ]
    if graph.n_pairs:
        rows.append(("weights", f"{graph.weight.min():g} to {graph.weight.max():g}"))
    return _lines(rows, graph)


def _table(data: Dataset) -> str:
    cells = max(data.n_users * data.n_items, 1)
    rows = [
        ("name", data.name),
        ("users", f"{data.n_users:,}"),
        ("items", f"{data.n_items:,}"),
        ("pairs", f"{data.n_edges:,}"),
        ("density", f"{data.n_edges / cells:.4%}"),
        ("pairs a user", _degrees(data.user_counts())),
        ("pairs an item", _degrees(data.item_counts())),
        ("popularity", f"Gini {gini(data.item_counts()):.3f}"),
    ]
    if data.split is not None:
        named = {"train": TRAIN, "validation": VALIDATION, "test": TEST}
        counts = {name: int((data.split == part).sum()) for name, part in named.items()}
        rows.append(("given split", ", ".join(f"{n:,} {name}" for name, n in counts.items())))
    if data.rating is not None and data.n_edges:
        low, high, mean = data.rating.min(), data.rating.max(), data.rating.mean(dtype=np.float64)
        rows.append(("ratings", f"{low:g} to {high:g}, mean {mean:.3f}"))
    if data.time is not None and data.n_edges:
        rows.append(("times", _times(float(data.time.min()), float(data.time.max()))))
    if data.weight is not None and data.n_edges:
        rows.append(("weights", f"{data.weight.min():g} to {data.weight.max():g}"))
    if data.exposed is not None:
        rows.append(("left alone", f"{len(data.exposed.user):,} pairs shown and not chosen"))
    return _lines(rows, data)


def _lines(rows: list[tuple[str, str]], data: Dataset | ItemGraph) -> str:
    """Format the rows, columns, features, notes and fingerprint as lines."""
    rows = list(rows)
    rows += [("columns", line) for line in data.reading]
    for side, features in data.features().items():
        described = (_column(name, column) for name, column in features.columns.items())
        rows.append((side.replace("_", " "), ", ".join(described)))
    rows += [("note", f"{note}: {count:,}") for note, count in data.notes.items()]
    rows.append(("fingerprint", data.fingerprint()))
    return "\n".join(f"{name:<14}{value}" for name, value in rows)


def _column(name: str, column: Column) -> str:
    """Describe a feature column, as in ``genres (bag of 19, 1 missing)``."""
    text = column.kind
    if isinstance(column, Category | Bag):
        text += f" of {len(column.names) - 1:,}"
    elif isinstance(column, Vector):
        text += f" of {column.value.shape[1]:,}"
    missing = int(column.missing().sum())
    return f"{name} ({text}, {missing:,} missing)" if missing else f"{name} ({text})"


def _degrees(counts: np.ndarray) -> str:
    if not len(counts):
        return "none"
    return f"{counts.min():,} / {np.median(counts):g} / {counts.max():,} (min, median, max)"


def _times(first: float, last: float) -> str:
    text = f"{first:.15g} to {last:.15g}"
    if not (first > 1e8 and last < 1e10):  # such times are not seconds since 1970
        return text
    days = (datetime.fromtimestamp(moment, UTC).date().isoformat() for moment in (first, last))
    return f"{text} ({' to '.join(days)})"
