"""Reads fixed item vectors from a file, so that training changes only the user vectors."""

from pathlib import Path
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxrec.config import Config
from jaxrec.data.dataset import Dataset
from jaxrec.errors import InputError
from jaxrec.files import read_arrays
from jaxrec.graph.bipartite import Bipartite
from jaxrec.models import Encoder
from jaxrec.training.step import written


class FrozenItems(NamedTuple):
    """The vectors that a file has for the items of a data set.

    Attributes:
      row: [F] int64, the rows of the item table for which the file has a vector.
      vector: [F, D] float32, the vector of each of these rows.
    """

    row: np.ndarray
    vector: np.ndarray


def read(config: Config, train: Dataset) -> FrozenItems | None:
    """Read the vectors of ``model.frozen_items``; None if no file is configured.

    Raises:
      InputError: the file has no vectors or invalid vectors, their width is not model.dim, an item
        has two vectors, or no item of the data has a vector.
    """
    if config.model.frozen_items is None:
        return None
    path = Path(config.model.frozen_items)
    path = path / "embeddings.npz" if path.is_dir() else path
    try:
        stored = read_arrays(path)
        ids, vector = stored["item_ids"].astype(str), stored["item"]
    except (OSError, KeyError, ValueError, IndexError) as e:
        raise InputError(
            f"{path}: not item embeddings; give an .npz with `item` [I, D] and `item_ids` [I], "
            "or the folder of a finished run"
        ) from e
    if vector.ndim != 2 or len(vector) != len(ids) or vector.dtype.kind not in "fiu":
        raise InputError(f"{path}: item has shape {vector.shape}, for {len(ids)} item_ids")
    if vector.shape[1] != config.model.dim:
        raise InputError(
            f"{path}: its vectors have width {vector.shape[1]}, not model.dim {config.model.dim}; "
            f"set --model.dim {vector.shape[1]}"
        )
    if not np.isfinite(vector).all():
        raise InputError(f"{path}: a vector holds numbers that are not finite")
    if len(np.unique(ids)) < len(ids):
        raise InputError(f"{path}: an item has two vectors; keep one")
    _, row, at = np.intersect1d(np.asarray(train.item_ids).astype(str), ids, return_indices=True)
    if not len(row):
        raise InputError(
            f"{path}: none of its items is among those of {train.name}, such as "
            f"{train.item_ids[0]}; give vectors of items of this data"
        )
    return FrozenItems(row, vector[at].astype(np.float32))


def describe(found: FrozenItems, config: Config, train: Dataset) -> str:
    """Return a line that says how many items have a vector in the file."""
    lack = train.n_items - len(found.row)
    rest = f"; the other {lack:,} score 0" if lack else ""
    return f"item vectors of {config.model.frozen_items} for {len(found.row):,} items{rest}"


def load(model: Encoder, config: Config, train: Dataset, graph: Bipartite) -> None:
    """Copy the vectors to the model's table; items without a vector get zeros."""
    found = read(config, train)
    if found is None:
        return
    item_ID = np.zeros((train.n_items, found.vector.shape[1]), np.float32)
    item_ID[found.row] = found.vector
    place = graph.places(train.n_users + jnp.arange(train.n_items, dtype=jnp.int32))
    model.embedding[...] = written(model.embedding[...], np.asarray(place), item_ID)
