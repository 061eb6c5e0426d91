"""Skip-gram on walks: jaxrec compared with gensim, in time and in quality.

Both train on walks of 10 items, 10 from each item, with 128 dimensions, 5 negatives and 5 epochs,
and take turns in one process: the preset, the same with gensim's window of 5 and plain SGD, and
gensim with as many workers as cores. gensim reads walks that are ready in memory, whereas jaxrec's
time includes drawing them. Both are evaluated on the same held-out pairs.
"""

import argparse
import importlib
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bench.common import device, record
from jaxrec import presets
from jaxrec.config import Config
from jaxrec.data import synthetic_items
from jaxrec.data.formats.item_graphs import resolve_items
from jaxrec.data.itemgraph import ItemGraph, PairSplits
from jaxrec.evaluation import item_runs as judging
from jaxrec.evaluation.item_pairs import PairEvaluator, item_scorer
from jaxrec.graph import walks
from jaxrec.training.items.problem import ItemProblem

DIM, LENGTH = 128, 10


def configuration(optimizer: str, data: str) -> Config:
    """Return the preset ``skipgram``, or the same with gensim's plain SGD at its learning rate."""
    config = presets.get("skipgram")
    config = replace(config, data=data, pairs=replace(config.pairs, validation=0.0))
    if optimizer == "sgd":
        optim = replace(config.optim, name="sgd", learning_rate=0.025)
        config = replace(config, optim=optim, walks=replace(config.walks, window=5))
    return replace(config, model=replace(config.model, dim=DIM))


class Ours:
    """Return a call that trains an epoch of a configuration, compiled beforehand."""

    def __init__(self, config: Config, splits: PairSplits) -> None:
        self.problem = ItemProblem.build(config, splits, phase="refit")
        self.state = self.problem.initial_state()
        jitted = jax.jit(self.problem.stepper.dispatch, donate_argnums=0)
        self._dispatch = jitted.lower(self.state, self.problem.data, jnp.int32(1)).compile()

    def begin(self) -> None:
        self.state = self.problem.initial_state()

    def epoch(self) -> None:
        left = self.problem.cadence.per_epoch
        while left:
            n = min(left, 128)
            self.state, totals = self._dispatch(self.state, self.problem.data, jnp.int32(n))
            jax.block_until_ready(totals)
            left -= n

    def vectors(self) -> np.ndarray:
        return np.asarray(self.problem.learned(self.state)["item"])


def drawn(problem: ItemProblem) -> list[list[str]]:
    """Return the walks of one epoch in gensim's form."""
    data, config = problem.data, problem.config
    assert data.graph is not None
    assert data.start_A is not None
    count = config.walks.count
    node_W = jnp.tile(data.start_A, count)
    number_W = jnp.repeat(jnp.arange(count, dtype=jnp.int32), data.start_A.shape[0])
    made_LW = jax.jit(walks.walk, static_argnums=3)(data.graph, node_W, number_W, LENGTH, data.key)
    order = np.random.default_rng(0).permutation(len(node_W))
    return [list(map(str, row)) for row in np.asarray(made_LW).T[order].tolist()]


class Theirs:
    """Make gensim's model of walks in memory."""

    def __init__(self, sentences: list[list[str]], n_items: int, workers: int) -> None:
        models: Any = importlib.import_module("gensim.models")

        form: dict[str, Any] = {"vector_size": DIM, "window": 5, "negative": 5, "sg": 1}
        self.form = form | {"min_count": 0, "workers": workers}
        self.sentences, self.n_items, self._make = sentences, n_items, models.Word2Vec

    def train(self, epochs: int, seed: int = 0) -> float:
        """Return the seconds of training, without building the vocabulary."""
        self.model = self._make(**self.form, seed=seed)
        self.model.build_vocab(self.sentences)
        began = time.perf_counter()
        self.model.train(self.sentences, total_examples=len(self.sentences), epochs=epochs)
        return time.perf_counter() - began

    def vectors(self) -> np.ndarray:
        """Return unit rows; 0 for items that no walk has."""
        found = np.zeros((self.n_items, DIM), np.float32)
        rows = np.array(self.model.wv.index_to_key, int)
        found[rows] = self.model.wv.get_normed_vectors()
        return found


def judged(evaluator: PairEvaluator, vectors: np.ndarray) -> dict[str, float]:
    return evaluator.judge(item_scorer({"item": vectors}, evaluator.scored_I)).metrics()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="item graph; synthetic ones where not given")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=5)
    args = parser.parse_args()
    config = configuration("preset", "synthetic" if args.data is None else str(args.data))
    graph: ItemGraph = (
        synthetic_items.make(8_000, 200_000, communities=200, seed=1)
        if args.data is None
        else resolve_items(str(args.data), config.pairs)
    )
    splits = judging.splits_of(config, graph)
    ours = {
        "jaxrec skipgram": Ours(config, splits),
        "jaxrec at gensim's settings": Ours(configuration("sgd", config.data), splits),
    }
    problem = next(iter(ours.values())).problem
    evaluator = problem.evaluator("test")
    assert evaluator is not None
    workers = len(os.sched_getaffinity(0))
    theirs = Theirs(drawn(problem), graph.n_items, workers)
    words = len(theirs.sentences) * LENGTH
    taken: dict[str, list[float]] = {name: [] for name in (*ours, "gensim")}
    for call in ours.values():
        call.epoch()
        call.begin()
    for _ in range(args.rounds):
        for name, call in ours.items():
            began = time.perf_counter()
            call.epoch()
            taken[name].append(words / (time.perf_counter() - began))
        taken["gensim"].append(words / theirs.train(1))
    found = {}
    for name, call in ours.items():
        call.begin()
        for _ in range(args.epochs):
            call.epoch()
        found[name] = judged(evaluator, call.vectors())
    theirs.train(args.epochs)
    found["gensim"] = judged(evaluator, theirs.vectors())
    name = "grocery" if args.data is not None else graph.name
    command = "python -m bench skipgram" + ("" if args.data is None else " --data META")
    base = sorted(taken["gensim"])[len(taken["gensim"]) // 2]
    for impl, values in taken.items():
        extra = {
            "what": f"skip-gram, words a second ({name})",
            "workers": workers,
            "device": device(),
        }
        median = sorted(values)[len(values) // 2]
        extra |= {"times_gensim": median / base, "epochs_judged": args.epochs}
        extra |= {f"test_{metric}": value for metric, value in found[impl].items()}
        record("skipgram", impl, values, "words/s", command, **extra)


if __name__ == "__main__":
    main()
