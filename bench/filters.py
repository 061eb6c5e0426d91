"""Graph filters on Gowalla: choices on a validation slice of train, then one reading of test.

``--part search`` holds out a tenth of each user's train pairs and reads no test pair. ``--part
final`` fits a recipe to all of train and reads test once.
"""

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from bench.common import record
from jaxrec import presets
from jaxrec.config import Config, EvalConfig, SplitConfig
from jaxrec.config.models.filter import BLEND
from jaxrec.data.dataset import TRAIN, Dataset
from jaxrec.data.formats import resolve
from jaxrec.training.filters import FilterTask

COMMAND = "python -m bench filters --data gowalla"
HELD_OUT = 0.1
TRIED: list[dict[str, Any]] = [
    {},
    {"degree_power": 0.3},
    {"degree_power": 0.5},
    {"spectral_weight": 0.1},
    {"spectral_weight": 0.3},
    {"dim": 256},
    {"filter": "gf-cf"},
]
"""Options in addition to those of the recipe."""
RECIPES: dict[str, dict[str, Any]] = {"gowalla-filter": {}, "gowalla-blend": BLEND}
"""Options in addition to those of the preset `gowalla-filter`, by the name in the results."""


def slice_of(data: Dataset) -> tuple[Dataset, SplitConfig]:
    """Return the train part of a given split, and hold out a tenth of it."""
    assert data.split is not None
    train = replace(data.take(data.split == TRAIN), split=None)
    return train, SplitConfig("random", test=0.0, validation=HELD_OUT)


def measure(
    name: str, config: Config, data: Dataset, part: str, users: int | None = None, **about: Any
) -> None:
    """Fit once, rank once, and record both metrics and both times.

    Args:
      users: number of users whose validation pairs are ranked, drawn by chance; default: all.
    """
    task = FilterTask.of(config, data)
    if users is not None:
        chosen = np.random.default_rng(0).permutation(data.n_users)[:users]
        held = task.splits.validation
        held = held.take(np.isin(held.user, chosen))
        task = replace(task, splits=task.splits._replace(validation=held))
        about |= {"users": users}
    began = time.perf_counter()
    cpu = time.process_time()
    problem: Any = task.problem("search", None, None)
    state = problem.fit()
    fitted = time.perf_counter()
    metrics = problem.measure(part, state, lambda: False)
    assert metrics is not None
    ranked = time.perf_counter()
    for metric in ("recall@20", "ndcg@20"):
        record(
            "filters", name, [metrics[metric]], metric, COMMAND, what=f"{part} {metric}", **about
        )
    seconds = {"fit": fitted - began, "rank all items": ranked - fitted}
    seconds["processor's, fit and rank"] = time.process_time() - cpu
    for what, value in seconds.items():
        record("filters", name, [value], "s", COMMAND, what=f"{part}, {what}", **about)


def main() -> None:
    """Measure the filters."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of train.txt, test.txt")
    parser.add_argument("--part", choices=("search", "final"), default="search")
    parser.add_argument("--recipe", choices=RECIPES, default="gowalla-filter")
    parser.add_argument("--users", type=int, help="of validation; default: all")
    parser.add_argument("--options", type=json.loads, nargs="*", default=TRIED)
    args = parser.parse_args()
    data, config = resolve(str(args.data)), presets.get("gowalla-filter")
    config = replace(config, model=replace(config.model, **RECIPES[args.recipe]))
    if args.part == "final":
        measure(args.recipe, config, data, "test")
        return
    train, how = slice_of(data)
    selected = EvalConfig(k=(20,), every=0, select_on="validation")
    config = replace(config, split=how, eval=selected)
    for options in args.options:
        name = " ".join(f"{key} {value}" for key, value in options.items()) or args.recipe
        made = replace(config, model=replace(config.model, **options))
        measure(name, made, train, "validation", args.users, **options)


if __name__ == "__main__":
    main()
