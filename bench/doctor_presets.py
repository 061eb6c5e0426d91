"""Healthy runs of every preset, read by the doctor, which must find nothing.

Each preset runs unchanged on data that it is meant for; presets that take minutes are shortened to
the epochs that the line says. The three broken cases are left out.
"""

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import jaxrec
from bench.cases import config_of
from bench.common import record
from jaxrec import compilation, presets
from jaxrec.config import Config
from jaxrec.data.synthetic import EMBEDDED
from jaxrec.diagnosis.diagnose import diagnose

COMMAND = "python -m bench doctor-presets --data data"
_U1, _GOWALLA, _META = "ml-100k/u1.base", "gowalla", "amazon-grocery/meta.json.gz"

RUNS: dict[str, tuple[str, int | None]] = {
    "quickstart": ("synthetic", None),
    "two-tower": ("synthetic-features", None),
    "triplet": ("synthetic-features", None),
    "case-collapse-fixed": ("synthetic", None),
    "case-cosine-fixed": ("ml-latest-small", None),
    "case-triplet-fixed": (_U1, None),
    "biased-mf": (_U1, None),
    "two-tower-ratings": (_U1, None),
    "gcmc-ratings": (_U1, 20),
    "mf": ("ml-latest-small", 40),
    "lightgcn": ("ml-latest-small", None),
    "lightgcn-gowalla": (_U1, 20),
    "gowalla-strong": (_U1, None),
    "gowalla-fast": (_GOWALLA, None),
    "ngcf": ("synthetic", 8),
    "gcmc": ("synthetic", 8),
    "pinsage": ("synthetic", None),
    "skipgram": (_META, 1),
    "skipgram-side": (_META, 1),
    "node2vec": (_META, 1),
    "mf-pairs": (_META, 4),
    "mf-bias-pairs": (_META, 4),
    "mf-sequences": (_META, 1),
}
"""Return the data of each preset (below the folder, or generated), and its epochs if shortened."""


def config(preset: str) -> Config:
    """Return the preset in the length that is run; a case gets the features of its question."""
    made, epochs = presets.get(preset), RUNS[preset][1]
    if preset.startswith("case-"):
        _, case, which = preset.split("-")
        made = config_of(case, which)
    return made if epochs is None else replace(made, train=replace(made.train, epochs=epochs))


def one(preset: str, folder: Path) -> dict[str, Any]:
    """Return the doctor's findings on a run, with the run's metric and measures."""
    data = RUNS[preset][0]
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as parent:
        made = config(preset)
        source = data if data in EMBEDDED else folder / data
        run = jaxrec.train(made, data=source, run=Path(parent) / "run", quiet=True)
        told = diagnose(run.folder)
    return {
        "data": data,
        "epochs": RUNS[preset][1] or "its own",
        made.metric: run.metrics[made.metric],
        "item_cosine": told.figures["item_cosine"],
        "findings": [finding.name for finding in told.findings],
        "seconds": round(time.perf_counter() - began, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of the real data sets")
    parser.add_argument("--only", nargs="+", choices=RUNS, help="these alone")
    args = parser.parse_args()
    compilation.use_cache()
    found = {}
    for preset in args.only or RUNS:
        found[preset] = one(preset, args.data)
        print(preset, found[preset], flush=True)
    raised = sum(len(run["findings"]) for run in found.values())
    what = f"findings in runs of {len(found)} presets"
    command = COMMAND + (f" --only {' '.join(args.only)}" if args.only else "")
    record("doctor-presets", "jaxrec", [raised], "findings", command, what=what, runs=found)


if __name__ == "__main__":
    main()
