"""``jaxrec train``, ``jaxrec resume`` and ``jaxrec refit``."""

import dataclasses
import os
import re
import signal
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import tyro
from tyro.conf import Positional

from jaxrec import config as configs
from jaxrec import presets, registry
from jaxrec.cli.arguments import CUT_TIMES, parse, with_moments
from jaxrec.cli.process_settings import own_process
from jaxrec.cli.train_help import ALIASES, HELP, HELP_ALL, short_help
from jaxrec.config import Config, EvalConfig, NegativesConfig, shown_cutoff
from jaxrec.config.checks import INT32, Range
from jaxrec.errors import InputError

if TYPE_CHECKING:
    from jaxrec.training.finished_run import Run

_IMPORT_OPTIONS = re.compile(
    r"--(?:columns\.|(?:encoding|separator|time-format|skip-\w+-\w+|event-weights)\b)"
)
"""Matches options of ``jaxrec data import`` in messages about faulty data."""


def _train_arguments(base: Config) -> Any:
    """Build the dataclass of the options of ``jaxrec train``, with defaults from ``base``."""
    own: list[Any] = [
        ("run", str | None, field(default=None)),
        ("config", str | None, field(default=None)),
        ("overwrite", bool, field(default=False)),
        ("quiet", bool, field(default=False)),
    ]
    fields: list[Any] = []
    for f in dataclasses.fields(Config):
        if f.name != "preset":
            value = getattr(base, f.name)
            nested = dataclasses.is_dataclass(value)
            made = field(default_factory=lambda v=value: v) if nested else field(default=value)
            fields.append((f.name, f.type, made))
    order = sorted(fields, key=lambda f: f[0] not in ("data", "seed"))
    helped = [
        (name, Annotated[kind, tyro.conf.arg(help=HELP[name])] if name in HELP else kind, made)
        for name, kind, made in [*order[:1], *own, *order[1:]]
    ]
    made = dataclasses.make_dataclass("Train", helped, frozen=True)
    short = ", ".join(f"{alias} is {name}" for name, alias in ALIASES.items())
    made.__doc__ = f"Every option of training, with the values of the preset. {short}."
    return made


def _base_config(args: list[str]) -> tuple[Config, list[str]]:
    """Return the base configuration, which the options change, and the remaining arguments."""
    name = args.pop(0) if args and not args[0].startswith("-") else None
    files = [a.partition("=")[2] for a in args if a.startswith("--config=")]
    files += [args[i + 1] for i, a in enumerate(args[:-1]) if a == "--config"]
    if files and name is not None:
        raise InputError(f"give either the preset {name} or --config {files[0]}, not both")
    if not files and name is None:
        # By default, a warm start takes the configuration of the run that it starts from.
        warm = [a.partition("=")[2] for a in args if a.startswith("--warm-start=")]
        warm += [args[i + 1] for i, a in enumerate(args[:-1]) if a == "--warm-start"]
        files = [str(Path(run) / "config.json") for run in warm]
    base = configs.load(files[0]) if files else presets.get(name or "quickstart")
    return base, args


