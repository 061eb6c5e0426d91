"""Test that a run's signal handling leaves the signals of its host process intact."""

import os
import select
import signal
import socket

import pytest

from jaxrec.training.signals import SIGNALS, SignalWatch


@pytest.fixture
def wakeup():
    """Return the socket from which an event loop reads signals."""
    reads, writes = socket.socketpair()
    writes.setblocking(False)
    before = signal.set_wakeup_fd(writes.fileno())
    yield reads
    signal.set_wakeup_fd(before)
    reads.close()
    writes.close()


def heard(reads: socket.socket) -> list[int]:
    """Return the signals that arrived at a socket."""
    return list(reads.recv(64)) if select.select([reads], [], [], 10)[0] else []


def test_a_run_hands_other_signals_on_and_puts_everything_back(wakeup):
    before = [signal.getsignal(number) for number in SIGNALS]
    user = signal.signal(signal.SIGUSR1, lambda number, frame: None)
    try:
        with SignalWatch() as watch:
            os.kill(os.getpid(), signal.SIGUSR1)
            assert heard(wakeup) == [signal.SIGUSR1]
            os.kill(os.getpid(), signal.SIGTERM)
            assert watch()
        assert [signal.getsignal(number) for number in SIGNALS] == before
        os.kill(os.getpid(), signal.SIGUSR1)
        assert heard(wakeup) == [signal.SIGUSR1]
    finally:
        signal.signal(signal.SIGUSR1, user)


def test_a_handler_that_only_c_knows_is_not_touched(monkeypatch):
    taken = []
    real = signal.signal
    monkeypatch.setattr(signal, "getsignal", lambda number: None)
    monkeypatch.setattr(signal, "signal", lambda *args: taken.append(args) or real(*args))
    with SignalWatch():
        pass
    assert taken == []
