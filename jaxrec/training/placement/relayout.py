"""A checkpoint's tables in rows other than those that a run has: other meshes, other orders."""

from typing import Any, NamedTuple

import jax
import numpy as np

from jaxrec.data.dataset import Dataset
from jaxrec.graph import partition
from jaxrec.graph.partition import node_order
from jaxrec.training.checkpoint import Checkpoints


class Rows(NamedTuple):
    """How tables hold N nodes in S rows: node n of the data set in row place_N[n]."""

    place_N: np.ndarray
    size: int


def rows_of(train: Dataset, layout: dict[str, Any] | None) -> Rows:
    """The rows of a checkpoint's tables, by its notes; None stands for one device."""
    if layout is None:
        place_N = node_order(train, "locality")
        assert place_N is not None
        return Rows(place_N, len(place_N))
    made = partition.layout(train, node_order(train, layout["order"]), layout["table"])
    return Rows(made.place_N, made.size)


def of_table(path: Any, leaf: Any, size: int) -> bool:
    """Whether a leaf of a state has a row for each of a table's rows."""
    return leaf.shape[:1] == (size,) and "share" not in jax.tree_util.keystr(path)


def restored(checkpoints: Checkpoints, step: int, like: Any, stored: Rows, ours: Rows) -> Any:
    """A state in NumPy, the rows of its tables moved; padding is 0.

    Args:
      like: a state (or its shapes) in our rows.
      stored: the rows that the checkpoint has.

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
        made = np.zeros(leaf.shape, leaf.dtype)
        made[ours.place_N] = found[stored.place_N]
        return made

    found = checkpoints.restore(step, jax.tree_util.tree_map_with_path(theirs, like))
    return jax.tree_util.tree_map_with_path(moved, like, found)
