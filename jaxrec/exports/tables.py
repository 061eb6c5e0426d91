"""Tables of users and items with id, embedding and bias, for exports to databases."""

from collections.abc import Iterator

import polars as pl

from jaxrec.runfolder import Embeddings


def tables(table: Embeddings) -> Iterator[tuple[str, pl.DataFrame]]:
    """Yield the name and the table of the users, if there are any, and then of the items.

    The columns are id, embedding and, if the model has biases, bias.
    """
    sides = (
        ("users", table.user_ids, table.user, table.user_bias),
        ("items", table.item_ids, table.item, table.item_bias),
    )
    for name, ids, vectors, bias in sides:
        if len(ids):
            columns = {"id": ids, "embedding": vectors} | ({} if bias is None else {"bias": bias})
            frame = pl.DataFrame(columns)
            yield name, frame.with_columns(pl.col("embedding").cast(pl.List(pl.Float32)))
