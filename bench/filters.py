"""Graph filters on Gowalla: choices on a validation slice of train, then one reading of test.

``--part search`` holds out a tenth of each user's train pairs and reads no test pair. ``--part
final`` fits the preset `gowalla-filter` to all of train and reads test once.
"""

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.common import record
from jaxrec import presets
from jaxrec.config import Config, EvalConfig, SplitConfig
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
"""Options in addition to those of the preset."""


def slice_of(data: Dataset) -> tuple[Dataset, SplitConfig]:
    """Return the train part of a given split, and hold out a tenth of it."""
    assert data.split is not None
    train = replace(data.take(data.split == TRAIN), split=None)
    return train, SplitConfig("random", test=0.0, validation=HELD_OUT)


def measure(name: str, config: Config, data: Dataset, part: str, **about: Any) -> None:
    """Fit once, rank once, and record both metrics and both times."""
    task = FilterTask.of(config, data)
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
    parser.add_argument("--options", type=json.loads, nargs="*", default=TRIED)
    args = parser.parse_args()
    data, config = resolve(str(args.data)), presets.get("gowalla-filter")
    if args.part == "final":
        measure("gowalla-filter", config, data, "test")
        return
    train, how = slice_of(data)
    selected = EvalConfig(k=(20,), every=0, select_on="validation")
    config = replace(config, split=how, eval=selected)
    for options in args.options:
        name = " ".join(f"{key} {value}" for key, value in options.items()) or "gowalla-filter"
        made = replace(config, model=replace(config.model, **options))
        measure(name, made, train, "validation", **options)


if __name__ == "__main__":
    main()
