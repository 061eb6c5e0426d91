"""Graph filters on Gowalla: choices on a validation slice of train, then one reading of test.

``--part search`` holds out a tenth of each user's train pairs and reads no test pair. ``--part
final`` fits a recipe to all of train and reads test once. ``--part slices`` holds out pairs of some
users by several rules, to compare how each rule ranks models whose result on test is known.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy.sparse import csr_array, diags_array

import jaxrec
from bench.common import RESULTS, record
from jaxrec import presets
from jaxrec.config import Config, EvalConfig, SplitConfig
from jaxrec.config.models.filter import BLEND
from jaxrec.data.dataset import TRAIN, Dataset
from jaxrec.data.formats import resolve
from jaxrec.data.split import Splits
from jaxrec.evaluation import per_user
from jaxrec.evaluation.baselines import ease, item_knn
from jaxrec.evaluation.ranking import Evaluator, Scorer, popularity_scorer
from jaxrec.evaluation.scorers import table_scorer
from jaxrec.graph.filters import Filter
from jaxrec.runfolder import read_embeddings, read_lines
from jaxrec.significance import bootstrap
from jaxrec.training.filters import FilterTask, Kept
from jaxrec.training.task import UserTask

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
RECIPES: dict[str, dict[str, Any]] = {
    "gowalla-filter": {},
    "gowalla-blend": BLEND,
    "gowalla-filter with popularity_power 0.1": {"popularity_power": 0.1},
}
"""Options in addition to those of the preset `gowalla-filter`, by the name in the results.

