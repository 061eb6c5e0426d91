"""Propagation over a partitioned graph, inside ``jax.shard_map``.

A mesh has two axes: ``data`` splits a batch, and ``table`` splits the rows. Functions that take
arrays of one shard are bodies for ``shard_map``. The normalised adjacency Â stays symmetric when it
is partitioned, so the gradient of a product with Â is again a product with Â, with the same
exchange of rows. Autodiff never differentiates a collective.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Bool, Float, Int

from jaxrec.config.mesh import MeshConfig
from jaxrec.errors import InputError
from jaxrec.graph.partition import Shard
from jaxrec.graph.spmm import Kernel, Layers, product, product_rows, weighted

DATA, TABLE = "data", "table"


def make_mesh(config: MeshConfig) -> Mesh:
    """Make a mesh with the axes ``data`` and ``table`` from the devices of all processes.

    Raises:
      InputError: there are too few devices.
    """
    n_devices = len(jax.devices())
    if n_devices < config.devices:
        raise InputError(
            f"mesh.data {config.data} x mesh.table {config.table} needs {config.devices} devices, "
            f"and there are {n_devices}; on a CPU, "
            f"JAX_NUM_CPU_DEVICES={config.devices} makes virtual ones"
        )
    shape = config.data, config.table
    devices = jax.devices()[: config.devices]
    # Inside shard_map both axes are manual, so the compiler has no layout to choose.
    return jax.make_mesh(shape, (DATA, TABLE), (AxisType.Auto,) * 2, devices=devices)


def on_mesh(mesh: Mesh, body: Callable, in_specs: Any, out_specs: Any) -> Callable:
    """Map a function of one device's arrays over arrays on the mesh, by ``shard_map``."""
    return jax.shard_map(body, mesh=mesh, in_specs=in_specs, out_specs=out_specs, check_vma=False)


class Stack:
    """The shards of an array, stacked along the first axis; a shard is computed when it is read.

    Args:
      shape: shape of the stack; the first entry is the number of shards.
      part: maps the number of a shard to its array.
    """

    def __init__(self, shape: tuple[int, ...], part: Callable[[int], np.ndarray]) -> None:
        self.shape, self._part = shape, part

    def __getitem__(self, at: tuple[slice, ...]) -> np.ndarray:
        first, last, _ = at[0].indices(self.shape[0])
        return np.stack([self._part(t) for t in range(first, last)])


def put(mesh: Mesh, tree: Any, specs: Any) -> Any:
    """Copy host arrays to a mesh; each process fills only its own devices."""
    return jax.tree.map(partial(_put_one, mesh), tree, specs)


def _put_one(mesh: Mesh, x: Any, spec: PartitionSpec) -> Array:
    if isinstance(x, jax.Array) and jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
        bits = _put_one(mesh, np.asarray(jax.random.key_data(x)), spec)
        return jax.random.wrap_key_data(bits, impl=jax.random.key_impl(x))
    x = x if isinstance(x, Stack) else np.asarray(x)
    return jax.make_array_from_callback(x.shape, NamedSharding(mesh, spec), lambda at: x[at])


def own_rows(row_B: Int[Array, "B"], rows: int) -> tuple[Int[Array, "B"], Bool[Array, "B"]]:
    """Convert row numbers of the whole table to row numbers of this shard.

    Also returns a mask of the rows that are in this shard. Rows of other shards become row 0.
    """
    local_B = row_B - jax.lax.axis_index(TABLE).astype(row_B.dtype) * rows
    own_B = (local_B >= 0) & (local_B < rows)
    return jnp.where(own_B, local_B, 0), own_B


def masked(x: Array, own_B: Array) -> Array:
    """Set the rows of x to zero that are not in this shard, by the mask ``own_B``."""
    return jnp.where(own_B.reshape(-1, *[1] * (x.ndim - 1)), x, 0)


def looked_up(part_RD: Float[Array, "R D"], row_B: Int[Array, "B"]) -> Float[Array, "B D"]:
    """Look up rows of the whole table; every device along ``table`` gets all B rows."""
    local_B, own_B = own_rows(row_B, part_RD.shape[0])
    return jax.lax.psum(masked(part_RD[local_B], own_B), TABLE)


def with_halo(send: tuple[Array, ...], x_RD: Float[Array, "R D"]) -> Float[Array, "X D"]:
    """Return this shard's R rows, then the rows of other shards that its edges need.

    If ``send`` is empty, all rows are gathered, and the result is the whole table.
    """
    parts = jax.lax.axis_size(TABLE)
    if parts == 1:
        return x_RD
    if not send:
        return jax.lax.all_gather(x_RD, TABLE, tiled=True)
    if send[0].ndim == 2:
        received_THD = jax.lax.all_to_all(x_RD[send[0]], TABLE, 0, 0)
        return jnp.concatenate([x_RD, received_THD.reshape(-1, x_RD.shape[1])])
    received = [x_RD]
    for k, row_H in enumerate(send, 1):
        to = [(t, (t + k) % parts) for t in range(parts)]
        received.append(jax.lax.ppermute(x_RD[row_H], TABLE, to))
    return jnp.concatenate(received)


