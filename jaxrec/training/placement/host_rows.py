"""Training with the table in host memory, while the device holds the rows of a few batches.

In the state of such a run, the table and the optimizer's state of its rows are NumPy arrays, which
a dispatch changes in place; everything else is on the device. For each step, a thread gathers the
distinct rows of the batch and puts them on the device. There they form a small table, on which the
step of :mod:`jaxrec.training.step` runs. The updated rows are then written back to the host.

Rows are prefetched: a step's rows are gathered K steps ahead, so the host may still hold old values
of rows that the last K steps update. Therefore, the updated rows of the last K steps stay on the
device, and replace the old values there. The result equals that of a table on the device to the
last bit.
"""

import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from jaxrec.optax_chain import TABLE
from jaxrec.plan import AHEAD
from jaxrec.rowwise import distinct
from jaxrec.training.step import Stepper, Totals, TrainState

Host = dict[str, np.ndarray]
"""Arrays of N rows in host memory, by their paths in a state."""
Rows = dict[str, Array]
"""R rows of each array of a ``Host``, on the device, by the same paths."""


class Drawn(NamedTuple):
    """The table rows of a step's batch.

    Attributes:
      row_R: the numbers of the distinct rows, padded with the number of rows of the table.
      slot_M: for each node of the batch, the position of its row in ``row_R``.
    """

    row_R: Int[Array, "R"]
    slot_M: Int[Array, "M"]


class Written(NamedTuple):
    """The rows that a step updated; later steps may read them before the host receives them."""

    row_R: Int[Array, "R"]
    rows: Rows


def has_rows(path: Any) -> bool:
    """Return whether a leaf of a state has one row for each row of the table."""
    name = jax.tree_util.keystr(path)
    return name.startswith((f".params['{TABLE}']", ".opt_state.rows.kept"))


def taken_out(state: TrainState) -> tuple[TrainState, Host]:
    """Take the host arrays out of a state; return the state with empty arrays, and the arrays."""
    host: Host = {}

    def without(path: Any, leaf: Any) -> Any:
        if not isinstance(leaf, np.ndarray):
            return leaf
        host[jax.tree_util.keystr(path)] = leaf
        return jnp.zeros((0, *leaf.shape[1:]), leaf.dtype)

    return jax.tree_util.tree_map_with_path(without, state), host


def put_in(state: TrainState, arrays: Any) -> TrainState:
    """Return the state with the arrays at the given paths replaced."""
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: arrays.get(jax.tree_util.keystr(path), leaf), state
    )


def gathered(host: Host, row_R: np.ndarray) -> Rows:
    """Copy rows of each array to the device; a row number past the end gives the last row."""
    return {
        name: jax.device_put(np.take(array, row_R, axis=0, mode="clip"))
        for name, array in host.items()
    }


def patched(row_R: Int[Array, "R"], rows: Rows, recent: tuple[Written, ...]) -> Rows:
    """Replace the rows that recent steps updated; the latest update of a row is used."""
    for written in recent:
        at_R = jnp.searchsorted(written.row_R, row_R).astype(jnp.int32)
        at_R = jnp.minimum(at_R, len(written.row_R) - 1)
        same_R = written.row_R[at_R] == row_R
        rows = {
            name: jnp.where(same_R.reshape(-1, *(1,) * (x.ndim - 1)), written.rows[name][at_R], x)
            for name, x in rows.items()
        }
    return rows


