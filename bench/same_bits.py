"""Compares parameters of every preset after some steps, here and at another commit, bit by bit.

    python -m bench same-bits COMMIT [--presets NAME ...] [--steps 30]

Each side trains in its own process, by the public interface alone, with the same versions and
flags. A preset without a data set of its own gets small generated data of its kind, split at random
if the preset expects a split in the data. A line per preset is added to
bench/results/same-bits.jsonl. The exit status is 1 if a preset's parameters, or the lines of its
metrics.jsonl, differ.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from operator import eq
from pathlib import Path

from bench.common import record, worktree

ROOT = Path(__file__).parents[1]

# The program of one side: it runs its own jaxrec, and nothing of this file.
TRAIN = """
import dataclasses, hashlib, json, sys
from pathlib import Path
import numpy as np
import jaxrec
from jaxrec import presets

folder, steps, names = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
for name in names or list(presets.PRESETS):
    config = presets.get(name)
    train = dataclasses.replace(config.train, steps=steps, refit=False, patience=0)
    every = dataclasses.replace(config.eval, every=steps)
    config = dataclasses.replace(config, train=train, eval=every)
    if config.data == "synthetic" and config.split.name == "given":
        config = dataclasses.replace(config, split=type(config.split)())
    run = jaxrec.train(config, run=folder / name, quiet=True)
    with np.load(run.folder / "parameters.npz") as stored:
        sums = {key: hashlib.sha256(stored[key].tobytes()).hexdigest() for key in stored.files}
    lines = (run.folder / "metrics.jsonl").read_bytes()
    print(json.dumps([name, sums, hashlib.sha256(lines).hexdigest()]), flush=True)
"""


def side(tree: Path, steps: int, presets: list[str]) -> dict[str, list]:
    """Train with the jaxrec of a tree; return hashes of parameters and metrics by preset."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-c", TRAIN, folder, str(steps), *presets]
        env = os.environ | {"PYTHONPATH": str(tree)}
        done = subprocess.run(
            command, cwd=folder, env=env, stdout=subprocess.PIPE, text=True, check=True
        )
    return {name: found for name, *found in map(json.loads, done.stdout.splitlines())}


def main() -> None:
    """Compare, record a line per preset, and exit with 1 if one differs."""
    parser = argparse.ArgumentParser(prog="python -m bench same-bits", description=__doc__)
    parser.add_argument("commit")
    parser.add_argument("--presets", nargs="*", default=[])
    parser.add_argument("--steps", type=int, default=30)
    args = parser.parse_args()
    with worktree(args.commit) as tree:
        before = side(tree, args.steps, args.presets)
    now = side(ROOT, args.steps, args.presets)
    command = f"python -m bench same-bits {args.commit} --steps {args.steps}"
    equal = []
    for name, old in before.items():
        new = now.get(name, [None, None])
        same = dict(zip(("parameters", "metrics.jsonl"), map(eq, old, new), strict=True))
        equal.append(all(same.values()))
        record("same-bits", name, [float(equal[-1])], "equal", command, against=args.commit, **same)
    sys.exit(0 if all(equal) else 1)


if __name__ == "__main__":
    main()
