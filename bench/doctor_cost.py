"""What the doctor costs: a run's steps and evaluations with it and without, in turn.

A round is what lies between two evaluations of the preset: its steps, the evaluation, and with the
doctor its measures; compilation and the run's beginning and end are left out of both. The clock is
that of the processor (all threads of the process), so that other processes do not count.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import replace

import jax
import jax.numpy as jnp

from bench.common import record
from jaxrec import compilation, presets
from jaxrec.config import LogConfig
from jaxrec.data.formats import resolve
from jaxrec.evaluate.run import parts
from jaxrec.train.problem import Problem
from jaxrec.train.state import SCAN_LENGTH


def round_of(preset: str, data: str, doctor: bool) -> Callable[[], None]:
    """A round of a preset that goes on from where the last one ended."""
    config = replace(presets.get(preset), log=LogConfig(doctor=doctor))
    problem = Problem.build(config, parts(config, resolve(data)))
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", nargs="+", default=["quickstart", "mf", "ngcf", "gcmc"])
    parser.add_argument("--data", default="synthetic")
    parser.add_argument("--rounds", type=int, default=15)
    args = parser.parse_args()
    compilation.use_cache()
    for preset in args.preset:
        calls = {
            "with": round_of(preset, args.data, True),
            "without": round_of(preset, args.data, False),
        }
        taken: dict[str, list[float]] = {name: [] for name in calls}
        for n in range(args.rounds + 2):
            for name, call in calls.items():
                began = time.process_time()
                call()
                if n >= 2:  # the first ones compile
                    taken[name].append(time.process_time() - began)
        least = {name: statistics.median(seconds) for name, seconds in taken.items()}
        shares = [100 * (least["with"] / least["without"] - 1)]
        data = "synthetic" if args.data == "synthetic" else args.data.rstrip("/").split("/")[-1]
        command = f"python -m bench doctor-cost --preset {preset} --data {data}"
        for name, seconds in taken.items():
            record(
                "doctor-cost",
                f"{name} the doctor",
                [1e3 * s for s in seconds],
                "ms",
                command,
                what=f"{preset}: from one evaluation to the next",
                data=data,
            )
        record(
            "doctor-cost", "jaxrec", shares, "%", command, what=f"{preset}: more time", data=data
        )


if __name__ == "__main__":
    main()
