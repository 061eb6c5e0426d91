"""Sampling of blocks on the host while the device trains, for graphs larger than device memory."""

import os
import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrec.graph.bipartite import Bipartite
from jaxrec.training.batch import TrainData
from jaxrec.training.step import Feed, Stepper, Totals, TrainState

_AHEAD = 2  # number of prefetched blocks per thread


class HostDispatch:
    """The dispatch for data in host memory, used in place of the compiled ``Stepper.dispatch``.

    Threads sample the blocks of the next steps with the function that a device would run, so the
    result of a run is the same to the last bit as with sampling on the device.

    Args:
      stepper: the steps of the model.
      state: a state with the shapes for which the steps are compiled.
      data: the training data, on a CPU device.
      first: number of steps of the phase that are finished.
      total: number of all steps of the phase.

    Attributes:
      waited: seconds that training waited for blocks.
    """

    def __init__(
        self, stepper: Stepper, state: TrainState, data: TrainData, first: int, total: int
    ) -> None:
        self._device = jax.local_devices()[0]
        self._data, self._next, self._total = data, first, total
        self._graph = _features_alone(data.graph, self._device)
        self._draw = jax.jit(stepper.feed).lower(data, self._on_host(first)).compile()

        step = jax.jit(stepper.fed, donate_argnums=0)
        self._step = step.lower(state, self._graph, self._fed(first)).compile()
        threads = max(1, min(8, (os.cpu_count() or 2) - 1))
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="feeder")
        self._ahead = threads * _AHEAD
        self._queue: deque[Future[Feed]] = deque()
        self.waited = 0.0

    def _on_host(self, step: int) -> jax.Array:
        return jax.device_put(np.int32(step), jax.devices("cpu")[0])

    def _fed(self, step: int) -> Feed:
        feed = self._draw(self._data, self._on_host(step))
        return jax.block_until_ready(jax.device_put(feed, self._device))

    def _take(self) -> Feed:
        """Return the next step's feed, and let the threads prepare the feeds of later steps."""
        upto = min(self._next + self._ahead, self._total)
        for step in range(self._next + len(self._queue), upto):
            self._queue.append(self._pool.submit(self._fed, step))
        began = time.perf_counter()
        feed = self._queue.popleft().result()
        self.waited += time.perf_counter() - began
        self._next += 1
        return feed

    def __call__(
        self, state: TrainState, data: TrainData, n: jax.Array
    ) -> tuple[TrainState, Totals]:
        """Run n steps; ``data`` is unused, because the constructor took it."""
        for _ in range(int(n)):
            state = self._step(state, self._graph, self._take())
        return state, jax.tree.map(jnp.copy, state.totals)

    def close(self) -> None:
        """End the threads and drop the feeds that no step will read."""
        self._pool.shutdown(wait=True, cancel_futures=True)


def _features_alone(graph: Bipartite, device: Any) -> Bipartite:
    """Return the graph with its features only, since steps on sampled blocks read no edges."""
    empty = jax.tree.map(lambda _: jnp.zeros(0), graph._replace(features=None))
    return jax.device_put(empty._replace(features=graph.features), device)
