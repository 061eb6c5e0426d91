"""The planted faults of the doctor's benchmark, their models and data, and healthy runs.

Thresholds are chosen on the synthetic half. The real half has the same kinds of fault on MovieLens
100K, MovieLens latest-small and Amazon Grocery, with other models and seeds.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

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

Change = Callable[[Config], Config]


def changed(**sections: dict) -> Change:
    """Return a change of single fields: ``changed(train={"l2": 1.0})``."""

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
    # The half on which thresholds are chosen.
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
    "mf-softmax": _ranking(ModelConfig("mf", dim=32, layers=0), "softmax", 5e-3),
    "mf-one": changed(**_UNIFORM)(_ranking(ModelConfig("mf", dim=32, layers=0), "bpr", 5e-3)),
    "lightgcn-softmax": _ranking(ModelConfig("lightgcn", dim=32, layers=3), "softmax", 5e-3),
    # The half on which they are tested.
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

# The faults, by the name of the finding that they should give.
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
    """A run: its fault ("healthy" if none), model and data."""

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
# More runs of the two faults that the other half missed, with combinations that it lacks.
_MORE_SYNTHETIC = (
    ("over-smoothing", "lightgcn", "sparse"),
    ("over-smoothing", "lightgcn-softmax", "sparse"),
    ("overfitting", "mf-softmax", "made-up-1"),
    ("overfitting", "mf-one", "sparse"),
)
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
_HEALTHY_SYNTHETIC = (*(m for m in list(MODELS)[:11]),)
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
    "sparse": {"users": 3000, "items": 2000, "edges": 27_000, "communities": 30, "seed": 9},
}


def cases(half: str, seed: int) -> list[Case]:
    """Return the runs of a half; healthy models run on each generated data set."""
    if half == "synthetic":
        found = [
            Case(fault, model, data, seed)
            for fault, models in _SYNTHETIC.items()
            for model, data in zip(models, _MADE_UP, strict=False)
        ]
        return [
            *found,
            *(Case(*more, seed) for more in _MORE_SYNTHETIC),
            *(Case(HEALTHY, m, data, seed) for m in _HEALTHY_SYNTHETIC for data in _MADE_UP),
        ]
    found = [
        Case(fault, *which, seed + n)
        for fault, several in _REAL.items()
        for n, which in enumerate(several)
    ]
    healthy = [Case(HEALTHY, m, data, seed) for data, ms in _HEALTHY_REAL.items() for m in ms]
    return [*found, *healthy]


def load(name: str, folder: Path | None) -> Dataset:
    """Return a data set by its name in the cases."""
    if name not in _MADE_UP:
        assert folder is not None
        return resolve(str(folder / name))
    sizes = _MADE_UP[name]
    truth = synthetic.truth(
        sizes["users"], sizes["items"], communities=sizes["communities"], seed=sizes["seed"]
    )
    return synthetic.rated(synthetic.make(**sizes, features=True), truth)
