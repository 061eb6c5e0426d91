"""Hold the run that a server serves, and replace it by a newer one without interruption."""

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from jaxrec.errors import JaxrecError
from jaxrec.serving.loaded_run import Served
from jaxrec.serving.metrics import Metrics

_FILES = ("eval.json", "embeddings.npz", "seen.npz", "config.json")


def signature(run: Path, tables: Iterable[Path] = ()) -> tuple[Any, ...]:
    """Return the inodes, sizes and times of a run's files and of other tables.

    The result changes if the run changes, or if a link to the run points elsewhere.
    """
    files: list[Any] = []
    for path in (*(run / name for name in _FILES), *tables):
        with contextlib.suppress(OSError):
            stat = path.stat()
            files.append((path.name, stat.st_ino, stat.st_size, stat.st_mtime_ns))
    return tuple(files)


class Current:
    """The run that is served now.

    Each request borrows the run until the request ends. A replaced run is closed after the last
    request that borrowed it.

    Args:
      run: the run folder or a link to one, resolved again at each load.
      tables: the files of titles and of new items, if any; they are read again at each load.
      load: loads the run.
      metrics: stores the run's size and counts reloads.
    """

    def __init__(
        self, run: Path, tables: Sequence[Path], load: Callable[[], Served], metrics: Metrics
    ) -> None:
        self._run, self._tables, self._load, self._metrics = run, tables, load, metrics
        self._seen = signature(run, tables)
        self._now = load()
        self._borrowed: dict[Served, int] = {self._now: 0}
        self._reload = asyncio.Event()
        self.version = 1
        metrics.model(self._now.n_users, self._now.n_items)
        metrics.pending.set_function(lambda: self._now.pending)

    @contextlib.asynccontextmanager
    async def borrow(self) -> AsyncIterator[Served]:
        """Borrow the current run for the duration of a request."""
        served = self._now
        self._borrowed[served] += 1
        try:
            yield served
        finally:
            self._borrowed[served] -= 1
            self._retire(served)

    def ask(self) -> None:
        """Request a reload, whether or not the run changed."""
        self._reload.set()

    async def watch(self, seconds: float) -> None:
        """Reload the run whenever it changes; this coroutine never ends by itself.

        Args:
          seconds: interval between checks; 0 reloads only after :meth:`ask`.
        """
        failed: tuple[Any, ...] | None = None
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds or None):
                    await self._reload.wait()
            forced = self._reload.is_set()
            self._reload.clear()
            now = signature(self._run, self._tables)
            if not forced and now in (self._seen, failed):
                continue
            failed = None if await self._exchange(now) else now

    async def _exchange(self, now: tuple[Any, ...]) -> bool:
        """Load the run and serve it; if loading fails, the previous run stays in service.

        Returns:
          False if loading failed and should not be retried until the files change, else True.
        """
        try:
            served = await asyncio.to_thread(self._load)
        except JaxrecError as e:
            self._failed(str(e))
            return False
        except Exception as e:  # a damaged file must not end the server
            self._failed(f"{type(e).__name__}: {e}")
            return False
        if signature(self._run, self._tables) != now:  # the files read may belong to two runs
            served.close()
            self._failed("the run changed while it was read, and will be read again")
            return True
        before, self._now, self._seen = self._now, served, now
        self._borrowed[served] = 0
        self._retire(before)
        self.version += 1
        self._metrics.model(served.n_users, served.n_items)
        self._metrics.reloaded("loaded")
        _say(f"now serving the new run at {self._run}, with {served.n_items:,} items")
        return True

    def _retire(self, served: Served) -> None:
        if served is not self._now and not self._borrowed.get(served, 1):
            del self._borrowed[served]
            served.close()

    def _failed(self, why: str) -> None:
        self._metrics.reloaded("failed")
        _say(f"{self._run} could not be reloaded, so the previous run stays in service: {why}")

    def close(self) -> None:
        """End the ranking threads."""
        self._now.close()


def _say(text: str) -> None:
    print(f"jaxrec: {text}", file=sys.stderr, flush=True)
