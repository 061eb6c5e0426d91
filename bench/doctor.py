"""The doctor against planted faults: does it name the cause first, and leave healthy runs alone?

``--half synthetic`` is what thresholds are chosen on. ``--half real`` are the same kinds of fault
on MovieLens 100K, MovieLens latest-small and Amazon Grocery, with other models and seeds. Runs are
small: each is trained by the trainer's own steps in this process, and measured where a run is.
"""

import argparse
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from bench.common import record
from jaxrec import compilation
from jaxrec.config import (
    Config,
    EvalConfig,
    LossConfig,
    ModelConfig,
    NegativesConfig,
    OptimConfig,
    SplitConfig,
    TrainConfig,
)
from jaxrec.data import synthetic
from jaxrec.data.dataset import Dataset
from jaxrec.data.formats import resolve
from jaxrec.doctor.read import Diagnosis, of_records
from jaxrec.errors import RunError
from jaxrec.evaluate.run import parts
from jaxrec.train import signs
from jaxrec.train.problem import Problem
from jaxrec.train.state import SCAN_LENGTH

COMMAND = "python -m bench doctor --data data"
Change = Callable[[Config], Config]


def changed(**sections: dict) -> Change:
    """A change of single fields: ``changed(train={"l2": 1.0})``."""

    def change(config: Config) -> Config:
        made = {name: replace(getattr(config, name), **of) for name, of in sections.items()}
        return replace(config, **made)

    return change


def _ranking(model: ModelConfig, loss: Any, rate: float, **train) -> Config:
    count = 64 if loss == "bpr" else 256
    return Config(
        split=SplitConfig("random", test=0.1, validation=0.1),
        model=model,
        loss=LossConfig(loss),
        negatives=NegativesConfig("shared", count),
        optim=OptimConfig(learning_rate=rate),
        train=TrainConfig(**{"epochs": 8, "batch_size": 1024, "l2": 3e-3} | train),
        eval=EvalConfig(k=(20,), every=2),
    )


def _ratings(model: ModelConfig, rate: float, **train) -> Config:
    return Config(
        split=SplitConfig("random", test=0.1, validation=0.1),
        model=model,
        loss=LossConfig("mse"),
        optim=OptimConfig(learning_rate=rate),
        train=TrainConfig(**{"epochs": 12, "batch_size": 1024, "l2": 0.2} | train),
        eval=EvalConfig(k=(20,), every=3),
    )


_TRIPLET = ModelConfig("two-tower", dim=32, layers=0, ids=False, tower_dims=(64,))
_UNIFORM = {"negatives": {"name": "uniform", "count": 1}}

MODELS: dict[str, Config] = {
    # What thresholds are chosen with.
    "mf": _ranking(ModelConfig("mf", dim=32, layers=0), "bpr", 5e-3),
    "lightgcn": _ranking(ModelConfig("lightgcn", dim=32, layers=2), "bpr", 5e-3),
    "ngcf": _ranking(ModelConfig("ngcf", dim=32, layers=2), "softmax", 3e-3),
    "gcmc": _ranking(ModelConfig("gcmc", dim=32, layers=1, hidden_dim=64), "softmax", 5e-3),
    "two-tower": _ranking(ModelConfig("two-tower", dim=32, layers=0), "softmax", 5e-3),
    "triplet": changed(**_UNIFORM)(_ranking(_TRIPLET, "triplet", 3e-3, l2=0.0)),
    "biased-mf": _ratings(ModelConfig("mf", dim=16, layers=0, init_std=0.05, biases=True), 5e-3),
    "rating-towers": _ratings(
        ModelConfig("two-tower", dim=16, layers=0, init_std=0.05, tower_dims=(32,)),
        2e-3,
        l2=0.2,
        epochs=6,
    ),
    # What they are tested with.
    "mf-bce": _ranking(ModelConfig("mf", dim=64, layers=0), "bce", 5e-3),
    "mf-uniform": changed(**_UNIFORM)(_ranking(ModelConfig("mf", dim=48, layers=0), "bpr", 5e-3)),
    "lightgcn-3": _ranking(ModelConfig("lightgcn", dim=64, layers=3), "softmax", 5e-3),
    "lightgcn-bpr": changed(**_UNIFORM)(
        _ranking(ModelConfig("lightgcn", dim=48, layers=3), "bpr", 5e-3)
    ),
    "ngcf-bpr": _ranking(ModelConfig("ngcf", dim=48, layers=1), "bpr", 3e-3),
    "gcmc-bpr": _ranking(ModelConfig("gcmc", dim=48, layers=1), "bpr", 5e-3),
    "pinsage": _ranking(ModelConfig("pinsage", dim=32, layers=1), "softmax", 5e-3),
    "cosine": changed(loss={"temperature": 0.15})(
        _ranking(ModelConfig("mf", dim=64, layers=0, score="cosine"), "softmax", 1e-2)
    ),
    "deep-tower": _ranking(
        ModelConfig("two-tower", dim=48, layers=0, tower_dims=(64,)), "bpr", 3e-3
    ),
    "triplet-bpr": changed(**_UNIFORM)(
        _ranking(replace(_TRIPLET, dim=48, tower_dims=(96, 48)), "bpr", 2e-3, l2=0.0)
    ),
    "gcmc-features": changed(**_UNIFORM)(
        _ranking(ModelConfig("gcmc", dim=32, layers=1, ids=False), "bpr", 3e-3, l2=0.0)
    ),
    "mf-ratings": _ratings(ModelConfig("mf", dim=32, layers=0, init_std=0.05), 5e-3),
    "deep-rating-towers": _ratings(
        ModelConfig("two-tower", dim=32, layers=0, init_std=0.05, tower_dims=(64, 32)),
        1e-3,
        l2=0.2,
        epochs=6,
    ),
    "gcmc-mse": _ratings(ModelConfig("gcmc", dim=32, layers=1, biases=True), 3e-3, l2=0.02),
}