class RowDispatch:
    """The dispatch for a table in host memory, used in place of the compiled ``Stepper.dispatch``.

    Args:
      stepper: the steps of the model.
      data: the data that the steps read.
      state: the state at step ``first``; its host arrays are trained in place.
      first: number of steps of the phase that are finished.
      total: number of all steps of the phase.
      ahead: K, the number of steps by which rows are gathered in advance.

    Attributes:
      waited: seconds for which the device was idle until rows arrived.
      moved: bytes per step between host and device, in both directions, row numbers included.
    """

    def __init__(
        self,
        stepper: Stepper,
        state: TrainState,
        data: Any,
        first: int,
        total: int,
        ahead: int = AHEAD,
    ) -> None:
        small, self._host = taken_out(state)
        self._n_rows = len(next(iter(self._host.values())))
        self._data, self._total, self._ahead = data, total, ahead
        self._drawn: deque[Drawn] = deque()
        self._next, self._next_drawn = first, first

        def draw(data: Any, step: Array) -> Drawn:
            return Drawn(*distinct(stepper.feed(data, step).block.node_M, self._n_rows))

        # The step draws its batch again and takes the table rows as an input, so that XLA fuses
        # the same operations, with the same rounding, as with the table on the device.
        def step(
            state: TrainState, data: Any, rows: Rows, at: tuple[Array, Array]
        ) -> tuple[TrainState, Rows]:
            state = put_in(state, rows)
            state = stepper.fed(state, data.graph, stepper.feed(data, state.step), at)
            return _split_rows(state, tuple(rows))

        self._draw = jax.jit(draw).lower(data, self._number(first)).compile()
        drawn = self._draw(data, self._number(first))
        rows = gathered(self._host, np.zeros(len(drawn.row_R), np.int32))
        none_written = Written(jnp.full_like(drawn.row_R, self._n_rows), rows)
        self._recent = deque([none_written] * ahead, maxlen=ahead)
        self._place_R = jnp.arange(len(drawn.row_R), dtype=jnp.int32)
        self._patch = jax.jit(patched).lower(drawn.row_R, rows, tuple(self._recent)).compile()
        lowered = jax.jit(step, donate_argnums=(0, 2)).lower(small, data, rows, self._at(drawn))
        self._step = lowered.compile()
        self.moved = drawn.row_R.nbytes + 2 * sum(x.nbytes for x in rows.values())
        self.waited = 0.0
        # A single thread does all work in order. So when it gathers the rows of a step, the rows of
        # all earlier steps but the last K are already written.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="rows")
        self._queue: deque[Future[Rows | None]] = deque()
        self._draw_upto(first + ahead + 1)
        for drawn in self._drawn:
            self._queue.append(self._thread.submit(self._gather, drawn))

    def _at(self, drawn: Drawn) -> tuple[Array, Array]:
        """Return the row numbers of the small table, and each node's row number in that table."""
        return self._place_R, drawn.slot_M

    def _number(self, step: int) -> jax.Array:
        return jax.device_put(np.int32(step))

    def _draw_upto(self, step: int) -> None:
        """Draw the batches of all steps before ``step`` that are not yet drawn."""
        while self._next_drawn < min(step, self._total):
            drawn = self._draw(self._data, self._number(self._next_drawn))
            drawn.row_R.copy_to_host_async()
            self._drawn.append(drawn)
            self._next_drawn += 1

    def _gather(self, drawn: Drawn) -> Rows:
        return jax.block_until_ready(gathered(self._host, np.asarray(drawn.row_R)))

    def _turn(self, written: Written, coming: Drawn | None) -> Rows | None:
        """Write a step's rows to the host, then gather the rows of a later step."""
        row_R = np.asarray(written.row_R)
        row_R = row_R[: np.searchsorted(row_R, self._n_rows)]
        for name, x in written.rows.items():
            self._host[name][row_R] = np.asarray(x)[: len(row_R)]
        return None if coming is None else self._gather(coming)

    def _wait(self, waiting: list[Future[Rows | None]], state: TrainState) -> None:
        """Wait for the futures, and count the time that the device spends idle."""
        if all(future.done() for future in waiting):
            return
        jax.block_until_ready(state.step)
        began = time.perf_counter()
        for future in waiting:
            future.result()
        self.waited += time.perf_counter() - began

    def __call__(self, state: TrainState, data: Any, n: jax.Array) -> tuple[TrainState, Totals]:
        """Run n steps, and write all their rows to the host.

        Args:
          data: the data that was given to the constructor.
        """
        state, host = taken_out(state)
        assert all(host[name] is array for name, array in self._host.items())
        for _ in range(int(n)):
            self._draw_upto(self._next + self._ahead + 2)
            self._wait([self._queue[0]], state)
            rows, drawn = self._queue.popleft().result(), self._drawn.popleft()
            assert rows is not None
            rows = self._patch(drawn.row_R, rows, tuple(self._recent))
            state, updated = self._step(state, data, rows, self._at(drawn))
            for x in updated.values():
                x.copy_to_host_async()
            written = Written(drawn.row_R, updated)
            self._recent.append(written)
            self._next += 1
            last = self._next + self._ahead >= self._total
            coming = None if last else self._drawn[self._ahead]
            self._queue.append(self._thread.submit(self._turn, written, coming))
        self._wait(list(self._queue), state)
        return put_in(state, self._host), jax.tree.map(jnp.copy, state.totals)

    def close(self) -> None:
        """Write the rows of all finished steps, then end the thread."""
        self._thread.shutdown(wait=True)


def _split_rows(state: TrainState, names: tuple[str, ...]) -> tuple[TrainState, Rows]:
    """Return the state with an empty table, and the rows that its table had."""
    rows: Rows = {}

    def without(path: Any, leaf: Any) -> Any:
        name = jax.tree_util.keystr(path)
        if name not in names:
            return leaf
        rows[name] = leaf
        return leaf[:0]

    return jax.tree_util.tree_map_with_path(without, state), rows
