"""The step as the graph grows: edges and nodes times 1, 4, 16 and 64, each in its own process.

LightGCN of 3 layers at D = 64 with dense Adam on synthetic power-law graphs, compared with the rate
at which the same process gathers random rows of a table of that size. The time to build the graph
is given separately.
"""

import argparse
import statistics
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from bench.common import device, gather_rate, record, seconds
from jaxrec import presets
from jaxrec.data import synthetic
from jaxrec.data.split import Splits
from jaxrec.log import peak_memory
from jaxrec.training.problem import Problem

COMMAND = "python -m bench growth"
USERS, ITEMS, EDGES, DIM, LAYERS = 30_000, 40_000, 780_000, 64, 3
FACTORS = (1, 4, 16, 64)


def forget_peak() -> None:
    """Reset the peak of the resident memory (proc(5), clear_refs)."""
    Path("/proc/self/clear_refs").write_text("5")


def measure(factor: int, rounds: int) -> None:
    """Measure one size: the step, its memory, and the gathers."""
    data = synthetic.make(USERS * factor, ITEMS * factor, EDGES * factor)
    config = presets.get("lightgcn-gowalla")
    config = replace(config, model=replace(config.model, dim=DIM, layers=LAYERS))
    nothing = data.take(np.zeros(0, np.int64))
    began = time.perf_counter()
    problem = Problem.build(config, Splits(data, nothing, nothing))
    state = jax.block_until_ready(problem.initial_state())
    built = time.perf_counter() - began
    dispatch = jax.jit(problem.stepper.dispatch, donate_argnums=0)
    steps = max(1, 16 // factor)

    def run() -> None:
        nonlocal state
        state, totals = dispatch(state, problem.data, jnp.int32(steps))
        totals.loss.block_until_ready()

    run()
    forget_peak()
    n_nodes, n_edges = data.n_users + data.n_items, data.n_edges
    step = [1e3 * value / steps for value in seconds(run, repeats=rounds)]
    memory = peak_memory()
    about = {"edges": n_edges, "nodes": n_nodes, "dim": DIM, "device": device()}

    def line(what: str, values: list[float], unit: str) -> None:
        what = f"{what}, {n_edges:,} edges"
        record("growth", "jaxrec", values, unit, COMMAND, what=what, **about)

    line("step", step, "ms")
    line("step for each edge", [1e6 * value / n_edges for value in step], "ns")
    line("resident memory while training", [memory / 1e9], "GB")
    line("resident memory for each edge", [memory / n_edges], "bytes")
    line("making the graph and the start", [built], "s")
    rate = gather_rate(n_nodes, DIM)
    line("random gathers of rows", [rate / 1e6], "million/s")
    # All products except the last forward and the first backward one gather a row per edge.
    gathered = 1e3 * (2 * LAYERS - 2) * 2 * n_edges / rate
    above = statistics.median(step) / gathered
    what = f"a step's gathers at that rate, {n_edges:,} edges"
    record("growth", "random gathers", [gathered], "ms", COMMAND, what=what, above=above, **about)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--factors", type=int, nargs="+", default=FACTORS)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    if len(args.factors) == 1:
        measure(args.factors[0], args.rounds)
        return
    for factor in args.factors:  # each size is a process, to measure its memory alone
        options = ["--factors", str(factor), "--rounds", str(args.rounds)]
        subprocess.run([sys.executable, "-m", "bench", "growth", *options], check=True)


if __name__ == "__main__":
    main()