# The faults by the name of the finding that they are to have.
FAULTS: dict[str, Change] = {
    "accumulated-gradients": lambda config: replace(config, mistakes=("accumulated-gradients",)),
    "sum-in-sigmoid": lambda config: replace(config, mistakes=("sum-in-sigmoid",)),
    "learning-rate-high": changed(optim={"learning_rate": 1.0}),
    "learning-rate-low": changed(optim={"learning_rate": 1e-6}),
    "ratings-not-centred": lambda config: changed(
        loss={"center": False},
        model={"biases": False} | ({"final": "relu"} if config.model.name == "two-tower" else {}),
    )(config),
    "softmax-outputs": changed(model={"final": "softmax"}),
    "identical-negatives": changed(
        negatives={"name": "all", "pick": "same-features", "reject_known": False},
        model={"columns": ("age", "gender", "occupation", "genres")},
    ),
    "over-smoothing": lambda config: changed(
        model={"layers": 8, "form": "lecture"} if config.model.name == "ngcf" else {"layers": 30},
        train={"epochs": 4},
        eval={"every": 2},
    )(config),
    "l2-strong": changed(train={"l2": 10.0}),
    "overfitting": changed(
        train={"l2": 0.0, "epochs": 30},
        optim={"learning_rate": 2e-2},
        model={"dim": 128},
        eval={"every": 5},
    ),
}


class Case(NamedTuple):
    """A run: what is planted in which model ("healthy" where nothing is), on which data."""

    planted: str
    model: str
    data: str
    seed: int

    def config(self) -> Config:
        config = replace(MODELS[self.model], seed=self.seed)
        if self.planted == HEALTHY:
            return config
        made = FAULTS[self.planted](config)
        if self.data in _MADE_UP and made.model.columns:
            return changed(model={"columns": ("group",)})(made)
        return made


