"""Row-sparse optimizers of embedding tables: they read and write only the rows of a batch.

A dense optimizer either does not change a row without a gradient (SGD, Adagrad), or moves it by an
amount that can be computed when the row is next read (Adam). So the cost of a step does not grow
with the table.
"""

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from jaxrec.config import OptimConfig
from jaxrec.optax_chain import learning_rate
from jaxrec.platforms import platform_of_programs

_NODES = 6  # number of interpolation nodes per panel of steps (see _Panels)
_GROWTH = 1.35  # the largest ratio of a panel's last step to its first step
_LONGEST = 192  # the largest number of steps per panel
_BY_ROWS = 1 << 14  # the longest table of sums by rows, since a TPU pads the rows to 512 bytes
_NEGLIGIBLE = 2.0**-28
BLOCK = 1 << 16  # number of rows per block when the whole table is read


class RowState(NamedTuple):
    """Number of steps, and the optimizer state per row: arrays [N] or [N, D]."""

    step: Int[Array, ""]
    kept: dict[str, Array]


class Read(NamedTuple):
    """Rows as the dense optimizer would have them now, and their optimizer state."""

    x_RD: Float[Array, "R D"]
    kept: dict[str, Array]


class RowOptimizer(NamedTuple):
    """A row-sparse optimizer, as four pure functions.

    Their argument ``row_R`` holds distinct rows, padded with N (see :func:`distinct`).

    Attributes:
      init: maps a table [N, D] to its state.
      read: maps (table, state, row_R) to :class:`Read`; the loss is evaluated at ``x_RD``.
      write: maps (table, state, row_R, read, grad_RD) to the next table and state.
      current: maps (table, state) to the table that the dense optimizer would have now, for ranking
        and export. It has no effect on the state, so the result of a run does not depend on it.
    """

    init: Callable[[Array], RowState]
    read: Callable[[Array, RowState, Array], Read]
    write: Callable[[Array, RowState, Array, Read, Array], tuple[Array, RowState]]
    current: Callable[[Array, RowState], Array]


def distinct(row_B: Int[Array, "B"], n_rows: int) -> tuple[Int[Array, "B"], Int[Array, "B"]]:
    """Return a batch's distinct rows, ascending, and each batch row's index in the distinct rows.

    The function sorts B integers and allocates nothing of size N. The distinct rows are padded to B
    with row N, which is out of range: reads of this row are clipped, and writes to it dropped.
    """
    order_B = jnp.argsort(row_B)
    sorted_B = row_B[order_B]
    new_B = jnp.concatenate([jnp.ones(1, bool), sorted_B[1:] != sorted_B[:-1]])
    slot_B = jnp.cumsum(new_B, dtype=jnp.int32) - 1
    row_R = jnp.full_like(row_B, n_rows).at[slot_B].set(sorted_B)
    return row_R, jnp.zeros_like(slot_B).at[order_B].set(slot_B, unique_indices=True)


def distinct_by(
    scratch_N: Int[Array, "N"], row_B: Int[Array, "B"]
) -> tuple[Int[Array, "N"], Int[Array, "B"], Int[Array, "B"]]:
    """Find distinct rows like :func:`distinct`, but without a sort and in arbitrary order.

    A scratch array of N integers replaces the sort. The second result has B entries, one for each
    position in the batch. A row that occurs at several positions is stored at one of them; the
    entries at its other positions are N.

    Args:
      scratch_N: may have any content, so it can be reused from batch to batch.

    Returns:
      The scratch array, the distinct rows padded with N, and each batch row's index in them.
    """
    place_B = jnp.arange(row_B.shape[0], dtype=jnp.int32)
    scratch_N = scratch_N.at[row_B].set(place_B)
    slot_B = scratch_N[row_B]
    return scratch_N, jnp.where(slot_B == place_B, row_B, scratch_N.shape[0]), slot_B


def _set(x: Array, row_R: Array, value: Array) -> Array:
    # ``value`` must depend on the rows that were read from x. Otherwise XLA may read them after the
    # write, for which it copies x.
    return x.at[row_R].set(value, mode="drop")


def _as_stored(*names: str) -> Callable[[Array, RowState, Array], Read]:
    """Return the function ``read`` for an optimizer that never changes rows without a gradient."""

    def read(table_ND: Array, state: RowState, row_R: Array) -> Read:
        return Read(table_ND[row_R], {name: state.kept[name][row_R] for name in names})

    return read


