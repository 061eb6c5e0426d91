"""Kills at seeded random moments: does every run end with the bits of the uninterrupted one?

Short runs, of one process and of two over loopback, are stopped by SIGKILL or SIGTERM repeatedly,
at moments drawn uniformly over their usual length, a quarter of them within the first second. Then
they are resumed and left alone. Of two processes, one or both are hit. A resumed run must continue
from the newest sealed checkpoint, and end with the bits of the uninterrupted run. The compiled
programs have their own cache folder, so that kills hit its writes too.

Runs to be killed in their first second are started as users start them. Others are forked from a
process that has imported jaxrec, which halves the time of a kill.
"""

import argparse
import contextlib
import hashlib
import json
import math
import os
import random
import re
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from bench.common import record
from jaxrec.data import synthetic
from jaxrec.runfolder import read_lines
from jaxrec.training.checkpoint import Damaged, read_manifest

ROOT = Path(__file__).parents[1]
COMMAND = "python -m bench kills"
SMALL = ("--model.dim", "16", "--train.batch-size", "64", "--eval.k", "20", "--eval.every", "1")
SMALL += ("--checkpoint.every", "1", "--train.epochs", "8")
# A machine that stalls for a while must not count as a dead process.
TWO = (*SMALL, "--mesh.silent-seconds", "900")


class Case(NamedTuple):
    """A run to be killed: processes, share of the kills, and `jaxrec train` arguments."""

    processes: int
    share: float
    options: tuple[str, ...]


CASES = {
    "lightgcn, refit": Case(1, 0.18, ("lightgcn", *SMALL, "--train.refit")),
    "mf, row-sparse adam": Case(1, 0.18, ("mf", *SMALL, "--optim.sparse", "True")),
    "ngcf, dropout": Case(1, 0.18, ("ngcf", *SMALL, "--model.message-dropout", "0.1")),
    "pinsage, blocks of the host": Case(1, 0.18, ("pinsage", *SMALL, "--model.sampling", "host")),
    "two processes: lightgcn": Case(2, 0.14, ("lightgcn", *TWO, "--mesh.table", "2")),
    "two processes: mf": Case(2, 0.14, ("mf", *TWO, "--mesh.data", "2")),
}
SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM)
AT_MOST = 6  # kills per run
EARLY = 0.25  # share of the kills that come within the first second
LIMIT = 1200  # seconds after which a small run counts as hanging


def launcher() -> Any:
    """Import scripts/launch_local.py, whose watch over several processes is tested too."""
    place = spec_from_file_location("launch_local", ROOT / "scripts" / "launch_local.py")
    assert place is not None
    assert place.loader is not None
    module: Any = module_from_spec(place)
    place.loader.exec_module(module)
    module.GRACE_SECONDS = 1.0
    return module


LAUNCHER = launcher()


class Process(Protocol):
    """The interface of Popen that is needed here."""

    returncode: int | None

    def poll(self) -> int | None: ...
    def send_signal(self, sig: int, /) -> None: ...
    def kill(self) -> None: ...


class Forked:
    """A process forked from a server that has imported jaxrec (tests/forkserver.py)."""

    def __init__(self, server: subprocess.Popen, pid: int) -> None:
        self._server, self._pid = server, pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        assert self._server.stdout is not None
        if self.returncode is None and select.select([self._server.stdout], [], [], 0)[0]:
            self.returncode = int(self._server.stdout.readline())
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class Starter:
    """Starts processes of jaxrec one after another."""

    def __init__(self, env: dict[str, str]) -> None:
        self._env = env
        command = [sys.executable, str(ROOT / "tests" / "forkserver.py")]
        pipes: dict = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "bufsize": 0}
        self._server = subprocess.Popen(command, env=env, **pipes)

    def start(self, args: list[str], out: Path, forked: bool) -> Process:
        """Start a process; ``out`` receives its output."""
        if not forked:
            with out.open("w") as file:
                both = {"stdout": file, "stderr": subprocess.STDOUT}
                command = [sys.executable, "-m", "jaxrec", *args]
                return subprocess.Popen(command, env=self._env, **both)
        out.write_text("")
        request = {"args": ["-m", "jaxrec", *args], "cwd": str(Path.cwd()), "reports": False}
        request |= {"env": {}, "out": str(out), "err": str(out)}
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(json.dumps(request).encode() + b"\n")
        return Forked(self._server, int(self._server.stdout.readline()))

    def close(self) -> None:
        self._server.kill()
        self._server.wait()


class Stop(NamedTuple):
    """How a run is to be killed: when, by which signal, and which of its processes."""

    delay: float
    signal: int
    whom: tuple[int, ...]


class Ended(NamedTuple):
    """How a start of a run ended, its output, and how long it took."""

    status: int
    output: str
    seconds: float


