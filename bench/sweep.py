"""Trials of a search trained together by one program, against a process for each run.

    python -m bench sweep [--trials 12] [--seeds 3] [--epochs 5] [--processes 3]

The trials are LightGCN's with other learning rates and L2, on ``data synth`` with 2,000 users,
1,000 items and 40,000 pairs. Every side trains, evaluates and writes whole run folders without
report.html. So many runs as ``--processes`` are timed as processes, after one with an empty compile
cache; the seconds of a loop over all runs are computed from theirs. They are of one configuration,
so that all their programs are in the cache, where a loop over trials would compile the steps of
each trial anew, since its learning rate is a constant there.
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
    parser.add_argument("--processes", type=int, default=3, help="runs timed as a process each")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent)
        synthetic.make(2_000, 1_000, 40_000).save(folder / "data")
        runs = _runs(folder / "data", args)
        alone = _alone(folder, runs, args.processes)
        together = [_together(folder / f"together-{n}", runs, folder) for n in range(2)]
    count = len(runs)
    command = (
        f"python -m bench sweep --trials {args.trials} --seeds {args.seeds} --epochs {args.epochs}"
    )
    load = f"{os.getloadavg()[1]:.0f} processes were running on {os.cpu_count()} cores"
    more = {"runs": count, "epochs": args.epochs, "shared_machine": load}

    def line(impl: str, values: list[float], unit: str, what: str) -> None:
        record("sweep", impl, values, unit, command, what=what, **more)

    warm = statistics.median(alone[1:])
    loops = {"cold": alone[0] + (count - 1) * warm, "warm": count * warm}
    line("a process a run", alone[1:], "s", "a run, warm cache")
    line("a process a run", alone[:1], "s", "a run, cold cache")
    for cache, seconds in zip(("cold", "warm"), together, strict=True):
        line("together", [seconds], "s", f"all runs, {cache} cache")
        line("a process a run", [loops[cache]], "s", f"all runs, {cache} cache, from one run")
        line("together", [loops[cache] / seconds], "times less", f"all runs, {cache} cache")
    each_cold = count * alone[0] / together[0]
    line("together", [each_cold], "times less", "all runs, a cold cache in every process")


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


def _alone(folder: Path, runs: list[Config], processes: int) -> list[float]:
    """Seconds of some runs in a process each: the first with an empty cache."""
    taken = []
    for number in range(processes + 1):
        path = folder / f"alone-{number}.json"
        path.write_text(_json(runs[0]), encoding="utf-8")
        run = str(folder / f"alone-{number}")
        taken.append(_seconds(ALONE, [str(path), run], folder / "cache-alone"))
    return taken


def _together(inside: Path, runs: list[Config], folder: Path) -> float:
    """Seconds of all runs in one program."""
    inside.mkdir()
    for number, config in enumerate(runs):
        (inside / f"run-{number:03}.json").write_text(_json(config), encoding="utf-8")
    return _seconds(TOGETHER, [str(inside)], folder / "cache-together")


def _json(config: Config) -> str:
    return json.dumps(configs.to_dict(config))


if __name__ == "__main__":
    main()
