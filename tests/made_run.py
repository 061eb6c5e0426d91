"""Build small run folders: trained once per process, or written by hand like a trained run's."""

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

import jaxrec
from jaxrec import presets
from jaxrec.config import (
    Config,
    EvalConfig,
    LossConfig,
    ModelConfig,
    NegativesConfig,
    OptimConfig,
    TrainConfig,
    to_dict,
)
from jaxrec.data import synthetic
from jaxrec.data.itemgraph import ItemGraph


def ids(prefix: str, n: int) -> np.ndarray:
    return np.array([f"{prefix}{i}" for i in range(n)], np.str_)


def write_embeddings(
    run: Path,
    user: np.ndarray,
    item: np.ndarray,
    seen: Sequence[Sequence[int]] | None = None,
    **more: np.ndarray,
) -> Path:
    """Write config.json, embeddings.npz and seen.npz, with ids u0, u1, ... and i0, i1, ..."""
    run.mkdir(parents=True, exist_ok=True)
    (run / "config.json").write_text(json.dumps(to_dict(Config())))
    names = {"user_ids": ids("u", len(user)), "item_ids": ids("i", len(item))}
    arrays = {"user": user.astype(np.float32), "item": item.astype(np.float32)}
    np.savez(run / "embeddings.npz", **(names | arrays | more))
    lists = [[] for _ in user] if seen is None else seen
    return write_seen(run, lists, [[] for _ in user], [True] * len(user), [True] * len(item))


def write_seen(
    run: Path,
    known: Sequence[Sequence[int]],
    test: Sequence[Sequence[int]],
    learnt_user: Sequence[bool],
    learnt_item: Sequence[bool],
) -> Path:
    """Write seen.npz: known items and test items by user, and which users and items were learnt."""
    arrays = {}
    for prefix, lists in (("", known), ("test_", test)):
        arrays[f"{prefix}indptr"] = np.cumsum([0, *map(len, lists)]).astype(np.int32)
        rows = [i for row in lists for i in sorted(row)]
        arrays[f"{prefix}indices"] = np.array(rows, np.int32)
    learnt = {"learnt_user": np.array(learnt_user), "learnt_item": np.array(learnt_item)}
    np.savez(run / "seen.npz", **arrays, **learnt)
    return run


def write_item_run(run: Path, graph: ItemGraph, item: np.ndarray, **more: np.ndarray) -> Path:
    """Write a finished run of an item model: config.json, env.json, embeddings.npz, seen.npz.

    The graph is saved as a prepared folder beside the run, which the run names as its data.
    """
    data = run.with_name("graph")
    if not data.exists():
        graph.save(data)
    run.mkdir(parents=True)
    config = replace(
        presets.get("skipgram"),
        data=str(data),
        train=replace(presets.get("skipgram").train, refit=False),
    )
    (run / "config.json").write_text(json.dumps(to_dict(config)))
    sizes = {"name": graph.name, "items": graph.n_items, "train": 99, "notes": {}}
    env = {"fingerprint": graph.fingerprint(), "data": sizes}
    (run / "env.json").write_text(json.dumps(env))
    arrays = {"user": np.zeros((0, item.shape[1]), np.float32), "item": item.astype(np.float32)}
    names = {"user_ids": np.zeros(0, "<U1"), "item_ids": graph.item_ids.astype(str)}
    np.savez(run / "embeddings.npz", **(arrays | names | more))
    np.savez(run / "seen.npz", indptr=np.zeros(1, np.int32), indices=np.zeros(0, np.int32))
    return run


CONFIG = Config(
    preset="lightgcn",
    model=ModelConfig(dim=16, layers=2),
    negatives=NegativesConfig("shared", 16),
    optim=OptimConfig(learning_rate=0.01),
    train=TrainConfig(epochs=12, batch_size=256, l2=1e-3),
    eval=EvalConfig(every=2),
)
RECORDS = ("config.json", "env.json", "eval.json", "slices.json", "metrics.jsonl", "timing.jsonl")
_KEPT: list[TemporaryDirectory] = []


def _keep(made: Callable[[Path], object]) -> Path:
    """Let ``made`` write a folder that exists as long as the process, and return the folder."""
    _KEPT.append(TemporaryDirectory(prefix="jaxrec-tests-"))
    folder = Path(_KEPT[-1].name) / "run"
    made(folder)
    return folder


@cache
def trained() -> Path:
    """Train a sound run of LightGCN, once per process, for tests of the report and the doctor."""
    data = synthetic.make(200, 120, 4000, communities=4, seed=1)
    return _keep(lambda run: jaxrec.train(CONFIG, data=data, run=run, quiet=True))


@cache
def trained_on_ratings() -> Path:
    """Train a sound run of two towers with a hidden layer on ratings, once per process."""
    planted = synthetic.truth(150, 80, communities=4, seed=2)
    data = synthetic.rated(synthetic.make(150, 80, 2500, communities=4, seed=2), planted)
    config = replace(
        CONFIG,
        preset="two-tower-ratings",
        optim=OptimConfig(learning_rate=0.005),
        model=ModelConfig("two-tower", dim=8, layers=0, tower_dims=(16,), init_std=0.05),
        loss=LossConfig("mse"),
        negatives=NegativesConfig(),
    )
    return _keep(lambda run: jaxrec.train(config, data=data, run=run, quiet=True))


def evaluation() -> dict[str, Any]:
    """Return the eval.json of :func:`trained`."""
    return json.loads((trained() / "eval.json").read_text())


def write_records(run: Path, watched: bool = True, **env: Any) -> Path:
    """Copy the records of :func:`trained` that a report reads to the folder ``run``.

    Args:
      watched: whether to include the doctor's measures; without them, as if log.doctor were False.
      env: values that replace those of env.json.
    """
    run.mkdir(parents=True, exist_ok=True)
    for name in RECORDS:
        shutil.copyfile(trained() / name, run / name)
    made = json.loads((run / "env.json").read_text()) | env
    (run / "env.json").write_text(json.dumps(made))
    if not watched:
        lines = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
        (run / "metrics.jsonl").write_text(
            "".join(line for line in lines if json.loads(line)["split"] != "doctor")
        )
    return run
