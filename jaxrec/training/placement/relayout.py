"""Restores checkpoints whose table rows are ordered for another mesh or ``mesh.order``."""

from typing import Any, NamedTuple

import jax
import numpy as np

from jaxrec.data.dataset import Dataset
from jaxrec.graph import partition
from jaxrec.graph.partition import node_order
from jaxrec.training.checkpoint import Checkpoints


class Rows(NamedTuple):
    """The layout of tables with ``size`` rows; node n of the data set has row place_N[n]."""

    place_N: np.ndarray
    size: int


def rows_of(train: Dataset, layout: dict[str, Any] | None) -> Rows:
    """Return the row layout of a checkpoint's tables; ``layout`` is None for one device."""
    if layout is None:
        place_N = node_order(train, "locality")
        assert place_N is not None
        return Rows(place_N, len(place_N))
    stored = partition.layout(train, node_order(train, layout["order"]), layout["table"])
    return Rows(stored.place_N, stored.size)


def of_table(path: Any, leaf: Any, size: int) -> bool:
    """Return whether a leaf of a state has one row for each of the ``size`` rows of a table."""
    return leaf.shape[:1] == (size,) and "share" not in jax.tree_util.keystr(path)


def restored(checkpoints: Checkpoints, step: int, like: Any, stored: Rows, ours: Rows) -> Any:
    """Restore a state as NumPy arrays, and reorder the rows of its tables; padding rows are 0.

    Args:
      like: a state of this run, or its shapes.
      stored: the layout of the checkpoint's tables.
      ours: the layout of this run's tables.

    Raises:
      Damaged, RunError: the checkpoint cannot be used (:meth:`Checkpoints.restore`).
    """

    def theirs(path: Any, leaf: Any) -> jax.ShapeDtypeStruct:
        of_rows = of_table(path, leaf, ours.size)
        shape = (stored.size, *leaf.shape[1:]) if of_rows else leaf.shape
        return jax.ShapeDtypeStruct(shape, leaf.dtype)

    def moved(path: Any, leaf: Any, found: np.ndarray) -> np.ndarray:
        if not of_table(path, leaf, ours.size):
            return found
        rows = np.zeros(leaf.shape, leaf.dtype)
        rows[ours.place_N] = found[stored.place_N]
        return rows

    found = checkpoints.restore(step, jax.tree_util.tree_map_with_path(theirs, like))
    return jax.tree_util.tree_map_with_path(moved, like, found)
