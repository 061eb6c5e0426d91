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
"""Short names by the options that they stand for."""

HELP = {
    "data": "File or folder of interactions (CSV, Parquet, RecBole, MovieLens, ...), or the "
    "built-in `synthetic`, `synthetic-features` and `synthetic-ratings`.",
    "run": "Run folder; default runs/PRESET-N.",
    "config": "A config.json to begin from instead of a preset.",
    "overwrite": "Replace the run that the folder of --run holds.",
    "quiet": "Print nothing.",
    "seed": "Seed of everything random: the split, the start, the order of batches, the negatives.",
    "minutes": "Budget of the preset `auto`, refit and test included.",
    "warm_start": "Run folder whose parameters initialise the training.",
    "mistakes": "Mistakes to make on purpose, to see what they do to a run.",
}
"""Help of the options that belong to no section."""

_COMMON = {
    "data": ("PATH", HELP["data"]),
    "run": ("DIR", HELP["run"]),
    "config": ("FILE", HELP["config"]),
    "seed": ("N", HELP["seed"]),
    "warm-start": ("RUN", HELP["warm_start"]),
    "quiet": ("", HELP["quiet"]),
    "train.epochs": ("N", "Passes over the train pairs."),
    "train.batch-size": ("N", "Positive pairs a step."),
    "optim.learning-rate": ("X", "Step size of the optimizer."),
    "train.l2": ("X", "L2 on the embeddings that a batch uses."),
    "train.patience": ("N", "Stop after so many evaluations without improvement; 0: never."),
    "model.name": ("NAME", "{models}"),
    "model.dim": ("N", "Width of the embeddings."),
    "model.layers": ("N", "Layers of propagation over the graph."),
    "loss.name": ("NAME", "{losses}"),
    "negatives.name": ("NAME", "{negatives}"),
    "negatives.count": ("N", "Negatives a pair, or shared by a batch."),
    "split.name": ("NAME", "random, temporal, leave-last-out, cold-items, given or auto."),
    "eval.k": ("N ...", "Cut-offs K of recall@K and the other metrics."),
    "eval.metric": ("NAME", "Metric that selects the best epoch on validation."),
    "eval.every": ("N", "Epochs between evaluations; 0: only at the end."),
    "checkpoint.every": ("N", "Epochs between checkpoints."),
}
"""The options that most runs need: the placeholder of the value, and a line of help."""

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
    """What ``jaxrec train [PRESET] --help`` prints, with the values of ``base``."""
    made = presets.all_presets()
    shown = {name: make for name, make in made.items() if not name.startswith("case-")}
    first_lines = {
        name: (make.__doc__ or "").strip().partition("\n")[0] for name, make in shown.items()
    }
    first_lines["case-..."] = f"{len(made) - len(shown)} worked cases of models that collapse."
    lines = ["usage: jaxrec train [PRESET] [options]", ""]
    lines += ["Train a preset; evaluate, and write a run folder.", "", "examples:"]
    lines += _columns(dict(_EXAMPLES))
    lines += ["", "presets (`jaxrec presets` says what to expect of each):"]
    lines += _columns(first_lines)
    lines += ["", f"common options, with the values of {base.preset}:"]
    lines += _columns(dict(_option(name, base) for name in _COMMON))
    name = base.preset if base.preset in made else "[PRESET]"
    lines += ["", f"`jaxrec train {name} {HELP_ALL}` lists every option."]
    return "\n".join(lines)


def _columns(rows: dict[str, str]) -> list[str]:
    """Names and what they are, side by side, in the terminal's width."""
    left = max(map(len, rows)) + 4
    width = max(min(shutil.get_terminal_size().columns, 120), left + 30)
    lines = []
    for name, what in rows.items():
        lines += textwrap.wrap(
            what,
            width,
            initial_indent=f"  {name}".ljust(left),
            subsequent_indent=" " * left,
            break_on_hyphens=False,
        )
    return lines


def _option(name: str, base: Config) -> tuple[str, str]:
    """An option's names, and what it does with its value."""
    placeholder, what = _COMMON[name]
    if what.startswith("{"):
        what = f"{', '.join(_NAMES[what].names())}."
    option = f"--{name}"
    names = f"{ALIASES[option]}, {option}" if option in ALIASES else option
    value = _value(base, name)
    default = "" if value is None or value is False or value == "" else f" ({value})"
    return f"{names} {placeholder}".rstrip(), f"{what}{default}"


def _value(base: Config, name: str) -> Any:
    """The value of an option in a configuration; None of an option that is not part of it."""
    path = name.replace("-", "_")
    if path.partition(".")[0] not in {f.name for f in dataclasses.fields(base)}:
        return None
    value = attrgetter(path)(base)
    return " ".join(map(str, value)) if isinstance(value, tuple) else value
