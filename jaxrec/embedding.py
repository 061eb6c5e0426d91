"""Embed new items, which were not in the training data, with a trained inductive model."""

import sys
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import polars as pl

from jaxrec import config as configs
from jaxrec import fork_check
from jaxrec.added_items import refuse_ids
from jaxrec.data import array_checks
from jaxrec.data.dataset import Dataset
from jaxrec.data.features import Features
from jaxrec.data.formats import in_memory, side_features
from jaxrec.data.formats.assemble import rows_of
from jaxrec.data.frame_features import from_frame
from jaxrec.data.schema import encode
from jaxrec.data.split import Splits, refit_splits
from jaxrec.errors import InputError, nearest
from jaxrec.evaluation.user_runs import load_data, splits_of
from jaxrec.graph.bipartite import rating_levels
from jaxrec.graph.csr import DeviceCsr
from jaxrec.list_files import read_pairs
from jaxrec.models import InductiveEncoder, NewEdges
from jaxrec.models.encoder import unit_rows
from jaxrec.runfolder import check_run, read_parameters
from jaxrec.training.device_data import walk_key
from jaxrec.training.items.cold_items import cold_vectors
from jaxrec.training.problem import Problem


def embed(
    run: str | Path,
    new_items: str | Path,
    *,
    edges: str | Path | None = None,
    data: Any = None,
    unknown: Literal["skip", "fail"] = "skip",
) -> pl.DataFrame:
    """Embed new items in the space of the run's users and items.

    Args:
      run: a finished run of an inductive model: two-tower, gcmc or pinsage without model.ids, or
        an item model with side information.
      new_items: a table keyed by id with the same features as the items in training.
      edges: a table with columns user and item (and rating, if the model uses rating levels): pairs
        of the new items with the run's users. An item may have no pair.
      data: where the run's data is now, if it moved.
      unknown: "skip" skips pairs with a user that the run does not know, or an item that is not in
        ``new_items``, and counts them on stderr; "fail" raises InputError.

    Returns:
      One row per item in the order of the file: id and embedding. For an item model the embedding
      is null if training knew none of the item's features.

    Raises:
      InputError: the model has only id embeddings, or a file cannot be used.

    After ``jaxrec train two-tower --data shop --run runs/two-tower-1``:

    >>> import jaxrec
    >>> import polars as pl
    >>> pl.DataFrame({"item": ["new-1", "new-2"], "genre": ["tea", "cup"]}).write_csv("new.csv")
    >>> jaxrec.embed("runs/two-tower-1", "new.csv").columns
    ['id', 'embedding']
    """
    array_checks.refuse_foreign(new_items, option="new_items")
    array_checks.refuse_foreign(edges, option="edges")
    data = in_memory.taken(data)
    array_checks.refuse_foreign(data, Dataset)
    fork_check.check()
    run = check_run(run)
    config = configs.load(run / "config.json")
    if not config.objective.users:
        if edges is not None:
            raise InputError(
                f"{run}: {config.model.name} embeds items by their features alone; leave out the "
                "edges"
            )
        names, features = _read_items(new_items)
        return _frame(names, cold_vectors(run, config, features), zeros=False)
    refuse_ids(run, config)
    if edges is not None and config.model.kind.embeds_new == "always":
        raise InputError(f"{run}: two-tower embeds items by their features; leave out the edges")
    parameters = read_parameters(run)
    splits = splits_of(config, load_data(run, config, data), run)
    splits = refit_splits(splits) if config.train.refit else splits
    problem = Problem.build(config, splits, phase="refit" if config.train.refit else "search")
    if problem.takes.item is None:
        raise InputError(
            f"{run}: the run's items had no features, so new items cannot be embedded; train on "
            "data with item features"
        )
    names, features = _read_items(new_items)
    x = jax.tree.map(jnp.asarray, encode(features, problem.takes.item))
    model = problem.model(parameters)
    assert isinstance(model, InductiveEncoder)
    near = _edges(edges, names, splits, problem, unknown)
    emb_nD = model.embed_items(problem.data.graph, x, near, walk_key(problem.data.key))
    if config.model.score == "cosine":
        emb_nD = unit_rows(emb_nD)
    return _frame(names, np.asarray(jax.device_get(emb_nD), np.float32))


