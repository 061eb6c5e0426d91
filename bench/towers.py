"""Two towers and triplets on MovieLens: recall@20 beside popularity, and of cold items.

Hyper-parameters were chosen on validation; test is read once a seed. ``--part cold`` holds out
whole films, which are ranked among themselves by genres and year. The spread of the cosines among
the items' vectors stands beside each recall: vectors that have collapsed have none.
"""

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import jaxrec
from bench.common import record
from jaxrec import compilation
from jaxrec.config import Config, SplitConfig
from jaxrec.data.dataset import Dataset
from jaxrec.data.formats import read, resolve

COMMAND = "python -m bench towers --data FOLDER"
PARTS = {"warm": ("two-tower", "triplet"), "cold": ("two-tower",)}
COLD = SplitConfig("cold-items", test=0.2, validation=0.2)
HIDDEN = (128,)  # for cold items: a layer in which features are combined
_ITEMS = 2000  # items whose cosines are measured


def data_sets(folder: Path) -> dict[str, Dataset]:
    """Return MovieLens 100K's first fold, latest-small and the embedded data with features."""
    small = folder / "ml-latest-small"
    return {
        "ml-100k u1": read(folder / "ml-100k" / "u1.base"),
        "ml-latest-small": read(small / "ratings.csv", items=small / "movies.csv", cold_items=True),
        "embedded": resolve("synthetic-features"),
    }


def cosine_spread(item_ID: np.ndarray) -> float:
    """Return the standard deviation of the cosines between different items."""
    chosen = np.random.default_rng(0).permutation(len(item_ID))[:_ITEMS]
    length = np.linalg.norm(item_ID[chosen], axis=1, keepdims=True)
    unit = (item_ID[chosen] / np.where(length > 0, length, 1)).astype(np.float64)
    return float((unit @ unit.T)[np.triu_indices(len(unit), 1)].std())


def one(config: Config, data: Dataset) -> dict[str, Any]:
    """Return a run's test results, and how far apart its items' vectors lie."""
    with tempfile.TemporaryDirectory() as parent:
        run = jaxrec.train(config, data=data, run=Path(parent) / "run", quiet=True)
        with np.load(run.folder / "embeddings.npz") as stored:
            spread = cosine_spread(stored["item"])
    baselines = run.evaluation["baselines"]
    found = {"model": run.metrics} | {name: baselines[name] for name in ("popularity", "random")}
    recall = {name: metrics["recall@20"] for name, metrics in found.items()}
    return recall | {"spread": spread}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of the MovieLens folders")
    parser.add_argument("--part", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--presets", nargs="+", choices=PARTS["warm"], default=PARTS["warm"])
    parser.add_argument("--sets", nargs="+", help="of the data sets; all where not given")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    args = parser.parse_args()
    compilation.use_cache()
    asked = [(part, preset) for part in args.part for preset in args.presets]
    for name, data in data_sets(args.data).items():
        for part, preset in asked if name in (args.sets or [name]) else ():
            described = data.user_features is not None or preset != "triplet"
            if preset in PARTS[part] and described:
                runs = [one(config_of(preset, part, seed), data) for seed in args.seeds]
                tell(preset, part, name, args.seeds, runs)


def config_of(preset: str, part: str, seed: int) -> Config:
    """Return the preset; for cold items, with a hidden layer and more dropped ids."""
    config = replace(jaxrec.preset(preset), seed=seed)
    if part == "warm":
        return config
    model = replace(config.model, tower_dims=HIDDEN, id_dropout=0.3)
    return replace(config, split=COLD, model=model)


def tell(preset: str, part: str, name: str, seeds: list[int], runs: list[dict[str, float]]) -> None:
    """Record the lines of one preset on one data set."""
    what = {"warm": "test recall@20", "cold": "recall@20 among held-out items"}[part]
    control = {"warm": "popularity", "cold": "random"}[part]
    impl = f"jaxrec {preset}" + (", a hidden layer" if part == "cold" else "")
    mean = {who: sum(run[who] for run in runs) / len(runs) for who in runs[0]}
    for who in ("model", "popularity", "random"):
        about: dict[str, Any] = {"what": f"{what}, {name}", "seeds": seeds, "mean": mean[who]}
        if who == "model":
            about[f"over_{control}"] = mean[who] / mean[control]
        by = impl if who == "model" else who
        record("towers", by, [run[who] for run in runs], "recall@20", COMMAND, **about)
    about = {"what": f"standard deviation of cosines among items, {name}, {part}", "seeds": seeds}
    record("towers", impl, [run["spread"] for run in runs], "cosine", COMMAND, **about)


if __name__ == "__main__":
    main()
