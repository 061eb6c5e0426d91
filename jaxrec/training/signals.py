"""Handling of SIGINT and SIGTERM at any moment, including compilation and evaluation.

Python runs signal handlers only when the main thread is in the interpreter, which a compilation can
prevent for minutes. So ``signal.set_wakeup_fd`` passes the signal to a thread, which sees it at
once (XLA compiles without the GIL).
"""

import contextlib
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any

from jaxrec import processes

SIGNALS = (signal.SIGINT, signal.SIGTERM)
REPEAT_SECONDS = 1.0  # launchers send a signal twice: to the child, and then to the child's group


class SignalWatch:
    """Context in which a first SIGINT or SIGTERM sets ``received``, and a second stops at once.

    The loop polls ``received`` at every boundary and stops. A repeat within ``REPEAT_SECONDS``
    counts as the same signal. Outside the main thread, where Python allows no signal handlers, the
    watch does nothing.

    Args:
      may_exit: whether signals may end the process, as in the command line. If so, a second signal
        ends the process at once, and inside :meth:`may_leave` a first signal does so too. If not,
        a second signal raises KeyboardInterrupt in the main thread.
    """

    def __init__(self, may_exit: bool = False) -> None:
        self.received: int | None = None
        self._may_exit = may_exit
        self._first_at = 0.0
        self._leave: Callable[[], None] | None = None
        self._lock = threading.Lock()
        self._previous: dict[int, Any] = {}
        self._active = threading.current_thread() is threading.main_thread()

    def __enter__(self) -> "SignalWatch":
        if not self._active:
            return self
        self._read, self._write = socket.socketpair()
        self._write.setblocking(False)
        # Python cannot restore a handler that C code has set, so such a handler stays.
        ours = [s for s in SIGNALS if signal.getsignal(s) is not None]
        self._previous = {s: signal.signal(s, self._handle) for s in ours}
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
        self._write.close()  # the end of the stream stops the thread
        self._thread.join()
        self._read.close()

    def __call__(self) -> bool:
        """Return whether a process got a signal; all processes must call this at the same step."""
        agreed = processes.greatest(self.received or 0)
        if agreed and self.received is None:
            self.received = agreed
        return bool(agreed)

    @contextmanager
    def may_leave(self, last: Callable[[], None]) -> Iterator[None]:
        """Context in which a signal calls ``last`` and then ends the process, if ``may_exit``.

        Use it around long blocking calls, such as a compilation, during which ``last`` can save
        everything.
        """
        if not self._may_exit:
            yield
            return
        with self._lock:
            self._leave = last
        if self.received is not None:
            self._try_leave(self.received)
        try:
            yield
        finally:
            with self._lock:
                self._leave = None

    def _is_new(self, number: int) -> bool:
        """Record a signal; return whether it is a second signal, not a repeat of the first."""
        now = time.monotonic()
        if self.received is None:
            self.received, self._first_at = number, now
            return False
        return now - self._first_at > REPEAT_SECONDS

    def _handle(self, number: int, frame: FrameType | None) -> None:
        """Record a signal in Python's main thread, so that the next poll sees it."""
        if self._is_new(number) and not self._may_exit:
            raise KeyboardInterrupt

    def _watch(self) -> None:
        while data := self._read.recv(1):
            number = data[0]
            if number not in self._previous:
                self._pass_on(data)
                continue
            if not self._may_exit:
                continue
            if self._is_new(number):
                os._exit(128 + number)  # without a flush, since stdout may be locked forever
            threading.Thread(target=self._try_leave, args=(number,), daemon=True).start()

    def _pass_on(self, data: bytes) -> None:
        """Pass a signal that is not handled here to the previous reader, such as asyncio's loop."""
        if self._previous_fd >= 0:
            with contextlib.suppress(OSError):
                os.write(self._previous_fd, data)

    def _try_leave(self, number: int) -> None:
        with self._lock:
            if self._leave is not None:
                try:
                    self._leave()
                    _say(
                        "jaxrec: interrupted; nothing was lost, and `jaxrec resume` continues the "
                        "run\n"
                    )
                finally:
                    os._exit(128 + number)


def _say(text: str) -> None:
    """Write to stderr and flush stdout, without waiting for a stuck reader."""

    def write() -> None:
        with contextlib.suppress(OSError, ValueError):
            os.write(2, text.encode())
            sys.stdout.flush()

    writer = threading.Thread(target=write, daemon=True)
    writer.start()
    writer.join(timeout=1.0)