``popularity_power`` is no option of the filter: see :func:`fit`."""
PRESET = "gowalla-filter"
TRAINED = ("gowalla-fast", "gowalla-strong")
METRICS = ("recall@20", "ndcg@20")
PAIR = ("user", "item")
LEAST = 10
"""Every user of the whole data, train and test, has at least so many pairs."""


def slice_of(data: Dataset) -> tuple[Dataset, SplitConfig]:
    """Return the train part of a given split, and hold out a tenth of it."""
    assert data.split is not None
    train = replace(data.take(data.split == TRAIN), split=None)
    return train, SplitConfig("random", test=0.0, validation=HELD_OUT)


def fit(task: UserTask, options: dict[str, Any], kept: Kept | None = None) -> tuple[Any, Filter]:
    """Fit a filter with options in addition to the task's; return the problem and the filter.

    An option that is tried only here is ``popularity_power``: the scores are multiplied by the
    item's degree to this power.
    """
    options = dict(options)
    power = options.pop("popularity_power", 0.0)
    config = replace(task.config, model=replace(task.config.model, **options))
    problem: Any = replace(task, config=config).problem("search", None, None)
    fitted = problem.fit(kept)
    degree_I = np.maximum(np.bincount(fitted.indices, minlength=len(fitted.in_I)), 1)
    factor_I = (degree_I**power).astype(np.float32)
    return problem, fitted._replace(
        item_ID=fitted.item_ID * factor_I[:, None],
        out_I=fitted.out_I * factor_I,
        ratio_I=fitted.ratio_I / factor_I,
    )


def measure(
    name: str,
    config: Config,
    options: dict[str, Any],
    data: Dataset,
    part: str,
    users: int | None = None,
    **about: Any,
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
    problem, state = fit(task, options)
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


class Rule(NamedTuple):
    """How a share of a user's train pairs is drawn, to be held out.

    Attributes:
      share: the share of the user's pairs.
      near: the share of the drawn pairs that are the nearest to a random pair of the user, by the
        cosine over the other users; the rest is drawn by chance.
      trips: number of random pairs whose nearest pairs are drawn, in equal shares.
      power: pairs are drawn with a chance that grows with the item's degree to this power; for the
        nearest pairs, the cosine is multiplied by the degree to this power.
      numbered: the pairs are neighbours in the user's list by the items' numbers, as the items are
        numbered by their first appearance.
    """

    share: float = 0.2
    near: float = 0.0
    trips: int = 1
    power: float = 0.0
    numbered: bool = False


RULES = {
    "random fifth": Rule(),
    "degree^.17 fifth": Rule(power=0.17),
    "degree^.35 fifth": Rule(power=0.35),
    "nearest fifth": Rule(near=1.0),
    "random tenth": Rule(share=0.1),
    "nearest fifth, half by chance": Rule(near=0.5),
    "nearest fifth of two trips": Rule(near=1.0, trips=2),
    "nearest degree^-.17 fifth": Rule(near=1.0, power=-0.17),
    "fifth by number": Rule(numbered=True),
    "nearest degree^.17 fifth, half by chance": Rule(near=0.5, power=0.17),
}
"""A power of .17 was chosen so that popularity has about its recall on test, and so is 0 for the
nearest fifth."""


class Slices(NamedTuple):
    """Train without the pairs that are held out, and the held-out pairs by the name of their rule.

    Each rule has users of its own.
    """

    train: Dataset
    held: dict[str, Dataset]


def sliced(data: Dataset, users: int, names: Sequence[str], seed: int = 0) -> Slices:
    """Hold out pairs of up to ``users`` users by each rule; all other pairs stay in train.

    Only users with at least ``LEAST`` pairs are drawn.
    """
    rng = np.random.default_rng(seed)
    user, item = (
        ids.astype(str).astype(int)[of]
        for ids, of in ((data.user_ids, data.user), (data.item_ids, data.item))
    )
    n_users, n_items = user.max() + 1, item.max() + 1
    degree_I, order = np.bincount(item, minlength=n_items), np.argsort(user, kind="stable")
    ends = np.append(0, np.cumsum(np.bincount(user, minlength=n_users)))
    drawn = rng.permutation(np.flatnonzero(np.diff(ends) >= LEAST))
    ones = np.ones(len(user), np.float32)
    pairs = csr_array((ones, (user, item)), shape=(n_users, n_items))
    norm_I: Any = diags_array(1 / np.sqrt(np.maximum(degree_I, 1)).astype(np.float32))
    column: Any = (pairs @ norm_I).tocsc()

    def alike(chosen: int, items: np.ndarray, first: int) -> np.ndarray:
        """Return the cosine of each of the user's items to one of them, over the other users."""
        near = column[:, [items[first]]].toarray().ravel()
        near[chosen] = 0
        return column[:, items].T @ near

    def pick(rule: Rule, chosen: int, items: np.ndarray) -> np.ndarray:
        """Return which of a user's items are held out."""
        count = max(round(len(items) * rule.share), 1)
        if rule.numbered:
            first = rng.integers(len(items) - count + 1)
            return np.argsort(items)[first : first + count]
        free, picked = np.ones(len(items), bool), []
        for part in np.array_split(np.arange(round(count * rule.near)), rule.trips):
            if len(part):
                first = rng.choice(np.flatnonzero(free))
                close = alike(chosen, items, first) * degree_I[items] ** rule.power
                close[first] = np.inf
                near = np.argsort(-np.where(free, close, -1.0), kind="stable")[: len(part)]
                free[near] = False
                picked.append(near)
        race = rng.exponential(size=len(items)) * degree_I[items] ** -rule.power
        rest = np.argsort(np.where(free, race, np.inf))[: count - sum(map(len, picked))]
        return np.concatenate([*picked, rest])

    part = np.zeros(len(user), np.int8)
    for number, name in enumerate(names, 1):
        for chosen in drawn[(number - 1) * users : number * users]:
            rows = order[ends[chosen] : ends[chosen + 1]]
            part[rows[pick(RULES[name], chosen, item[rows])]] = number
    held = {name: data.take(part == number) for number, name in enumerate(names, 1)}
    return Slices(data.take(part == 0), held)


