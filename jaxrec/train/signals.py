"""SIGINT and SIGTERM at any moment: during compilation and evaluation as well as between steps.

A Python signal handler runs only when the main thread is back in the interpreter, which a
compilation keeps it from for seconds or minutes. So the signal's number goes through
``signal.set_wakeup_fd`` to a thread, which sees it at once (XLA compiles without the GIL).
"""

import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class SignalWatch:
    """While entered, the first SIGINT or SIGTERM sets ``received``; the second ends at once.

    The loop polls ``received`` at every boundary and ends by itself. Where the main thread may be
    stuck and has nothing unsaved, it says so with :meth:`may_leave`.

    Off the main thread (where Python takes no signal handlers) it does nothing.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._leave: Callable[[], None] | None = None
        self._lock = threading.Lock()
        self._previous: dict[int, Any] = {}
        self._active = threading.current_thread() is threading.main_thread()

    def __enter__(self) -> "SignalWatch":
        if not self._active:
            return self
        self._read, self._write = socket.socketpair()
        self._write.setblocking(False)
        self._previous = {s: signal.signal(s, self._handle) for s in SIGNALS}
        self._previous_fd = signal.set_wakeup_fd(self._write.fileno(), warn_on_full_buffer=False)
        self._thread = threading.Thread(target=self._watch, name="signals", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not self._active:
            return
        signal.set_wakeup_fd(self._previous_fd)
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._write.close()  # the thread reads the end of the stream and returns
        self._thread.join()
        self._read.close()

    def __call__(self) -> bool:
        """Whether a signal came: what loops poll."""
        return self.received is not None

    @contextmanager
    def may_leave(self, last: Callable[[], None]) -> Iterator[None]:
        """Inside, a signal ends the process at once, after calling ``last`` in the thread.

        For stretches in which the main thread may not come back for long (compilation, reading
        data) and nothing is unsaved that ``last`` cannot save.
        """
        with self._lock:
            self._leave = last
        if self.received is not None:
            self._try_leave(self.received)
        try:
            yield
        finally:
            with self._lock:
                self._leave = None

    def _handle(self, number: int, frame: FrameType | None) -> None:
        """Set too by Python's own handler, so that a poll right after the signal sees it."""
        self.received = self.received or number

    def _watch(self) -> None:
        count = 0
        while data := self._read.recv(1):
            number = data[0]
            if number not in SIGNALS:
                continue
            count += 1
            if count > 1:
                _exit(number)
            self.received = self.received or number
            threading.Thread(target=self._try_leave, args=(number,), daemon=True).start()

    def _try_leave(self, number: int) -> None:
        with self._lock:
            if self._leave is not None:
                try:
                    self._leave()
                finally:
                    _exit(number)


def _exit(number: int) -> None:
    """End the process now, with the status of an interrupted run (128 + signal)."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(128 + number)
