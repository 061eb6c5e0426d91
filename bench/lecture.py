"""The lecture's recommenders on Gowalla, D = 64: recall@20 and ndcg@20 on test, three seeds.

``--part models``: MF with BPR, NGCF, GC-MC and PinSAGE. ``--part negatives``: MF with BPR for
equally many steps against a uniform negative, against one hard negative besides (ranks of PageRank,
from the first epoch on), by PinSAGE's curriculum of up to three, and against two uniform ones, for
control. Hyper-parameters and lengths were chosen on train alone: those of NGCF and PinSAGE with a
fifth of each user's pairs held out, as test is of all, the others' with a tenth. Each run trains on
the whole of train and reads test once.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from bench.common import record
from bench.quality import final
from jaxrec.config import (
    Config,
    EvalConfig,
    ModelConfig,
    NegativesConfig,
    OptimConfig,
    SplitConfig,
    TrainConfig,
)
from jaxrec.data.formats import read
from jaxrec.data.split import Splits, split
from jaxrec.graph import bipartite
from jaxrec.graph.pagerank import Window
from jaxrec.runfolder import read_json
from jaxrec.training.device_data import hard_window
from jaxrec.training.problem import Problem
from jaxrec.training.step import SCAN_LENGTH

COMMAND = "python -m bench lecture --data gowalla"
# All of train, for a fixed length; nothing is selected.
WHOLE = ("--split.validation", "0", "--eval.select-on", "none", "--eval.every", "0")
WHOLE += ("--eval.k", "20", "--checkpoint.every", "0", "--train.patience", "0")
WHOLE += ("--optim.schedule", "linear")
BPR = ("--train.batch-size", "8192", "--optim.learning-rate", "0.01", "--train.l2", "0.02")
BPR += ("--negatives.name", "uniform", "--model.init", "spectral", "--train.epochs", "8", *WHOLE)
DYNAMIC = ("mf", *BPR, "--negatives.candidates", "32")
PINSAGE = ("pinsage", "--model.layers", "2", "--model.fan-outs", "8", "4", "--model.hidden-dim")
PINSAGE += ("128", "--model.neighbors", "uniform", "--model.init", "spectral")
PINSAGE += ("--model.matrices", "linear", "--model.biases", "--loss.temperature", "0.2")
PINSAGE += ("--negatives.count", "1024", "--optim.learning-rate", "0.0025", "--optim.rest-rate")
PINSAGE += ("0.8", "--train.l2", "0.2", "--train.batch-size", "8192", "--train.epochs", "2", *WHOLE)
MODELS = {
    "MF, BPR": DYNAMIC,
    "NGCF": ("ngcf", "--train.epochs", "16", *WHOLE),
    "GC-MC": ("gcmc", "--train.epochs", "8", *WHOLE),
    "PinSAGE": PINSAGE,
}
NEGATIVES = {"MF, uniform": ("mf", *BPR)}
WINDOW = (100, 500)  # ranks of PageRank
HARD = {
    "MF, hard": NegativesConfig(hard=1, hard_ranks=WINDOW, hard_schedule=(1,)),
    "MF, curriculum": NegativesConfig(hard=3, hard_ranks=WINDOW),
    "MF, two uniform": NegativesConfig(count=2),
}
"""Return a problem with these options and BPR; all users' PageRank is computed once."""
PARTS = {"models": MODELS, "negatives": NEGATIVES}


def hard_config(negatives: NegativesConfig, seed: int) -> Config:
    """Return the BPR options with other negatives."""
    return Config(
        seed=seed,
        split=SplitConfig("given", validation=0.0),
        model=ModelConfig("mf", layers=0, init="spectral"),
        negatives=negatives,
        optim=OptimConfig("adam", learning_rate=0.01, schedule="linear"),
        train=TrainConfig(epochs=8, batch_size=8192, l2=0.02),
        eval=EvalConfig(k=(20,), every=0, select_on="none"),
    )


def window_of(config: Config, splits: Splits, folder: Path) -> Window:
    """Return the source of hard negatives and record its cost; it is stored in the folder."""
    kept = folder / "window.npz"
    if not kept.exists():
        folder.mkdir(exist_ok=True)
        graph = bipartite.build(splits.train, reorder=True)
        began, cpu = time.perf_counter(), time.process_time()
        window = hard_window(config, splits.train, graph)
        taken, cpu = time.perf_counter() - began, time.process_time() - cpu
        what, users = "PageRank of all users", splits.train.n_users
        about = {"what": what, "users": users, "ranks": WINDOW, "processor_seconds": cpu}
        record("lecture", "jaxrec", [taken], "s", COMMAND, **about)
        np.savez(kept, item_UW=window.item_UW, count_U=window.count_U)
    with np.load(kept) as arrays:
        return Window(jnp.asarray(arrays["item_UW"]), jnp.asarray(arrays["count_U"]))


def hard(data: Path, names: list[str], seeds: list[int], folder: Path) -> None:
    """Run with hard negatives, in this process; finished runs are read from the folder."""
    splits = split(read(data), SplitConfig("given", validation=0.0), 0)
    for name in names:
        results, seconds = [], []
        for seed in seeds:
            config, kept = hard_config(HARD[name], seed), folder / f"{name} {seed}.json"
            if not kept.exists():
                window = window_of(config, splits, folder) if config.negatives.hard else None
                problem = Problem.build(config, splits, window=window)
                began = time.perf_counter()
                state = problem.initial_state()
                dispatch = jax.jit(problem.stepper.dispatch, donate_argnums=0)
                for step in range(0, problem.cadence.total, SCAN_LENGTH):
                    n = jnp.int32(min(SCAN_LENGTH, problem.cadence.total - step))
                    state, _ = dispatch(state, problem.data, n)
                jax.block_until_ready(state)
                taken = time.perf_counter() - began
                metrics = problem.measure("test", state, lambda: False)
                kept.write_text(json.dumps({"metrics": metrics, "seconds": taken}))
            found = read_json(kept)
            results.append(found["metrics"])
            seconds.append(found["seconds"])
        for metric in ("recall@20", "ndcg@20"):
            values = [result[metric] for result in results]
            about = {"seeds": seeds, "what": f"test {metric}", "mean": sum(values) / len(values)}
            record("lecture", name, values, metric, COMMAND, **about)
        about = {"seeds": seeds, "what": "training with compilation, without PageRank"}
        record("lecture", name, seconds, "s", COMMAND, **about)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of train.txt, test.txt")
    parser.add_argument("--part", choices=list(PARTS), nargs="+", default=list(PARTS))
    parser.add_argument("--runs", nargs="+", help="of the parts' names; all by default")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--keep", type=Path, help="folder of the runs, to go on where one stopped")
    args = parser.parse_args()
    wanted = {name: options for part in args.part for name, options in PARTS[part].items()}
    hards = list(HARD) if "negatives" in args.part else []
    if args.runs:
        wanted = {name: options for name, options in wanted.items() if name in args.runs}
        hards = [name for name in hards if name in args.runs]
    final("lecture", COMMAND, args.data, wanted, args.seeds, args.keep)
    with tempfile.TemporaryDirectory() as parent:
        hard(args.data, hards, args.seeds, args.keep or Path(parent))


if __name__ == "__main__":
    main()