HEALTHY = "healthy"
_SYNTHETIC = {
    "accumulated-gradients": ("mf", "lightgcn", "gcmc"),
    "sum-in-sigmoid": ("mf", "lightgcn", "mf"),
    "learning-rate-high": ("mf", "lightgcn", "ngcf"),
    "learning-rate-low": ("mf", "lightgcn", "gcmc"),
    "ratings-not-centred": ("rating-towers", "biased-mf", "rating-towers"),
    "softmax-outputs": ("triplet", "two-tower", "triplet"),
    "identical-negatives": ("triplet", "triplet", "triplet"),
    "over-smoothing": ("lightgcn", "ngcf", "lightgcn"),
    "l2-strong": ("mf", "lightgcn", "mf"),
    "overfitting": ("mf", "lightgcn", "two-tower"),
}
_GROCERY, _SMALL, _ML100K = "amazon-grocery", "ml-latest-small", "ml-100k"
_REAL = {
    "accumulated-gradients": (
        ("lightgcn-bpr", _ML100K),
        ("gcmc-bpr", _SMALL),
        ("mf-bce", _GROCERY),
    ),
    "sum-in-sigmoid": (
        ("lightgcn-bpr", _ML100K),
        ("deep-tower", _SMALL),
        ("mf-uniform", _GROCERY),
    ),
    "learning-rate-high": (
        ("lightgcn-3", _ML100K),
        ("gcmc-bpr", _SMALL),
        ("mf-bce", _GROCERY),
    ),
    "learning-rate-low": (
        ("deep-tower", _ML100K),
        ("mf-bce", _SMALL),
        ("lightgcn-3", _GROCERY),
    ),
    "ratings-not-centred": (
        ("deep-rating-towers", _ML100K),
        ("deep-rating-towers", _SMALL),
        ("mf-ratings", _ML100K),
    ),
    "softmax-outputs": (
        ("triplet-bpr", _ML100K),
        ("deep-tower", _SMALL),
        ("deep-tower", _GROCERY),
    ),
    "identical-negatives": (
        ("triplet-bpr", _ML100K),
        ("gcmc-features", _ML100K),
        ("triplet", _ML100K),
    ),
    "over-smoothing": (
        ("lightgcn-bpr", _ML100K),
        ("ngcf-bpr", _SMALL),
        ("lightgcn-3", _GROCERY),
    ),
    "l2-strong": (
        ("mf-uniform", _ML100K),
        ("lightgcn-bpr", _SMALL),
        ("mf-bce", _GROCERY),
    ),
    "overfitting": (
        ("mf-bce", _ML100K),
        ("lightgcn-bpr", _SMALL),
        ("mf-uniform", _GROCERY),
    ),
}
_HEALTHY_SYNTHETIC = (*(m for m in list(MODELS)[:8]),)
_HEALTHY_REAL = {
    _ML100K: (
        *("mf-bce", "mf-uniform", "lightgcn-3", "lightgcn-bpr", "ngcf-bpr", "gcmc-bpr", "pinsage"),
        *("cosine", "deep-tower", "triplet-bpr", "gcmc-features", "mf-ratings", "gcmc-mse"),
        "deep-rating-towers",
    ),
    _SMALL: (
        *("mf-bce", "mf-uniform", "lightgcn-3", "lightgcn-bpr", "gcmc-bpr", "cosine"),
        *("deep-tower", "mf-ratings"),
    ),
    _GROCERY: (
        *("mf-bce", "mf-uniform", "lightgcn-3", "lightgcn-bpr", "ngcf-bpr", "gcmc-bpr", "cosine"),
        "deep-tower",
    ),
}
_MADE_UP = {
    "made-up-1": {"users": 800, "items": 600, "edges": 20_000, "communities": 12, "seed": 3},
    "made-up-2": {"users": 500, "items": 900, "edges": 15_000, "communities": 8, "seed": 5},
    "made-up-3": {"users": 1200, "items": 500, "edges": 36_000, "communities": 20, "seed": 7},
}


def cases(half: str, seed: int) -> list[Case]:
    """The runs of a half; on made-up data each healthy model on each of the three sets."""
    made_up = list(_MADE_UP)
    if half == "synthetic":
        found = [
            Case(fault, model, data, seed)
            for fault, models in _SYNTHETIC.items()
            for model, data in zip(models, made_up, strict=True)
        ]
        return [
            *found,
            *(Case(HEALTHY, m, data, seed) for m in _HEALTHY_SYNTHETIC for data in made_up),
        ]
    found = [
        Case(fault, *which, seed + n)
        for fault, several in _REAL.items()
        for n, which in enumerate(several)
    ]
    healthy = [Case(HEALTHY, m, data, seed) for data, ms in _HEALTHY_REAL.items() for m in ms]
    return [*found, *healthy]


def load(name: str, folder: Path | None) -> Dataset:
    """A data set by its name in the cases."""
    if name not in _MADE_UP:
        assert folder is not None
        return resolve(str(folder / name))
    sizes = _MADE_UP[name]
    truth = synthetic.truth(
        sizes["users"], sizes["items"], communities=sizes["communities"], seed=sizes["seed"]
    )
    return synthetic.rated(synthetic.make(**sizes, features=True), truth)


