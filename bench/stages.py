"""Runs the stages of a long case, each in its own process, as a user does; some are killed."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from jaxrec.log import peak_memory

_POLL = 1.0  # seconds between two checks of a process


class Stage(NamedTuple):
    """The result of a process: exit status, wall seconds, and largest resident memory in bytes."""

    status: int
    seconds: float
    memory: int


def run(
    args: list[str],
    until: Callable[[], bool] = lambda: False,
    env: Mapping[str, str] | None = None,
) -> Stage:
    """Run `python -m ARGS`, and kill it (SIGKILL) as soon as ``until`` returns True."""
    began, peak = time.perf_counter(), 0
    process = subprocess.Popen([sys.executable, "-m", *args], env=os.environ | (env or {}))
    while process.poll() is None:
        peak = max(peak, peak_memory(process.pid))
        if until():
            process.kill()
        time.sleep(_POLL)
    return Stage(process.returncode, time.perf_counter() - began, peak)


def sealed(folder: Path) -> list[int]:
    """Return the steps of a run with a complete checkpoint, ascending, without step 0."""
    found = (int(path.parent.name) for path in folder.glob("checkpoints/*/manifest.json"))
    return sorted(step for step in found if step)