def attempt(starters: list[Starter], args: list[str], home: Path, stop: Stop | None) -> Ended:
    """Start a run's processes and wait until they end."""
    began = time.perf_counter()
    forked = stop is None or stop.delay > 1
    count = len(starters)
    where = ["--mesh.coordinator", f"127.0.0.1:{LAUNCHER.free_port()}"]
    where += ["--mesh.processes", str(count), "--mesh.process-id"]
    outs = [home / f"out-{n}" for n in range(count)]
    processes = [
        starter.start([*args, *([*where, str(n)] if count > 1 else [])], outs[n], forked)
        for n, starter in enumerate(starters)
    ]

    def hit() -> None:
        assert stop is not None
        for n in stop.whom:
            processes[n].send_signal(stop.signal)

    timers = [threading.Timer(LIMIT, lambda: [process.kill() for process in processes])]
    if stop is not None:
        timers.append(threading.Timer(stop.delay, hit))
    for timer in timers:
        timer.start()
    if count > 1:
        status = LAUNCHER.supervise(processes)
    else:
        while (ended := processes[0].poll()) is None:
            time.sleep(0.02)
        status = ended
    for timer in timers:
        timer.cancel()
        timer.join()
    seconds = time.perf_counter() - began
    assert seconds < LIMIT, f"hung: {args}"
    return Ended(status, "".join(out.read_text() for out in outs), seconds)


class Kill(NamedTuple):
    """The state that a kill interrupted, and the time until all processes had ended."""

    signal: str
    stage: str
    seconds: float


def digest(run: Path) -> str:
    """Return everything in a finished run that must have the same bits."""
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
    starters: list[Starter], run: Path, options: list[str], usual: float, rng: random.Random
) -> list[Kill]:
    """Train, be killed, resume, ... to the end. Raises AssertionError where something is lost."""
    kills: list[Kill] = []
    newest: int | None = None
    everyone = tuple(range(len(starters)))
    while True:
        begun = (run / "config.json").is_file()
        args = ["resume", str(run)] if begun else ["train", *options, "--run", str(run)]
        delay = rng.uniform(0, 1 if rng.random() < EARLY else usual)
        whom = rng.choice([everyone, *((n,) for n in everyone)])
        stop = Stop(delay, rng.choice(SIGNALS), whom) if len(kills) < AT_MOST else None
        ended = attempt(starters, args, run.parent, stop)
        resumed = re.search(r"going on from the checkpoint of step (\d+)", ended.output)
        assert resumed is None or int(resumed[1]) == newest, ended
        assert "Traceback" not in ended.output, ended
        if ended.status == 0:
            return kills
        assert stop is not None, ended
        # Of several processes those that were not hit end as they can.
        told = (1, 2, 143) if len(starters) > 1 else (-stop.signal, 128 + stop.signal)
        assert ended.status in told, ended
        name = signal.Signals(stop.signal).name
        kills.append(Kill(name, stage(run), ended.seconds - stop.delay))
        newest = sealed(run)


def series(name: str, n_kills: int, rng: random.Random, command: str) -> None:
    """Break runs of a case until there were so many kills, and record what came of it."""
    case = CASES[name]
    with tempfile.TemporaryDirectory() as parent, contextlib.ExitStack() as stack:
        home, began = Path(parent), time.perf_counter()
        synthetic.make(80, 60, 1000, seed=1).save(home / "data")
        ours = {"XDG_CACHE_HOME": str(home / "cache"), "JAX_PLATFORMS": "cpu"}
        ours["PYTHONPATH"] = str(ROOT)
        starters = [Starter(os.environ | ours) for _ in range(case.processes)]
        for starter in starters:
            stack.callback(starter.close)
        options = [*case.options, "--data", str(home / "data")]
        usual = 0.0
        for unbroken in ("cold", "warm"):  # the second one's length is the usual one
            args = ["train", *options, "--run", str(home / unbroken)]
            ended = attempt(starters, args, home, None)
            assert ended.status == 0, ended
            usual = ended.seconds
        wanted = digest(home / "warm")
        assert digest(home / "cold") == wanted
        kills: list[Kill] = []
        equal: list[float] = []
        while len(kills) < n_kills:
            run = home / f"run-{len(equal)}"
            kills += broken_run(starters, run, options, usual, rng)
            equal.append(float(digest(run) == wanted))
            print(f"{name}: {len(kills)} kills, {len(equal)} runs", file=sys.stderr, flush=True)
        record(
            "kills",
            name,
            equal,
            "1 where a killed run ended with the unbroken one's bits, else 0",
            command,
            processes=case.processes,
            kills=len(kills),
            runs=len(equal),
            runs_with_other_bits=int(len(equal) - sum(equal)),
            signals=Counter(kill.signal for kill in kills),
            stages=Counter(kill.stage for kill in kills),
            longest_seconds_to_end=max(kill.seconds for kill in kills),
            usual_seconds=usual,
            seconds=time.perf_counter() - began,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cases", nargs="+", choices=list(CASES), default=list(CASES))
    args = parser.parse_args()
    for name in args.cases:
        rng = random.Random(f"{args.seed} {name}")
        series(
            name, math.ceil(args.kills * CASES[name].share), rng, f"{COMMAND} --seed {args.seed}"
        )


if __name__ == "__main__":
    main()
