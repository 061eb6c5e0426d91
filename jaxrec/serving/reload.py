"""The run that a server serves now, and the exchange of it for a newer one without a pause."""

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from jaxrec.errors import JaxrecError
from jaxrec.serving.loaded_run import Served
from jaxrec.serving.metrics import Metrics

_FILES = ("eval.json", "embeddings.npz", "seen.npz", "config.json")


def signature(run: Path, more: Path | None = None) -> tuple[Any, ...]:
    """What changes when other results lie under a path: files, or where a link leads."""
    found: list[Any] = []
    for path in [run / name for name in _FILES] + ([] if more is None else [more]):
        with contextlib.suppress(OSError):
            stat = path.stat()
            found.append((path.name, stat.st_ino, stat.st_size, stat.st_mtime_ns))
    return tuple(found)


class Current:
    """The run that is served.

    Requests borrow it: what they began with they end with, and it is closed when the last is done.

    Args:
      run: the run folder, or a link to one, which is read anew at each load.
      titles: the table of items, read anew likewise.
      load: makes what is served.
    """

    def __init__(
        self, run: Path, titles: Path | None, load: Callable[[], Served], metrics: Metrics
    ) -> None:
        self._run, self._titles, self._load, self._metrics = run, titles, load, metrics
        self._seen = signature(run, titles)
        self._now = load()
        self._borrowed: dict[Served, int] = {self._now: 0}
        self._asked = asyncio.Event()
        self.version = 1
        metrics.model(self._now.n_users, self._now.n_items)
        metrics.pending.set_function(lambda: self._now.pending)

    @contextlib.asynccontextmanager
    async def borrow(self) -> AsyncIterator[Served]:
        """What is served now, for the length of a request."""
        served = self._now
        self._borrowed[served] += 1
        try:
            yield served
        finally:
            self._borrowed[served] -= 1
            self._retire(served)

    def ask(self) -> None:
        """Load anew as soon as may be, changed or not."""
        self._asked.set()

    async def watch(self, seconds: float) -> None:
        """Load what has changed, for ever.

        Args:
          seconds: how often to look; 0 loads only where that is asked for.
        """
        failed: tuple[Any, ...] | None = None
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds or None):
                    await self._asked.wait()
            forced = self._asked.is_set()
            self._asked.clear()
            now = signature(self._run, self._titles)
            if not forced and now in (self._seen, failed):
                continue
            failed = None if await self._exchange(now) else now

    async def _exchange(self, now: tuple[Any, ...]) -> bool:
        """Load anew and serve it; where that fails all stays as it is."""
        try:
            served = await asyncio.to_thread(self._load)
        except JaxrecError as e:
            self._failed(str(e))
            return False
        except Exception as e:  # a damaged file must not end the server
            self._failed(f"{type(e).__name__}: {e}")
            return False
        if signature(self._run, self._titles) != now:  # half of one run, half of another
            served.close()
            self._failed("the run changed while it was read; it is read again")
            return True
        before, self._now, self._seen = self._now, served, now
        self._borrowed[served] = 0
        self._retire(before)
        self.version += 1
        self._metrics.model(served.n_users, served.n_items)
        self._metrics.reloaded("loaded")
        _say(f"serving {self._run} as it is now: {served.n_items:,} items")
        return True

    def _retire(self, served: Served) -> None:
        if served is not self._now and not self._borrowed.get(served, 1):
            del self._borrowed[served]
            served.close()

    def _failed(self, why: str) -> None:
        self._metrics.reloaded("failed")
        _say(f"{self._run} was not loaded anew, what was served stays: {why}")

    def close(self) -> None:
        """End the threads."""
        self._now.close()


def _say(text: str) -> None:
    print(f"jaxrec: {text}", file=sys.stderr, flush=True)
