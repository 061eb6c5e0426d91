"""A training step of matrix factorisation with its table in host memory, or on the device.

The batch has 8,192 random pairs and as many negatives, D = 64, and tables have 100 thousand to 10
million rows. Both placements take turns with the same optimizer. The case also records the share of
time for which the device waits for rows. On a CPU, host and device share memory and cores, and each
step is a program of its own instead of part of a scan, so the figures include the full cost of
drawing twice, and of gathering, patching and writing rows.
"""

import argparse
import dataclasses
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import numpy as np

from bench.common import alternate, device, record
from jaxrec.config import Config, MeshConfig, ModelConfig, OptimConfig, TrainConfig
from jaxrec.data.dataset import Dataset
from jaxrec.data.split import Splits
from jaxrec.training.placement.host_rows import RowDispatch
from jaxrec.training.placement.host_table import HostProblem
from jaxrec.training.problem import Problem

COMMAND = "python -m bench host-tables"
PAIRS, STEPS = 2_000_000, 20


def random_splits(rows: int) -> Splits:
    """Return random pairs, with nine users per item."""
    rng, items = np.random.default_rng(0), rows // 10
    user, item = (rng.integers(0, n, PAIRS, np.int32) for n in (rows - items, items))
    train = Dataset(user, item, np.arange(rows - items), np.arange(items))
    nothing = train.take(np.zeros(0, np.int64))
    return Splits(train, nothing, nothing)


def stepping(made: Problem, host: bool) -> tuple[Callable[[], None], RowDispatch | None]:
    """A call that trains ``STEPS`` steps, and the host's part in it."""
    state = made.initial_state()
    dispatch: Any
    if host:
        dispatch = made.fed_by_host(state, 0)
    else:
        jitted = jax.jit(made.stepper.dispatch, donate_argnums=0)
        dispatch = jitted.lower(state, made.data, made.number(1)).compile()
    carry = [state]

    def call() -> None:
        carry[0], totals = dispatch(carry[0], made.data, made.number(STEPS))
        jax.block_until_ready(totals.loss)

    return call, dispatch if isinstance(dispatch, RowDispatch) else None


def counted(call: Callable[[], None], dispatch: RowDispatch, shares: list[float]) -> None:
    """Run the call, and add the share of its time for which the device waited for rows."""
    before, began = dispatch.waited, time.perf_counter()
    call()
    shares.append((dispatch.waited - before) / (time.perf_counter() - began))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 1_000_000, 10_000_000])
    parser.add_argument("--optimizer", nargs="+", default=["rowwise_adagrad", "adam"])
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    config = Config(
        model=ModelConfig("mf", dim=64, layers=0),
        train=TrainConfig(batch_size=8192, steps=100_000),
    )
    for rows in args.rows:
        splits = random_splits(rows)
        for optimizer in args.optimizer:
            if rows >= 10_000_000 and optimizer == "adam":
                continue  # a small machine has no room for two tables with their moments
            run = dataclasses.replace(config, optim=OptimConfig(optimizer, sparse=True))
            on_host = dataclasses.replace(run, mesh=MeshConfig(memory="host"))
            ours = HostProblem.build(on_host, splits)
            call, dispatch = stepping(ours, host=True)
            assert dispatch is not None
            calls = {"host": call, "device": stepping(Problem.build(run, splits), host=False)[0]}
            waited: list[float] = []
            calls["host"] = partial(counted, call, dispatch, waited)
            taken = alternate(calls, rounds=args.rounds, warmup=1)
            dispatch.close()
            extra: dict[str, Any] = {"what": f"step of a table of {rows:,} rows, {optimizer}"}
            extra |= {"rows": rows, "optimizer": optimizer, "batch": 8192, "dim": 64}
            extra |= {"device": device()}
            for where, seconds in taken.items():
                more = {"wait_share": statistics.median(waited[1:])}
                more |= {"bytes_moved": dispatch.moved}
                steps = [1e3 * value / STEPS for value in seconds]
                more = more if where == "host" else {}
                impl = f"jaxrec, table on the {where}"
                record("host-tables", impl, steps, "ms", COMMAND, **extra, **more)


if __name__ == "__main__":
    main()