class Models:
    """The models that slices rank, by name, each fitted to the slices' common train.

    A name is that of a baseline, a recipe or a trained preset, or options of the filter as JSON.
    Among the options, ``gowalla-fast`` is the weight of the scores of that preset, which are added
    to the filter's after both are divided by each user's standard deviation.

    Args:
      config: the preset `gowalla-filter`.
      folder: the runs of trained presets; a finished one is not trained again.
    """

    def __init__(self, config: Config, train: Dataset, folder: Path) -> None:
        self._config, self._train, self._folder = config, train, folder
        self._kept = Kept()

    def __call__(self, name: str) -> Scorer:
        """Fit a model, and return its scorer."""
        train, n_items = self._train, self._train.n_items
        if name == "popularity":
            return popularity_scorer(train.item_counts())
        if name == "item-knn":
            return item_knn(train.csr(), n_items)
        if name == "ease":
            return ease(train.csr(), n_items, l2=80.0)
        if name in RECIPES:
            return self._filter(RECIPES[name])
        if name in TRAINED:
            return self._trained(name)
        options = json.loads(name)
        weight = options.pop("gowalla-fast", 0.0)
        made = self._filter(options)
        return added(made, self._trained("gowalla-fast"), weight) if weight else made

    def _filter(self, options: dict[str, Any]) -> Scorer:
        nothing = self._train.take(np.arange(0))
        splits = Splits(self._train, nothing, nothing)
        problem, fitted = fit(FilterTask(self._config, self._train, splits), options, self._kept)
        return problem.scorer(fitted)

    def _trained(self, preset: str) -> Scorer:
        run = self._folder / preset
        if not (run / "embeddings.npz").exists():
            how = replace(
                presets.get(preset), split=SplitConfig("random", test=0.0, validation=0.0)
            )
            jaxrec.train(how, data=self._train, run=run, quiet=True)
        table = read_embeddings(run)
        assert np.array_equal(table.item_ids, self._train.item_ids.astype(str))
        assert np.array_equal(table.user_ids, self._train.user_ids.astype(str))
        return table_scorer(table)


def added(first: Scorer, second: Scorer, weight: float) -> Scorer:
    """Return the sum of two scorers, each divided by the standard deviation over a user's items."""

    def score(params: Any, user_B: jax.Array) -> jax.Array:
        one_BI, other_BI = first.fn(params[0], user_B), second.fn(params[1], user_B)
        return _scaled(one_BI) + weight * _scaled(other_BI)

    return Scorer(score, (first.params, second.params), first.n_items)


def _scaled(score_BI: jax.Array) -> jax.Array:
    return score_BI / jnp.maximum(score_BI.std(axis=1, keepdims=True), 1e-12)


def read_on_test() -> dict[str, float]:
    """Return the test recall@20 on Gowalla that lines of the results have, by model."""
    found = {}
    for case in ("baselines", "quality", "filters"):
        for line in read_lines(RESULTS / f"{case}.jsonl"):
            on_test = line.get("what") in ("recall@20", "test recall@20")
            if on_test and "gowalla" in line["command"] and line["impl"] != "random":
                found[line["impl"]] = line.get("mean", line["value"])
    return found


def compare_slices(
    config: Config,
    data: Dataset,
    users: int,
    ranked: int | None,
    seed: int,
    names: list[str],
    models: list[str],
    keep: Path,
) -> None:
    """Record each model on each slice, and how well a slice orders the models as test does.

    Args:
      users: number of users with held-out pairs, for each slice.
      ranked: number of users that are ranked, drawn from all of these; default: all.
      seed: draws the users and their pairs.
      keep: folder of what is already measured; the order is that of all models in it.
    """
    train, held = sliced(data, users, names, seed)
    folder = keep / "-".join([str(users), *names, *([str(seed)] if seed else [])])
    if ranked is not None:
        chosen = np.random.default_rng(1).permutation(data.n_users)[:ranked]
        held = {name: part.take(np.isin(part.user, chosen)) for name, part in held.items()}
    folder.mkdir(parents=True, exist_ok=True)
    whole = {name: np.concatenate([getattr(x, name) for x in held.values()]) for name in PAIR}
    evaluator = Evaluator(replace(train, **whole).csr(), train.csr(), (20,), train.n_items)
    make = Models(config, train, folder)
    command = f"{COMMAND} --part slices --users {users} --slices " + " ".join(map(repr, names))
    command += "" if ranked is None else f" --ranked {ranked}"
    command += f" --seed {seed}" if seed else ""

    def note(impl: str, value: float, unit: str, what: str, **more: Any) -> None:
        size = {"users": users, "ranked": evaluator.users, "seed": seed}
        record("filters", impl, [value], unit, command, what=what, **size, **more)

    lists_of = folder / f"{evaluator.users} users"
    lists_of.mkdir(exist_ok=True)
    by_model = {path.stem: dict(np.load(path)) for path in sorted(lists_of.glob("*.npz"))}
    for model in models:
        if model in by_model:
            continue
        began = time.process_time()
        lists = evaluator.lists(make(model))
        assert lists is not None
        found = per_user.of_lists(lists, (20,))
        by_model[model] = {"user": lists.user_n} | {metric: found[metric] for metric in METRICS}
        np.savez(lists_of / f"{model}.npz", **by_model[model])
        note(model, time.process_time() - began, "s", "slices, processor's, fit and rank")
        for name, part in held.items():
            here = np.isin(lists.user_n, part.user)
            for metric in METRICS:
                value_N, more = found[metric][here], {}
                if model != PRESET and PRESET in by_model:
                    diff_N = value_N - by_model[PRESET][metric][here]
                    ends = bootstrap(diff_N)
                    interval = [float(ends.low_R[0]), float(ends.high_R[0])]
                    more = {"above_preset": float(diff_N.mean()), "interval": interval}
                what = f"slice {metric}, {name}"
                note(model, float(value_N.mean()), metric, what, **more)
    on_test = read_on_test()
    read = sorted(set(by_model) & set(on_test), key=lambda model: on_test[model])
    for name, part in held.items():
        here = np.isin(by_model[read[0]]["user"], part.user)
        recall_MN = np.stack([by_model[model]["recall@20"][here] for model in read])
        tau, low, high = agreement(recall_MN)
        order = [read[m] for m in np.argsort(recall_MN.mean(axis=1))]
        about = {"interval": [low, high], "order": order, "order_on_test": read}
        note("tau", tau, "Kendall's tau", f"slice tau, {name}", **about)


