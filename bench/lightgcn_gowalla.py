"""LightGCN by the papers' protocol on Gowalla, 5 epochs, against LightGCN-PyTorch's own figures.

Each seed is a fresh process of ``jaxrec train lightgcn-gowalla``. The reference is
LightGCN-PyTorch (commit 947ca2b, seed 2020, one run) on the same split: the mean loss of its
first five epochs, and its embeddings after them ranked by raw scores.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from bench.common import record
from jaxrec.config import SplitConfig
from jaxrec.data.formats import read
from jaxrec.data.split import split
from jaxrec.evaluation.ranking import Evaluator, dot_scorer
from jaxrec.graph import bipartite
from jaxrec.graph.spmm import propagate

REFERENCE = {
    "recall@20": 0.109056,
    "ndcg@20": 0.094923,
}
LOSS = [0.545, 0.240, 0.163, 0.131, 0.112]


def one_seed(data: Path, seed: int, folder: Path) -> dict[str, Any]:
    """Train one seed; return its metrics, mean loss by epoch, seconds and peak memory."""
    command = [sys.executable, "-m", "jaxrec", "train", "lightgcn-gowalla"]
    command += ["--data", str(data), "--train.epochs", "5", "--seed", str(seed)]
    began = time.perf_counter()
    subprocess.run([*command, "--run", str(folder), "--quiet"], check=True)
    seconds = time.perf_counter() - began
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    timing = [json.loads(line) for line in (folder / "timing.jsonl").read_text().splitlines()]
    metrics = json.loads((folder / "eval.json").read_text())["metrics"]
    return {
        "metrics": metrics,
        "loss": [line["loss"] for line in lines if line["split"] == "train"],
        "seconds": seconds,
        "steps_per_second": [t["steps_per_second"] for t in timing if "steps_per_second" in t],
        "peak_mb": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / 1e6,
    }


def rank_reference(data: Path) -> dict[str, float]:
    """Propagate LightGCN-PyTorch's own base embeddings, and rank them by our code."""
    stored = np.load(data / "lightgcn-pytorch-epoch5.npz")
    parts = split(read(data), SplitConfig("given", validation=0.0), 0)
    graph = bipartite.build(parts.train)
    layers = [jnp.concatenate([jnp.asarray(stored[name]) for name in ("user", "item")])]
    for _ in range(3):
        layers.append(propagate(graph, layers[-1]))
    emb_ND = jnp.mean(jnp.stack(layers), axis=0)
    scorer = dot_scorer(emb_ND[: parts.train.n_users], emb_ND[parts.train.n_users :])
    evaluator = Evaluator(parts.test.csr(), parts.train.csr(), (20,), parts.train.n_items)
    metrics = evaluator(scorer)
    assert metrics is not None
    return metrics


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of train.txt, test.txt")
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    args = parser.parse_args()
    command = "python -m bench lightgcn-gowalla --data gowalla"
    if (args.data / "lightgcn-pytorch-epoch5.npz").is_file():
        ranked = rank_reference(args.data)
        for name in ("recall@20", "ndcg@20"):
            what = f"{name} of LightGCN-PyTorch's embeddings, propagated and ranked by jaxrec"
            extra = {"what": what, "reference": REFERENCE[name]}
            record("lightgcn-gowalla", "jaxrec", [ranked[name]], name, command, **extra)
    if not args.seeds:
        return
    with tempfile.TemporaryDirectory() as parent:
        runs = [one_seed(args.data, seed, Path(parent) / str(seed)) for seed in args.seeds]

    def line(what: str, values: list[float], unit: str, **extra: Any) -> None:
        mean = sum(values) / len(values)
        record(
            "lightgcn-gowalla",
            "jaxrec",
            values,
            unit,
            command,
            what=what,
            mean=mean,
            seeds=args.seeds,
            **extra,
        )

    for name in ("recall@20", "ndcg@20"):
        values = [run["metrics"][name] for run in runs]
        line(f"{name} after 5 epochs", values, name, reference=REFERENCE[name])
    for epoch, reference in enumerate(LOSS):
        values = [run["loss"][epoch] for run in runs]
        ratio = sum(values) / len(values) / reference
        line(f"mean loss of epoch {epoch + 1}", values, "loss", reference=reference, ratio=ratio)
    line("peak memory", [run["peak_mb"] for run in runs], "MB")
    line("whole process", [run["seconds"] for run in runs], "s")
    rates = [1000 / rate for run in runs for rate in run["steps_per_second"]]
    line("training step", rates, "ms")


if __name__ == "__main__":
    main()
