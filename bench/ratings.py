"""RMSE on MovieLens 100K's first fold: baselines, biased MF, two towers and GC-MC.

Hyper-parameters and lengths were chosen on a tenth of u1.base; test is read once a seed.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.common import record
from jaxrec.runfolder import read_json

COMMAND = "python -m bench ratings --data ml-100k"
RUNS = {
    "jaxrec biased-mf": ("biased-mf",),
    "jaxrec two-tower-ratings, ids": ("two-tower-ratings", "--model.features", "False"),
    "jaxrec two-tower-ratings, features": ("two-tower-ratings",),
    "jaxrec gcmc-ratings, ids": ("gcmc-ratings", "--model.features", "False"),
    "jaxrec gcmc-ratings, features": ("gcmc-ratings",),
}
PUBLISHED = {"jaxrec gcmc-ratings, ids": 0.910, "jaxrec gcmc-ratings, features": 0.905}


def one_seed(options: tuple[str, ...], data: Path, seed: int) -> tuple[dict[str, Any], float]:
    """Return eval.json of a run in a new process, and its seconds."""
    with tempfile.TemporaryDirectory() as parent:
        run = Path(parent) / "run"
        command = [sys.executable, "-m", "jaxrec", "train", *options, "--data", str(data)]
        began = time.perf_counter()
        subprocess.run([*command, "--seed", str(seed), "--run", str(run), "--quiet"], check=True)
        return read_json(run / "eval.json"), time.perf_counter() - began


def line(impl: str, what: str, values: list[float], unit: str, **extra: Any) -> None:
    mean = sum(values) / len(values)
    record("ratings", impl, values, unit, COMMAND, what=what, mean=mean, **extra)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of u1.base, u1.test")
    parser.add_argument("--impl", nargs="+", choices=list(RUNS), default=list(RUNS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    args = parser.parse_args()
    for impl in args.impl:
        runs = [one_seed(RUNS[impl], args.data / "u1.base", seed) for seed in args.seeds]
        results = [result for result, _ in runs]
        published = {"published": PUBLISHED[impl]} if impl in PUBLISHED else {}
        for name in ("rmse", "mae"):
            values = [result["metrics"][name] for result in results]
            more = published if name == "rmse" else {}
            line(impl, f"test {name} on u1", values, f"{name}@test", seeds=args.seeds, **more)
        line(impl, "whole process", [seconds for _, seconds in runs], "s", seeds=args.seeds)
        if impl == args.impl[0]:
            for control in ("mean", "biases"):
                for name, value in results[0]["baselines"][control].items():
                    line(control, f"test {name} on u1", [value], f"{name}@test")


if __name__ == "__main__":
    main()