def _at(rate: optax.Schedule, step: Array) -> Array:
    with jax.numpy_dtype_promotion("standard"):  # optax relies on this promotion
        return jnp.asarray(rate(step), jnp.float32)


def sgd(rate: optax.Schedule) -> RowOptimizer:
    """Return row-sparse SGD, x <- x - lr · g; its result equals that of dense SGD."""

    def write(
        table_ND: Array, state: RowState, row_R: Array, read: Read, grad_RD: Array
    ) -> tuple[Array, RowState]:
        x_RD = read.x_RD - _at(rate, state.step) * grad_RD
        return _set(table_ND, row_R, x_RD), RowState(state.step + 1, {})

    return RowOptimizer(
        lambda _: RowState(jnp.int32(0), {}), _as_stored(), write, lambda table_ND, _: table_ND
    )


def adagrad(rate: optax.Schedule, *, rowwise: bool = False) -> RowOptimizer:
    """Return row-sparse Adagrad (Duchi et al. 2011); its result equals that of ``optax.adagrad``.

    A step is a <- a + g², x <- x - lr · g / √(a + ε); a starts at 0.1, and ε = 1e-7.

    Args:
      rate: learning rate by step.
      rowwise: use a single a per row, which accumulates the mean of g² over the row (Mudigere et
        al. 2022). This takes D times less memory, and the result differs from ``optax.adagrad``.
    """

    def init(table_ND: Array) -> RowState:
        like = table_ND[:, 0] if rowwise else table_ND
        return RowState(jnp.int32(0), {"sum": jnp.full_like(like, 0.1)})

    def write(
        table_ND: Array, state: RowState, row_R: Array, read: Read, grad_RD: Array
    ) -> tuple[Array, RowState]:
        square = jnp.square(grad_RD)
        total = read.kept["sum"] + (square.mean(axis=1) if rowwise else square)
        by = jax.lax.rsqrt(total + 1e-7)
        x_RD = read.x_RD - _at(rate, state.step) * grad_RD * (by[:, None] if rowwise else by)
        kept = {"sum": _set(state.kept["sum"], row_R, total)}
        return _set(table_ND, row_R, x_RD), RowState(state.step + 1, kept)

    return RowOptimizer(init, _as_stored("sum"), write, lambda table_ND, _: table_ND)


class _Panels(NamedTuple):
    """Steps 1..T divided into panels, with sums from each step to the end of its panel.

    A panel is a range of consecutive steps. At step s, Adam divides by c(s) · r + ε, where r is √v
    after the row's last gradient and c(s) does not depend on r. Within a panel, 1 / (c(s) · r + ε)
    is interpolated in s at Chebyshev nodes s_i with the Lagrange polynomials ℓ_i. So for weights
    w(s) and any r, the sum over the panel's steps of w(s) / (c(s) · r + ε) is
    Σ_i W_i / (c(s_i) · r + ε).

    The tables are constants of the compiled step, so they are kept small. Panels with equal weights
    share their sums: while the learning rate is constant, all panels do in which β₁^s is
    negligible.

    Attributes:
      full: first step of the first panel with ``_LONGEST`` steps. Step s has the entry s of the
        tables [Q] before this step, and each panel has one entry from this step on.
      next_Q: first step of the following panel.
      node_QI: nodes s_i of the panel.
      shift_Q: difference between a step's row in ``sums`` and the step.
      sums: Σ over s' >= s in the panel of lr_s' · β₁^(s' - s) / (1 - β₁^s') · ℓ_i(s'), in rows
        [K, I], or flat if there are more than ``_BY_ROWS`` rows.
    """

    full: int
    next_Q: Int[Array, "Q"]
    node_QI: Float[Array, "Q I"]
    shift_Q: Int[Array, "Q"]
    sums: Float[Array, "K I"] | Float[Array, "F"]

    def entry(self, step: Array) -> Array:
        """Return the index of a step's entry in the tables [Q]."""
        whole = jax.lax.div(step - self.full, jnp.int32(_LONGEST))
        return jnp.where(step < self.full, step, self.full + whole)

    def tail(self, step: Array, entry: Array) -> Array:
        """Return the sums from a step, whose entry is given, to the end of its panel."""
        row = step + self.shift_Q[entry]
        if self.sums.ndim == 2:
            return self.sums[row]
        return self.sums[_NODES * row[..., None] + jnp.arange(_NODES)]


