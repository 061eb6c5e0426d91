"""Export to a FAISS index of the items: items.faiss, items.parquet and users.parquet."""

from pathlib import Path

from jaxrec.exports.inner_products import products, recall, write_ids
from jaxrec.runfolder import Embeddings

NEEDS = {"faiss": "faiss-cpu"}
_LINKS, _BREADTH = 32, 200


def write(table: Embeddings, path: Path, run: Path) -> list[str]:
    """Write an HNSW graph for inner products (Malkov & Yashunin 2018)."""
    import faiss  # pyright: ignore[reportMissingImports]

    vectors = products(table, "faiss")
    size = vectors.item_ID.shape[1]
    index = faiss.IndexHNSWFlat(size, _LINKS, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = index.hnsw.efSearch = _BREADTH
    index.add(vectors.item_ID)
    path.mkdir()
    faiss.write_index(index, str(path / "items.faiss"))
    write_ids(table, vectors, path)
    return [recall(vectors, lambda query_nD, k: index.search(query_nD, k)[1])]
