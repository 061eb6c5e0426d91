"""The wheel alone in an empty environment: commands that work, its hash, a bill of materials.

Runs `scripts/check_release.sh` with each Python and records a line for each of them.
"""

import argparse
import hashlib
import json
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from bench.common import record

SCRIPT = Path(__file__).parents[1] / "scripts" / "check_release.sh"
SHOWN = ("jax", "jaxlib", "flax", "optax", "numpy", "orbax-checkpoint", "polars")
"""Packages of the checked environment whose versions a line gives."""


def tried(python: str, lowest: bool) -> dict[str, Any]:
    """Check the release with a Python, and record what came of it.

    Args:
      python: the Python to use, by name or path.
      lowest: take the least versions that pyproject.toml allows.

    Raises:
      subprocess.CalledProcessError: a check failed, and nothing is recorded.
    """
    with tempfile.TemporaryDirectory() as folder:
        command = [str(SCRIPT), folder, python, *(["lowest"] if lowest else [])]
        subprocess.run(command, check=True)
        return recorded(Path(folder), python, lowest, guides="NO_GUIDES" not in os.environ)


def recorded(out: Path, python: str, lowest: bool, guides: bool) -> dict[str, Any]:
    """Record a check that succeeded, from the folder that it wrote.

    Args:
      out: the folder.
      python, lowest: see :func:`tried`.
      guides: whether the blocks of README and guides were run.
    """
    (wheel,) = out.glob("*.whl")
    parts = json.loads((out / "sbom.json").read_text())["components"]
    commands = (out / "commands.txt").read_text().splitlines()
    asked = "import platform; print(platform.python_version())"
    its = subprocess.check_output([python, "-c", asked], text=True).strip()
    versions = {part["name"]: part["version"] for part in parts if part["name"] in SHOWN}
    return record(
        "release",
        f"Python {its}, {'lowest' if lowest else 'newest'} dependencies",
        [1.0] * len(commands),
        "1 where a command of the wheel succeeded, else 0",
        f"python -m bench release --pythons {Path(python).name}{' --lowest' * lowest}",
        versions={"python": its} | versions,
        commands=commands,
        wheel=wheel.name,
        sha256=hashlib.sha256(wheel.read_bytes()).hexdigest(),
        sha256_equal_in_two_builds=True,
        sbom_components=len(parts),
        guides=guides,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pythons", nargs="+", default=["python3"])
    parser.add_argument("--lowest", action="store_true")
    args = parser.parse_args()
    for python in args.pythons:
        tried(python, args.lowest)


if __name__ == "__main__":
    main()
