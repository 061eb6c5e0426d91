"""Small run folders made by hand, as a training run would leave them."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from jaxrec import presets
from jaxrec.config import Config, to_dict
from jaxrec.data.itemgraph import ItemGraph
from jaxrec.evaluate.slices import slices


def ids(prefix: str, n: int) -> np.ndarray:
    return np.array([f"{prefix}{i}" for i in range(n)], np.str_)


def write_embeddings(
    run: Path,
    user: np.ndarray,
    item: np.ndarray,
    seen: Sequence[Sequence[int]] | None = None,
    **more: np.ndarray,
) -> Path:
    """config.json, embeddings.npz and seen.npz; ids are u0, u1, ... and i0, i1, ..."""
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
    """seen.npz: items by user in train and validation, and in test, and who has been learnt."""
    arrays = {}
    for prefix, lists in (("", known), ("test_", test)):
        arrays[f"{prefix}indptr"] = np.cumsum([0, *map(len, lists)]).astype(np.int32)
        rows = [i for row in lists for i in sorted(row)]
        arrays[f"{prefix}indices"] = np.array(rows, np.int32)
    learnt = {"learnt_user": np.array(learnt_user), "learnt_item": np.array(learnt_item)}
    np.savez(run / "seen.npz", **arrays, **learnt)
    return run


def write_item_run(run: Path, graph: ItemGraph, item: np.ndarray, **more: np.ndarray) -> Path:
    """A finished run of an item model: config.json, env.json, embeddings.npz and seen.npz.

    The graph becomes a prepared folder beside the run, and the run's data.
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


def evaluation() -> dict[str, Any]:
    """An eval.json after a run that selected on validation."""

    def metrics(scale: float) -> dict[str, float]:
        shape = {"recall": 0.1, "ndcg": 0.08, "precision": 0.02, "hit_rate": 0.4, "map": 0.03}
        return {
            f"{name}@{k}": round(value * scale * (1 + k / 40), 6)
            for name, value in shape.items()
            for k in (10, 20, 50)
        }

    def result(scale: float) -> dict[str, Any]:
        baselines = {"popularity": metrics(0.31 * scale), "random": metrics(0.004 * scale)}
        return {"metrics": metrics(scale), "baselines": baselines, "users": 812}

    return result(1.0) | {
        "split": "test",
        "protocol": "full ranking over all items, train and validation items masked",
        "selected_on": "validation",
        "validation": result(1.07),
        "train": {"metrics": {"recall@20": 0.2345, "ndcg@20": 0.3456}},
        "false_negative_rate": {"train": 0.0, "validation": 0.0123},
        "best_step": 900,
        "steps": 1200,
    }


def write_records(run: Path, **env: Any) -> Path:
    """Everything besides that a report reads."""
    run.mkdir(parents=True, exist_ok=True)
    (run / "config.json").write_text(json.dumps(to_dict(Config())))
    data = {
        "name": "town",
        "users": 1000,
        "items": 2000,
        "train": 30111,
        "validation": 3322,
        "test": 8155,
        "notes": {"duplicate pairs": 3},
    }
    made = {
        "versions": {"jaxrec": "0.1.0", "jax": "0.10.2"},
        "device": "2 x TFRT_CPU",
        "commit": "64ef382",
        "fingerprint": "ab" * 32,
        "command": "jaxrec train lightgcn --data town",
        "data": data,
    }
    (run / "env.json").write_text(json.dumps(made | env))
    (run / "eval.json").write_text(json.dumps(evaluation()))
    metric_lines, timing_lines = [], []
    for epoch in range(1, 13):
        at = {"step": 100 * epoch, "epoch": epoch, "phase": "search"}
        loss = 0.1 + 0.5 / epoch
        parts = {"split": "train", "loss": loss, "bpr": loss - 0.01, "l2": 0.01}
        metric_lines.append(at | parts)
        good = 0.16 - 0.1 / epoch - 0.001 * max(epoch - 9, 0)
        for split, times in (("validation", 1.0), ("train_ranking", 1.5)):
            metrics = {"recall@20": good * times, "ndcg@20": 0.8 * good * times}
            metric_lines.append(at | {"split": split} | metrics)
        seconds = 2.5 * (epoch if epoch < 7 else epoch - 6)  # resumed after epoch 6
        speed = {"steps_per_second": 40.0 + epoch % 3, "pairs_per_second": 81920.0 + epoch % 5}
        timing_lines.append(
            {"step": 100 * epoch, "seconds": seconds, "peak_memory_mb": 612.0} | speed
        )
    timing_lines[6]["event"] = "resumed"
    for name, lines in (("metrics", metric_lines), ("timing", timing_lines)):
        (run / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    rng = np.random.default_rng(0)
    counts = np.sort(rng.zipf(1.6, 2000).clip(0, 900))
    relevant = rng.binomial(counts, 0.2)
    hits = rng.binomial(relevant, 0.05 + 0.3 * counts / counts.max())
    sliced = slices(rng.integers(5, 90, 812), rng.random(812) / 5, counts, hits, relevant, 20)
    (run / "slices.json").write_text(json.dumps({"split": "test"} | sliced))
    return run
