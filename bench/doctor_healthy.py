"""Healthy runs with unusual settings, read by the doctor, which must find nothing at any time.

They use models, losses, negatives, optimizers, scores, data and lengths that people choose, on
small generated data. A run counts as healthy if its metric is well above that of popularity (for
ratings: its error below that of the biases), or if it is only too short to be judged.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

import jaxrec
from bench.common import record
from jaxrec import compilation, log
from jaxrec.cli.train import configured
from jaxrec.data import synthetic, synthetic_items
from jaxrec.data.dataset import Dataset, Exposed
from jaxrec.diagnosis.diagnose import diagnose

COMMAND = "python -m bench doctor-healthy"


def _town() -> Dataset:
    return synthetic.make(800, 600, 20_000, communities=12, seed=3, features=True)


def _shown() -> Dataset:
    """Return the town data, with ten more popular items shown to each user."""
    town, rng = _town(), np.random.default_rng(0)
    popular_I = town.item_counts() / town.n_edges
    user = np.repeat(np.arange(town.n_users), 10)
    item = rng.choice(town.n_items, len(user), p=popular_I)
    had = np.isin(user * town.n_items + item, town.user.astype(np.int64) * town.n_items + town.item)
    exposed = Exposed(user[~had].astype(np.int32), item[~had].astype(np.int32))
    return replace(town, exposed=exposed)


DATA: dict[str, Callable[[], Any]] = {
    "town": _town,
    "sparse": lambda: synthetic.make(1500, 1000, 12_000, communities=20, seed=9),
    "catalogue-of-24": lambda: synthetic.make(300, 24, 1_700, communities=3, seed=1),
    "dense": lambda: synthetic.make(200, 100, 5_000, communities=4, seed=2),
    "village": lambda: synthetic.make(60, 50, 700, communities=4, seed=4),
    "shown": _shown,
    "ratings": lambda: synthetic.rated(_town(), synthetic.truth(800, 600, seed=3)),
    "products": lambda: synthetic_items.make(500, 3_000, communities=10, seed=1, missing=0.2),
}
"""The data of the runs, generated when needed."""

_FAST = "--optim.learning-rate 0.01 --train.batch-size 512 --train.epochs 12"

RUNS: dict[str, tuple[str, ...]] = {
    # Negatives.
    "softmax over all items": (f"mf town --loss.name softmax --negatives.name all {_FAST}",),
    "bpr over all items": (f"lightgcn town --negatives.name all {_FAST}",),
    "hinge over all items": (f"mf town --loss.name hinge --negatives.name all {_FAST}",),
    "softmax over all unknown items, a catalogue of 24": (
        "mf catalogue-of-24 --loss.name softmax --negatives.name all "
        "--negatives.reject-known True --eval.k 5 --eval.metric recall@5 --model.dim 16 "
        "--optim.learning-rate 0.02 --train.batch-size 256 --train.epochs 20",
    ),
    "bce over all items, dense": (
        f"mf dense --loss.name bce --negatives.name all --model.dim 16 --train.l2 0.01 {_FAST}",
    ),
    "the hardest of a shared set": (
        "lightgcn town --loss.name softmax --negatives.name shared --negatives.count 64 "
        f"--negatives.pick hardest {_FAST}",
    ),
    "bpr, the hardest of a shared set": (
        "mf town --negatives.name shared --negatives.count 64 --negatives.pick hardest "
        f"--train.l2 0.01 {_FAST}",
    ),
    "semi-hard in the batch": (
        f"lightgcn town --negatives.name in-batch --negatives.pick semi-hard {_FAST}",
    ),
    "in-batch softmax": (f"mf town --loss.name softmax --negatives.name in-batch {_FAST}",),
    "in-batch softmax, not corrected": (
        "two-tower town --loss.name softmax --negatives.name in-batch --negatives.log-q False "
        f"{_FAST}",
    ),
    "in-batch bpr, dense": (
        f"mf dense --negatives.name in-batch --model.dim 16 --train.l2 0.01 {_FAST}",
    ),
    "eight candidates": (f"mf town --negatives.candidates 8 --train.l2 0.02 {_FAST}",),
    "by popularity": (
        "mf town --loss.name softmax --negatives.name shared --negatives.count 128 "
        f"--negatives.popularity 0.75 --negatives.log-q True {_FAST}",
    ),
    "hard negatives by PageRank": (
        "lightgcn town --loss.name softmax --negatives.name shared --negatives.count 64 "
        f"--negatives.hard 3 --negatives.hard-ranks 50 200 {_FAST}",
    ),
    "what users were shown": (
        f"mf shown --negatives.name exposed --negatives.count 2 --train.l2 0.01 {_FAST}",
    ),
    # Scores, losses, optimizers.
    "cosine, temperature 0.1": (
        "mf town --model.score cosine --loss.temperature 0.1 --loss.name softmax "
        f"--negatives.name shared --negatives.count 256 {_FAST}",
    ),
    "cosine, temperature 0.05, over all items": (
        "lightgcn town --model.score cosine --loss.temperature 0.05 --loss.name softmax "
        f"--negatives.name all {_FAST}",
    ),
    "cosine, bpr": (f"mf town --model.score cosine --loss.temperature 0.15 {_FAST}",),
    "mlp score": (
        "mf town --model.score mlp --model.init-std 0.3 --negatives.name shared "
        f"--negatives.count 32 {_FAST}",
    ),
    "triplet": (f"mf town --loss.name triplet --model.dim 32 {_FAST}",),
    "a small start": (
        f"mf town --model.init-std 0.001 --negatives.name shared --negatives.count 64 {_FAST}",
    ),
    "sgd with momentum": (
        "mf town --optim.name sgd --optim.momentum 0.9 --optim.learning-rate 10 "
        "--train.batch-size 512 --train.epochs 15",
    ),
    "a high rate that falls to 0": (
        "lightgcn town --optim.schedule cosine --optim.learning-rate 0.05 --optim.warmup-steps 30 "
        "--loss.name softmax --negatives.name shared --negatives.count 128 --train.l2 0.05 "
        "--train.batch-size 1024 --train.epochs 12",
    ),
    # Ratings, features, items.
    "ratings with cosines": (
        "biased-mf ratings --model.score cosine --loss.temperature 0.3 --train.epochs 10 "
        "--train.batch-size 512",
    ),
    "ratings without biases": (
        "mf ratings --loss.name mse --model.dim 16 --train.l2 0.2 --optim.learning-rate 0.005 "
        "--train.batch-size 512 --train.epochs 10",
    ),
    "levels": (
        "gcmc ratings --loss.name levels --model.features False --model.dim 16 "
        "--model.init normal --model.matrices random --optim.learning-rate 0.01 "
        "--train.batch-size 1024 --train.epochs 15 --train.l2 0.0",
    ),
    "features alone": (
        f"triplet town --model.tower-dims 32 --loss.name bpr --negatives.name uniform {_FAST}",
    ),
    "skip-gram": (
        "skipgram products --train.epochs 3 --model.dim 32 --train.batch-size 256 --walks.length 6",
    ),
    "squared weights of pairs": (
        "mf-pairs products --loss.name weights --train.epochs 20 --model.dim 16",
    ),
    # Lengths, and starting points.
    "a single epoch": ("lightgcn town --train.epochs 1",),
    "five epochs by default": ("lightgcn town --train.epochs 5",),
    "a handful of steps": ("mf village --train.epochs 3 --train.batch-size 256",),
    "an evaluation every ten steps": (
        "lightgcn town --train.steps 300 --eval.every 10 --optim.learning-rate 0.01 "
        "--train.batch-size 256 --checkpoint.every 0",
    ),
    "patience, a village": (
        "mf village --model.dim 16 --optim.learning-rate 0.01 --train.batch-size 128 "
        "--train.epochs 60 --train.patience 3 --train.l2 0.02",
    ),
    "refit": (
        f"lightgcn sparse --train.refit --loss.name softmax --negatives.name shared "
        f"--negatives.count 128 --train.patience 3 --train.l2 0.05 {_FAST}",
    ),
    "a spectral start": (
        "mf town --model.init spectral --model.dim 48 --loss.name softmax --negatives.name all "
        "--train.epochs 2 --train.l2 0.01 --optim.learning-rate 0.002 --train.batch-size 1024",
    ),
    "a warm start": (
        f"mf town {_FAST}",
        "mf town --train.epochs 3 --optim.learning-rate 0.0005 --train.batch-size 512",
    ),
}
"""By what is unusual about it, the options of `jaxrec train`; the data of ``DATA`` is named second.
Of several runs each starts warm from the one before, and the last is looked at."""


@contextmanager
def _heard() -> Iterator[list[str]]:
    """Collects the lines that runs print."""
    said, say = [], log.Reporter.say
    log.Reporter.say = lambda self, text: said.append(text)
    try:
        yield said
    finally:
        log.Reporter.say = say


@cache
def data(name: str) -> Any:
    """Return the data of this name."""
    return DATA[name]()


def train(name: str, folder: Path) -> tuple[Any, list[str]]:
    """Run the case of this name in a subfolder; return the run and the doctor's lines."""
    warm: list[str] = []
    run: Any = None
    with _heard() as said:
        for number, options in enumerate(RUNS[name]):
            preset, where, *rest = options.split()
            if number:
                said.clear()
            config = configured([preset, *rest, *warm]).config
            run = jaxrec.train(config, data=data(where), run=folder / str(number))
            warm = ["--warm-start", str(run.folder)]
    return run, [line for line in said if line.startswith("doctor: ")]


