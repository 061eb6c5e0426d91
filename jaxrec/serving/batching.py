"""Micro-batches: what waits while a block is ranked is ranked together next."""

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
"""What the threads are called that rank for requests."""


class Busy(Exception):
    """More queries wait than a server takes."""


class Batcher:
    """A thread that ranks what is asked for, in blocks; nothing waits for a block to fill.

    Args:
      ranker: what ranks.
      most: queries that may wait.
      observe: told how many queries each block had.
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
        """Queries that wait."""
        return len(self._waiting)

    async def rank(self, query: Query) -> List:
        """A list. Raises Busy where too many wait already."""
        if len(self._waiting) >= self._most:
            raise Busy
        made: asyncio.Future[List] = asyncio.get_running_loop().create_future()
        with self._changed:
            self._waiting.append((query, made))
            self._changed.notify()
        return await made

    def close(self) -> None:
        """End the thread once nothing waits."""
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
            futures = [made for _, made in block]
            self._observe(len(block))
            try:
                lists = self._ranker.rank([query for query, _ in block])
            except BaseException as e:
                self._deliver(futures, [e] * len(block))
                continue
            self._deliver(futures, lists)

    def _deliver(self, futures: list[Any], results: list[Any]) -> None:
        def settle() -> None:
            for made, result in zip(futures, results, strict=True):
                if made.done():  # the client went away
                    continue
                if isinstance(result, BaseException):
                    made.set_exception(result)
                else:
                    made.set_result(result)

        loop = futures[0].get_loop()
        if not loop.is_closed():
            loop.call_soon_threadsafe(settle)
