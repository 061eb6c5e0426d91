"""The three cases, broken and cured, and one change at a time between the two.

The six presets, three seeds each, and then single changes with one seed: recall@20 or RMSE on
test, the cosines among items, and what the doctor names first.
"""

import argparse
from dataclasses import replace
from pathlib import Path

from bench.common import record
from bench.doctor import train
from bench.faults import Change, changed
from jaxrec import compilation, presets
from jaxrec.config import Config
from jaxrec.data.formats import resolve

COMMAND = "python -m bench cases --data data"
DATA = {"collapse": "synthetic", "cosine": "ml-latest-small", "triplet": "ml-100k/u1.base"}
_COLUMNS = {
    "collapse": (),
    "cosine": ("genres",),
    "triplet": ("age", "gender", "occupation", "genres"),
}


def mistakes(*names: str) -> Change:
    """Return the preset with only these planted mistakes."""
    return lambda config: replace(config, mistakes=names)


_SUM, _ADDED, _BATCH = "sum-in-sigmoid", "accumulated-gradients", "batch-scores"
_UNIFORM = changed(negatives={"name": "uniform", "pick": None, "reject_known": None})
_SIMILAR = changed(negatives={"name": "all", "pick": "same-features", "reject_known": False})
_BPR = changed(loss={"name": "bpr"}, negatives={"name": "uniform", "count": 1})
_NO_TABLE_L2 = changed(train={"l2_over": "embeddings", "l2": 0.25})

# Each row: its name, the preset that it starts from, and the changes.
ROWS: dict[str, tuple[tuple[str, str, Change], ...]] = {
    "collapse": (
        ("gradients cleared", "broken", mistakes(_SUM)),
        ("mean over pairs", "broken", mistakes(_ADDED)),
        ("both", "broken", mistakes()),
        ("cured, but BPR of one negative", "fixed", _BPR),
        ("cured, but without L2", "fixed", changed(train={"l2": 0.0})),
        ("cured, but gradients add up", "fixed", mistakes(_ADDED)),
    ),
    "cosine": (
        ("linear outputs", "broken", changed(model={"final": "linear"})),
        ("ratings centred", "broken", changed(loss={"center": True})),
        ("L2 on scored rows", "broken", _NO_TABLE_L2),
        (
            "centred, linear, biases",
            "broken",
            changed(loss={"center": True}, model={"final": "linear", "biases": True}),
        ),
        ("cured, but raw ratings", "fixed", changed(loss={"center": False})),
        ("cured, but rectified outputs", "fixed", changed(model={"final": "relu"})),
        ("cured, but no biases", "fixed", changed(model={"biases": False})),
        ("cured, but L2 over tables", "fixed", changed(train={"l2_over": "tables", "l2": 0.1})),
    ),
    "triplet": (
        ("linear outputs", "broken", changed(model={"final": "linear"})),
        ("row-wise dot", "broken", mistakes()),
        ("uniform negatives", "broken", _UNIFORM),
        ("cured, but softmax outputs", "fixed", changed(model={"final": "softmax"})),
        ("cured, but batch x batch", "fixed", mistakes(_BATCH)),
        ("cured, but similar negatives", "fixed", _SIMILAR),
        ("cured, but 1 - sigmoid", "fixed", changed(loss={"name": "triplet"})),
        ("cured, but features alone", "fixed", changed(model={"ids": False})),
    ),
}


def config_of(case: str, which: str) -> Config:
    """Return a preset of a case, with the features that the question named."""
    preset = presets.get(f"case-{case}-{which}")
    return changed(model={"columns": _COLUMNS[case]})(preset) if _COLUMNS[case] else preset


def one(case: str, what: str, config: Config, folder: Path, seeds: list[int]) -> None:
    """Train a row, and record its figures."""
    data = resolve(DATA[case] if DATA[case] == "synthetic" else str(folder / DATA[case]))
    values, spreads, means, told = [], [], [], []
    last: dict[str, float] = {}
    for seed in seeds:
        diagnosis, metrics = train(replace(config, seed=seed), data, "test")
        # A run that broke has no metrics, so there is nothing to recommend or to measure.
        values.append(metrics.get(config.metric, float("nan")))
        means.append(diagnosis.figures.get("item_cosine", float("nan")))
        spreads.append(diagnosis.figures.get("item_cosine_sd", float("nan")))
        told.append([finding.name for finding in diagnosis.findings])
        last = diagnosis.figures
    figures = {n: last.get(n) for n in ("user_cosine", "item_rank", "item_norm", "loss")}
    record(
        "cases",
        what,
        values,
        f"{config.metric}@test" if config.objective.errors else config.metric,
        COMMAND,
        what=case,
        data=DATA[case],
        seeds=seeds,
        item_cosine=sum(means) / len(means),
        item_cosine_sd=sum(spreads) / len(spreads),
        last_seed=figures,
        findings=told,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of the real data sets")
    parser.add_argument("--case", nargs="+", choices=list(ROWS), default=list(ROWS))
    parser.add_argument("--rows", choices=("presets", "changes"), nargs="+")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    args = parser.parse_args()
    compilation.use_cache()
    wanted = args.rows or ["presets", "changes"]
    for case in args.case:
        if "presets" in wanted:
            for which in ("broken", "fixed"):
                name = f"case-{case}-{which}"
                one(case, name, config_of(case, which), args.data, args.seeds)
        if "changes" in wanted:
            for what, which, change in ROWS[case]:
                from_ = f"broken, with {what}" if which == "broken" else what
                one(case, from_, change(config_of(case, which)), args.data, args.seeds[:1])
