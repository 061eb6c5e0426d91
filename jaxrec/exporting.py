"""A run's embeddings, ids and biases in formats that other programs read."""

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
    "jax": "stablehlo",
    "duckdb": "duckdb_tables",
    "lance": "lance_tables",
}
"""Formats with a module of their own in :mod:`jaxrec.exports`."""
_RANKING = ("faiss", "hnswlib", "usearch", "onnx", "jax")
_DATABASE = "postgresql"


def export(
    run: str | Path, to: str, out: str | Path, say: Callable[[str], Any] = lambda line: None
) -> Path:
    """Write the embeddings of a finished run to ``out``, whole or not at all.

    Args:
      run: the run folder.
      to: ``npz``, one file as the run's own embeddings.npz: user [U, D], item [I, D], user_ids
        [U], item_ids [I], and user_bias [U], item_bias [I], item_context [I, D] where the model
        has them.
        ``parquet``, a folder with user.parquet and item.parquet, a row an id: id (string),
        embedding (list of float32), bias (float32) and context (list of float32) where the model
        has them; without users, item.parquet alone.
        ``safetensors``, one file: the tensors user, item, user_bias, item_bias; the ids as JSON
        lists under ``user_ids`` and ``item_ids`` of its metadata. ``hub``, a folder with these, the
        configuration and a model card.
        ``faiss``, ``hnswlib``, ``usearch``: a folder with an index of the items for inner products,
        and the ids and queries; its recall against exact search is said.
        ``onnx``, a file; ``jax``, a folder with a function for ``jax.export``: both rank.
        ``duckdb``, a file; ``lance``, a folder; ``postgresql``, tables of the database whose
        address ``out`` is.
      out: file or folder to write. A file is replaced; a folder must be new or empty.
      say: told lines about what was written.

    Returns:
      ``out``.

    Raises:
      InputError: no finished run, an unknown format, a place that cannot be written.
    """
    writers = _WRITERS | registry.EXPORTS.registered()
    known = [*_WRITERS, *_MODULES, _DATABASE, *registry.EXPORTS.registered()]
    if to not in known:
        raise InputError(
            f"export to {to!r}: the formats are {', '.join(known)}{nearest(to, known)}"
        )
    module = _module(to)
    table, run = read_embeddings(run), Path(run)
    if to in _RANKING and (run / "filter.npz").is_file():
        raise InputError(f"export to {to}: a filter scores by whole histories, not by vectors")
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
    """The module of a format that has one. Raises InputError where what it needs is missing."""
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