def propagate_all(kernel: Kernel, shard: Shard, x_RD: Float[Array, "R D"]) -> Float[Array, "R D"]:
    """Compute this shard's rows of Â x."""
    return product(kernel, shard.graph, with_halo(shard.send, x_RD))


class _Kept(NamedTuple):
    shard: Shard
    row_B: Array
    share_L: Array
    layers: list[Array]  # the batch's rows, zeros for rows of other shards
    x_RD: Array  # only its shape is used


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _sum_rows(
    static: Layers, shard: Shard, x_RD: Array, row_B: Array, share_L: Array
) -> tuple[Array, Array]:
    return _sum_rows_forward(static, shard, x_RD, row_B, share_L)[0]


def _sum_rows_forward(
    static: Layers, shard: Shard, x_RD: Array, row_B: Array, share_L: Array
) -> tuple[tuple[Array, Array], _Kept]:
    local_B, own_B = own_rows(row_B, x_RD.shape[0])

    def multiply_rows(y_RD: Array, local_B: Array) -> Array:
        ext_XD = with_halo(shard.send, y_RD)
        return product_rows(static.kernel, shard.graph, ext_XD, local_B)

    multiply = partial(propagate_all, static.kernel, shard)
    rows_by_layer = static.at_rows(x_RD, local_B, multiply, multiply_rows)
    layers = [masked(y_BD, own_B) for y_BD in rows_by_layer]
    total_BD = weighted(share_L, layers)
    if static.layers == 0:
        base_BD = jax.lax.psum(layers[0], TABLE)
        total_BD = share_L[0] * base_BD
    else:
        total_BD, base_BD = jax.lax.psum((total_BD, layers[0]), TABLE)
    return (total_BD, base_BD), _Kept(shard, row_B, share_L, layers, x_RD)


def _sum_rows_backward(
    static: Layers, kept: _Kept, gradient: tuple[Array, Array]
) -> tuple[None, Array, None, Array]:
    """Return the gradients in this device's table rows and in the layers' weights.

    The device gathers the gradients of all batch shards, sets those at rows of other devices to
    zero, and applies Horner's rule (:meth:`Layers.gradient`). Other inputs get None.
    """
    shard, share_L, rows = kept.shard, kept.share_L, kept.x_RD.shape[0]
    total_BD = gradient[0]
    of_shares = jnp.stack([jnp.sum(total_BD * y_BD) for y_BD in kept.layers])
    (total_MD, base_MD), row_M = jax.lax.all_gather((gradient, kept.row_B), DATA, tiled=True)
    local_M, own_M = own_rows(row_M, rows)
    total_MD, base_MD = masked(total_MD, own_M), masked(base_MD, own_M)
    zeros_RD = jnp.zeros((rows, total_MD.shape[1]), jnp.float32)
    multiply = partial(propagate_all, static.kernel, shard)
    g_RD = static.gradient(zeros_RD, local_M, share_L, (total_MD, base_MD), multiply)
    return None, g_RD, None, jax.lax.psum(of_shares, TABLE)


_sum_rows.defvjp(_sum_rows_forward, _sum_rows_backward)


def sum_of_layers(
    shard: Shard,
    x_RD: Float[Array, "R D"],
    row_B: Int[Array, "B"],
    share_L: Float[Array, "L1"],
    *,
    kernel: Kernel,
    dtype: str = "float32",
) -> tuple[Float[Array, "B D"], Float[Array, "B D"]]:
    """Compute :func:`jaxrec.graph.spmm.sum_of_layers` at the rows of this device's batch shard.

    The gradient in x is that of the sum of the losses on all shards of the batch; the gradient in
    the shares is that of the loss on this shard. Devices along ``table`` must compute the same loss
    from the result.

    Args:
      shard: this device's shard of the graph.
      x_RD: this device's rows of the table, float32.
      row_B: rows of the whole table.
      share_L: weights of the layers, a_0 to a_L.
    """
    return _sum_rows(Layers(kernel, share_L.shape[0] - 1, dtype), shard, x_RD, row_B, share_L)


def all_of_layers(
    shard: Shard,
    x_RD: Float[Array, "R D"],
    share_L: Float[Array, "L1"],
    *,
    kernel: Kernel,
    dtype: str = "float32",
) -> Float[Array, "R D"]:
    """Compute this shard's rows of Σ_l a_l Â^l x."""
    total_RD, y_RD = share_L[0] * x_RD, x_RD.astype(dtype)
    for layer in range(1, share_L.shape[0]):
        y_RD = propagate_all(kernel, shard, y_RD)
        total_RD = total_RD + share_L[layer] * y_RD.astype(jnp.float32)
    return total_RD
