"""Time to quality on Gowalla: the presets' recall@20 by training seconds, and implicit's models.

``--part search`` reads no test pair: a tenth of the train pairs is held out, and the presets and
implicit's ALS and BPR are trained on the rest. ``--part final`` trains the unchanged presets on all
of train, and reads test once for each seed.
"""

# The extra `bench` may be missing where the types are checked.
# pyright: reportMissingImports=false
import argparse
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
from jaxrec.data.dataset import Dataset
from jaxrec.data.formats import read
from jaxrec.data.split import Splits, split
from jaxrec.evaluation.ranking import Evaluator, dot_scorer
from jaxrec.runfolder import read_json, read_lines

PRESETS = {"gowalla-fast": "1", "gowalla-strong": "2"}
"""The runs, each with the epochs between two evaluations of its curve."""
COMMAND = "python -m bench quality --data gowalla"
HELD_OUT = 0.1


def write_lightgcn(folder: Path, parts: Splits) -> Path:
    """Write train.txt and test.txt from the train and validation parts."""
    folder.mkdir()
    for name, part in (("train", parts.train), ("test", parts.validation)):
        rows: dict[int, list[str]] = {}
        order = np.lexsort((part.item, part.user))
        for user, item in zip(part.user[order], part.item[order], strict=True):
            rows.setdefault(int(user), []).append(str(item))
        lines = [" ".join([str(user), *items]) for user, items in rows.items()]
        (folder / f"{name}.txt").write_text("\n".join(lines) + "\n")
    return folder


def train(preset: str, data: Path, run: Path, *options: str) -> list[dict[str, Any]]:
    """Run once in a new process; return the lines of its timing.jsonl."""
    command = [sys.executable, "-m", "jaxrec", "train", preset, "--data", str(data), *options]
    subprocess.run([*command, "--run", str(run), "--quiet"], check=True)
    return read_lines(run / "timing.jsonl")


def spent(timing: list[dict[str, Any]]) -> dict[int, float]:
    """Return the seconds by step: initialisation, compilation and steps, without evaluation."""
    total, at, done = 0.0, {}, 0
    for line in timing:
        total += line.get("initialise_seconds", 0.0) + line.get("compile_seconds", 0.0)
        if "steps_per_second" in line:
            total += (line["step"] - done) / line["steps_per_second"]
            done = line["step"]
        at[line["step"]] = total
    return at


def search(data: Path) -> None:
    """Record the curves on the validation slice."""
    whole = split(read(data), SplitConfig("given", validation=HELD_OUT), 0)
    # Nothing below reads the test pairs.
    parts = whole._replace(test=whole.validation)
    evaluator = Evaluator(parts.test.csr(), parts.train.csr(), (20,), parts.train.n_items)

    def line(impl: str, curve: list[tuple[float, float]], **extra: Any) -> None:
        what = "validation recall@20 by training seconds"
        shown = [[round(seconds, 2), round(recall, 5)] for seconds, recall in curve]
        extra |= {"what": what, "curve": shown}
        record("quality", impl, [curve[-1][1]], "recall@20", COMMAND, **extra)

    with tempfile.TemporaryDirectory() as parent:
        folder = write_lightgcn(Path(parent) / "slice", parts)
        for preset, every in PRESETS.items():
            run = Path(parent) / preset
            options = ("--eval.select-on", "test", "--eval.every", every)
            at = spent(train(preset, folder, run, *options))
            metrics = read_lines(run / "metrics.jsonl")
            found = {m["step"]: m["recall@20"] for m in metrics if m["split"] == "test"}
            line(preset, [(at[step], recall) for step, recall in sorted(found.items())])
    for name, made, iterations in implicit_models():
        curve = implicit_curve(made, parts.train, evaluator, iterations)
        line(name, curve, device=None)


def implicit_models() -> list[tuple[str, Any, int]]:
    """Return implicit's ALS at two widths, with hyper-parameters found for Gowalla, and its BPR."""
    from implicit.als import AlternatingLeastSquares
    from implicit.bpr import BayesianPersonalizedRanking

    als: dict[str, Any] = {"alpha": 20, "iterations": 1, "random_state": 0}
    return [
        ("implicit ALS, 128", AlternatingLeastSquares(128, regularization=30, **als), 15),
        ("implicit ALS, 256", AlternatingLeastSquares(256, regularization=50, **als), 15),
        (
            "implicit BPR, 127",
            BayesianPersonalizedRanking(
                127, learning_rate=0.05, regularization=0.0, iterations=30, random_state=0
            ),
            8,
        ),
    ]


def implicit_curve(
    model: Any, data: Dataset, evaluator: Evaluator, rounds: int
) -> list[tuple[float, float]]:
    """Fit in several rounds, each continuing the last, and evaluate after each."""
    import scipy.sparse as sp

    shape = (data.n_users, data.n_items)
    ones = np.ones(data.n_edges, np.float32)
    matrix = sp.csr_matrix((ones, (data.user, data.item)), shape=shape)
    seconds, curve = 0.0, []
    for _ in range(rounds):
        began = time.perf_counter()
        model.fit(matrix, show_progress=False)
        seconds += time.perf_counter() - began
        scorer = dot_scorer(jnp.asarray(model.user_factors), jnp.asarray(model.item_factors))
        metrics = evaluator(scorer)
        assert metrics is not None
        curve.append((seconds, metrics["recall@20"]))
    return curve


def final(
    case: str,
    command: str,
    data: Path,
    runs: dict[str, tuple[str, ...]],
    seeds: list[int],
    keep: Path | None = None,
) -> None:
    """Train runs, each a preset with options, on all of train; test is read once per seed.

    Args:
      keep: a folder for the runs. A finished run there is read, and a killed one is resumed; its
        whole time is then unknown and left out.
    """
    for name, (preset, *options) in runs.items():
        results, training, processes = [], [], []
        for seed in seeds:
            with tempfile.TemporaryDirectory() as parent:
                run = Path(parent) / "run"
                if keep is not None:
                    keep.mkdir(exist_ok=True)
                    run = keep / f"{name} {seed}".replace(",", "").replace(" ", "-")
                began = time.perf_counter()
                if (run / "config.json").exists():
                    if not (run / "eval.json").exists():
                        command_of_it = [sys.executable, "-m", "jaxrec", "resume", str(run)]
                        subprocess.run([*command_of_it, "--quiet"], check=True)
                else:
                    train(preset, data, run, *options, "--seed", str(seed))
                processes.append(time.perf_counter() - began)
                training.append(max(spent(read_lines(run / "timing.jsonl")).values()))
                results.append(read_json(run / "eval.json")["metrics"])
        about = {"seeds": seeds} | ({"options": " ".join(options)} if options else {})

        def line(
            what: str, values: list[float], unit: str, name: str = name, about: Any = about
        ) -> None:
            mean = sum(values) / len(values)
            record(case, name, values, unit, command, what=what, mean=mean, **about)

        for metric in ("recall@20", "ndcg@20"):
            line(f"test {metric}", [result[metric] for result in results], metric)
        line("training with compilation", training, "s")
        if keep is None:
            line("whole process", processes, "s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of train.txt, test.txt")
    parser.add_argument("--part", choices=("search", "final", "all"), default="all")
    parser.add_argument("--presets", nargs="+", choices=list(PRESETS), default=list(PRESETS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    args = parser.parse_args()
    if args.part in ("search", "all"):
        search(args.data)
    if args.part in ("final", "all"):
        runs = {preset: (preset,) for preset in args.presets}
        final("quality", COMMAND, args.data, runs, args.seeds)


if __name__ == "__main__":
    main()