def agreement(recall_MN: np.ndarray, draws: int = 2000) -> tuple[float, float, float]:
    """Return Kendall's tau between the mean recall of M models and their order in the array.

    The percentiles 2.5 and 97.5 follow, over samples of the N users with replacement.
    """
    n_users = recall_MN.shape[1]
    rng = np.random.default_rng(0)
    count_DN = rng.multinomial(n_users, np.full(n_users, 1 / n_users), draws)
    mean_DM = np.vstack([recall_MN.mean(axis=1), count_DN @ recall_MN.T / n_users])
    low_P, high_P = np.triu_indices(len(recall_MN), 1)
    tau_D = np.sign(mean_DM[:, high_P] - mean_DM[:, low_P]).mean(axis=1)
    low, high = np.percentile(tau_D[1:], (2.5, 97.5))
    return float(tau_D[0]), float(low), float(high)


def main() -> None:
    """Measure the filters."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of train.txt, test.txt")
    parser.add_argument("--part", choices=("search", "final", "slices"), default="search")
    parser.add_argument("--recipe", choices=RECIPES, default="gowalla-filter")
    parser.add_argument("--users", type=int, help="of validation, or of each slice; default: all")
    parser.add_argument("--slices", nargs="+", choices=RULES, default=list(RULES))
    parser.add_argument("--ranked", type=int, help="of the users of slices; default: all")
    parser.add_argument("--seed", type=int, default=0, help="of the slices")
    parser.add_argument(
        "--models", nargs="+", default=["popularity", *RECIPES], help="names, or options as JSON"
    )
    parser.add_argument("--keep", type=Path, help="folder of measured slices, to be continued")
    parser.add_argument("--options", type=json.loads, nargs="*", default=TRIED)
    args = parser.parse_args()
    data, config = resolve(str(args.data)), presets.get("gowalla-filter")
    recipe = RECIPES[args.recipe]
    if args.part == "final":
        measure(args.recipe, config, recipe, data, "test")
        return
    train, how = slice_of(data)
    if args.part == "slices":
        config = replace(config, eval=EvalConfig(k=(20,), every=0))
        with tempfile.TemporaryDirectory() as parent:
            keep = args.keep or Path(parent)
            users = args.users or 1200
            compare_slices(
                config, train, users, args.ranked, args.seed, args.slices, args.models, keep
            )
        return
    selected = EvalConfig(k=(20,), every=0, select_on="validation")
    config = replace(config, split=how, eval=selected)
    for options in args.options:
        name = " ".join(f"{key} {value}" for key, value in options.items()) or args.recipe
        measure(name, config, recipe | options, train, "validation", args.users, **options)


if __name__ == "__main__":
    main()