def _read_items(new_items: str | Path) -> tuple[pl.Series, Features]:
    """Read the ids and features of a table keyed by item id."""
    table = side_features.keyed(Path(new_items), "item")
    names = table.frame[table.id_column].cast(pl.String)
    frame = table.frame.with_columns(names)
    return names, from_frame(frame, table.id_column, names.to_numpy(), table.where, kind="item")


def _frame(names: pl.Series, emb_nD: np.ndarray, *, zeros: bool = True) -> pl.DataFrame:
    """Build a frame of ids and vectors; without ``zeros``, zero vectors become null."""
    frame = pl.DataFrame({"id": names, "embedding": emb_nD})
    frame = frame.with_columns(pl.col("embedding").cast(pl.List(pl.Float32)))
    if zeros:
        return frame
    nonzero = pl.Series((emb_nD != 0).any(axis=1))
    return frame.with_columns(pl.when(nonzero).then(pl.col("embedding")))


def _edges(
    path: str | Path | None, names: pl.Series, splits: Splits, problem: Problem, unknown: str
) -> NewEdges:
    """Read the pairs of a file as edges of the graph; without a file, there are no edges."""
    if path is None:
        empty = jnp.zeros(0, jnp.int32)
        return NewEdges(DeviceCsr(jnp.zeros(len(names) + 1, jnp.int32), empty), empty)
    pairs = _read_pairs(Path(path), with_ratings=problem.takes.levels > 1)
    users = pl.Series(np.asarray(splits.train.user_ids).astype(str))
    user_E = _rows(pairs["user"], users, path, "user", "in the run", unknown)
    item_E = _rows(pairs["item"], names, path, "item", "among the new items", unknown)
    kept = (user_E >= 0) & (item_E >= 0)
    pairs, user_E, item_E = pairs.filter(pl.Series(kept)), user_E[kept], item_E[kept]
    level_E = np.zeros(len(pairs), np.int32)
    if problem.takes.levels > 1:
        values, _ = rating_levels(splits.train)
        level_E = np.searchsorted(values, pairs["rating"].to_numpy()).astype(np.int32)
        known = values[np.minimum(level_E, len(values) - 1)] == pairs["rating"].to_numpy()
        if not known.all():
            listed = ", ".join(f"{v:g}" for v in values)
            raise InputError(f"{path}: a rating did not occur in training; give one of {listed}")
    order = np.lexsort((user_E, item_E))
    indptr = np.append(0, np.cumsum(np.bincount(item_E, minlength=len(names))))
    place_E = problem.data.graph.places(jnp.asarray(user_E[order]))
    return NewEdges(DeviceCsr(jnp.asarray(indptr, jnp.int32), place_E), jnp.asarray(level_E[order]))


def _read_pairs(path: Path, *, with_ratings: bool) -> pl.DataFrame:
    needed = ["rating"] if with_ratings else []
    frame = read_pairs(path, *needed)
    ratings = [pl.col(name).cast(pl.Float32) for name in needed]
    try:
        frame = frame.select(pl.col("user", "item").cast(pl.String), *ratings)
    except pl.exceptions.PolarsError as e:
        raise InputError(
            f"{path}: a cell has the wrong type; users and items must be strings or integers, and "
            "ratings numbers"
        ) from e
    return frame.drop_nulls().unique(["user", "item"], maintain_order=True)


def _rows(
    ids: pl.Series, known: pl.Series, path: str | Path, kind: str, where: str, unknown: str
) -> np.ndarray:
    """Return the row number of each id in ``known``, or -1 for an id that is skipped as unknown.

    Raises:
      InputError: an id is unknown and ``unknown`` is "fail", or all ids are unknown.
    """
    row_E = rows_of(ids, known)
    lost = row_E < 0
    if lost.any():
        name = ids[int(np.argmax(lost))]
        if unknown == "fail" or lost.all():
            raise InputError(f"{path}: {kind} {name!r} is not {where}{nearest(name, known)}")
        skipped = f"skipped {int(lost.sum()):,} pairs whose {kind} is not {where}"
        print(f"jaxrec: {path}: {skipped}; the first is {name!r}", file=sys.stderr)
    return row_E
