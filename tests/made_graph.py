"""Build small data, features and parameters to test encoders that take more than ids."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxrec.data.dataset import Dataset
from jaxrec.data.schema import Encoded
from jaxrec.graph.bipartite import Bipartite, NodeFeatures
from jaxrec.models.encoder import Nodes
from jaxrec.models.inputs import FeatureSizes

SIZES = (FeatureSizes(2, (3,), ()), FeatureSizes(0, (4,), (5, 3)))
"""Sizes of the features that :func:`features` returns."""


def random_data(seed: int = 4, levels: int = 1, **columns: Any) -> Dataset:
    """Return pairs of 6 users and 8 items, with a single pair of the highest rating.

    User 5 and item 7 have no pairs.
    """
    rng = np.random.default_rng(seed)
    pairs = np.unique(rng.integers(0, [5, 7], (18, 2)), axis=0).astype(np.int32)
    rating = rng.integers(1, max(levels, 2), len(pairs)).astype(np.float32)
    rating[3] = levels
    columns = {"rating": rating} | columns
    return Dataset(pairs[:, 0], pairs[:, 1], np.arange(6), np.arange(8), **columns)


def renamed(data: Dataset, to_user: np.ndarray, to_item: np.ndarray) -> Dataset:
    """Return the same pairs with other row numbers of users and items."""
    user, item = to_user[data.user].astype(np.int32), to_item[data.item].astype(np.int32)
    return Dataset(user, item, data.user_ids, data.item_ids, rating=data.rating)


def features(seed: int = 0) -> NodeFeatures:
    """Return encoded features of the 6 users and 8 items; bags hold from none to all names."""
    rng = np.random.default_rng(seed)

    def bag(names: int, width: int) -> np.ndarray:
        rows = np.zeros((8, width), np.int32)
        for n, row in enumerate(rows):
            held = 1 + np.sort(rng.permutation(names - 1)[: n % (width + 1)])
            row[: len(held)] = held
        return rows

    number = rng.normal(size=(6, 2)).astype(np.float32)
    user = Encoded(number, (rng.integers(0, 3, 6, np.int32),), ())
    no_number = np.zeros((8, 0), np.float32)
    item = Encoded(no_number, (rng.integers(0, 4, 8, np.int32),), (bag(5, 4), bag(3, 1)))
    return jax.tree.map(jnp.asarray, NodeFeatures(user, item))


def taken(x: NodeFeatures, user: np.ndarray, item: np.ndarray) -> NodeFeatures:
    """Return the features of the given users and items."""
    of_user, of_item = (
        jax.tree.map(lambda array, row=row: array[row], side)
        for side, row in zip(x, (user, item), strict=True)
    )
    return NodeFeatures(of_user, of_item)


def shaken(model: Any, seed: int = 0, by: float = 0.3) -> Any:
    """Return the model with noise on all parameters, so that zeros do not hide faults."""
    graphdef, params = nnx.split(model)
    rng = np.random.default_rng(seed)
    moved = jax.tree.map(lambda x: x + jnp.asarray(by * rng.normal(size=x.shape), x.dtype), params)
    return nnx.merge(graphdef, moved)


@partial(jax.jit, static_argnums=0)
def _nodes(graphdef: Any, params: Any, graph: Any, row_R: Any, key: Any) -> Nodes:
    model = nnx.merge(graphdef, params)
    return model(graph, key) if row_R is None else model.rows(graph, row_R, key)


def nodes(model: Any, graph: Bipartite, row_R: Any = None, key: Any = None) -> Nodes:
    """Return a model's output for all nodes or some rows.

    It is compiled once for all models of one structure.
    """
    return _nodes(*nnx.split(model), graph, row_R, key)


def flat(params: Any) -> dict[str, np.ndarray]:
    """Return parameters, or their gradients, as a dict of float64 arrays by path."""
    return {
        "/".join(map(str, path)): np.array(value[...], np.float64)
        for path, value in nnx.to_flat_state(params)
    }
