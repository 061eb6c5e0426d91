"""``jaxrec train --help``: presets, examples and the options that most runs need."""

import dataclasses
import shutil
import textwrap
from operator import attrgetter
from typing import Any

from jaxrec import presets, registry
from jaxrec.config import Config

HELP_ALL = "--help-all"

ALIASES = {
    "--model.dim": "--dim",
    "--optim.learning-rate": "--lr",
    "--train.epochs": "--epochs",
    "--train.batch-size": "--batch-size",
}
"""Short names of options, by full name."""

HELP = {
    "data": "File or folder of interactions (CSV, Parquet, RecBole, MovieLens, ...), or the "
    "built-in `synthetic`, `synthetic-features` and `synthetic-ratings`.",
    "run": "Run folder to write; by default runs/PRESET-N.",
    "config": "A config.json to use instead of a preset.",
    "overwrite": "Replace an existing run in the folder of --run.",
    "quiet": "Print nothing.",
    "seed": "Random seed of the split, the initial parameters, the batches and the negatives.",
    "minutes": "Time budget in minutes of the preset `auto`, including refit and test.",
    "warm_start": "Run folder whose parameters initialise the training.",
    "mistakes": "Mistakes to make on purpose, to show their effect on a run.",
}
"""Help texts of the options that belong to no section."""

_COMMON = {
    "data": ("PATH", HELP["data"]),
    "run": ("DIR", HELP["run"]),
    "config": ("FILE", HELP["config"]),
    "seed": ("N", HELP["seed"]),
    "warm-start": ("RUN", HELP["warm_start"]),
    "quiet": ("", HELP["quiet"]),
    "train.epochs": ("N", "Passes over the train pairs."),
    "train.batch-size": ("N", "Positive pairs per step."),
    "optim.learning-rate": ("X", "Step size of the optimizer."),
    "train.l2": ("X", "Strength of L2 regularization of the embeddings that a batch uses."),
    "train.patience": ("N", "Stop after N evaluations without improvement; 0 never stops early."),
    "model.name": ("NAME", "{models}"),
    "model.dim": ("N", "Width of the embeddings."),
    "model.layers": ("N", "Layers of propagation over the graph."),
    "loss.name": ("NAME", "{losses}"),
    "negatives.name": ("NAME", "{negatives}"),
    "negatives.count": (
        "N",
        "Number of negatives per pair, or of the negatives that a batch shares.",
    ),
    "split.name": (
        "NAME",
        "How to split: random, temporal, leave-last-out, folds, windows, given, ...",
    ),
    "eval.k": ("N ...", "Cut-offs K of recall@K and the other metrics."),
    "eval.metric": ("NAME", "Metric that selects the best epoch on validation."),
    "eval.every": ("N", "Epochs between evaluations; 0 evaluates only at the end."),
    "checkpoint.every": ("N", "Epochs between checkpoints."),
}
"""The most common options, each with a placeholder for its value and a line of help."""

_NAMES = {
    "{models}": registry.MODELS,
    "{losses}": registry.LOSSES,
    "{negatives}": registry.NEGATIVES,
}

_EXAMPLES = (
    ("jaxrec train", "a first run, on built-in data"),
    ("jaxrec train lightgcn --data sales.csv", "your own interactions"),
    ("jaxrec train mf --data sales.csv --dim 128 --lr 0.002 --epochs 50", "change a preset"),
)


def short_help(base: Config) -> str:
    """Return the text of ``jaxrec train [PRESET] --help``, with the values of ``base``."""
    every = presets.all_presets()
    shown = {name: make for name, make in every.items() if not name.startswith("case-")}
    first_lines = {
        name: (make.__doc__ or "").strip().partition("\n")[0] for name, make in shown.items()
    }
    first_lines["case-..."] = f"{len(every) - len(shown)} worked cases of models that collapse."
    lines = ["usage: jaxrec train [PRESET] [options]", ""]
    lines += ["Train a preset, evaluate it, and write a run folder.", "", "examples:"]
    lines += _columns(dict(_EXAMPLES))
    lines += ["", "presets (`jaxrec presets` describes each):"]
    lines += _columns(first_lines)
    lines += ["", f"common options, with the values of {base.preset}:"]
    lines += _columns(dict(_option(name, base) for name in _COMMON))
    name = base.preset if base.preset in every else "[PRESET]"
    lines += ["", f"`jaxrec train {name} {HELP_ALL}` lists every option."]
    return "\n".join(lines)


def _columns(rows: dict[str, str]) -> list[str]:
    """Format names and descriptions in two columns that fit the terminal."""
    left = max(map(len, rows)) + 4
    width = max(min(shutil.get_terminal_size().columns, 120), left + 30)
    lines = []
    for name, description in rows.items():
        lines += textwrap.wrap(
            description,
            width,
            initial_indent=f"  {name}".ljust(left),
            subsequent_indent=" " * left,
            break_on_hyphens=False,
        )
    return lines


def _option(name: str, base: Config) -> tuple[str, str]:
    """Return an option's names, and its help text, which shows the value in ``base``."""
    placeholder, text = _COMMON[name]
    if text.startswith("{"):
        text = f"{', '.join(_NAMES[text].names())}."
    option = f"--{name}"
    names = f"{ALIASES[option]}, {option}" if option in ALIASES else option
    value = _value(base, name)
    default = "" if value is None or value is False or value == "" else f" ({value})"
    return f"{names} {placeholder}".rstrip(), f"{text}{default}"


def _value(base: Config, name: str) -> Any:
    """Return the value of an option in ``base``, or None if ``base`` has no such field."""
    path = name.replace("-", "_")
    if path.partition(".")[0] not in {f.name for f in dataclasses.fields(base)}:
        return None
    value = attrgetter(path)(base)
    return " ".join(map(str, value)) if isinstance(value, tuple) else value
