"""A run's embeddings, ids and biases in formats that other programs read."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from jaxrec import registry
from jaxrec.errors import InputError, nearest
from jaxrec.files import replacing
from jaxrec.runfolder import Embeddings, read_embeddings

# Readers of safetensors refuse a longer header.
_SAFETENSORS_HEADER = 100_000_000


def export(run: str | Path, to: str, out: str | Path) -> Path:
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
        lists under ``user_ids`` and ``item_ids`` of its metadata.
      out: file or folder to write. A file is replaced; a folder must be new or empty.

    Returns:
      ``out``.

    Raises:
      InputError: no finished run, an unknown format, a place that cannot be written.
    """
    writers = _WRITERS | registry.EXPORTS.registered()
    if to not in writers:
        listed = ", ".join(writers)
        raise InputError(f"export to {to!r}: the formats are {listed}{nearest(to, writers)}")
    table = read_embeddings(run)
    out = Path(out)
    with replacing(out) as partial:
        writers[to](table, partial)
    return out


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


def _safetensors(table: Embeddings, path: Path) -> None:
    """Eight bytes of header length, the JSON header, then the tensors' bytes, little-endian.

    Format: https://huggingface.co/docs/safetensors (version 0.x: "F32", row-major, no gaps).
    """
    arrays = table.arrays()
    ids = {name: json.dumps(arrays.pop(name).tolist()) for name in ("user_ids", "item_ids")}
    header: dict[str, object] = {"__metadata__": {"format": "jaxrec embeddings"} | ids}
    end = 0
    for name, array in arrays.items():
        begin, end = end, end + 4 * array.size
        header[name] = {
            "dtype": "F32",
            "shape": list(array.shape),
            "data_offsets": [begin, end],
        }
    encoded = json.dumps(header).encode()
    encoded += b" " * (-len(encoded) % 8)  # the tensors begin at a multiple of eight
    if len(encoded) > _SAFETENSORS_HEADER:
        raise InputError(
            f"export to safetensors: the ids make a header of {len(encoded) / 1e6:.0f} MB, and "
            "readers stop at 100 MB; export to npz or parquet"
        )
    with path.open("wb") as file:
        file.write(len(encoded).to_bytes(8, "little") + encoded)
        for array in arrays.values():
            file.write(np.ascontiguousarray(array, "<f4").data)


_WRITERS = {"npz": _npz, "parquet": _parquet, "safetensors": _safetensors}
registry.EXPORTS.builtin = tuple(_WRITERS)
