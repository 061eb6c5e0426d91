"""Stages of a long case, each a process of its own, as a user's is; some are killed on the way."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from jaxrec.log import peak_memory

_POLL = 1.0  # seconds between two looks at a process


class Stage(NamedTuple):
    """How a process went: exit status, wall seconds, largest resident bytes."""

    status: int
    seconds: float
    memory: int


def run(
    args: list[str],
    until: Callable[[], bool] = lambda: False,
    env: Mapping[str, str] | None = None,
) -> Stage:
    """Run `python -m ARGS`, and kill it (SIGKILL) as soon as ``until`` says so."""
    began, peak = time.perf_counter(), 0
    process = subprocess.Popen([sys.executable, "-m", *args], env=os.environ | (env or {}))
    while process.poll() is None:
        peak = max(peak, peak_memory(process.pid))
        if until():
            process.kill()
        time.sleep(_POLL)
    return Stage(process.returncode, time.perf_counter() - began, peak)


def sealed(folder: Path) -> list[int]:
    """Steps of a run whose checkpoint is whole, ascending, without step 0."""
    found = (int(path.parent.name) for path in folder.glob("checkpoints/*/manifest.json"))
    return sorted(step for step in found if step)
