"""Real processes of jaxrec, and what of their run folders must repeat to the bit."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np

KILLER = Path(__file__).parent / "killer.py"


def process(*args: object) -> subprocess.CompletedProcess:
    """Run a Python program with one CPU device, and no flags of this test run."""
    env = {
        k: v for k, v in os.environ.items() if k not in ("XLA_FLAGS", "JAX_NUMPY_DTYPE_PROMOTION")
    }
    command = [sys.executable, *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, env=env, timeout=300)


def jaxrec(*args: object) -> subprocess.CompletedProcess:
    return process("-m", "jaxrec", *args)


def contents(run: Path) -> dict[str, object]:
    """Everything of a finished run that must repeat to the bit."""
    with np.load(run / "embeddings.npz") as stored:
        arrays = {name: stored[name].tobytes() for name in stored.files}
    texts = ("metrics.jsonl", "eval.json", "config.json", "slices.json")
    return arrays | {name: (run / name).read_bytes() for name in texts}
