"""Real processes of jaxrec, and what of their run folders must repeat to the bit."""

import atexit
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


def environment() -> dict[str, str]:
    """One CPU device, and no flags of this test run."""
    ours = ("XLA_FLAGS", "JAX_NUMPY_DTYPE_PROMOTION")
    return {name: value for name, value in os.environ.items() if name not in ours}


@cache
def _server() -> subprocess.Popen:
    command = [sys.executable, str(HERE / "forkserver.py")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    started = subprocess.Popen(command, env=environment(), **pipes)
    atexit.register(started.kill)
    return started


def process(
    *args: object, cwd: Path | str | None = None, reports: bool = False
) -> subprocess.CompletedProcess:
    """Run `python ARGS...`, a script or `-m MODULE`, in a process of its own.

    Args:
      reports: also write RUN/report.html, which takes longer than a small run.
    """
    server = _server()
    with tempfile.TemporaryDirectory() as folder:
        files = {name: Path(folder) / name for name in ("out", "err")}
        request = {"args": [*map(str, args)], "cwd": str(cwd or Path.cwd()), "reports": reports}
        request |= {name: str(path) for name, path in files.items()}
        assert server.stdin is not None
        assert server.stdout is not None
        print(json.dumps(request), file=server.stdin, flush=True)
        if not select.select([server.stdout], [], [], LIMIT_SECONDS)[0]:
            server.kill()
            _server.cache_clear()
            raise subprocess.TimeoutExpired(request["args"], LIMIT_SECONDS)
        status = int(server.stdout.readline())
        texts = {f"std{name}": path.read_text() for name, path in files.items()}
        return subprocess.CompletedProcess(request["args"], status, **texts)


def unforked(*args: object) -> subprocess.CompletedProcess:
    """:func:`process` from nothing, its output through pipes instead of files."""
    command = [sys.executable, *map(str, args)]
    limits = {"timeout": LIMIT_SECONDS, "env": environment()}
    return subprocess.run(command, capture_output=True, text=True, **limits)


def jaxrec(*args: object, **options) -> subprocess.CompletedProcess:
    """Run a command of jaxrec's; ``options`` are those of :func:`process`."""
    return process("-m", "jaxrec", *args, **options)


def contents(run: Path) -> dict[str, object]:
    """Everything of a finished run that must repeat to the bit."""
    with np.load(run / "embeddings.npz") as stored:
        arrays = {name: stored[name].tobytes() for name in stored.files}
    texts = ("metrics.jsonl", "eval.json", "config.json", "slices.json")
    return arrays | {name: (run / name).read_bytes() for name in texts}
