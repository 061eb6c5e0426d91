"""Add items to a finished run by the embeddings that ``jaxrec embed`` computed for them."""

from pathlib import Path

import numpy as np
import polars as pl

from jaxrec.config import Config
from jaxrec.data import array_checks
from jaxrec.data.formats.assemble import rows_of
from jaxrec.errors import InputError
from jaxrec.runfolder import Embeddings


def refuse_ids(run: Path, config: Config) -> None:
    """Raise InputError if the run's model cannot embed items that were not in training."""
    if config.objective.users and not config.model.inductive:
        raise InputError(
            f"{run}: {config.model.name} has an embedding for each id, so it cannot embed new "
            "items; train two-tower, or gcmc or pinsage with --model.no-ids, on data with features"
        )


def read(path: str | Path) -> pl.DataFrame:
    """Read a file that ``jaxrec embed`` wrote: .parquet or .jsonl with columns id and embedding.

    Raises:
      InputError: the file cannot be read, or it has no such columns.
    """
    array_checks.refuse_foreign(path, option="new_items")
    path = Path(path)
    fix = "give a file that `jaxrec embed RUN --new-items TABLE --out FILE` wrote"
    if path.suffix not in (".parquet", ".jsonl"):
        raise InputError(f"{path}: the name must end in .parquet or .jsonl; {fix}")
    try:
        frame = pl.read_parquet(path) if path.suffix == ".parquet" else pl.read_ndjson(path)
        vectors = pl.col("embedding").cast(pl.List(pl.Float32))
        return frame.select(pl.col("id").cast(pl.String), vectors)
    except (OSError, pl.exceptions.PolarsError) as e:
        reason = str(e).splitlines()[0]
        raise InputError(f"{path}: cannot be read as embeddings of items ({reason}); {fix}") from e


def add(
    table: Embeddings, learnt_I: np.ndarray, frame: pl.DataFrame, run: Path
) -> tuple[Embeddings, str | None]:
    """Append items to the table of a run.

    A new item's bias is the mean bias of the items with a trained vector. Rows without an
    embedding, which an item model cannot compute, are skipped.

    Args:
      learnt_I: bool, which items of the run have a trained vector.
      frame: columns id (String) and embedding (a list of D numbers, or null).
      run: the run's folder, named in messages.

    Returns:
      The longer table, and a sentence that counts the skipped rows, or None.

    Raises:
      InputError: an id is missing, repeated or already in the run, or a vector is not finite or
        not of the run's length D.
    """
    lost = frame["embedding"].null_count()
    frame = frame.drop_nulls("embedding")
    ids, dim = frame["id"], table.item.shape[1]
    if ids.null_count():
        raise InputError(f"{run}: new item number {ids.is_null().arg_true()[0] + 1} has no id")
    known = rows_of(ids, pl.Series(table.item_ids, dtype=pl.String)) >= 0
    if known.any():
        name = ids[int(np.argmax(known))]
        raise InputError(
            f"{run}: item {name!r} is in the run already ({known.sum():,} of the new items are); "
            "leave it out of the new items, or train again to change its embedding"
        )
    if ids.is_duplicated().any():
        name = ids.filter(ids.is_duplicated())[0]
        raise InputError(f"{run}: new item {name!r} occurs twice; leave one of its rows out")
    length = frame["embedding"].list.len()
    if (length != dim).any():
        other = length.filter(length != dim)[0]
        raise InputError(
            f"{run}: the embeddings of the new items have {other} numbers, but those of the run "
            f"have {dim}; embed the new items with this run"
        )
    item_nD = frame["embedding"].explode().to_numpy().reshape(len(frame), dim)
    if not np.isfinite(item_nD).all():
        name = ids[int(np.flatnonzero(~np.isfinite(item_nD).all(axis=1))[0])]
        raise InputError(f"{run}: the embedding of new item {name!r} is not finite")
    bias_I, context_ID = table.item_bias, table.item_context
    if bias_I is not None:
        bias = bias_I[learnt_I].mean() if learnt_I.any() else 0.0
        bias_I = np.append(bias_I, np.full(len(frame), bias, np.float32))
    if context_ID is not None:
        context_ID = np.concatenate([context_ID, np.zeros_like(item_nD)])
    longer = table._replace(
        item=np.concatenate([table.item, item_nD.astype(np.float32)]),
        item_ids=np.concatenate([table.item_ids, ids.to_numpy().astype(str)]),
        item_bias=bias_I,
        item_context=context_ID,
    )
    note = (
        f"{run}: skipped {lost:,} of {lost + len(frame):,} new items that have no embedding, "
        "because training knew none of their features"
    )
    return longer, note if lost else None
