"""Export to a folder of Lance data sets, users.lance and items.lance."""

from pathlib import Path

from jaxrec.exports.tables import tables
from jaxrec.runfolder import Embeddings

NEEDS = {"lance": "pylance", "pyarrow": "pyarrow"}


def write(table: Embeddings, path: Path, run: Path) -> list[str]:
    """Write data sets with columns id, embedding (fixed-size list of float32) and bias (if any)."""
    import lance  # pyright: ignore[reportMissingImports]
    import polars as pl

    path.mkdir()
    size = table.item.shape[1]
    for name, frame in tables(table):
        fixed = frame.with_columns(pl.col("embedding").cast(pl.Array(pl.Float32, size)))
        lance.write_dataset(fixed.to_arrow(), str(path / f"{name}.lance"))
    return []
