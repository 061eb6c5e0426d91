"""The doctor against planted faults: does it name the cause first, and leave healthy runs alone?

``--half synthetic`` is what thresholds are chosen on. ``--half real`` are the same kinds of fault on
MovieLens 100K, MovieLens latest-small and Amazon Grocery, with other models and seeds. Runs are
small: each is trained by the trainer's own steps in this process, and measured where a run would be.
"""

import argparse
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

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


def _ranking(model: ModelConfig, loss: str, rate: float, **train) -> Config:
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


MODELS: dict[str, Config] = {
    "mf": _ranking(ModelConfig("mf", dim=32, layers=0), "bpr", 5e-3),
    "lightgcn": _ranking(ModelConfig("lightgcn", dim=32, layers=2), "bpr", 5e-3),
    "ngcf": _ranking(ModelConfig("ngcf", dim=32, layers=2), "softmax", 3e-3),
    "gcmc": _ranking(ModelConfig("gcmc", dim=32, layers=1, hidden_dim=64), "softmax", 5e-3),
}


class Case(NamedTuple):
    """A run: what is planted in which model ("healthy" where nothing is), on which data."""

    planted: str
    model: str
    data: str
    seed: int
    change: Change = lambda config: config


def train(config: Config, data: Dataset) -> tuple[Diagnosis, dict[str, float]]:
    """A run's records by the trainer's own steps, without a folder; and its last measures."""
    problem = Problem.build(config, parts(config, data))
    state, records, step = problem.initial_state(), [], 0
    jitted = jax.jit(problem.stepper.dispatch, donate_argnums=0)
    cadence, metrics = problem.cadence, {}

    def put(split: str, values: dict) -> None:
        records.append({"step": step, "split": split, "phase": "search"} | values)

    put("doctor", problem.examine(state))
    while step < cadence.total:
        upto = cadence.next_boundary(step)
        while step < upto:
            n = min(SCAN_LENGTH, upto - step)
            state, totals = jitted(state, problem.data, jnp.int32(n))
            step += n
        seen = jax.device_get(totals)
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
                metrics = problem.measure("validation", state, lambda: False) or {}
            except RunError:
                put("doctor", {"not_finite": 1.0})
                break
            put("validation", metrics)
            put("doctor", problem.examine(state))
    return of_records("run", config, records), metrics
