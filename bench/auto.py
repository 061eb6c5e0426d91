"""The search of `auto` beside its candidates' own defaults, by one split; and beside peers.

``auto`` runs as a command with a budget. Then each of its candidates is trained as it stands, on
the same split: early stop on validation, refit on train and validation, one reading of test. With
``--clock processor`` the budget is of processor seconds, for a machine that others use too.
``--peers`` adds EASE, item-kNN and iALS (implicit), each tuned on validation and fitted once more
on train and validation, and the preset `lightgcn`.
"""

# The extra `bench` may be missing where the types are checked.
# pyright: reportMissingImports=false
import argparse
import itertools
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

import jaxrec
from bench.common import record
from jaxrec import presets
from jaxrec.config import Config
from jaxrec.data.dataset import Csr, Dataset
from jaxrec.data.formats import resolve
from jaxrec.data.split import Splits, refit_splits, split
from jaxrec.errors import InputError
from jaxrec.evaluation import per_user
from jaxrec.evaluation.baselines import ease, item_knn
from jaxrec.evaluation.ranking import Evaluator, Scorer, dot_scorer
from jaxrec.runfolder import read_json, read_lines
from jaxrec.significance import bootstrap
from jaxrec.training import auto, results
from jaxrec.training.filters import FilterTask
from jaxrec.training.finished_run import Run

COMMAND = "python -m bench auto --data {data} --minutes {minutes:g}"
METRICS = ("recall@20", "ndcg@20")
L2 = (10.0, 30.0, 100.0, 200.0, 400.0, 800.0, 1600.0)
NEIGHBOURS, USER_POWERS = (20, 50, 100, 200, 500), (0.0, 0.5, 1.0)
FACTORS, ALPHAS, PENALTIES = (32, 64, 128), (1.0, 5.0, 20.0), (1.0, 10.0, 100.0)


BY_PROCESSOR = """import sys, time, types
from jaxrec.cli import main
from jaxrec.training import auto, filters, run
clock = types.SimpleNamespace(monotonic=time.process_time, perf_counter=time.perf_counter)
auto.time = filters.time = run.time = clock
sys.exit(main())"""
"""Makes the search read the processor's time where it reads the wall clock."""


def searched(data: str, minutes: float, clock: str, run: Path, note: Callable[..., None]) -> None:
    """Run the command, and record its budget, its seconds and what it found."""
    start = ["-m", "jaxrec"] if clock == "wall" else ["-c", BY_PROCESSOR]
    command = [sys.executable, *start, "train", "auto", "--data", data]
    command += ["--minutes", f"{minutes:g}", "--run", str(run)]
    before, began = os.getloadavg()[0], time.perf_counter()
    spent = sum(os.times()[2:4])
    subprocess.run(command, check=True)
    seconds = time.perf_counter() - began
    if clock == "processor":
        seconds = sum(os.times()[2:4]) - spent
    found, evaluation = read_json(run / "auto.json"), read_json(run / "eval.json")
    load = [round(before, 1), round(os.getloadavg()[0], 1)]
    facts = {"winner": found["winner"], "trials": len(found["trials"])}
    facts |= {"left_out": found["left_out"], "load_average": load, "budget": 60 * minutes}
    note("auto", seconds, "s", f"whole command, {clock} time", **facts)
    best = max(trial["value"] for trial in found["trials"])
    note("auto", best, "recall@20", "validation recall@20", winner=found["winner"])
    for metric in METRICS:
        note("auto", evaluation["metrics"][metric], metric, f"test {metric}")
        popular = evaluation["baselines"]["popularity"][metric]
        note("popularity", popular, metric, f"test {metric}")


def defaults(data: str, folder: Path, note: Callable[..., None]) -> dict[str, np.ndarray]:
    """Train each candidate of `auto` as it stands, and record validation and test.

    Returns:
      The test recall@20 of each user, in the order of users, by candidate.
    """
    dataset = resolve(data)
    asked = replace(presets.get("auto"), data=data)
    parts = split(dataset, asked.split, asked.split_seed)
    train, by_user = parts.train, {}
    features = train.user_features is not None or train.item_features is not None
    for name, config in auto.candidates(asked, train.n_edges, features).items():
        config = replace(config, train=replace(config.train, refit=True))
        began = time.perf_counter(), time.process_time()
        try:
            found = fitted if config.model.kind.fitted else trained
            validation, metrics, by_user[name] = found(config, dataset, parts, folder / name)
        except InputError as e:
            print(f"{name}: {e}")
            continue
        note(name, time.perf_counter() - began[0], "s", "whole run")
        note(name, time.process_time() - began[1], "s", "whole run, processor time")
        note(name, validation, "recall@20", "validation recall@20")
        for metric in METRICS:
            note(name, metrics[metric], metric, f"test {metric}")
    return by_user


Found = tuple[float, dict[str, float], np.ndarray]
"""Recall on validation, the metrics on test, and the recall on test of each user."""


def fitted(config: Config, dataset: Dataset, parts: Splits, folder: Path) -> Found:
    """Fit a filter to train and then to train and validation; no run folder is written."""
    task = FilterTask(config, dataset, parts)
    task.check()
    first: Any = task.problem("search", None, None)
    validation = first.measure("validation", first.fit(), lambda: False)
    last: Any = task.problem("refit", None, None)
    scorer = last.scorer(last.fit())
    evaluator = last.evaluator("test")
    assert evaluator is not None
    metrics, lists = evaluator(scorer), evaluator.lists(scorer)
    assert metrics is not None
    assert lists is not None
    recall = per_user.of_lists(lists, config.eval.k)["recall@20"]
    return validation["recall@20"], metrics, recall


