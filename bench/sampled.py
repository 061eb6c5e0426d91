"""PinSAGE on graphs of 500 thousand and of 5 million nodes: the step, the whole process's memory.

Synthetic power-law graphs with ten edges a node, in a prepared folder that the training process
maps; each size in a process of its own, whose steps are timed in turn. The least memory that would
do is not looked for.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

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
from jaxrec.training.problem import Problem

COMMAND = "python -m bench sampled"
USERS, ITEMS, EDGES = 300_000, 200_000, 5_000_000
FACTORS = (1, 10)
STEPS = 8


def make(factor: int, folder: Path) -> None:
    """Write the data of one size."""
    synthetic.make(USERS * factor, ITEMS * factor, EDGES * factor).save(folder)


def measure(folder: Path) -> None:
    """Measure one size, from prepared folder to trained steps, once per line of the input."""
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

    run()
    about = {"nodes": data.n_users + data.n_items, "edges": data.n_edges, "device": device()}
    about |= {"dim": config.model.dim, "batch": 1024, "negatives": 256}
    about |= {"fan_outs": list(config.model.hops), "neighbors": config.model.neighbors}
    print(json.dumps(about), flush=True)
    for _ in sys.stdin:
        (taken,) = seconds(run, repeats=1, warmup=0)
        print(json.dumps({"ms": 1e3 * taken / STEPS}), flush=True)
    print(json.dumps({"peak": peak_memory() / 1e9, "built": built}), flush=True)


class Size:
    """A process that measures one size."""

    def __init__(self, folder: Path) -> None:
        command = [sys.executable, "-m", "bench", "sampled", "--folder", str(folder)]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)
        self.about = self._answer()
        self.step: list[float] = []

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"a measuring process ended with status {self.process.wait()}")
        return json.loads(line)

    def time(self) -> float:
        """Return the milliseconds per step, over several steps at once."""
        assert self.process.stdin is not None
        print("time", file=self.process.stdin, flush=True)
        return self._answer()["ms"]

    def end(self) -> None:
        """Record the measurements."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        found = self._answer()
        self.process.wait()

        def line(what: str, values: list[float], unit: str) -> None:
            what = f"{what}, {self.about['nodes']:,} nodes and {self.about['edges']:,} edges"
            record("sampled", "jaxrec", values, unit, COMMAND, what=what, **self.about)

        line("step", self.step, "ms")
        line("peak memory of the process", [found["peak"]], "GB")
        line("graph, neighbours and start", [found["built"]], "s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--factors", type=int, nargs="+", default=FACTORS)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--wait", action="store_true", help="for a line of input before timing")
    parser.add_argument("--make", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.make:
        make(args.factors[0], args.make)
        return
    if args.folder:
        measure(args.folder)
        return
    with tempfile.TemporaryDirectory() as parent:
        sizes = []
        for factor in args.factors:  # each is a process, to measure its memory alone
            folder = Path(parent) / str(factor)
            making = [sys.executable, "-m", "bench", "sampled", "--factors", str(factor)]
            subprocess.run([*making, "--make", str(folder)], check=True)
            sizes.append(Size(folder))
        if args.wait:
            print("ready", flush=True)
            sys.stdin.readline()
        for round_number in range(1 + args.rounds):
            for size in sizes:
                value = size.time()
                if round_number:  # the first round is warm-up
                    size.step.append(value)
        for size in sizes:
            size.end()


if __name__ == "__main__":
    main()
