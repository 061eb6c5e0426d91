"""Kills at seeded random moments: whether every run ends with the bits of the unbroken one.

Short runs are stopped by SIGKILL or SIGTERM, again and again, at moments drawn evenly over their
usual length, a quarter of them within the first second; then resumed and left alone. A resumed run
must go on from the newest sealed checkpoint there was, and end with the unbroken run's bits. The
compiled programs have a cache folder of their own, so that kills meet its writes too.
"""

import argparse
import hashlib
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bench.common import record
from jaxrec.data import synthetic
from jaxrec.runfolder import read_lines
from jaxrec.train.checkpoint import Damaged, read_manifest

COMMAND = "python -m bench kills"
SMALL = ("--model.dim", "16", "--train.batch-size", "64", "--eval.k", "20", "--eval.every", "1")
SMALL += ("--checkpoint.every", "1", "--train.epochs", "8")
RUNS = {
    "lightgcn, refit": ("lightgcn", *SMALL, "--train.refit"),
    "mf, row-sparse adam": ("mf", *SMALL, "--optim.sparse", "True"),
    "ngcf, dropout": ("ngcf", *SMALL, "--model.message-dropout", "0.1"),
    "pinsage, blocks of the host": ("pinsage", *SMALL, "--model.sampling", "host"),
}
SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM)
AT_MOST = 4  # kills of one run
EARLY = 0.25  # share of kills within the first second
LIMIT = 600  # seconds that no small run needs: past them it hangs


class Kill(NamedTuple):
    """What a kill met."""

    signal: str
    stage: str


def start(args: list[str], env: dict[str, str]) -> subprocess.Popen:
    command = [sys.executable, "-m", "jaxrec", *args]
    pipe, both = subprocess.PIPE, subprocess.STDOUT
    return subprocess.Popen(command, env=env, text=True, stdout=pipe, stderr=both)


def digest(run: Path) -> str:
    """Of everything in a finished run that must repeat to the bit."""
    found = hashlib.sha256()
    with np.load(run / "embeddings.npz") as stored:
        for name in sorted(stored.files):
            found.update(name.encode() + stored[name].tobytes())
    for name in ("metrics.jsonl", "eval.json", "config.json", "slices.json"):
        found.update((run / name).read_bytes())
    return found.hexdigest()


def sealed(run: Path) -> int | None:
    """The newest step whose checkpoint is whole."""
    steps = []
    for folder in run.glob("checkpoints/*"):
        try:
            read_manifest(folder)
        except Damaged:
            continue
        steps.append(int(folder.name))
    return max(steps, default=None)


def stage(run: Path) -> str:
    """What a killed run was at, by what it has left."""
    if not (run / "config.json").is_file():
        return "start"
    timing = read_lines(run / "timing.jsonl")
    events = [line.get("event") for line in timing]
    if "initialised" not in events:
        return "data and first parameters"
    if events.count("compiled") < events.count("initialised"):
        return "compilation"
    unsealed = [p for p in run.glob("checkpoints/*") if not (p / "manifest.json").is_file()]
    if unsealed:
        return "save"
    metrics = read_lines(run / "metrics.jsonl")
    if metrics and metrics[-1]["split"] == "train":
        return "evaluation"
    if (run / "embeddings.npz").is_file():
        return "results"
    return "steps and final evaluation"


def broken_run(
    run: Path, options: tuple[str, ...], usual: float, rng: random.Random, env: dict[str, str]
) -> list[Kill]:
    """Train, be killed, resume, ... to the end. Raises AssertionError where something is lost."""
    kills: list[Kill] = []
    newest: int | None = None
    while True:
        begun = (run / "config.json").is_file()
        args = ["resume", str(run)] if begun else ["train", *options, "--run", str(run)]
        process, number = start(args, env), rng.choice(SIGNALS)
        if len(kills) < AT_MOST:
            delay = rng.uniform(0, 1 if rng.random() < EARLY else usual)
            try:
                process.wait(delay)
            except subprocess.TimeoutExpired:
                process.send_signal(number)
        output, _ = process.communicate(timeout=LIMIT)
        resumed = re.search(r"going on from the checkpoint of step (\d+)", output)
        assert resumed is None or int(resumed[1]) == newest, output
        assert "Traceback" not in output, output
        if process.returncode == 0:
            return kills
        assert process.returncode in (-signal.SIGKILL, 143), (process.returncode, output)
        kills.append(Kill(signal.Signals(number).name, stage(run)))
        newest = sealed(run)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--runs", nargs="+", choices=list(RUNS), default=list(RUNS))
    args = parser.parse_args()
    rng = random.Random(args.seed)
    for name in args.runs:
        with tempfile.TemporaryDirectory() as parent:
            home, began = Path(parent), time.perf_counter()
            synthetic.make(80, 60, 1000, seed=1).save(home / "data")
            env = os.environ | {"XDG_CACHE_HOME": str(home / "cache"), "JAX_PLATFORMS": "cpu"}
            options = (*RUNS[name], "--data", str(home / "data"))
            usual = 0.0
            for unbroken in ("cold", "warm"):  # the second one's length is the usual one
                start_of = time.perf_counter()
                process = start(["train", *options, "--run", str(home / unbroken)], env)
                output, _ = process.communicate(timeout=LIMIT)
                assert process.returncode == 0, output
                usual = time.perf_counter() - start_of
            wanted = digest(home / "warm")
            assert digest(home / "cold") == wanted
            kills: list[Kill] = []
            equal: list[float] = []
            while len(kills) < args.kills / len(args.runs):
                run = home / f"run-{len(equal)}"
                kills += broken_run(run, options, usual, rng, env)
                equal.append(float(digest(run) == wanted))
            record(
                "kills",
                name,
                equal,
                "1 where a killed run ended with the unbroken one's bits, else 0",
                f"{COMMAND} --seed {args.seed}",
                kills=len(kills),
                runs=len(equal),
                runs_with_other_bits=int(len(equal) - sum(equal)),
                signals=Counter(kill.signal for kill in kills),
                stages=Counter(kill.stage for kill in kills),
                usual_seconds=usual,
                seconds=time.perf_counter() - began,
            )


if __name__ == "__main__":
    main()
