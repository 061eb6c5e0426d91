"""Two towers and triplets on MovieLens: recall@20 beside popularity, and of cold items.

Hyper-parameters were chosen on validation; test is read once a seed. ``--part cold`` holds out
whole films, which are ranked among themselves by genres and year. The spread of the cosines among
the items' vectors stands beside each recall: vectors that have collapsed have none.
"""

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import jaxrec
from bench.common import record
from jaxrec.config import Config, SplitConfig
from jaxrec.data.dataset import Dataset
from jaxrec.data.formats import Columns, read

COMMAND = "python -m bench towers --data FOLDER"
PRESETS = ("two-tower", "triplet")
COLD = SplitConfig("cold-items", test=0.2, validation=0.2)
_ITEMS = 2000  # whose cosines are looked at


def data_sets(folder: Path) -> dict[str, Dataset]:
    """MovieLens 100K's first fold, and latest-small without its times, one of which is damaged."""
    small = folder / "ml-latest-small"
    return {
        "ml-100k u1": read(folder / "ml-100k" / "u1.base"),
        "ml-latest-small": read(
            small / "ratings.csv",
            columns=Columns(time=""),
            items=small / "movies.csv",
            cold_items=True,
        ),
    }


def cosine_spread(item_ID: np.ndarray) -> float:
    """Standard deviation of the cosines between different items."""
    chosen = np.random.default_rng(0).permutation(len(item_ID))[:_ITEMS]
    length = np.linalg.norm(item_ID[chosen], axis=1, keepdims=True)
    unit = (item_ID[chosen] / np.where(length > 0, length, 1)).astype(np.float64)
    return float((unit @ unit.T)[np.triu_indices(len(unit), 1)].std())


def one(config: Config, data: Dataset) -> dict[str, Any]:
    """What a run found on test, and how far its items' vectors lie apart."""
    with tempfile.TemporaryDirectory() as parent:
        began = time.perf_counter()
        run = jaxrec.train(config, data=data, run=Path(parent) / "run", quiet=True)
        seconds = time.perf_counter() - began
        with np.load(run.folder / "embeddings.npz") as stored:
            spread = cosine_spread(stored["item"])
    baselines = run.evaluation["baselines"]
    found = {"model": run.metrics} | {name: baselines[name] for name in ("popularity", "random")}
    recall = {name: metrics["recall@20"] for name, metrics in found.items()}
    return recall | {"spread": spread, "seconds": seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of the MovieLens folders")
    parser.add_argument("--part", choices=("warm", "cold", "all"), default="all")
    parser.add_argument("--presets", nargs="+", choices=PRESETS, default=list(PRESETS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    args = parser.parse_args()
    parts = {"warm": ("warm",), "cold": ("cold",), "all": ("warm", "cold")}[args.part]
    for name, data in data_sets(args.data).items():
        for part in parts:
            for preset in args.presets:
                config = jaxrec.preset(preset)
                config = replace(config, split=COLD) if part == "cold" else config
                runs = [one(replace(config, seed=seed), data) for seed in args.seeds]
                what = {"warm": "test recall@20", "cold": "recall@20 among held-out items"}[part]
                about = {"what": f"{what}, {name}", "seeds": args.seeds}
                for who in ("model", "popularity", "random"):
                    values = [run[who] for run in runs]
                    impl = f"jaxrec {preset}" if who == "model" else who
                    mean = sum(values) / len(values)
                    extra = about | {"mean": mean}
                    if who == "model":
                        control = "random" if part == "cold" else "popularity"
                        of = sum(run[control] for run in runs) / len(runs)
                        extra |= {f"over_{control}": mean / of}
                    elif preset != args.presets[0]:
                        continue
                    record("towers", impl, values, "recall@20", COMMAND, **extra)
                for unit, key, of in (
                    ("cosine", "spread", "standard deviation of cosines among items"),
                    ("s", "seconds", "run with evaluation"),
                ):
                    values, impl = [run[key] for run in runs], f"jaxrec {preset}"
                    about = {"what": f"{of}, {name}, {part}", "seeds": args.seeds}
                    record("towers", impl, values, unit, COMMAND, **about)


if __name__ == "__main__":
    main()
