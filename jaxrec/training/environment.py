"""Reads and writes RUN/env.json, the environment of a run.

Configuration, data and environment together determine a run's results to the last bit.
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
    """Return the versions of Python and of the packages that determine a run's results."""
    names = ("jaxrec", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "jraph", "numpy")
    found = {name: importlib.metadata.version(name) for name in names}
    return {"python": platform.python_version()} | found


def _machine() -> dict[str, str]:
    """Return the devices, the platform and the XLA flags, which also determine the results."""
    return {
        "device": f"{len(jax.devices())} x {jax.devices()[0].device_kind}",
        "platform": f"{platform.system()} {platform.machine()}",
        "flags": os.environ.get("XLA_FLAGS", ""),
    }


def _commit() -> str | None:
    """Return the git commit of this checkout; None if git does not track this file."""
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
    """Compare this environment with that in which the run started; do nothing for a new run.

    Args:
      custom_tx: whether an optax chain was given instead of the configured one.
      warn: called with a message if a change may alter the results.

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
        warn(
            f"{', '.join(changed)} changed since the run started, so its results may differ from "
            "those of an uninterrupted run in their last digits"
        )


def write(
    folder: Path,
    dataset: Dataset | ItemGraph | Parted,
    sizes: dict[str, int],
    custom_tx: bool,
    *,
    start: Sequence[dict[str, Any]] = (),
    notes: Mapping[str, int] | None = None,
) -> None:
    """Write RUN/env.json, unless it exists.

    Args:
      sizes: numbers of users, of items, and of pairs in train, validation and test.
      custom_tx: whether an optax chain was given instead of the configured one.
      start: one record per source of initial parameters.
      notes: remarks on the split, each with a count.
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
