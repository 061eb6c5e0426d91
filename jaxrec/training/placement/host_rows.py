"""A table in the host's memory, trained on a device that has the rows of a few batches.

In a state of such a run the table, and what the optimizer keeps of each of its rows, are NumPy
arrays, which a dispatch changes in place; all else is on the device. For step t a thread gathers
the distinct rows of the batch and puts them on the device, where they are a small table: the step
is that of :mod:`jaxrec.training.step`. Its rows come back and are written on the host.

Rows are gathered ahead, before the K steps that come between have written theirs. What these left
of a row stays on the device for so long, and stands in place of what was gathered. So a step reads
what the step before it wrote, as with a table on the device, and a run has the same bits.
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
"""Arrays of N rows in the host's memory, by their paths in a state."""
Rows = dict[str, Array]
"""R rows of each of these arrays, on the device."""


class Drawn(NamedTuple):
    """The distinct rows of a step's batch, padded with N, and where among them each of it is."""

    row_R: Int[Array, "R"]
    slot_M: Int[Array, "M"]


class Written(NamedTuple):
    """Rows as a step left them."""

    row_R: Int[Array, "R"]
    rows: Rows


def has_rows(path: Any) -> bool:
    """Whether a leaf of a state has a row for each of the table's."""
    name = jax.tree_util.keystr(path)
    return name.startswith((f".params['{TABLE}']", ".opt_state.rows.kept"))


def taken_out(state: TrainState) -> tuple[TrainState, Host]:
    """A state with arrays of no rows in place of those on the host, and these."""
    found: Host = {}

    def without(path: Any, leaf: Any) -> Any:
        if not isinstance(leaf, np.ndarray):
            return leaf
        found[jax.tree_util.keystr(path)] = leaf
        return jnp.zeros((0, *leaf.shape[1:]), leaf.dtype)

    return jax.tree_util.tree_map_with_path(without, state), found


def put_in(state: TrainState, arrays: Any) -> TrainState:
    """The state with these arrays in place of those at their paths."""
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: arrays.get(jax.tree_util.keystr(path), leaf), state
    )


def gathered(host: Host, row_R: np.ndarray) -> Rows:
    """Rows of each array on the device; for a row that does not exist some other."""
    return {
        name: jax.device_put(np.take(array, row_R, axis=0, mode="clip"))
        for name, array in host.items()
    }


