"""Run jaxrec in real processes, and read the contents of runs that must be reproducible."""

import atexit
import contextlib
import json
import os
import select
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
KILLER = HERE / "killer.py"
LIMIT_SECONDS = 300


def environment(quick: bool = False) -> dict[str, str]:
    """Return an environment with one CPU device and without the flags of this test run.

    Args:
      quick: keep the flags that halve the time to compile.
    """
    ours = {"JAX_NUM_CPU_DEVICES", "JAX_NUMPY_DTYPE_PROMOTION"}
    if not quick:
        ours |= {"XLA_FLAGS", "JAX_DISABLE_MOST_OPTIMIZATIONS"}
    # Another process may be writing an entry of the shared cache, which is then compiled again.
    quiet = {"PYTHONWARNINGS": "ignore:Error reading persistent compilation cache entry"}
    return {name: value for name, value in os.environ.items() if name not in ours} | quiet


@cache
def can_mount() -> bool:
    """Return whether processes on this machine may have private mounts."""
    with contextlib.suppress(OSError):
        return subprocess.run(["unshare", "-rm", "true"], capture_output=True).returncode == 0
    return False


def mounted(commands: str) -> tuple[str, ...]:
    """Return the command that starts a program after shell ``commands`` in private mounts."""
    return ("unshare", "-rm", "sh", "-c", f'{commands} && exec "$@"', "sh")


@cache
def server(before: tuple[str, ...] = ()) -> subprocess.Popen:
    """Start a server that forks processes; ``before`` is a prefix from :func:`mounted`."""
    command = [*before, sys.executable, str(HERE / "forkserver.py")]
    # Pipes are unbuffered, so that select sees every available line.
    pipes: dict = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "bufsize": 0}
    started = subprocess.Popen(command, env=environment(), **pipes)
    atexit.register(started.kill)
    return started


def process(
    *args: object,
    cwd: Path | str | None = None,
    reports: bool = False,
    before: tuple[str, ...] = (),
    env: dict[str, str] | None = None,
    quick: bool = False,
) -> subprocess.CompletedProcess:
    """Run `python ARGS...`, a script or `-m MODULE`, in a separate process.

    Args:
      reports: also write RUN/report.html, which takes longer than a small run.
      before: see :func:`server`.
      env: variables besides :func:`environment`'s.
      quick: compile with the few optimizations of this test run, in half of the time.
    """
    forks = server(before)
    with tempfile.TemporaryDirectory() as folder:
        files = {name: Path(folder) / name for name in ("out", "err")}
        request = {"args": [*map(str, args)], "cwd": str(cwd or Path.cwd()), "reports": reports}
        request |= {name: str(path) for name, path in files.items()}
        flags = {"XLA_FLAGS": os.environ.get("XLA_FLAGS", "")} if quick else {}
        request |= {"env": flags | (env or {}), "quick": quick}
        assert forks.stdin is not None
        assert forks.stdout is not None
        forks.stdin.write(json.dumps(request).encode() + b"\n")
        forks.stdout.readline()  # the child's id
        if not select.select([forks.stdout], [], [], LIMIT_SECONDS)[0]:
            forks.kill()
            server.cache_clear()
            raise subprocess.TimeoutExpired(request["args"], LIMIT_SECONDS)
        status = int(forks.stdout.readline())
        texts = {f"std{name}": path.read_text() for name, path in files.items()}
        return subprocess.CompletedProcess(request["args"], status, **texts)


def unforked(*args: object) -> subprocess.CompletedProcess:
    """Run like :func:`process`, but in a fresh interpreter, with output through pipes."""
    command = [sys.executable, *map(str, args)]
    limits = {"timeout": LIMIT_SECONDS, "env": environment()}
    return subprocess.run(command, capture_output=True, text=True, **limits)


def jaxrec(*args: object, **options) -> subprocess.CompletedProcess:
    """Run a command of jaxrec; ``options`` are those of :func:`process`."""
    return process("-m", "jaxrec", *args, **options)


def contents(run: Path) -> dict[str, object]:
    """Return all contents of a finished run that a repetition must reproduce to the last bit."""
    with np.load(run / "embeddings.npz") as stored:
        arrays = {name: stored[name].tobytes() for name in stored.files}
    texts = ("metrics.jsonl", "eval.json", "config.json", "slices.json")
    return arrays | {name: (run / name).read_bytes() for name in texts}