def train(
    config: Config, data: Dataset, split: str = "validation"
) -> tuple[Diagnosis, dict[str, float]]:
    """A run's records by the trainer's own steps, without a folder; and a split's last metrics."""
    problem = Problem.build(config, parts(config, data))
    state, records, step = problem.initial_state(), [], 0
    jitted = jax.jit(problem.stepper.dispatch, donate_argnums=0)
    cadence, metrics = problem.cadence, {}

    def put(split: str, values: dict) -> None:
        records.append({"step": step, "split": split, "phase": "search"} | values)

    put("doctor", problem.examine(state) or {})
    while step < cadence.total:
        upto = cadence.next_boundary(step)
        while step < upto:
            n = min(SCAN_LENGTH, upto - step)
            state, _ = jitted(state, problem.data, jnp.int32(n))
            step += n
        seen = jax.device_get(state.totals)
        told = signs.record(seen.signs, problem.stepper.parts)
        if seen.bad_step >= 0:
            put("doctor", {"not_finite": 1.0} | told)
            break
        if cadence.due(cadence.log, step):
            count = int(seen.steps)
            put("train", {"loss": float(seen.loss) / count, "l2": float(seen.l2) / count} | told)
            state = state._replace(totals=problem.stepper.zero_totals())
        if cadence.due(cadence.evaluate, step):
            try:
                metrics = problem.measure(split, state, lambda: False) or {}
            except RunError:
                put("doctor", {"not_finite": 1.0})
                break
            put(split, metrics)
            put("doctor", problem.examine(state) or {})
    return of_records("run", config, records), metrics


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--half", choices=("synthetic", "real"), nargs="+", default=["real"])
    parser.add_argument("--data", type=Path, help="folder of the three real data sets")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", help="planted faults; all by default")
    parser.add_argument("--dry", action="store_true", help="print, and write no line")
    args = parser.parse_args()
    if "real" in args.half and args.data is None:
        parser.error("--half real needs --data")
    compilation.use_cache()
    for half in args.half:
        sets: dict[str, Dataset] = {}
        rows = []
        for case in cases(half, args.seed):
            if args.only and case.planted not in args.only:
                continue
            if case.data not in sets:
                sets[case.data] = load(case.data, args.data)
            began = time.perf_counter()
            diagnosis, metrics = train(case.config(), sets[case.data])
            names = [finding.name for finding in diagnosis.findings]
            rows.append((case, names))
            value = metrics.get(case.config().metric)
            good = names[:1] == ([] if case.planted == HEALTHY else [case.planted])
            print(
                f"{'  ' if good else '! '}{case.planted:22} {case.model:18} {case.data:16} "
                f"{time.perf_counter() - began:5.1f} s  {value}  {names}",
                flush=True,
            )
            if args.dry and not good:
                print("    ", {n: float(f"{x:.3g}") for n, x in diagnosis.figures.items()})
        if not args.dry:
            tell(half, args.seed, rows)


def tell(half: str, seed: int, rows: list[tuple[Case, list[str]]]) -> None:
    """The confusion table, a line for each planted fault, and the two sums."""
    command = f"{COMMAND} --half {half} --seed {seed}"
    faulty = [(case, names) for case, names in rows if case.planted != HEALTHY]
    for planted in dict.fromkeys(case.planted for case, _ in rows):
        first = Counter(
            names[0] if names else HEALTHY for case, names in rows if case.planted == planted
        )
        runs = [
            {"model": c.model, "data": c.data, "seed": c.seed, "findings": names}
            for c, names in rows
            if c.planted == planted
        ]
        record(
            "doctor",
            "jaxrec",
            [first[planted] / len(runs)],
            "share",
            command,
            what=f"{half}: {planted} named first",
            named=dict(first),
            runs=runs,
        )
    hits = sum(names[:1] == [case.planted] for case, names in faulty)
    quiet = sum(not names for case, names in rows if case.planted == HEALTHY)
    for what, count, of in (
        ("planted cause named first", hits, len(faulty)),
        ("healthy runs without a finding", quiet, len(rows) - len(faulty)),
    ):
        record("doctor", "jaxrec", [count], "runs", command, what=f"{half}: {what}", of=of)