def _panels(rate: optax.Schedule, b1: float, steps: int) -> _Panels:
    last = steps + 1
    lr_T = np.broadcast_to(np.asarray(_at(rate, jnp.arange(last)), np.float64), (last,))
    angle_I = (2 * np.arange(_NODES) + 1) * np.pi / (2 * _NODES)
    order_K = np.arange(_NODES)

    @cache
    def basis_and_decay(longest: int, length: int) -> tuple[np.ndarray, np.ndarray]:
        middle, half = (longest - 1) / 2, max((longest - 1) / 2, 0.5)
        z = np.clip((np.arange(length) - middle) / half, -1, 1)
        cheb_SK = np.cos(order_K * np.arccos(z)[:, None]) * np.where(order_K == 0, 0.5, 1)
        gap_SS = np.arange(length) - np.arange(length)[:, None]
        decay_SS = np.where(gap_SS >= 0, b1 ** np.maximum(gap_SS, 0), 0)
        return 2 / _NODES * cheb_SK @ np.cos(order_K[:, None] * angle_I), decay_SS

    next_Q, node_QI, shift_Q, tails = [0], [np.zeros(_NODES)], [0], []
    row_of: dict[bytes, int] = {}  # first row of the sums by the panel's length and weights
    start, full, n_rows = 1, last + 1, 0
    while start <= last:
        longest = min(_LONGEST, max(1, int(start * (_GROWTH - 1))))
        s = np.arange(start, min(start + longest, last + 1))
        if longest == _LONGEST:
            full = min(full, start)
        weight_S = lr_T[s - 1] / (1 - b1**s)
        key = longest.to_bytes(2) + weight_S.tobytes()
        if key not in row_of:
            basis_SI, decay_SS = basis_and_decay(longest, len(s))
            tails.append(decay_SS @ (weight_S[:, None] * basis_SI))
            row_of[key], n_rows = n_rows, n_rows + len(s)
        middle, half = start + (longest - 1) / 2, max((longest - 1) / 2, 0.5)
        entries = 1 if longest == _LONGEST else len(s)
        next_Q += [start + longest] * entries
        node_QI += [middle + half * np.cos(angle_I)] * entries
        shift_Q += [row_of[key] - start] * entries
        start += longest
    tail_KI = np.concatenate(tails).astype(np.float32)
    return _Panels(
        full,
        jnp.asarray(next_Q, jnp.int32),
        jnp.asarray(np.array(node_QI, np.float32)),
        jnp.asarray(shift_Q, jnp.int32),
        jnp.asarray(tail_KI if n_rows <= _BY_ROWS else tail_KI.reshape(-1)),
    )


