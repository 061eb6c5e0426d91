"""RUN/env.json: the environment of a run.

Besides configuration and data, it determines the run's results to the last bit.
"""

import importlib.metadata
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from jaxrec.data.dataset import Dataset
from jaxrec.data.itemgraph import ItemGraph
from jaxrec.errors import InputError
from jaxrec.files import write_json
from jaxrec.parted.stored import Parted
from jaxrec.runfolder import read_json


def versions() -> dict[str, str]:
    """Versions of the packages that determine the bits."""
    names = ("jaxrec", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "jraph", "numpy")
    found = {name: importlib.metadata.version(name) for name in names}
    return {"python": platform.python_version()} | found


def _machine() -> dict[str, str]:
    """Devices and flags, which also determine the bits."""
    return {
        "device": f"{len(jax.devices())} x {jax.devices()[0].device_kind}",
        "platform": f"{platform.system()} {platform.machine()}",
        "flags": os.environ.get("XLA_FLAGS", ""),
    }


def _commit() -> str | None:
    """Return the git commit of this file, if tracked."""
    here = Path(__file__)
    git = ["git", "-C", str(here.parent)]
    try:
        tracked = [*git, "ls-files", "--error-unmatch", here.name]
        subprocess.run(tracked, capture_output=True, check=True)
        done = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.decode().strip()


def check(folder: Path, custom_tx: bool, warn: Callable[[str], None]) -> None:
    """Compare the environment with that of the run's start, if it has started.

    Args:
      custom_tx: whether an optax chain was given instead of the configured one.
      warn: called with changes that may alter the bits.

    Raises:
      InputError: an optax chain was given at the start but not now, or the reverse.
    """
    before = read_json(folder / "env.json")
    if not before:
        return
    if before["custom_tx"] and not custom_tx:
        raise InputError(
            f"{folder}: was trained with an optax chain given in Python; continue with "
            "jaxrec.resume(run, tx=...) and the same chain"
        )
    if custom_tx and not before["custom_tx"]:
        raise InputError(f"{folder}: was trained with its configured optimizer; leave out tx")
    changed = [n for n, v in versions().items() if before["versions"].get(n) != v]
    changed += [n for n, v in _machine().items() if before[n] != v]
    if changed:
        warn(f"changed since the run started, so its bits may differ: {', '.join(changed)}")


def write(
    folder: Path,
    dataset: Dataset | ItemGraph | Parted,
    sizes: dict[str, int],
    custom_tx: bool,
    *,
    start: Sequence[dict[str, Any]] = (),
    notes: Mapping[str, int] | None = None,
) -> None:
    """Write RUN/env.json once.

    Args:
      sizes: users, items, and the pairs of each part.
      custom_tx: whether an optax chain was given instead of the configured one.
      start: sources of a warm start.
      notes: remarks on the split, with counts.
    """
    if (folder / "env.json").exists():
        return
    env: dict[str, Any] = {"versions": versions()} | _machine()
    env |= {"commit": _commit(), "fingerprint": dataset.fingerprint()}
    env |= {"command": shlex.join(sys.argv), "custom_tx": custom_tx}
    env |= {"data": {"name": dataset.name} | sizes | {"notes": dataset.notes | dict(notes or {})}}
    if start:
        env["start"] = list(start)
    write_json(folder / "env.json", env)
