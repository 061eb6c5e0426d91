"""An encoder's table of embeddings among its parameters, and a step of what optimizes them."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jaxtyping import Array, Float

from jaxrec.optim import TABLE


def apply(
    tx: optax.GradientTransformation, gradient: Any, opt_state: Any, params: Any
) -> tuple[Any, Any]:
    """The next parameters and the next state of an optax chain."""
    with jax.numpy_dtype_promotion("standard"):  # optax relies on it, whatever is set outside
        updates, opt_state = tx.update(gradient, opt_state, params)
    return optax.apply_updates(params, updates), opt_state


def written(table: Array, row: Any, rows: np.ndarray) -> Array:
    """A table with some rows written anew, on the host: beside two tables the device need not have
    room for the rows."""
    made = np.array(table)
    made[row] = rows
    return jnp.asarray(made)


def split_table(params: nnx.State) -> tuple[Float[Array, "N D"], dict[str, Array]]:
    """The table of embeddings, and the other parameters by path."""
    leaves = jax.tree_util.tree_flatten_with_path(params)[0]
    others = {jax.tree_util.keystr(path): leaf for path, leaf in leaves}
    (table,) = [path for path in others if path.startswith(f"['{TABLE}']")]
    return others.pop(table), others


def joined_table(
    like: nnx.State, table_ND: Float[Array, "N D"], others: dict[str, Array]
) -> nnx.State:
    """The inverse of :func:`split_table`, in the structure of ``like``."""
    return jax.tree_util.tree_map_with_path(
        lambda path, _: others.get(jax.tree_util.keystr(path), table_ND), like
    )
