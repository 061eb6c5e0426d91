"""The baselines on real data: recall@20, ndcg@20 and the seconds to fit and to rank all items.

The parameters of item-kNN are chosen by recall@20 on a tenth of the train pairs, held out with
seed 0; test is read once, by the chosen ones, fitted to all train pairs.
"""

import argparse
import itertools
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import numpy as np

from bench.common import record
from jaxrec.config import SplitConfig
from jaxrec.data.dataset import Dataset
from jaxrec.data.formats import resolve
from jaxrec.data.split import split
from jaxrec.evaluation.baselines import ease, item_knn
from jaxrec.evaluation.ranking import Evaluator, Scorer, popularity_scorer, random_scorer
from jaxrec.log import peak_memory

NEIGHBOURS = (20, 100, 500)
USER_POWERS = (0.0, 0.5, 1.0)
_COMMAND = "python -m bench baselines"
_METRICS = ("recall@20", "ndcg@20")


def choose(train: Dataset, command: str) -> dict[str, Any]:
    """Return the parameters of item-kNN with the highest validation recall@20."""
    held = np.random.default_rng(0).random(train.n_edges) < 0.1
    fit, validation = train.take(~held).csr(), train.take(held).csr()
    evaluator = Evaluator(validation, fit, (20,), train.n_items)
    best, chosen = -1.0, {}
    for neighbours, power in itertools.product(NEIGHBOURS, USER_POWERS):
        result = evaluator(item_knn(fit, train.n_items, neighbours, power))
        assert result is not None
        recall, parameters = result["recall@20"], {"neighbours": neighbours, "user_power": power}
        what = "validation recall@20"
        record("baselines", "item-knn", [recall], "share", command, what=what, **parameters)
        if recall > best:
            best, chosen = recall, parameters
    return chosen


def measure(
    name: str,
    fit: Callable[[], Scorer],
    evaluator: Evaluator,
    command: str,
    repeats: int,
    **parameters: Any,
) -> None:
    """Fit once, rank ``1 + repeats`` times (the first time compiles), and record."""
    begin = time.perf_counter()
    scorer = fit()
    jax.block_until_ready(scorer.params)
    fitted = time.perf_counter() - begin
    found, taken = {}, []
    for _ in range(1 + repeats):
        begin = time.perf_counter()
        found = evaluator(scorer) or {}
        taken.append(time.perf_counter() - begin)
    extra = {"users": evaluator.users, "items": evaluator.n_items, **parameters}
    for metric in _METRICS:
        record("baselines", name, [found[metric]], "share", command, what=metric, **extra)
    record("baselines", name, [fitted], "s", command, what="fit", **extra)
    record("baselines", name, taken[1:], "s", command, what="rank all items", **extra)
    peak = [peak_memory()]
    record("baselines", name, peak, "bytes", command, what="peak memory so far", **extra)


def main() -> None:
    """Measure the chosen baselines on the test part of the data."""
    parser = argparse.ArgumentParser(prog=_COMMAND, description=__doc__)
    parser.add_argument("--data", required=True, help="a folder or file that jaxrec reads")
    parser.add_argument(
        "--only", nargs="+", choices=("popularity", "random", "item-knn", "ease"), default=None
    )
    options = parser.parse_args()
    command = f"{_COMMAND} --data {options.data}"
    parts = split(resolve(options.data), SplitConfig(validation=0), 0)
    train, items = parts.train, parts.train.n_items
    rows = train.csr()
    evaluator = Evaluator(parts.test.csr(), rows, (10, 20, 50), items)
    run = partial(measure, evaluator=evaluator, command=command)
    wanted = options.only or ("popularity", "random", "item-knn", "ease")
    if "popularity" in wanted:
        run("popularity", lambda: popularity_scorer(train.item_counts()), repeats=3)
    if "random" in wanted:
        run("random", lambda: random_scorer(0, items), repeats=3)
    if "item-knn" in wanted:
        chosen = choose(train, command)
        run("item-knn", partial(item_knn, rows, items, **chosen), repeats=1, **chosen)
    if "ease" in wanted:
        run("ease", partial(ease, rows, items, l2=80.0), repeats=1, l2=80.0)
