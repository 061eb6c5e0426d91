"""Gather rows of a table; the gradient of a row is summed over all entries that gather it.

On CPU and TPU the gradient is a scatter-add. On a GPU a scatter-add would use atomics, which are
slow under contention and add in a different order in each run. On a GPU, rows are therefore sorted
once, so that equal rows are adjacent, and are summed in two levels, in a fixed order.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxrec.platforms import platform_of_programs

_CHUNK = 32
_FEW = 32  # the gradient of a table with at most this many rows is summed without a sort
_DIRECT = 256  # for at most this many rows, every row is compared with every other


def by_sort() -> bool:
    """Return whether equal rows are summed by sorting, without a scatter, on this platform."""
    return platform_of_programs() == "gpu"


class Groups(NamedTuple):
    """R row numbers, sorted and padded to P entries; equal numbers form a group.

    Attributes:
      row_P: the row numbers, ascending; N in the padding.
      order_P: position of each entry before sorting.
      first_N: position of the first entry of each row's group; 0 for rows that do not occur.
      there_N: whether each row occurs.
    """

    row_P: Int[Array, "P"]
    order_P: Int[Array, "P"]
    first_N: Int[Array, "N"]
    there_N: Bool[Array, "N"]


def groups(row_R: Int[Array, "R"], n_rows: int) -> Groups:
    """Group equal rows with a single sort; all rows must be below N = ``n_rows``."""
    place_R = jnp.arange(row_R.shape[0], dtype=jnp.int32)
    row_P, order_P = jax.lax.sort((row_R.astype(jnp.int32), place_R), num_keys=2)
    padding = (0, -row_R.shape[0] % _CHUNK)
    row_P = jnp.pad(row_P, padding, constant_values=n_rows)
    order_P = jnp.pad(order_P, padding)
    place_P = jnp.arange(row_P.shape[0], dtype=jnp.int32)
    new_P = jnp.concatenate([jnp.ones(1, bool), row_P[1:] != row_P[:-1]]) & (row_P < n_rows)
    # The first entry of a group writes at its row number. Other entries get unique numbers out of
    # bounds, which the scatter drops.
    at_P = jnp.where(new_P, row_P, n_rows + place_P)
    slot_N = jnp.zeros(n_rows, jnp.int32)
    slot_N = slot_N.at[at_P].set(place_P + 1, mode="drop", unique_indices=True)
    return Groups(row_P, order_P, jnp.maximum(slot_N - 1, 0), slot_N > 0)


def totals(grouped: Groups, x_RD: Float[Array, "R D"]) -> Float[Array, "P D"]:
    """Sum x over each group; the sum is at its first position, other positions are arbitrary."""
    x_PD = x_RD.astype(jnp.float32)[grouped.order_P]
    if len(grouped.row_P) != len(x_RD):
        x_PD = jnp.where((grouped.row_P < len(grouped.first_N))[:, None], x_PD, 0)
    return _totals(grouped.row_P, x_PD)


def _totals(key_P: Array, x_PD: Array) -> Array:
    """Sum adjacent rows with equal keys; each sum replaces the first of its rows."""
    size, width = x_PD.shape
    if size <= _DIRECT:
        same_PP = key_P[:, None] == key_P
        return jnp.sum(jnp.where(same_PP[:, :, None], x_PD[:, None], 0), axis=0)
    padding = -size % _CHUNK
    key_CK = jnp.pad(key_P, (0, padding), mode="edge").reshape(-1, _CHUNK)
    x_CKD = jnp.pad(x_PD, ((0, padding), (0, 0))).reshape(-1, _CHUNK, width)
    within_CKD = jnp.zeros_like(x_CKD)
    for k in range(_CHUNK):
        same_CK1 = (key_CK == key_CK[:, k, None])[:, :, None]
        within_CKD = within_CKD + jnp.where(same_CK1, x_CKD[:, k, None], 0)
    within_CKD = jax.lax.optimization_barrier(within_CKD)
    # A group may continue in the next chunks: the rest of its sum is the sum of the chunks' first
    # groups.
    first_C, last_C = key_CK[:, 0], key_CK[:, -1]
    of_firsts_CD = _totals(first_C, within_CKD[:, 0])
    next_CD = jnp.concatenate([of_firsts_CD[1:], jnp.zeros_like(of_firsts_CD[:1])])
    goes_on_C = jnp.concatenate([first_C[1:], jnp.full(1, -1, key_P.dtype)]) == last_C
    whole_C = first_C == last_C
    after_CKD = jnp.where(
        whole_C[:, None, None], of_firsts_CD[:, None], within_CKD + next_CD[:, None]
    )
    longer_CK1 = (goes_on_C[:, None] & (key_CK == last_C[:, None]))[:, :, None]
    return jnp.where(longer_CK1, after_CKD, within_CKD).reshape(-1, width)[:size]


def table(grouped: Groups, total_PD: Float[Array, "P D"]) -> Float[Array, "N D"]:
    """Return the table [N, D] with each group's sum at the group's row, and zeros elsewhere."""
    return jnp.where(grouped.there_N[:, None], total_PD[grouped.first_N], 0)


def _sums_of_few(row_R: Array, x_RD: Array, n_rows: int) -> Float[Array, "N D"]:
    """Sum x over equal rows of a small table: compare with each row number, without a sort."""
    same_RN = row_R[:, None] == jnp.arange(n_rows, dtype=row_R.dtype)
    return jnp.sum(jnp.where(same_RN[:, :, None], x_RD.astype(jnp.float32)[:, None], 0), axis=0)


def counts(row_R: Int[Array, "R"], n_rows: int) -> Float[Array, "N"]:
    """Count how often each of N = ``n_rows`` rows occurs."""
    if not by_sort():
        return jnp.zeros(n_rows).at[row_R].add(1.0)
    grouped = groups(row_R, n_rows)
    return table(grouped, totals(grouped, jnp.ones((len(row_R), 1))))[:, 0]


@jax.custom_vjp
def _take(x_ND: Array, row_R: Array) -> Array:
    return x_ND[row_R]


def _take_forward(x_ND: Array, row_R: Array) -> tuple[Array, tuple[Array, Array]]:
    return x_ND[row_R], (row_R, x_ND)


def _take_backward(kept: tuple[Array, Array], g: Array) -> tuple[Array, None]:
    row_R, x_ND = kept
    g_RD = g.reshape(len(row_R), -1)
    if len(x_ND) <= _FEW:
        g_ND = _sums_of_few(row_R, g_RD, len(x_ND))
        return g_ND.reshape(x_ND.shape).astype(x_ND.dtype), None
    grouped = groups(row_R, len(x_ND))
    g_ND = table(grouped, totals(grouped, g_RD))
    return g_ND.reshape(x_ND.shape).astype(x_ND.dtype), None


_take.defvjp(_take_forward, _take_backward)


def take(x_ND: Float[Array, "N *D"], row: Int[Array, "*any"]) -> Float[Array, "..."]:
    """Return ``x_ND[row]``.

    Its gradient on a GPU uses no atomics, so it is the same to the last bit in each run.
    """
    if not by_sort():
        return x_ND[row]
    return _take(x_ND, row.reshape(-1)).reshape(*row.shape, *x_ND.shape[1:])


def take_columns(x_RC: Float[Array, "R C"], column_K: Int[Array, "K"]) -> Float[Array, "R K"]:
    """Return ``x_RC[:, column_K]``; its gradient, like that of :func:`take`, uses no atomics."""
    return take(x_RC.T, column_K).T if by_sort() else x_RC[:, column_K]
