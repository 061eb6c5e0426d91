"""Restoring a checkpoint whose tables have another row order: of another mesh or another order."""

from typing import Any, NamedTuple

import jax
import numpy as np

from jaxrec.data.dataset import Dataset
from jaxrec.graph import partition
from jaxrec.graph.partition import node_order
from jaxrec.training.checkpoint import Checkpoints


class Rows(NamedTuple):
    """How tables hold N nodes in S rows: node n of the data set is in row place_N[n]."""

    place_N: np.ndarray
    size: int


def rows_of(train: Dataset, layout: dict[str, Any] | None) -> Rows:
    """Return the rows of a checkpoint's tables, by its notes; None stands for one device."""
    if layout is None:
        place_N = node_order(train, "locality")
        assert place_N is not None
        return Rows(place_N, len(place_N))
    stored = partition.layout(train, node_order(train, layout["order"]), layout["table"])
    return Rows(stored.place_N, stored.size)


def of_table(path: Any, leaf: Any, size: int) -> bool:
    """Whether a leaf of a state has one row for each row of a table of this size."""
    return leaf.shape[:1] == (size,) and "share" not in jax.tree_util.keystr(path)


def restored(checkpoints: Checkpoints, step: int, like: Any, stored: Rows, ours: Rows) -> Any:
    """Restore a state in NumPy and move the rows of its tables; padding is 0.

    Args:
      like: a state (or its shapes) in the rows of this run.
      stored: the rows of the checkpoint.
      ours: the rows of this run.

    Raises:
      Damaged, RunError: as :meth:`Checkpoints.restore`.
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