def one(name: str, folder: Path) -> dict[str, Any]:
    """Return the doctor's findings on a run, its metric, and that of popularity."""
    began = time.perf_counter()
    run, warned = train(name, folder)
    told, metric = diagnose(run.folder), run.config.metric
    baselines = run.evaluation.get("baselines", {})
    return {
        "options": RUNS[name],
        metric: run.metrics[metric],
        "baselines": {of: round(x[metric], 4) for of, x in baselines.items() if metric in x},
        "findings": [finding.name for finding in told.findings],
        "warnings": warned,
        "seconds": round(time.perf_counter() - began, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=RUNS, help="these alone")
    parser.add_argument("--keep", type=Path, help="a folder to keep the runs in")
    parser.add_argument("--dry", action="store_true", help="print, and write no line")
    args = parser.parse_args()
    compilation.use_cache()
    found = {}
    with tempfile.TemporaryDirectory() as parent:
        for name in args.only or RUNS:
            folder = (args.keep or Path(parent)) / name.replace(" ", "-")
            found[name] = one(name, folder)
            bad = found[name]["findings"] or found[name]["warnings"]
            print("! " if bad else "  ", name, found[name], flush=True)
    if args.dry:
        return
    quiet = sum(not run["findings"] and not run["warnings"] for run in found.values())
    what = "healthy runs that are no presets, without a finding or a warning"
    command = COMMAND + (f" --only {' '.join(args.only)}" if args.only else "")
    record(
        "doctor-healthy", "jaxrec", [quiet], "runs", command, what=what, of=len(found), runs=found
    )


if __name__ == "__main__":
    main()
