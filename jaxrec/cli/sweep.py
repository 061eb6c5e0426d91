"""``jaxrec sweep``: search over configurations with Optuna, or train all folds and seeds."""

import dataclasses
import subprocess
import sys
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from jaxrec.cli.arguments import parse
from jaxrec.cli.process_settings import own_process
from jaxrec.cli.train import configured
from jaxrec.config.checks import Range
from jaxrec.errors import InputError


@dataclass(frozen=True)
class Sweep:
    """Search over configurations: jaxrec sweep [PRESET] --space space.toml --out DIR. Without
    --space, train one configuration on all folds of --split.name folds or windows, with all seeds,
    and show the results with their spread. All other options are those of `jaxrec train`."""

    out: str
    """Folder of the sweep; an existing sweep with the same settings is continued."""
    space: str | None = None
    """TOML file with a table for each field, such as ["optim.learning-rate"], that has choices, or
    low and high and optionally step or log."""
    trials: Annotated[int, Range(1, 10**6)] = 20
    """Total number of trials, including those of earlier calls and of other processes."""
    seeds: Annotated[int, Range(1, 1000)] = 1
    """Number of seeds per trial or fold, all on one split; a trial's value is the mean over
    them."""
    workers: Annotated[int, Range(1, 1000)] = 1
    """Number of parallel processes on this machine."""
    sampler: Literal["tpe", "random", "grid"] = "tpe"
    """How to choose values; grid tries every combination of choices and steps."""
    batch: Annotated[int | None, Range(1, 1000)] = None
    """Number of trials proposed at once. Trials that differ only in optim.learning-rate,
    optim.weight-decay, train.l2, loss.temperature and model.init-std train together in one program,
    and so do the seeds of a trial. This needs mf or lightgcn with a ranking loss on one device;
    other runs train one at a time. Default: 16 for random and grid with one worker, else 1."""
    prune: bool = True
    """Stop trials that are worse than the median of the other trials at the same step."""


def _separated(args: list[str]) -> tuple[list[str], list[str]]:
    """Separate the sweep's own arguments from those of ``jaxrec train``."""
    names = {f"--{f.name}" for f in dataclasses.fields(Sweep)}
    own, others, remaining = [], [], list(args)
    while remaining:
        arg = remaining.pop(0)
        name, equals, _ = arg.partition("=")
        if name in ("--prune", "--no-prune", "-h", "--help"):
            own.append(arg)
        elif name in names:
            own.append(arg)
            own += [remaining.pop(0)] if not equals and remaining else []
        else:
            others.append(arg)
    return own, others


def _batch(asked: Sweep) -> int:
    """Return the value of ``--batch``, or its default if it was not given."""
    if asked.batch is not None:
        return asked.batch
    together = asked.space is not None and asked.sampler != "tpe" and asked.workers == 1
    return 16 if together else 1


def sweep(args: list[str]) -> None:
    """Search over configurations with Optuna, or train one on all folds and seeds."""
    own, others = _separated(args)
    parsed = parse(Sweep, own, "jaxrec sweep [PRESET]")
    base = configured(others)
    if base.run is not None or base.overwrite:
        raise InputError("--run and --overwrite are for a single run; a sweep has --out instead")
    from pathlib import Path

    from jaxrec import sweep as sweeps
    from jaxrec.log import Reporter

    reporter = Reporter(base.quiet)
    search = sweeps.Sweep(
        Path(parsed.out),
        base.config,
        {} if parsed.space is None else sweeps.read_space(parsed.space),
        parsed.seeds,
        parsed.sampler,
        parsed.prune,
        _batch(parsed),
        reporter.say,
    )
    search.check()
    own_process()
    search.begin()
    command = [sys.executable, "-m", "jaxrec", "sweep", *args, "--workers", "1"]
    workers = [subprocess.Popen(command) for _ in range(parsed.workers - 1)]
    try:
        study = search.work(parsed.trials)
        failed = [worker for worker in workers if worker.wait() != 0]
    except BaseException:
        for worker in workers:
            worker.terminate()
        raise
    if failed:
        reporter.say(f"{len(failed)} of {parsed.workers} worker processes failed")
    if not search.space:
        _show_results(parsed.out, reporter)
        return
    best = sweeps.best(study)
    if not best:
        raise InputError(f"{parsed.out}: no trial was completed; the lines above say why")
    fields = list(search.space)
    rows = [
        [str(t.number), f"{t.value:.5f}", *(str(t.params.get(name)) for name in fields)]
        for t in best
    ]
    reporter.table(f"best on validation by {base.config.metric}", ["trial", "mean", *fields], rows)
    run = Path(parsed.out) / f"trial-{best[0].number}" / f"seed-{base.config.seed}"
    reporter.say(f"best run: {run}; repeat it: jaxrec train --config {run / 'config.json'}")


def _show_results(folder: str, reporter: Any) -> None:
    """Print a table of the results by fold, or by seed, and their spread."""
    from pathlib import Path

    from jaxrec.reporting import run_groups
    from jaxrec.reporting.run_records import read_runs
    from jaxrec.runfolder import runs_of_sweep

    (group,) = run_groups.grouped(read_runs(runs_of_sweep(Path(folder))))
    split = "test" if "test" in group.runs[0].results else "validation"
    metrics = group.runs[0].metrics_shown
    columns = [group.values(split, metric) for metric in metrics]
    summaries = [group.summary(split, metric) for metric in metrics]
    numbers = group.folds if group.over == "folds" else [run.config["seed"] for run in group.runs]
    rows = [
        [f"{group.over[:-1]} {number}", *(f"{value:.5f}" for value in values)]
        for number, values in zip(numbers, zip(*columns, strict=True), strict=True)
    ]
    for name in run_groups.SUMMARY:
        values = [summary[name] for summary in summaries]
        rows.append([name, *("" if value is None else f"{value:.5f}" for value in values)])
    seeds = len(group.runs) // len(columns[0])
    title = f"{group.label} on {split}" + (f", means of {seeds} seeds" if seeds > 1 else "")
    reporter.table(title, ["", *metrics], rows)
