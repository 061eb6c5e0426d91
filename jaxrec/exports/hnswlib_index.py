"""An hnswlib index of the items: items.hnsw, with items.parquet and users.parquet beside it."""

from pathlib import Path

from jaxrec.exports.inner_products import products, recall, write_ids
from jaxrec.runfolder import Embeddings

NEEDS = {"hnswlib": "hnswlib"}
_LINKS, _BREADTH = 32, 200


def write(table: Embeddings, path: Path, run: Path) -> list[str]:
    """An HNSW graph over inner products; labels are rows."""
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
    said = recall(vectors, lambda query_nD, k: index.knn_query(query_nD, k)[0].astype(int))
    return [f"{said} (set_ef({_BREADTH}): the file does not keep it)"]
