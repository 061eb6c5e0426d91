"""Export to a safetensors file with ids in its metadata, without the package safetensors."""

import json
from pathlib import Path

import numpy as np

from jaxrec.errors import InputError
from jaxrec.runfolder import Embeddings

_LONGEST_HEADER = 100_000_000  # in bytes; readers of safetensors accept no longer header


def write(table: Embeddings, path: Path) -> None:
    """Write the embeddings to a safetensors file.

    The file has the length of the header in eight bytes, then the JSON header, and then the bytes
    of the tensors. Numbers are little-endian.

    Format: https://huggingface.co/docs/safetensors (version 0.x: "F32", row-major, without gaps).
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
    encoded += b" " * (-len(encoded) % 8)  # align the tensors to eight bytes
    if len(encoded) > _LONGEST_HEADER:
        raise InputError(
            f"export to safetensors: the ids make a header of {len(encoded) / 1e6:.0f} MB, but "
            "readers accept 100 MB; export to npz or parquet instead"
        )
    with path.open("wb") as file:
        file.write(len(encoded).to_bytes(8, "little") + encoded)
        for array in arrays.values():
            file.write(np.ascontiguousarray(array, "<f4").data)
