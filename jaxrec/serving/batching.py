"""Micro-batching: queries that arrive while a block is ranked form the next block."""

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from itertools import islice
from typing import Any

import numpy as np

from jaxrec.serving.ranker import MOST, Query, Ranker

List = tuple[np.ndarray, np.ndarray]
"""The items of a list and their scores, best first."""
THREAD = "jaxrec-ranking"
"""Name of the threads that rank."""


class Busy(Exception):
    """Raised if too many queries are waiting."""


class Batcher:
    """A thread that ranks queries in blocks; it does not wait until a block is full.

    Args:
      ranker: ranks the blocks.
      most: largest number of queries that may wait.
      observe: called with the number of queries of each block.
    """

    def __init__(self, ranker: Ranker, most: int, observe: Callable[[int], Any]) -> None:
        self._ranker, self._most, self._observe = ranker, most, observe
        self._waiting: deque[tuple[Query, asyncio.Future[List]]] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name=THREAD, daemon=True)
        self._thread.start()

    @property
    def pending(self) -> int:
        """Number of waiting queries."""
        return len(self._waiting)

    async def rank(self, query: Query) -> List:
        """Rank one query.

        Raises:
          Busy: too many queries are waiting.
        """
        if len(self._waiting) >= self._most:
            raise Busy
        future: asyncio.Future[List] = asyncio.get_running_loop().create_future()
        with self._changed:
            self._waiting.append((query, future))
            self._changed.notify()
        return await future

    def close(self) -> None:
        """End the thread when no query is waiting."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._waiting and not self._closed:
                    self._changed.wait()
                if not self._waiting:
                    return
                queries = [query for query, _ in islice(self._waiting, MOST)]
                block = [self._waiting.popleft() for _ in range(self._ranker.fitting(queries))]
            futures = [future for _, future in block]
            self._observe(len(block))
            try:
                lists = self._ranker.rank([query for query, _ in block])
            except BaseException as e:
                self._deliver(futures, [e] * len(block))
                continue
            self._deliver(futures, lists)

    def _deliver(self, futures: list[Any], results: list[Any]) -> None:
        def settle() -> None:
            for future, result in zip(futures, results, strict=True):
                if future.done():  # the client disconnected
                    continue
                if isinstance(result, BaseException):
                    future.set_exception(result)
                else:
                    future.set_result(result)

        loop = futures[0].get_loop()
        if not loop.is_closed():
            loop.call_soon_threadsafe(settle)
