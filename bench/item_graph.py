"""The article's results table: every item model on one item graph, gensim beside them.

Hyper-parameters were chosen on a validation slice of the train pairs; every run chooses its length
there, trains it on all train pairs, and reads test once.
"""

import argparse
import importlib.util
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import jaxrec
from bench.common import record
from bench.skipgram import Theirs, configuration, drawn, judged
from jaxrec import compilation, presets
from jaxrec.config import Config
from jaxrec.data.features import Category, Features
from jaxrec.data.formats.item_graphs import resolve_items
from jaxrec.data.itemgraph import ItemGraph
from jaxrec.evaluation import item_runs as judging
from jaxrec.runfolder import read_lines
from jaxrec.training.items.problem import ItemProblem

COMMAND = "python -m bench item-graph --data META"
METHODS = ("mf-pairs", "mf-bias-pairs", "mf-sequences", "skipgram", "skipgram-side", "node2vec")
METRICS = ("auc", "auc_seen", "average_precision")
Result = tuple[dict[str, float], float]


def trained(
    config: Config, graph: ItemGraph, seed: int
) -> tuple[dict[str, Any], list[dict], float]:
    """Return eval.json and the records of a run, and its minutes."""
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as parent:
        run = jaxrec.train(config, data=graph, run=Path(parent) / "run", seed=seed, quiet=True)
        records = read_lines(run.folder / "metrics.jsonl")
    return run.evaluation, records, (time.perf_counter() - began) / 60


def by_preset(method: str, graph: ItemGraph, seed: int) -> Result:
    evaluation, _, minutes = trained(presets.get(method), graph, seed)
    return evaluation["metrics"], minutes


def by_gensim(graph: ItemGraph, seed: int, cbow: bool = False) -> Result:
    """Train gensim on DeepWalk's walks of the train pairs, with its defaults but 128 dimensions."""
    config = replace(configuration("preset", "synthetic"), seed=seed)
    problem = ItemProblem.build(config, judging.refit_splits(config, graph), phase="refit")
    evaluator = problem.evaluator("test")
    assert evaluator is not None
    began = time.perf_counter()
    theirs = Theirs(drawn(problem), graph.n_items, workers=2)
    theirs.form["sg"] = int(not cbow)
    theirs.train(5, seed)
    minutes = (time.perf_counter() - began) / 60
    return judged(evaluator, theirs.vectors()), minutes


def has_gensim() -> bool:
    """Whether the extra with gensim is installed."""
    return importlib.util.find_spec("gensim") is not None


def methods() -> dict[str, Callable[[ItemGraph, int], Result]]:
    """Return which items the table has rows for."""
    found: dict[str, Callable[[ItemGraph, int], Result]] = {}
    if has_gensim():
        found["gensim CBOW"] = lambda graph, seed: by_gensim(graph, seed, cbow=True)
        found["gensim skip-gram"] = by_gensim
    for method in METHODS:
        found[method] = lambda graph, seed, method=method: by_preset(method, graph, seed)
    return found


def without(graph: ItemGraph, share: float) -> ItemGraph:
    """Return the graph with a further share of the feature names missing."""
    assert graph.item_features is not None
    rng = np.random.default_rng(0)
    columns = {}
    for name, column in graph.item_features.columns.items():
        assert isinstance(column, Category)
        gone = rng.random(len(column.code)) < share
        columns[name] = Category(np.where(gone, 0, column.code).astype(np.int32), column.names)
    return replace(graph, item_features=Features(columns))


def curves(graph: ItemGraph) -> Iterator[tuple[str, list[float]]]:
    """Record the validation AUC of skip-gram with two tables and with one, over 20 epochs."""
    base = presets.get("skipgram")
    base = replace(base, train=replace(base.train, epochs=20, refit=False))
    for tables, rate in (("two", 0.1), ("one", 0.05)):
        model = replace(base.model, tables=tables)
        config = replace(base, model=model, optim=replace(base.optim, learning_rate=rate))
        _, records, _ = trained(config, graph, 0)
        yield tables, [r["auc"] for r in records if r["split"] == "validation"]


def line(impl: str, what: str, values: list[float], unit: str, **extra: Any) -> None:
    mean = sum(values) / len(values)
    record("item-graph", impl, values, unit, COMMAND, what=what, mean=mean, **extra)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--data", type=Path, required=True, help="product metadata, or what --data takes"
    )
    parser.add_argument("--impl", nargs="*", default=list(methods()), choices=list(methods()))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--missing", type=float, nargs="*", default=[0.0, 0.25, 0.5, 0.9])
    parser.add_argument("--curves", action=argparse.BooleanOptionalAction, default=True)
    args = parser.parse_args()
    compilation.use_cache()
    graph = resolve_items(str(args.data), presets.get("skipgram").pairs)
    for impl in args.impl:
        runs = [methods()[impl](graph, seed) for seed in args.seeds]
        for metric in METRICS:
            values = [found[metric] for found, _ in runs]
            line(impl, f"test {metric}", values, metric, seeds=args.seeds)
        line(impl, "whole run", [m for _, m in runs], "min", seeds=args.seeds)
    for share in args.missing:
        scarce = without(graph, share)
        runs = [by_preset("skipgram-side", scarce, seed) for seed in args.seeds]
        values = [found["auc"] for found, _ in runs]
        what = f"test auc, {100 * share:g} % of the side information missing"
        line("skipgram-side", what, values, "auc", seeds=args.seeds, missing=share)
    for tables, curve in curves(graph) if args.curves else ():
        what = f"validation auc by epoch, {tables} table{'s' if tables == 'two' else ''}"
        line("skipgram", what, curve[-1:], "auc", curve=curve)


if __name__ == "__main__":
    main()
