"""PinSAGE on graphs of 500 thousand and of 5 million nodes: the step, the whole process's memory.

Synthetic power-law graphs with ten edges a node, in a prepared folder that the training process
maps; each size in a process of its own. The least memory that would do is not looked for.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from bench.common import device, record, seconds
from jaxrec import presets
from jaxrec.config import NegativesConfig, OptimConfig, TrainConfig
from jaxrec.data import synthetic
from jaxrec.data.dataset import Dataset
from jaxrec.data.split import Splits
from jaxrec.log import peak_memory
from jaxrec.train.problem import Problem

COMMAND = "python -m bench sampled"
USERS, ITEMS, EDGES = 300_000, 200_000, 5_000_000
FACTORS = (1, 10)
STEPS = 8


def make(factor: int, folder: Path) -> None:
    """Write the data of one size."""
    synthetic.make(USERS * factor, ITEMS * factor, EDGES * factor).save(folder)


def measure(folder: Path, rounds: int) -> None:
    """One size: from the prepared folder to trained steps."""
    data = Dataset.load(folder)
    config = replace(
        presets.get("pinsage"),
        negatives=NegativesConfig("shared", 256),
        optim=OptimConfig("rowwise_adagrad", learning_rate=0.05),
        train=TrainConfig(batch_size=1024),
    )
    nothing = data.take(np.zeros(0, np.int64))
    began = time.perf_counter()
    problem = Problem.build(config, Splits(data, nothing, nothing))
    state = jax.block_until_ready(problem.initial_state())
    built = time.perf_counter() - began
    dispatch = jax.jit(problem.stepper.dispatch, donate_argnums=0)

    def run() -> None:
        nonlocal state
        state, totals = dispatch(state, problem.data, jnp.int32(STEPS))
        assert totals.loss.block_until_ready() > 0

    step = [1e3 * value / STEPS for value in seconds(run, repeats=rounds)]
    about = {"nodes": data.n_users + data.n_items, "edges": data.n_edges, "device": device()}
    about |= {"dim": config.model.dim, "batch": 1024, "negatives": 256}
    about |= {"fan_outs": list(config.model.hops)}

    def line(what: str, values: list[float], unit: str) -> None:
        what = f"{what}, {about['nodes']:,} nodes and {data.n_edges:,} edges"
        record("sampled", "jaxrec", values, unit, COMMAND, what=what, **about)

    line("step", step, "ms")
    line("peak memory of the process", [peak_memory() / 1e9], "GB")
    line("graph, neighbours and start", [built], "s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--factors", type=int, nargs="+", default=FACTORS)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--make", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.make:
        make(args.factors[0], args.make)
        return
    if args.folder:
        measure(args.folder, args.rounds)
        return
    for factor in args.factors:  # processes of their own, so that memory is each one's alone
        with tempfile.TemporaryDirectory() as parent:
            folder = Path(parent) / "data"
            base = [sys.executable, "-m", "bench", "sampled", "--factors", str(factor)]
            subprocess.run([*base, "--make", str(folder)], check=True)
            measuring = [*base, "--folder", str(folder), "--rounds", str(args.rounds)]
            subprocess.run(measuring, check=True)


if __name__ == "__main__":
    main()