def adam(
    rate: optax.Schedule, steps: int, *, b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8
) -> RowOptimizer:
    """Return dense Adam (Kingma and Ba 2015) that only reads and writes the rows of a batch.

    This is not "lazy" Adam, which skips steps without a gradient. After a row had a gradient at
    step s, dense Adam moves it in the next k steps without a gradient by

        -Σ_{j=1..k} lr_{s+j} · m β₁^j / (1 - β₁^(s+j)) / (√(v β₂^j / (1 - β₂^(s+j))) + ε).

    Here m and v are the row's moments after step s, and lr is the learning rate. The sum is added
    when the row is next read, by a step or by ``current``. Its relative error is below 2e-6: terms
    below 2⁻²⁸ of the first are dropped (j > 185 with the default betas), and the sum is
    interpolated (``_Panels``). The result is closer to exact Adam than that of dense Adam in
    float32, which rounds each of the k steps.

    Args:
      rate: learning rate by step; steps are counted from 0.
      steps: length of the run. Tables of learning-rate sums take 24 bytes per step at which the
        rate changes, and 0.2 bytes per other step.
      b1, b2, eps: as in ``optax.adam``.
    """
    panels = _panels(rate, b1, steps)
    window = int(np.ceil(np.log(_NEGLIGIBLE) / np.log(b1 / b2**0.5)))

    def power(base: float, exponent: Array) -> Array:
        return jnp.exp(jnp.float32(np.log(base)) * exponent.astype(jnp.float32))

    def replay(m_RD: Array, v_RD: Array, last_R: Array, count: Array) -> Array:
        """Compute the movement of rows over steps last + 1 .. count, which had no gradient."""
        root_RD = jnp.sqrt(v_RD)
        end_R = jnp.where(last_R > 0, jnp.minimum(count, last_R + window), 0)

        def body(carry: tuple[Array, Array]) -> tuple[Array, Array]:
            step_R, move_RD = carry
            entry_R = panels.entry(step_R)
            next_R = panels.next_Q[entry_R]
            after = panels.tail(count + 1, panels.entry(count + 1))
            cut = after * power(b1, count + 1 - step_R)[:, None]
            cut_RI = jnp.where((count + 1 < next_R)[:, None], cut, 0)
            tail_RI = panels.tail(step_R, entry_R)
            weight_RI = (tail_RI - cut_RI) * power(b1, step_R - last_R)[:, None]
            weight_RI = jnp.where((step_R <= end_R)[:, None], weight_RI, 0)
            node_RI = panels.node_QI[entry_R]
            decay_RI = power(b2**0.5, node_RI - last_R[:, None].astype(jnp.float32))
            c_RI = decay_RI * jax.lax.rsqrt(-jnp.expm1(jnp.float32(np.log(b2)) * node_RI))
            for i in range(_NODES):
                move_RD += weight_RI[:, i, None] / (c_RI[:, i, None] * root_RD + eps)
            return jnp.minimum(next_R, count + 1), move_RD

        def unfinished(carry: tuple[Array, Array]) -> Array:
            return jnp.any(carry[0] <= end_R)

        start = (jnp.minimum(last_R, count) + 1, jnp.zeros_like(m_RD))
        return -m_RD * jax.lax.while_loop(unfinished, body, start)[1]

    def init(table_ND: Array) -> RowState:
        last_N = jnp.zeros(table_ND.shape[0], jnp.int32)
        kept = {"m": jnp.zeros_like(table_ND), "v": jnp.zeros_like(table_ND), "last": last_N}
        return RowState(jnp.int32(0), kept)

    def read(table_ND: Array, state: RowState, row_R: Array) -> Read:
        m_RD, v_RD, last_R = (state.kept[name][row_R] for name in ("m", "v", "last"))
        x_RD = table_ND[row_R] + replay(m_RD, v_RD, last_R, state.step)
        lag_R = (state.step - last_R)[:, None]
        kept = {"m": power(b1, lag_R) * m_RD, "v": power(b2, lag_R) * v_RD, "last": last_R}
        return Read(x_RD, kept)

    def write(
        table_ND: Array, state: RowState, row_R: Array, read: Read, grad_RD: Array
    ) -> tuple[Array, RowState]:
        now = state.step + 1
        m_RD = b1 * read.kept["m"] + (1 - b1) * grad_RD
        v_RD = b2 * read.kept["v"] + (1 - b2) * jnp.square(grad_RD)
        m_hat_RD = m_RD / -jnp.expm1(jnp.float32(np.log(b1)) * now.astype(jnp.float32))
        v_hat_RD = v_RD / -jnp.expm1(jnp.float32(np.log(b2)) * now.astype(jnp.float32))
        x_RD = read.x_RD - _at(rate, state.step) * m_hat_RD / (jnp.sqrt(v_hat_RD) + eps)
        lag_R = now - read.kept["last"]
        kept = {
            "m": _set(state.kept["m"], row_R, m_RD),
            "v": _set(state.kept["v"], row_R, v_RD),
            "last": state.kept["last"]
            .at[row_R]
            # Adding the lag sets the step to ``now``, but depends on the rows read (see _set).
            .add(lag_R, mode="drop", unique_indices=platform_of_programs() == "gpu"),
        }
        return _set(table_ND, row_R, x_RD), RowState(now, kept)

    def current(table_ND: Array, state: RowState) -> Array:
        n_rows = table_ND.shape[0]
        size = min(BLOCK, n_rows)

        def body(i: Array, out_ND: Array) -> Array:
            # The last block overlaps the one before, so that it is full.
            start = jnp.minimum(i * size, n_rows - size)
            x_RD, m_RD, v_RD, last_R = (
                jax.lax.dynamic_slice_in_dim(x, start, size)
                for x in (table_ND, *(state.kept[name] for name in ("m", "v", "last")))
            )
            x_RD = x_RD + replay(m_RD, v_RD, last_R, state.step)
            return jax.lax.dynamic_update_slice_in_dim(out_ND, x_RD, start, 0)

        return jax.lax.fori_loop(0, -(-n_rows // size), body, table_ND)

    return RowOptimizer(init, read, write, current)


def make_optimizer(config: OptimConfig, steps: int) -> RowOptimizer:
    """Build the row-sparse form of the configured optimizer for a run of ``steps`` steps."""
    rate = learning_rate(config, steps)
    return {
        "sgd": lambda: sgd(rate),
        "adagrad": lambda: adagrad(rate),
        "rowwise_adagrad": lambda: adagrad(rate, rowwise=True),
        "adam": lambda: adam(rate, steps),
    }[config.name]()
