"""What each part of a filter, and the loss, brings to validation in equal processor time.

Every step has the same number of processor seconds on the same split: a filter spends them on its
options, which are varied as ``auto`` varies them, and a trained model on epochs. The figure is the
best recall@20 on validation; test is not read. A seed is a split of its own.
"""

import argparse
import contextlib
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jaxrec
from bench.common import record
from jaxrec import presets
from jaxrec.config import Config, ModelConfig
from jaxrec.config.models.filter import BLEND
from jaxrec.data.dataset import Dataset
from jaxrec.data.formats import resolve
from jaxrec.data.split import split
from jaxrec.training import auto, results
from jaxrec.training.filters import FilterTask, Kept

COMMAND = "python -m bench ablation --data {data} --seconds {seconds:g}"
METRIC = "recall@20"
VOTES = {name: value for name, value in BLEND.items() if name.startswith("neighbour")}
FILTERS: dict[str, dict[str, Any]] = {
    "filter (cheby-cf)": {},
    "filter, learned (alone)": {"products": 3, "learned_steps": 200},
    "+ similar users' votes": VOTES,
    "+ EASE": VOTES | {"ease_weight": 1.0, "ease_l2": 200.0},
    "EASE alone": {"filter": "ease", "ease_l2": 200.0},
}
"""The options by step. A step that begins with + adds its part to that of the first step, or of the
step before."""

Found = tuple[float, int]
"""The best recall on validation, and the number of trials or of evaluations."""


class OutOfTimeError(Exception):
    """Ends a training."""


def climbed(first: Config, data: Dataset, seconds: float) -> tuple[float, Found]:
    """Vary a filter's options for so long; return the first recall, and the best.

    An option is varied from the best options so far, one at a time, as `auto` does.
    """
    until, kept = time.process_time() + seconds, Kept()
    values: dict[Config, float] = {}
    while True:
        best = max(values, key=lambda config: values[config], default=None)
        found = [first] if best is None else [x for x in auto.neighbours(best) if x not in values]
        if not found or (values and time.process_time() > until):
            return values[first], (max(values.values()), len(values))
        problem: Any = FilterTask.of(found[0], data).problem("search", None, None)
        metrics = problem.measure("validation", problem.fit(kept), lambda: False)
        values[found[0]] = metrics[METRIC]


def trained(config: Config, data: Dataset, seconds: float) -> Found:
    """Train for so long; return the best recall."""
    until, values = time.process_time() + seconds, list[float]()

    def keep(step: int, metrics: dict[str, float]) -> None:
        values.append(metrics[METRIC])
        if time.process_time() > until:
            raise OutOfTimeError

    with tempfile.TemporaryDirectory() as parent, contextlib.suppress(OutOfTimeError):
        jaxrec.train(config, data=data, run=Path(parent) / "run", quiet=True, on_eval=keep)
    return max(values), len(values)


Step = Callable[[], tuple[float | None, Found]]
"""Measures a step; returns the recall of a filter's first options, and what was found."""


def steps(data: Dataset, seed: int, seconds: float) -> dict[str, Step]:
    """Return the steps by name."""
    asked = replace(presets.get("auto"), seed=seed, minutes=None)

    def of_filter(options: dict[str, Any]) -> Step:
        model = ModelConfig("filter", dim=256, layers=0, **options)
        return lambda: climbed(replace(asked, model=model), data, seconds)

    def of_training(config: Config) -> Step:
        config = replace(config, train=replace(config.train, epochs=10_000, patience=0))
        return lambda: (None, trained(config, data, seconds))

    bpr = replace(presets.get("lightgcn"), seed=seed)
    n_pairs = split(data, asked.split, asked.split_seed).train.n_edges
    softmax = auto.candidates(asked, n_pairs, features=False)["lightgcn"]
    made = {name: of_filter(options) for name, options in FILTERS.items()}
    made["lightgcn, BPR"] = of_training(bpr)
    made["lightgcn, softmax from a spectral start"] = of_training(softmax)
    return made


def main() -> None:
    """Measure every step on the splits of the seeds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True, help="a folder or file that jaxrec reads")
    parser.add_argument("--seconds", type=float, default=40.0, help="of the processor, a step")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--only", nargs="+", help="names of steps; default: all")
    args = parser.parse_args()
    data, name = resolve(args.data), Path(args.data).name
    command = COMMAND.format(data=name, seconds=args.seconds)
    results.can_report = lambda: False  # a report takes longer than a small model
    by_step: dict[str, list[tuple[float | None, Found, float]]] = {}
    for seed in args.seeds:
        for step, measure in steps(data, seed, args.seconds).items():
            if args.only and step not in args.only:
                continue
            began = time.process_time()
            first, found = measure()
            by_step.setdefault(step, []).append((first, found, time.process_time() - began))
            print(f"seed {seed}, {step}: {first} {found}", flush=True)
    for step, found in by_step.items():

        def line(what: str, values: list[float], unit: str, step: str = step) -> None:
            about: dict[str, Any] = {"data": name, "seeds": args.seeds, "by_seed": values}
            mean = sum(values) / len(values)
            record("ablation", step, values, unit, command, what=what, mean=mean, **about)

        firsts = [first for first, _, _ in found if first is not None]
        if firsts:
            line("validation, first options", firsts, METRIC)
        line("validation, best", [best for _, (best, _), _ in found], METRIC)
        line("trials or evaluations", [float(count) for _, (_, count), _ in found], "number")
        line("processor", [seconds for _, _, seconds in found], "s")


if __name__ == "__main__":
    main()
