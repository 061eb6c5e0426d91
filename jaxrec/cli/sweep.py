"""``jaxrec sweep``: search a space of configurations, on validation."""

import dataclasses
import subprocess
import sys
from dataclasses import dataclass
from typing import Annotated, Literal

from jaxrec.cli.arguments import parse
from jaxrec.cli.process_settings import own_process
from jaxrec.cli.train import configured
from jaxrec.config.checks import Range
from jaxrec.errors import InputError


@dataclass(frozen=True)
class Sweep:
    """Search a space of configurations: jaxrec sweep [PRESET] --space space.toml --out DIR. Every
    other option is one of `jaxrec train`."""

    space: str
    """TOML: a table a field, such as ["optim.learning-rate"], with choices, or low and high and
    perhaps step or log."""
    out: str
    """The sweep's folder. One that holds this sweep is gone on with."""
    trials: Annotated[int, Range(1, 10**6)] = 20
    """Trials in all, those of earlier calls and of other processes included."""
    seeds: Annotated[int, Range(1, 1000)] = 1
    """Seeds a trial, all on one split; a trial's value is their mean."""
    workers: Annotated[int, Range(1, 1000)] = 1
    """Processes at once on this machine."""
    sampler: Literal["tpe", "random", "grid"] = "tpe"
    """grid takes every combination of choices and steps."""
    prune: bool = True
    """Stop trials that are below the median of the others at the same step."""


def _parted(args: list[str]) -> tuple[list[str], list[str]]:
    """The sweep's own arguments, and those of ``jaxrec train``."""
    names = {f"--{f.name}" for f in dataclasses.fields(Sweep)}
    own, rest, left = [], [], list(args)
    while left:
        arg = left.pop(0)
        name, equals, _ = arg.partition("=")
        if name in ("--prune", "--no-prune", "-h", "--help"):
            own.append(arg)
        elif name in names:
            own.append(arg)
            own += [left.pop(0)] if not equals and left else []
        else:
            rest.append(arg)
    return own, rest


def sweep(args: list[str]) -> None:
    """Search a space of configurations with Optuna, decided on validation."""
    own, rest = _parted(args)
    made = parse(Sweep, own, "jaxrec sweep [PRESET]")
    asked = configured(rest)
    if asked.run is not None or asked.overwrite:
        raise InputError("--run and --overwrite are of one run; a sweep has --out")
    from pathlib import Path

    from jaxrec import sweep as sweeps
    from jaxrec.log import Reporter

    reporter = Reporter(asked.quiet)
    search = sweeps.Sweep(
        Path(made.out),
        asked.config,
        sweeps.read_space(made.space),
        made.seeds,
        made.sampler,
        made.prune,
        reporter.say,
    )
    search.check()
    own_process()
    search.begin()
    again = [sys.executable, "-m", "jaxrec", "sweep", *args, "--workers", "1"]
    others = [subprocess.Popen(again) for _ in range(made.workers - 1)]
    try:
        study = search.work(made.trials)
        failed = [other for other in others if other.wait() != 0]
    except BaseException:
        for other in others:
            other.terminate()
        raise
    if failed:
        reporter.say(f"{len(failed)} of {made.workers} processes ended before the sweep did")
    shown = sweeps.best(study)
    if not shown:
        raise InputError(f"{made.out}: no trial has come to an end; the lines above say why")
    fields = list(search.space)
    rows = [
        [str(t.number), f"{t.value:.5f}", *(str(t.params.get(name)) for name in fields)]
        for t in shown
    ]
    reporter.table(f"best on validation by {asked.config.metric}", ["trial", "mean", *fields], rows)
    run = Path(made.out) / f"trial-{shown[0].number}" / f"seed-{asked.config.seed}"
    reporter.say(f"the best: {run}; again: jaxrec train --config {run / 'config.json'}")
