"""Trials of a search trained together by one program, against a process for each run.

    python -m bench sweep [--trials 12] [--seeds 3] [--epochs 5] [--processes 3]

The trials are LightGCN's with other learning rates and L2, on ``data synth`` with 2,000 users,
1,000 items and 40,000 pairs. Both sides train, evaluate and write whole run folders without
report.html. The loop of processes shares one compile cache. Three kinds of its runs are timed: the
first of all, whose cache is empty; the first of another trial, which compiles a step of its own,
since its learning rate is a constant there; and a run whose programs are all cached. The seconds of
the whole loop are computed from their medians, ``--processes`` runs of each of the last two kinds.
The other side trains all runs ``--processes`` times with an empty cache, and as often with a full
one.
"""

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.common import record
from jaxrec import config as configs
from jaxrec import presets
from jaxrec.config import Config
from jaxrec.data import synthetic

ROOT = Path(__file__).parents[1]

# Both sides compile into the cache that the environment names, and write no report.
TOGETHER = """
import sys
from pathlib import Path
from jaxrec import config
from jaxrec.training.run import Member, train_together

folder = Path(sys.argv[1])
files = sorted(folder.glob("*.json"))
ends = train_together([Member(config.load(f), folder / f.stem) for f in files], print)
assert all((end.folder / "embeddings.npz").is_file() for end in ends)
"""
ALONE = """
import sys
from jaxrec import config
from jaxrec.training import results
from jaxrec.training.run import train

results.can_report = lambda: False
train(config.load(sys.argv[1]), run=sys.argv[2], quiet=True)
"""


def main() -> None:
    """Time both sides with a cold and with a warm cache, and record them with their ratios."""
    parser = argparse.ArgumentParser(prog="python -m bench sweep", description=__doc__)
    parser.add_argument("--trials", type=int, default=12)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--processes", type=int, default=3, help="runs timed of each kind")
    args = parser.parse_args()
    if not 0 < args.processes < args.trials:
        parser.error(f"--processes must be from 1 to {args.trials - 1}, one less than --trials")
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent)
        synthetic.make(2_000, 1_000, 40_000).save(folder / "data")
        runs = _runs(folder / "data", args)
        first, of_new_trials, cached = _alone(folder, runs, args)
        tries = range(args.processes)
        caches = [folder / f"cache-together-{n}" for n in tries]
        together = [
            [_together(folder / f"{kind}-{n}", runs, caches[n]) for n in tries]
            for kind in ("empty", "full")
        ]
    count = len(runs)
    command = (
        f"python -m bench sweep --trials {args.trials} --seeds {args.seeds} --epochs {args.epochs}"
    )
    load = f"{os.getloadavg()[1]:.0f} processes were running on {os.cpu_count()} cores"
    more = {"runs": count, "epochs": args.epochs, "shared_machine": load}

    def line(impl: str, values: list[float], unit: str, what: str) -> None:
        record("sweep", impl, values, unit, command, what=what, **more)

    new, warm = statistics.median(of_new_trials), statistics.median(cached)
    line("a process a run", [first], "s", "a run, empty cache")
    line("a process a run", of_new_trials, "s", "a run, the first of its trial")
    line("a process a run", cached, "s", "a run, all programs cached")
    cold = first + (args.trials - 1) * new + (count - args.trials) * warm
    for cache, seconds, loop in zip(("empty", "warm"), together, (cold, count * warm), strict=True):
        line("together", seconds, "s", f"all runs, {cache} cache")
        line("a process a run", [loop], "s", f"all runs, {cache} cache at first, from three kinds")
        line("together", [loop / s for s in seconds], "times less", f"all runs, {cache} cache")


def _runs(data: Path, args: argparse.Namespace) -> list[Config]:
    """One configuration a run: the trials by their learning rate and L2, each with all seeds."""
    base = presets.get("lightgcn").replace(
        {"data": str(data), "train.epochs": args.epochs, "eval.every": 1, "split.seed": 0}
    )
    rates = [1e-3 * 2**n for n in range(-(-args.trials // 2))]
    trials = list(itertools.product(rates, (1e-4, 1e-3)))[: args.trials]
    return [
        base.replace({"optim.learning_rate": rate, "train.l2": l2, "seed": seed})
        for rate, l2 in trials
        for seed in range(args.seeds)
    ]


def _seconds(code: str, arguments: list[str], cache: Path) -> float:
    """Wall seconds of a whole process."""
    env = os.environ | {
        "PYTHONPATH": str(ROOT),
        "JAX_COMPILATION_CACHE_DIR": str(cache),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    began = time.perf_counter()
    subprocess.run(
        [sys.executable, "-c", code, *arguments], check=True, env=env, stdout=subprocess.DEVNULL
    )
    return time.perf_counter() - began


def _alone(
    folder: Path, runs: list[Config], args: argparse.Namespace
) -> tuple[float, list[float], list[float]]:
    """Seconds of runs in a process each: the first, the first of other trials, and cached ones."""

    def seconds(number: int, which: str) -> float:
        path = folder / f"alone-{which}-{number}.json"
        path.write_text(_json(runs[number]), encoding="utf-8")
        run = str(folder / f"alone-{which}-{number}")
        return _seconds(ALONE, [str(path), run], folder / "cache-alone")

    numbers = [n * args.seeds for n in range(args.processes + 1)]
    first, *of_new_trials = [seconds(number, "new") for number in numbers]
    return first, of_new_trials, [seconds(number, "cached") for number in numbers[1:]]


def _together(inside: Path, runs: list[Config], cache: Path) -> float:
    """Seconds of all runs in one program."""
    inside.mkdir()
    for number, config in enumerate(runs):
        (inside / f"run-{number:03}.json").write_text(_json(config), encoding="utf-8")
    return _seconds(TOGETHER, [str(inside)], cache)


def _json(config: Config) -> str:
    return json.dumps(configs.to_dict(config))


if __name__ == "__main__":
    main()
