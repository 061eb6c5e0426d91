"""Times a step, ranking and the quickstart, here and at another commit, in turns.

    python -m bench against COMMIT [--data gowalla] [--rounds 15]

Each side is its own process, which trains by the public interface alone and reads timing.jsonl,
with the same versions and flags. The other commit takes part twice, so that each ratio can be
compared with the spread of a commit against itself. A ratio above 1 means that this tree is slower.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.common import record, worktree

ROOT = Path(__file__).parents[1]

# A side trains once for each line that it reads. It runs its own jaxrec, and nothing of this file
TRAIN = """
import dataclasses, json, sys
from pathlib import Path
import jaxrec
from jaxrec import presets

folder, data, steps = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
config = presets.get("lightgcn")
train = dataclasses.replace(config.train, steps=steps, refit=False, patience=0)
every = dataclasses.replace(config.eval, every=steps)
config = dataclasses.replace(config, train=train, eval=every)
for number, _ in enumerate(sys.stdin):
    run = jaxrec.train(config, data=data, run=folder / str(number), quiet=True)
    lines = map(json.loads, (run.folder / "timing.jsonl").read_text().splitlines())
    found = {}
    for line in lines:
        if "steps_per_second" in line:
            found["a training step"] = 1 / line["steps_per_second"]
        if line.get("event") == "evaluated":
            found["ranking of validation"] = line["evaluate_seconds"]
    print(json.dumps(found), flush=True)
"""


def main() -> None:
    """Time all sides in turns and record a ratio for each figure."""
    parser = argparse.ArgumentParser(prog="python -m bench against", description=__doc__)
    parser.add_argument("commit")
    parser.add_argument("--data", type=Path, help="folder of Gowalla; else synthetic of its size")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--steps", type=int, default=20)
    args = parser.parse_args()
    with worktree(args.commit) as tree, tempfile.TemporaryDirectory() as folder:
        trees = {"before": tree, "before again": tree, "now": ROOT}
        taken = _taken(trees, Path(folder), args)
    command = f"python -m bench against {args.commit} --rounds {args.rounds}"
    for what, of in taken.items():
        for impl, over in (("now", "before"), ("before again", "before")):
            ratios = [a / b for a, b in zip(of[impl], of[over], strict=True)]
            medians = {side: statistics.median(values) for side, values in of.items()}
            record(
                "against", f"{impl} / {over}", ratios, "ratio", command, what=what, seconds=medians
            )


def _taken(
    trees: dict[str, Path], folder: Path, args: argparse.Namespace
) -> dict[str, dict[str, list[float]]]:
    """Return the seconds by figure and side, without the first round, which is warm-up."""
    data = args.data.resolve() if args.data else _synthetic(folder / "data")
    sides = {name: _side(tree, folder / name, data, args.steps) for name, tree in trees.items()}
    taken: dict[str, dict[str, list[float]]] = {}
    try:
        for round_ in range(args.rounds + 1):
            order = list(trees) if round_ % 2 else list(trees)[::-1]
            for name in order:
                found = _ask(sides[name])
                found["quickstart, whole process"] = _quickstart(trees[name])
                for what, value in found.items() if round_ else ():
                    taken.setdefault(what, {}).setdefault(name, []).append(value)
    finally:
        for side in sides.values():
            side.kill()
            side.wait()
    return taken


def _synthetic(folder: Path) -> Path:
    """Make a prepared folder of Gowalla's size, which both commits can read."""
    sizes = ["--users", "29858", "--items", "40981", "--edges", "810128"]
    command = [sys.executable, "-m", "jaxrec", "data", "synth", "--out", str(folder), *sizes]
    subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL, check=True)
    return folder


def _side(tree: Path, folder: Path, data: Path, steps: int) -> subprocess.Popen[str]:
    folder.mkdir()
    return subprocess.Popen(
        [sys.executable, "-c", TRAIN, str(folder), str(data), str(steps)],
        env=os.environ | {"PYTHONPATH": str(tree)},
        cwd=folder,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def _ask(side: subprocess.Popen[str]) -> dict[str, float]:
    assert side.stdin is not None
    assert side.stdout is not None
    side.stdin.write("again\n")
    side.stdin.flush()
    return json.loads(side.stdout.readline())


def _quickstart(tree: Path) -> float:
    """Return the wall seconds of `jaxrec train` in a fresh process."""
    with tempfile.TemporaryDirectory() as parent:
        began = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "jaxrec", "train", "--run", f"{parent}/run", "--quiet"],
            env=os.environ | {"PYTHONPATH": str(tree)},
            cwd=parent,
            check=True,
        )
        return time.perf_counter() - began


if __name__ == "__main__":
    main()
