"""Graph filters on Gowalla: choices on a validation slice of train, then one reading of test.

``--part search`` holds out a tenth of each user's train pairs and reads no test pair. ``--part
final`` fits a recipe to all of train and reads test once. ``--part slices`` holds out pairs of some
users in five ways, to compare how each way ranks models whose result on test is known.
"""

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse import csr_array, diags_array

from bench.common import record
from jaxrec import presets
from jaxrec.config import Config, EvalConfig, SplitConfig
from jaxrec.config.models.filter import BLEND
from jaxrec.data.dataset import TRAIN, Dataset
from jaxrec.data.formats import resolve
from jaxrec.data.split import Splits
from jaxrec.evaluation.ranking import Evaluator, Scorer, popularity_scorer
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


SLICES = {
    "random fifth": 0.0,
    "degree^.17 fifth": 0.17,
    "degree^.35 fifth": 0.35,
    "nearest fifth": None,
    "random tenth": 0.0,
}
"""The power of an item's degree by which pairs are drawn; None draws one pair of a user, and its
nearest items among the user's own, by the users in common."""


def sliced(data: Dataset, users: int) -> tuple[Dataset, dict[str, Dataset]]:
    """Hold out pairs of ``users`` users by each of the slices; all other pairs stay in train."""
    rng = np.random.default_rng(0)
    user, item = (
        ids.astype(str).astype(int)[of]
        for ids, of in ((data.user_ids, data.user), (data.item_ids, data.item))
    )
    n_users, n_items = user.max() + 1, item.max() + 1
    degree_I, order = np.bincount(item, minlength=n_items), np.argsort(user, kind="stable")
    ends = np.append(0, np.cumsum(np.bincount(user, minlength=n_users)))
    drawn = rng.permutation(n_users)
    ones = np.ones(len(user), np.float32)
    pairs = csr_array((ones, (user, item)), shape=(n_users, n_items))
    norm_I: Any = diags_array(1 / np.sqrt(degree_I).astype(np.float32))
    column: Any = (pairs @ norm_I).tocsc()
    part = np.zeros(len(user), np.int8)
    for number, (name, power) in enumerate(SLICES.items(), 1):
        for chosen in drawn[(number - 1) * users : number * users]:
            rows = order[ends[chosen] : ends[chosen + 1]]
            count = max(round(len(rows) * (0.1 if "tenth" in name else 0.2)), 1)
            if power is None:
                first = rng.integers(len(rows))
                near = column[:, [item[rows[first]]]].toarray().ravel()
                near[chosen] = 0
                alike = column[:, item[rows]].T @ near
                alike[first] = 9  # above every cosine
                pick = np.argsort(-alike, kind="stable")[:count]
            elif power == 0:
                pick = rng.permutation(len(rows))[:count]
            else:
                race = rng.exponential(size=len(rows)) * degree_I[item[rows]] ** -power
                pick = np.argsort(race)[:count]
            part[rows[pick]] = number
    held = {name: data.take(part == number) for number, name in enumerate(SLICES, 1)}
    return data.take(part == 0), held


def compare_slices(config: Config, data: Dataset, users: int) -> None:
    """Record popularity, and each recipe, on each of the slices."""
    train, held = sliced(data, users)
    nothing = data.take(np.arange(0))
    evaluators = {
        name: Evaluator(part.csr(), train.csr(), (20,), train.n_items)
        for name, part in held.items()
    }
    splits = Splits(train, next(iter(held.values())), nothing)

    def scorer(options: dict[str, Any]) -> Scorer:
        made = replace(config, model=replace(config.model, **options))
        problem: Any = FilterTask(made, data, splits).problem("search", None, None)
        return problem.scorer(problem.fit())

    models: dict[str, Callable[[], Scorer]] = {
        "popularity": lambda: popularity_scorer(train.item_counts())
    }
    models |= {name: partial(scorer, options) for name, options in RECIPES.items()}
    for model, made in models.items():
        ready = made()
        for name, evaluator in evaluators.items():
            found = evaluator(ready) or {}
            for metric in ("recall@20", "ndcg@20"):
                what = f"slice {metric}, {name}"
                command = f"{COMMAND} --part slices --users {users}"
                record("filters", model, [found[metric]], metric, command, what=what, users=users)


def main() -> None:
    """Measure the filters."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of train.txt, test.txt")
    parser.add_argument("--part", choices=("search", "final", "slices"), default="search")
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
    if args.part == "slices":
        compare_slices(
            replace(config, eval=EvalConfig(k=(20,), every=0)), train, args.users or 1200
        )
        return
    selected = EvalConfig(k=(20,), every=0, select_on="validation")
    config = replace(config, split=how, eval=selected)
    for options in args.options:
        name = " ".join(f"{key} {value}" for key, value in options.items()) or args.recipe
        made = replace(config, model=replace(config.model, **options))
        measure(name, made, train, "validation", args.users, **options)


if __name__ == "__main__":
    main()
