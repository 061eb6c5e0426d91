"""Express scores as inner products, which indexes, databases and other runtimes can compute."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
from jaxtyping import Float32, Int

from jaxrec.errors import InputError
from jaxrec.runfolder import Embeddings

_QUERIES = 200
_K = 20


class Products(NamedTuple):
    """Vectors whose inner products rank items as the model does.

    Shapes: query_UD [U, D'] and item_ID [I, D'] float32. If items have biases, D' = D + 1: the last
    column of item_ID is the bias, and that of query_UD is 1. Otherwise D' = D.
    """

    query_UD: np.ndarray
    item_ID: np.ndarray


def products(table: Embeddings, to: str) -> Products:
    """Build vectors of users and items whose inner products rank items as the model does.

    Biases of users are left out, since they do not change the order of items. If the model has no
    users, its items serve as queries, and all vectors are scaled to length 1, so that inner
    products are cosines.

    Raises:
      InputError: the model scores by a learned function.
    """
    if table.score_bias_H is not None or table.decoder_basis_SDD is not None:
        raise InputError(
            f"export to {to}: the model scores by a learned function, which no inner product can "
            "replace; export to npz to get its parameters"
        )
    user_UD, item_ID = table.user, table.item
    if not len(user_UD):
        norm_I1 = np.linalg.norm(item_ID, axis=1, keepdims=True)
        item_ID = item_ID / np.where(norm_I1 > 0, norm_I1, np.float32(1))
        user_UD = item_ID
    if table.item_bias is not None:
        item_ID = np.hstack([item_ID, table.item_bias[:, None]])
        user_UD = np.hstack([user_UD, np.ones((len(user_UD), 1), np.float32)])
    return Products(
        np.ascontiguousarray(user_UD, np.float32), np.ascontiguousarray(item_ID, np.float32)
    )


def recall(
    vectors: Products,
    search: Callable[[Float32[np.ndarray, "n D"], int], Int[np.ndarray, "n k"]],
) -> str:
    """Measure an index's recall against exact search, and return it as a line for the console.

    Args:
      search: a function that maps queries [n, D] and k to row numbers of items [n, k]; a negative
        number means that no item was found.
    """
    query_UD, item_ID = vectors
    k = min(_K, len(item_ID))
    sample = np.random.default_rng(0).permutation(len(query_UD))[:_QUERIES]
    found_nk = np.asarray(search(query_UD[sample], k))
    recalls = []
    for query_D, found_k in zip(query_UD[sample], found_nk, strict=True):
        score_I = item_ID @ query_D
        least = np.partition(score_I, -k)[-k]
        items = found_k[found_k >= 0]
        recalls.append((score_I[items] >= least - 1e-6 * abs(least)).sum() / k)
    return f"recall@{k} against exact search for {len(sample)} users: {np.mean(recalls):.4f}"


def write_ids(table: Embeddings, vectors: Products, folder: Path) -> None:
    """Write items.parquet (row numbers and ids) and, if any, users.parquet (ids and queries)."""
    pl.DataFrame({"row": np.arange(len(table.item_ids)), "id": table.item_ids}).write_parquet(
        folder / "items.parquet"
    )
    if len(table.user_ids):
        frame = pl.DataFrame({"id": table.user_ids, "query": vectors.query_UD})
        frame = frame.with_columns(pl.col("query").cast(pl.List(pl.Float32)))
        frame.write_parquet(folder / "users.parquet")