def _exit_on_signals() -> None:
    """Make signals end the process at once, until the run installs its own handlers.

    Until then there is nothing to save. Python's KeyboardInterrupt would not always end the
    process, since it could be raised in a callback that ignores exceptions.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, frame: os._exit(128 + number))


class TrainRequest(NamedTuple):
    """The parsed arguments of ``jaxrec train``.

    Attributes:
      config: the configuration of the run.
      run: the run folder; None chooses runs/PRESET-N.
      overwrite: whether to replace an existing run.
      quiet: whether to print nothing.
      notes: messages to the user about automatically chosen settings.
    """

    config: Config
    run: str | None
    overwrite: bool
    quiet: bool
    notes: tuple[str, ...]


def configured(args: list[str]) -> TrainRequest:
    """Parse the arguments of ``jaxrec train``.

    Raises:
      InputError: a preset or option is unknown, a value is invalid, or settings contradict each
        other.
    """
    base, args = _base_config(args)
    args = with_moments(args, CUT_TIMES)
    chosen = base.eval.metric
    if _gives(args, "--eval.k") and not _gives(args, "--eval.metric"):
        base = dataclasses.replace(base, eval=dataclasses.replace(base.eval, metric=None))
    args = ["--help" if arg == HELP_ALL else arg for arg in args]
    made = parse(
        _train_arguments(base), args, "jaxrec train [PRESET]", aliases=ALIASES, help_by=HELP_ALL
    )
    values = {
        f.name: getattr(made, f.name) for f in dataclasses.fields(Config) if f.name != "preset"
    }
    without_negatives = not configs.of_loss(made.loss.name).negatives
    if without_negatives and made.negatives == base.negatives:  # the user has not set negatives
        values["negatives"] = NegativesConfig()
    notes = []
    if chosen is not None and base.eval.metric != chosen:
        metric = _with_cutoff(chosen, made.eval)
        values["eval"] = dataclasses.replace(made.eval, metric=metric)
        if metric != chosen:
            notes.append(f"eval.metric is {metric}, since --eval.k has no cut-off for {chosen}")
    config = Config(preset=base.preset, **values)
    registry.check_known(config)
    return TrainRequest(config, made.run, made.overwrite, made.quiet, tuple(notes))


def _gives(args: list[str], option: str) -> bool:
    """Return whether the arguments contain an option."""
    return any(a.partition("=")[0].replace("_", "-") == option for a in args)


def _with_cutoff(metric: str, section: EvalConfig) -> str:
    """Return the metric, with the cut-off of :func:`shown_cutoff` if its own is not evaluated."""
    name, at, k = metric.partition("@")
    if not at or k in map(str, section.k):
        return metric
    return f"{name}@{shown_cutoff(section.k)}"


def train(args: list[str]) -> None:
    """Train a preset, evaluate it, and write a run folder."""
    if {"-h", "--help"} & set(args):
        base, _ = _base_config([arg for arg in args if arg not in ("-h", "--help")])
        print(short_help(base))
        return
    request = configured(args)
    for line in () if request.quiet else request.notes:
        print(line)
    _exit_on_signals()
    own_process()
    from jaxrec.training.run import train as start

    try:
        done = start(
            request.config,
            run=request.run,
            overwrite=request.overwrite,
            quiet=request.quiet,
            may_exit=True,
        )
    except InputError as e:
        if _IMPORT_OPTIONS.search(str(e)) is None or "jaxrec data import" in str(e):
            raise
        raise InputError(
            f"{e} (give that option to `jaxrec data import`, and train on the folder it writes)"
        ) from e
    _say_next(done, request.quiet)


def _say_next(done: "Run", quiet: bool) -> None:
    """Print the commands that are likely to be run next."""
    from jaxrec import processes

    if not quiet and processes.first():
        print("next:", *done.next_commands(), sep="\n  ")


@dataclass(frozen=True)
class ResumeMesh:
    """The mesh of devices to continue on; by default that of the run."""

    data: int | None = None
    """Number of parts of a batch."""
    table: int | None = None
    """Number of parts of the table and the graph."""
    coordinator: str | None = None
    """With several processes: HOST:PORT of the first process, or auto."""
    processes: int | None = None
    """Number of processes."""
    process_id: int | None = None
    """Number of this process, from 0."""
    memory: Literal["auto", "device", "host"] | None = None
    """Memory that holds the table."""


@dataclass(frozen=True)
class ResumeTrain:
    """The length of training; by default that of the run."""

    epochs: Annotated[int | None, Range(1, INT32)] = None
    """Total number of epochs, including finished ones. The result equals that of one run of this
    length."""


@dataclass(frozen=True)
class Resume:
    """Continue a run from its last good checkpoint."""

    run: Positional[str]
    """Run folder."""
    data: str | None = None
    """Path of the data, if it moved since training."""
    train: ResumeTrain = ResumeTrain()
    mesh: ResumeMesh = ResumeMesh()
    quiet: bool = False
    """Print nothing."""


def resume(args: list[str]) -> None:
    """Continue a run from its last good checkpoint, with the same result as without a break."""
    made = parse(Resume, args, "jaxrec resume", aliases={"--train.epochs": "--epochs"})
    given = {n: v for n, v in dataclasses.asdict(made.mesh).items() if v is not None}
    mesh = None
    if given:
        stored = configs.load(Path(made.run) / "config.json")
        mesh = dataclasses.replace(stored.mesh, **given)
    _exit_on_signals()
    own_process()
    from jaxrec.training.run import resume as go_on

    options = {"mesh": mesh, "epochs": made.train.epochs, "quiet": made.quiet}
    _say_next(go_on(made.run, data=made.data, may_exit=True, **options), made.quiet)


@dataclass(frozen=True)
class Refit:
    """Train a finished run's model for production, on all pairs for the best number of steps."""

    source: Positional[str]
    """Finished run, whose configuration and best number of steps are used."""
    run: str | None = None
    """New run folder; by default runs/PRESET-N."""
    data: str | None = None
    """Path of the data, if it moved since training, or of newer data."""
    quiet: bool = False
    """Print nothing."""


def refit(args: list[str]) -> None:
    """Train a finished run's model on all of its data, for production."""
    made = parse(Refit, args, "jaxrec refit")
    _exit_on_signals()
    own_process()
    from jaxrec.training.run import refit as start

    done = start(made.source, data=made.data, to=made.run, quiet=made.quiet, may_exit=True)
    _say_next(done, made.quiet)
