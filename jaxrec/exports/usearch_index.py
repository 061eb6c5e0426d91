"""Export to a USearch index of the items: items.usearch, items.parquet and users.parquet."""

from pathlib import Path
from typing import Any

import numpy as np

from jaxrec.exports.inner_products import products, recall, write_ids
from jaxrec.runfolder import Embeddings

NEEDS = {"usearch": "usearch"}
_LINKS, _BREADTH = 32, 200


def write(table: Embeddings, path: Path, run: Path) -> list[str]:
    """Write an HNSW graph for inner products, with row numbers as keys."""
    from usearch.index import Index  # pyright: ignore[reportMissingImports]

    vectors = products(table, "usearch")
    n_items, size = vectors.item_ID.shape
    breadth: dict[str, Any] = {"expansion_add": _BREADTH, "expansion_search": _BREADTH}
    index = Index(ndim=size, metric="ip", dtype="f32", connectivity=_LINKS, **breadth)
    index.add(np.arange(n_items, dtype=np.uint64), vectors.item_ID, threads=1)
    path.mkdir()
    index.save(str(path / "items.usearch"))
    write_ids(table, vectors, path)

    def search(query_nD: np.ndarray, k: int) -> np.ndarray:
        found = index.search(query_nD, k)
        return np.asarray(found.keys).reshape(len(query_nD), -1).astype(np.int64)

    return [recall(vectors, search)]