def patched(row_R: Int[Array, "R"], rows: Rows, recent: tuple[Written, ...]) -> Rows:
    """Rows as recent steps, the last one last, left those that they wrote."""
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
    """Takes the place of the compiled ``Stepper.dispatch``, for a table in the host's memory.

    Args:
      stepper, data: what is trained.
      state: at ``first``; its arrays on the host are the ones that are trained.
      first, total: steps of the phase that are done, and all of them.
      ahead: K.

    Attributes:
      waited: seconds that the device had nothing to do for want of rows.
      moved: bytes of what a step is given by the host and gives it, row numbers included.
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

        # The batch is drawn again in the step, whose rows are read from a table that is an input:
        # XLA fuses, and so rounds, as it does with the table on the device.
        def step(
            state: TrainState, data: Any, rows: Rows, at: tuple[Array, Array]
        ) -> tuple[TrainState, Rows]:
            state = put_in(state, rows)
            state = stepper.fed(state, data.graph, stepper.feed(data, state.step), at)
            return _apart(state, tuple(rows))

        self._draw = jax.jit(draw).lower(data, self._number(first)).compile()
        drawn = self._draw(data, self._number(first))
        rows = gathered(self._host, np.zeros(len(drawn.row_R), np.int32))
        nothing = Written(jnp.full_like(drawn.row_R, self._n_rows), rows)
        self._recent = deque([nothing] * ahead, maxlen=ahead)
        self._place_R = jnp.arange(len(drawn.row_R), dtype=jnp.int32)
        self._patch = jax.jit(patched).lower(drawn.row_R, rows, tuple(self._recent)).compile()
        lowered = jax.jit(step, donate_argnums=(0, 2)).lower(small, data, rows, self._at(drawn))
        self._step = lowered.compile()
        self.moved = drawn.row_R.nbytes + 2 * sum(x.nbytes for x in rows.values())
        self.waited = 0.0
        # A single thread gathers a step's rows once all but the last K earlier steps are written.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="rows")
        self._queue: deque[Future[Rows | None]] = deque()
        self._draw_upto(first + ahead + 1)
        for drawn in self._drawn:
            self._queue.append(self._thread.submit(self._gather, drawn))

    def _at(self, drawn: Drawn) -> tuple[Array, Array]:
        """The rows of the small table that a step updates, and where they are in its batch."""
        return self._place_R, drawn.slot_M

    def _number(self, step: int) -> jax.Array:
        return jax.device_put(np.int32(step))

    def _draw_upto(self, step: int) -> None:
        """Draw the batches before this step: ahead of the steps, which the device takes in turn."""
        while self._next_drawn < min(step, self._total):
            drawn = self._draw(self._data, self._number(self._next_drawn))
            drawn.row_R.copy_to_host_async()
            self._drawn.append(drawn)
            self._next_drawn += 1

    def _gather(self, drawn: Drawn) -> Rows:
        return jax.block_until_ready(gathered(self._host, np.asarray(drawn.row_R)))

    def _turn(self, written: Written, coming: Drawn | None) -> Rows | None:
        """Write a step's rows on the host, then gather those of a coming step."""
        row_R = np.asarray(written.row_R)
        row_R = row_R[: np.searchsorted(row_R, self._n_rows)]
        for name, x in written.rows.items():
            self._host[name][row_R] = np.asarray(x)[: len(row_R)]
        return None if coming is None else self._gather(coming)

    def _wait(self, waiting: list[Future[Rows | None]], state: TrainState) -> None:
        """Until these are done. The time counts from when the device has nothing else to do."""
        if all(future.done() for future in waiting):
            return
        jax.block_until_ready(state.step)
        began = time.perf_counter()
        for future in waiting:
            future.result()
        self.waited += time.perf_counter() - began

    def __call__(self, state: TrainState, data: Any, n: jax.Array) -> tuple[TrainState, Totals]:
        """n steps; ``data`` is what this was made with, and all rows are written at the end."""
        state, host = taken_out(state)
        assert all(host[name] is array for name, array in self._host.items())
        for _ in range(int(n)):
            self._draw_upto(self._next + self._ahead + 2)
            self._wait([self._queue[0]], state)
            rows, drawn = self._queue.popleft().result(), self._drawn.popleft()
            assert rows is not None
            rows = self._patch(drawn.row_R, rows, tuple(self._recent))
            state, left = self._step(state, data, rows, self._at(drawn))
            for x in left.values():
                x.copy_to_host_async()
            written = Written(drawn.row_R, left)
            self._recent.append(written)
            self._next += 1
            last = self._next + self._ahead >= self._total
            coming = None if last else self._drawn[self._ahead]
            self._queue.append(self._thread.submit(self._turn, written, coming))
        self._wait(list(self._queue), state)
        return put_in(state, self._host), jax.tree.map(jnp.copy, state.totals)

    def close(self) -> None:
        """End the thread, once the rows of the steps that are done are written."""
        self._thread.shutdown(wait=True)


def _apart(state: TrainState, names: tuple[str, ...]) -> tuple[TrainState, Rows]:
    """A state whose table is the rows of a batch, without these, and they."""
    found: Rows = {}

    def without(path: Any, leaf: Any) -> Any:
        name = jax.tree_util.keystr(path)
        if name not in names:
            return leaf
        found[name] = leaf
        return leaf[:0]

    return jax.tree_util.tree_map_with_path(without, state), found
