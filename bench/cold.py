"""A preset's first run and its second: the time that the cache of compiled programs saves.

Each pair of processes starts with its own empty cache folder. The case also times ``import
jaxrec`` against a bare interpreter: the import must not wait for jax.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.common import alternate, record
from jaxrec.runfolder import read_lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", default="quickstart")
    parser.add_argument("--rounds", type=int, default=5)
    args, options = parser.parse_known_args()
    named = [] if args.preset == "quickstart" else ["--preset", args.preset]
    command = " ".join(["python -m bench cold", *named])
    order = ("first run", "second run")
    whole: dict[str, list[float]] = {name: [] for name in order}
    compiling: dict[str, list[float]] = {name: [] for name in order}
    for _ in range(args.rounds):
        with tempfile.TemporaryDirectory() as parent:
            here = os.environ | {"XDG_CACHE_HOME": str(Path(parent) / "cache")}
            for name in order:
                run = Path(parent) / name
                train = [sys.executable, "-m", "jaxrec", "train", args.preset, *options]
                began = time.perf_counter()
                subprocess.run([*train, "--run", str(run), "--quiet"], check=True, env=here)
                whole[name].append(time.perf_counter() - began)
                timing = read_lines(run / "timing.jsonl")
                compiling[name].append(sum(t.get("compile_seconds", 0.0) for t in timing))

    for what, found in (("compilation of the step", compiling), ("whole process", whole)):
        for name, values in found.items():
            impl = f"jaxrec, {name}"
            record("cold", impl, values, "s", command, what=f"{args.preset}: {what}")
    python = [sys.executable, "-c"]
    taken = alternate(
        {
            "python": lambda: subprocess.run([*python, "pass"], check=True),
            "jaxrec": lambda: subprocess.run([*python, "import jaxrec"], check=True),
            "jax": lambda: subprocess.run([*python, "import jax"], check=True),
        },
        rounds=args.rounds,
    )
    for name, values in taken.items():
        record("cold", name, values, "s", command, what="import in a fresh process")


if __name__ == "__main__":
    main()
