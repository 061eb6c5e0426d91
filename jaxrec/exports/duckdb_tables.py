"""Export to a DuckDB file with the tables users and items."""

import tempfile
from pathlib import Path

from jaxrec.exports.tables import tables
from jaxrec.runfolder import Embeddings

NEEDS = {"duckdb": "duckdb"}


def write(table: Embeddings, path: Path, run: Path) -> list[str]:
    """Write tables with columns id VARCHAR, embedding FLOAT[D] and, if any, bias FLOAT."""
    import duckdb  # pyright: ignore[reportMissingImports]

    size = table.item.shape[1]
    with (
        tempfile.TemporaryDirectory(dir=path.parent, prefix=f"{path.name}.") as folder,
        duckdb.connect(str(path)) as database,
    ):
        for name, frame in tables(table):
            parquet = Path(folder, f"{name}.parquet")
            frame.write_parquet(parquet)
            columns = f"* REPLACE (embedding::FLOAT[{size}] AS embedding)"
            database.execute(
                f"CREATE TABLE {name} AS SELECT {columns} FROM read_parquet(?)", [str(parquet)]
            )
    return [f"tables users and items; score their embeddings FLOAT[{size}] by array_inner_product"]
