"""The cost of the doctor: in a whole run, and between two evaluations.

``--part runs`` times the doctor's work in a process of ``jaxrec train PRESET``: what it measures,
judges and writes at the start, at each evaluation and at the end, compilation of its programs, and
the longer compilation of the steps' program with its watch. Each preset runs once with nothing
compiled before, and once with every program in the cache.

The share is of the wall time of the whole process; the share of processor time is given too.
Programs that an evaluation compiles as well (the embeddings) do not count as the doctor's.

``--part rounds`` times steps and an evaluation, with the doctor's measures and without in turn, and
without compilation. Its clock is processor time (of all threads of the process), so that other
processes do not count.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxrec
from bench.common import record
from jaxrec import compilation, presets
from jaxrec.config import LogConfig
from jaxrec.data.formats import resolve
from jaxrec.evaluation.user_runs import splits_of
from jaxrec.training.monitor import Attendant
from jaxrec.training.problem import Problem
from jaxrec.training.step import SCAN_LENGTH


def problem_of(preset: str, data: str, doctor: bool) -> Problem:
    """Build the preset's problem, with or without the doctor."""
    config = replace(presets.get(preset), log=LogConfig(doctor=doctor))
    return Problem.build(config, splits_of(config, resolve(data)))


def round_of(preset: str, data: str, doctor: bool) -> Callable[[], None]:
    """Return a round of a preset, which continues from where the last one ended."""
    problem = problem_of(preset, data, doctor)
    state = problem.initial_state()
    dispatch = jax.jit(problem.stepper.dispatch, donate_argnums=0)

    def step() -> None:
        nonlocal state
        left = problem.cadence.evaluate
        while left:
            n = min(SCAN_LENGTH, left)
            state, _ = dispatch(state, problem.data, jnp.int32(n))
            left -= n
        jax.device_get(state.totals)
        problem.measure("validation", state, lambda: False)
        if doctor:
            problem.examine(state)

    return step


def now() -> np.ndarray:
    """Return the seconds of both clocks: wall and processor."""
    return np.array([time.perf_counter(), time.process_time()])


def compiled(preset: str, data: str, doctor: bool) -> np.ndarray:
    """Return the seconds, by both clocks, that compiling the steps' program takes."""
    problem = problem_of(preset, data, doctor)
    state = problem.initial_state()
    jitted = jax.jit(problem.stepper.dispatch, donate_argnums=0)
    began = now()
    jitted.lower(state, problem.data, jnp.int32(1)).compile()
    return now() - began


def one_run(preset: str, data: str, began: float, watch: bool) -> dict[str, Any]:
    """A run in this process, which did nothing before: its seconds, and the doctor's.

    Args:
      began: when the process was started, in seconds since 1970.
      watch: compile the steps' program with the watch and without, too.
    """
    taken: list[list[float]] = []
    measure = Attendant.measure

    def clocked(
        self: Attendant, examine: Any, state: Any, step: int, run: Path, reporter: Any
    ) -> None:
        if not taken:  # an evaluation compiles these too
            jax.block_until_ready(examine.scorer(state).params)
        since = now()
        measure(self, examine, state, step, run, reporter)
        taken.append((now() - since).tolist())

    Attendant.measure = clocked
    with tempfile.TemporaryDirectory() as parent:
        run = jaxrec.train(presets.get(preset), data=data, run=Path(parent) / "run", quiet=True)
    whole, longer = [time.time() - began, time.process_time()], np.zeros(2)
    if watch:
        jax.config.update("jax_enable_compilation_cache", False)
        jax.clear_caches()
        compiled(preset, data, True)  # the first call pays for tracing
        longer = compiled(preset, data, True) - compiled(preset, data, False)
    steps = run.evaluation["steps"]
    return {"run": whole, "doctor": taken, "watch": longer.tolist(), "steps": steps}


def runs(preset: str, data: str, named: dict[str, str]) -> None:
    """Run twice, each in a new process; the first run fills the cache of compiled programs."""
    with tempfile.TemporaryDirectory() as cache:
        for when in ("nothing compiled before", "compiled before"):
            command = [sys.executable, "-m", "bench", "doctor-cost", "--one", preset]
            # The cached program of the steps includes the watch.
            command += ["--watch"] if when.startswith("nothing") else []
            told = subprocess.run(
                [*command, "--data", data, "--began", str(time.time())],
                env=os.environ | {"XDG_CACHE_HOME": cache},
                check=True,
                text=True,
                stdout=subprocess.PIPE,
            )
            found = json.loads(told.stdout.splitlines()[-1])
            whole, doctor = np.array(found["run"]), np.array(found["doctor"])
            watch = np.maximum(found["watch"], 0)
            share = 100 * (doctor.sum(axis=0) + watch) / whole
            record(
                "doctor-cost",
                when,
                [float(share[0])],
                "%",
                f"{named['command']} --part runs",
                what=f"{preset}: of a whole run",
                data=named["data"],
                run_seconds=float(whole[0]),
                steps=found["steps"],
                measured=len(doctor),
                first_ms=float(1e3 * doctor[0, 0]),
                later_ms=float(1e3 * np.median(doctor[1:, 0])),
                compile_watch_ms=float(1e3 * watch[0]),
                processor_share=float(share[1]),
                processor_seconds=float(whole[1]),
            )


def rounds(preset: str, data: str, named: dict[str, str], n_rounds: int) -> None:
    """Run rounds with and without the doctor in turn."""
    calls = {
        "with": round_of(preset, data, True),
        "without": round_of(preset, data, False),
    }
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for n in range(n_rounds + 2):
        for name, call in calls.items():
            began = time.process_time()
            call()
            if n >= 2:  # the first rounds compile
                taken[name].append(time.process_time() - began)
    for name, seconds in taken.items():
        record(
            "doctor-cost",
            f"{name} the doctor",
            [1e3 * s for s in seconds],
            "ms",
            f"{named['command']} --part rounds",
            what=f"{preset}: from one evaluation to the next",
            data=named["data"],
        )
    pairs = zip(taken["with"], taken["without"], strict=True)
    record(
        "doctor-cost",
        "jaxrec",
        [100 * (with_ / without - 1) for with_, without in pairs],
        "%",
        f"{named['command']} --part rounds",
        what=f"{preset}: more time from one evaluation to the next",
        data=named["data"],
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", nargs="+", default=["quickstart"])
    parser.add_argument("--data", help="the preset's own by default")
    parser.add_argument("--part", choices=("runs", "rounds"), nargs="+", default=["runs", "rounds"])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--one", metavar="PRESET", help="a run in this process, told as JSON")
    parser.add_argument("--began", type=float, default=time.time(), help="of --one")
    parser.add_argument("--watch", action="store_true", help="of --one")
    args = parser.parse_args()
    if args.one:
        print(json.dumps(one_run(args.one, args.data, args.began, args.watch)))
        return
    compilation.use_cache()
    for preset in args.preset:
        data = args.data or presets.get(preset).data
        name = Path(data).name
        command = f"python -m bench doctor-cost --preset {preset}"
        named = {"data": name, "command": command + (f" --data {name}" if args.data else "")}
        if "runs" in args.part:
            runs(preset, data, named)
        if "rounds" in args.part:
            rounds(preset, data, named, args.rounds)


if __name__ == "__main__":
    main()
