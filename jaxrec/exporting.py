"""Export a run's embeddings, ids and biases in formats that other programs read."""

import importlib
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from jaxrec import registry
from jaxrec.errors import InputError, nearest
from jaxrec.exports import safetensors
from jaxrec.files import replacing
from jaxrec.runfolder import Embeddings, read_embeddings

_MODULES = {
    "hub": "hub",
    "faiss": "faiss_index",
    "hnswlib": "hnswlib_index",
    "usearch": "usearch_index",
    "onnx": "onnx_model",
    "onnx-towers": "onnx_towers",
    "jax": "stablehlo",
    "duckdb": "duckdb_tables",
    "lance": "lance_tables",
}
"""Modules of :mod:`jaxrec.exports` by format."""
_RANKING = ("faiss", "hnswlib", "usearch", "onnx", "jax")
_DATABASE = "postgresql"


def export(
    run: str | Path, to: str, out: str | Path, say: Callable[[str], Any] = lambda line: None
) -> Path:
    """Write the embeddings of a finished run to ``out``, atomically.

    Args:
      run: the run folder.
      to: the format.
        ``npz``: a file with the same arrays as the run's embeddings.npz: user [U, D], item [I, D],
        user_ids [U] and item_ids [I]; if the model has them, also user_bias [U], item_bias [I] and
        item_context [I, D].
        ``parquet``: a folder with user.parquet and item.parquet, one row per id: id (string),
        embedding (list of float32) and, if the model has them, bias (float32) and context (list of
        float32). Item models write item.parquet only.
        ``safetensors``: a file with the tensors user, item, user_bias and item_bias, and the ids as
        JSON lists in its metadata ``user_ids`` and ``item_ids``.
        ``hub``: a folder with the same tensors, the configuration and a model card.
        ``faiss``, ``hnswlib``, ``usearch``: a folder with an index of the items for inner products,
        the ids and the query vectors. The index's recall against exact search is reported.
        ``onnx``: a file with a function that ranks items for users.
        ``onnx-towers``: a folder with functions that embed new users and items by their features.
        ``jax``: a folder with a function that ranks items for users.
        ``duckdb``, ``lance``, ``postgresql``: tables of users and items in a file, a folder, or an
        existing database.
      out: file or folder to write, or the address of the PostgreSQL database. A file is replaced; a
        folder must be new or empty.
      say: receives lines about what was written.

    Returns:
      ``out``.

    Raises:
      InputError: the run has not finished, the format is unknown or its package is missing, or
        ``out`` cannot be written.

    After ``jaxrec train --run runs/quickstart-1``:

    >>> import jaxrec
    >>> import numpy as np
    >>> made = jaxrec.export("runs/quickstart-1", "npz", "vectors.npz")
    >>> sorted(np.load(made).files)[:2]
    ['item', 'item_ids']
    """
    writers = _WRITERS | registry.EXPORTS.registered()
    formats = [*_WRITERS, *_MODULES, _DATABASE, *registry.EXPORTS.registered()]
    if to not in formats:
        raise InputError(
            f"export to {to!r}: unknown format{nearest(to, formats)}; the formats are "
            f"{', '.join(formats)}"
        )
    module = _module(to)
    table, run = read_embeddings(run), Path(run)
    if to in _RANKING and (run / "filter.npz").is_file():
        raise InputError(
            f"export to {to}: a graph filter scores by whole histories, not by vectors; use "
            "`jaxrec recommend` to write lists"
        )
    if to == _DATABASE:
        lines = module.write_to(table, str(out))
    else:
        with replacing(out) as partial:
            if module is None:
                writers[to](table, partial)
                lines = []
            else:
                lines = module.write(table, partial, run)
    for line in lines:
        say(line)
    return Path(out)


def _module(to: str) -> Any:
    """Return the format's module, if any. Raises InputError if a needed package is missing."""
    name = "postgresql" if to == _DATABASE else _MODULES.get(to)
    if name is None:
        return None
    module = importlib.import_module(f"jaxrec.exports.{name}")
    for needed, package in module.NEEDS.items():
        if importlib.util.find_spec(needed) is None:
            raise InputError(f"export to {to} needs {needed}: pip install '{package}'")
    return module


def _npz(table: Embeddings, path: Path) -> None:
    arrays: dict[str, Any] = {**table.arrays()}
    with path.open("wb") as file:  # np.savez adds .npz to a name, but not to a file
        np.savez(file, **arrays)


def _parquet(table: Embeddings, folder: Path) -> None:
    folder.mkdir()
    sides = {
        "user": (table.user_ids, table.user, table.user_bias, None),
        "item": (table.item_ids, table.item, table.item_bias, table.item_context),
    }
    for side, (ids, emb, bias, context) in sides.items():
        if not len(ids):
            continue
        columns = {"id": ids, "embedding": emb, "bias": bias, "context": context}
        frame = pl.DataFrame({name: x for name, x in columns.items() if x is not None})
        vectors = pl.col("embedding", *(["context"] if context is not None else []))
        frame = frame.with_columns(vectors.cast(pl.List(pl.Float32)))
        frame.write_parquet(folder / f"{side}.parquet")


_WRITERS = {"npz": _npz, "parquet": _parquet, "safetensors": safetensors.write}
registry.EXPORTS.builtin = (*_WRITERS, *_MODULES, _DATABASE)