def trained(config: Config, dataset: Dataset, parts: Splits, folder: Path) -> Found:
    """Train in a run folder, with a refit."""
    run = jaxrec.train(config, data=dataset, run=folder, quiet=True)
    return best_validation(run), run.metrics, by_user_of(folder)


def by_user_of(run: Path) -> np.ndarray:
    """Return the test recall@20 of each user of a run."""
    return per_user.read(run)[1]["recall@20"].to_numpy()


def best_validation(run: Run) -> float:
    """Return the validation recall@20 of the parameters that a run has selected."""
    lines = read_lines(run.folder / "metrics.jsonl")
    chosen = [x for x in lines if x["split"] == "validation" and x["phase"] == "search"]
    return max(line["recall@20"] for line in chosen)


def margins(ours: np.ndarray, others: dict[str, np.ndarray], note: Callable[..., None]) -> None:
    """Record the test recall of `auto` minus each candidate's, with the interval over users."""
    for name, theirs in others.items():
        diff = ours - theirs
        found = bootstrap(diff)
        ends = [float(found.low_R[0]), float(found.high_R[0])]
        what = "test recall@20 of auto minus the candidate's"
        note(name, float(diff.mean()), "recall@20", what, interval_95=ends)


def als(train: Csr, n_items: int, factors: int, alpha: float, penalty: float) -> Scorer:
    """Return the scorer of implicit's ALS."""
    from implicit.als import AlternatingLeastSquares
    from scipy.sparse import csr_matrix

    made = AlternatingLeastSquares(
        factors, regularization=penalty, alpha=alpha, iterations=15, random_state=0
    )
    pairs = np.ones(len(train.indices), np.float32), train.indices, train.indptr
    made.fit(csr_matrix(pairs, shape=(len(train.indptr) - 1, n_items)), show_progress=False)
    return dot_scorer(np.asarray(made.user_factors), np.asarray(made.item_factors))


GRIDS: dict[str, tuple[Callable[..., Scorer], dict[str, tuple[Any, ...]]]] = {
    "EASE, tuned": (ease, {"l2": L2}),
    "item-kNN, tuned": (item_knn, {"neighbours": NEIGHBOURS, "user_power": USER_POWERS}),
    "implicit ALS, tuned": (als, {"factors": FACTORS, "alpha": ALPHAS, "penalty": PENALTIES}),
}


def peers(parts: Splits, note: Callable[..., None]) -> None:
    """Tune each peer on validation, fit it to train and validation, and read test once."""
    n_items, last = parts.train.n_items, refit_splits(parts).train

    def ranked(train: Dataset, held: Dataset, scorer: Scorer) -> dict[str, float]:
        found = Evaluator(held.csr(), train.csr(), (20,), n_items)(scorer)
        assert found is not None
        return found

    for name, (fit, grid) in GRIDS.items():
        began, best, chosen = time.perf_counter(), -1.0, {}
        for values in itertools.product(*grid.values()):
            options = dict(zip(grid, values, strict=True))
            scorer = fit(parts.train.csr(), n_items, **options)
            value = ranked(parts.train, parts.validation, scorer)["recall@20"]
            best, chosen = max((best, chosen), (value, options), key=lambda pair: pair[0])
        found = ranked(last, parts.test, fit(last.csr(), n_items, **chosen))
        note(name, time.perf_counter() - began, "s", "tuning, refit and test")
        note(name, best, "recall@20", "validation recall@20", chosen=chosen)
        for metric in METRICS:
            note(name, found[metric], metric, f"test {metric}", chosen=chosen)


def preset(name: str, data: str, folder: Path, note: Callable[..., None]) -> None:
    """Train a preset with its early stop and a refit, and record validation and test."""
    config = presets.get(name)
    config = replace(config, data=data, train=replace(config.train, refit=True))
    began = time.perf_counter()
    run = jaxrec.train(config, run=folder / f"preset-{name}", quiet=True)
    note(f"preset {name}", time.perf_counter() - began, "s", "whole run")
    note(f"preset {name}", best_validation(run), "recall@20", "validation recall@20")
    for metric in METRICS:
        note(f"preset {name}", run.metrics[metric], metric, f"test {metric}")


def main() -> None:
    """Measure `auto`, its candidates and, if asked, its peers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True, help="a folder or file that jaxrec reads")
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--clock", choices=("wall", "processor"), default="wall")
    parser.add_argument("--no-candidates", action="store_true", help="leave the candidates out")
    parser.add_argument("--peers", action="store_true", help="EASE, item-kNN, iALS and LightGCN")
    args = parser.parse_args()
    name = Path(args.data).name
    command = COMMAND.format(data=name, minutes=args.minutes)
    command += f" --clock {args.clock}" if args.clock != "wall" else ""
    results.can_report = lambda: False  # a report takes longer than a small model

    def note(impl: str, value: float, unit: str, what: str, **more: Any) -> None:
        record("auto", impl, [value], unit, command, what=what, data=name, **more)

    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent)
        searched(args.data, args.minutes, args.clock, folder / "auto", note)
        jax.clear_caches()
        if not args.no_candidates:
            margins(by_user_of(folder / "auto"), defaults(args.data, folder, note), note)
        if args.peers:
            config = presets.get("auto")
            peers(split(resolve(args.data), config.split, config.split_seed), note)
            preset("lightgcn", args.data, folder, note)


if __name__ == "__main__":
    main()
