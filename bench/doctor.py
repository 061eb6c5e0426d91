"""The doctor against planted faults: does it name the cause first, and leave healthy runs alone?

Thresholds are chosen on ``--half synthetic`` and tested on ``--half real`` (``bench/faults.py``).
Runs are small: each is trained by the trainer's own steps in this process, and measured as a real
run is.
"""

import argparse
import time
from collections import Counter
from pathlib import Path

import jax
import jax.numpy as jnp

from bench.common import record
from bench.faults import HEALTHY, Case, cases, load
from jaxrec import compilation
from jaxrec.config import Config
from jaxrec.data.dataset import Dataset
from jaxrec.diagnosis.diagnose import Diagnosis, of_records
from jaxrec.errors import RunError
from jaxrec.evaluation.user_runs import splits_of
from jaxrec.training import step_statistics
from jaxrec.training.problem import Problem
from jaxrec.training.step import SCAN_LENGTH

COMMAND = "python -m bench doctor --data data"


def train(
    config: Config, data: Dataset, split: str = "validation"
) -> tuple[Diagnosis, dict[str, float]]:
    """Train with the trainer's own steps, without a folder; return the records and last metrics."""
    problem = Problem.build(config, splits_of(config, data))
    state, records, step = problem.initial_state(), [], 0
    jitted = jax.jit(problem.stepper.dispatch, donate_argnums=0)
    cadence, metrics = problem.cadence, {}

    def put(split: str, values: dict) -> None:
        records.append({"step": step, "split": split, "phase": "search"} | values)

    put("doctor", problem.examine(state) or {})
    while step < cadence.total:
        upto = cadence.next_boundary(step)
        while step < upto:
            n = min(SCAN_LENGTH, upto - step)
            state, _ = jitted(state, problem.data, jnp.int32(n))
            step += n
        seen = jax.device_get(state.totals)
        told = step_statistics.record(seen.signs, problem.stepper.parts)
        if seen.bad_step >= 0:
            put("doctor", {"not_finite": 1.0} | told)
            break
        if cadence.due(cadence.log, step):
            count = int(seen.steps)
            put("train", {"loss": float(seen.loss) / count, "l2": float(seen.l2) / count} | told)
            state = state._replace(totals=problem.stepper.zero_totals())
        if cadence.due(cadence.evaluate, step):
            try:
                metrics = problem.measure(split, state, lambda: False) or {}
            except RunError:
                put("doctor", {"not_finite": 1.0})
                break
            put(split, metrics)
            put("doctor", problem.examine(state) or {})
    return of_records("run", config, records), metrics


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--half", choices=("synthetic", "real"), nargs="+", default=["real"])
    parser.add_argument("--data", type=Path, help="folder of the three real data sets")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", help="planted faults; all by default")
    parser.add_argument("--dry", action="store_true", help="print, and write no line")
    args = parser.parse_args()
    if "real" in args.half and args.data is None:
        parser.error("--half real needs --data")
    compilation.use_cache()
    for half in args.half:
        sets: dict[str, Dataset] = {}
        rows = []
        for case in cases(half, args.seed):
            if args.only and case.planted not in args.only:
                continue
            if case.data not in sets:
                sets[case.data] = load(case.data, args.data)
            began = time.perf_counter()
            diagnosis, metrics = train(case.config(), sets[case.data])
            names = [finding.name for finding in diagnosis.findings]
            rows.append((case, names))
            value = metrics.get(case.config().metric)
            good = names[:1] == ([] if case.planted == HEALTHY else [case.planted])
            print(
                f"{'  ' if good else '! '}{case.planted:22} {case.model:18} {case.data:16} "
                f"{time.perf_counter() - began:5.1f} s  {value}  {names}",
                flush=True,
            )
            if args.dry and not good:
                print("    ", {n: float(f"{x:.3g}") for n, x in diagnosis.figures.items()})
        if not args.dry:
            tell(half, args.seed, rows)


def tell(half: str, seed: int, rows: list[tuple[Case, list[str]]]) -> None:
    """Print the confusion table, a line for each planted fault, and the two sums."""
    command = f"{COMMAND} --half {half} --seed {seed}"
    faulty = [(case, names) for case, names in rows if case.planted != HEALTHY]
    for planted in dict.fromkeys(case.planted for case, _ in rows):
        first = Counter(
            names[0] if names else HEALTHY for case, names in rows if case.planted == planted
        )
        runs = [
            {"model": c.model, "data": c.data, "seed": c.seed, "findings": names}
            for c, names in rows
            if c.planted == planted
        ]
        record(
            "doctor",
            "jaxrec",
            [first[planted] / len(runs)],
            "share",
            command,
            what=f"{half}: {planted} named first",
            named=dict(first),
            runs=runs,
        )
    hits = sum(names[:1] == [case.planted] for case, names in faulty)
    quiet = sum(not names for case, names in rows if case.planted == HEALTHY)
    for what, count, of in (
        ("planted cause named first", hits, len(faulty)),
        ("healthy runs without a finding", quiet, len(rows) - len(faulty)),
    ):
        record("doctor", "jaxrec", [count], "runs", command, what=f"{half}: {what}", of=of)
