"""Export to an hnswlib index of the items: items.hnsw, items.parquet and users.parquet."""

from pathlib import Path

from jaxrec.exports.inner_products import products, recall, write_ids
from jaxrec.runfolder import Embeddings

NEEDS = {"hnswlib": "hnswlib"}
_LINKS, _BREADTH = 32, 200


def write(table: Embeddings, path: Path, run: Path) -> list[str]:
    """Write an HNSW graph for inner products, with row numbers as labels."""
    import hnswlib  # pyright: ignore[reportMissingImports]

    vectors = products(table, "hnswlib")
    n_items, size = vectors.item_ID.shape
    index = hnswlib.Index(space="ip", dim=size)
    index.init_index(max_elements=n_items, ef_construction=_BREADTH, M=_LINKS, random_seed=0)
    index.add_items(vectors.item_ID, num_threads=1)
    index.set_ef(_BREADTH)
    path.mkdir()
    index.save_index(str(path / "items.hnsw"))
    write_ids(table, vectors, path)
    line = recall(vectors, lambda query_nD, k: index.knn_query(query_nD, k)[0].astype(int))
    return [f"{line} (call set_ef({_BREADTH}) after loading, since the file does not store it)"]
