"""``jaxrec train`` and ``jaxrec resume``."""

import dataclasses
import os
import re
import signal
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

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

_OF_IMPORT = re.compile(
    r"--(?:columns\.|(?:encoding|separator|time-format|skip-\w+-\w+|event-weights)\b)"
)
"""Options that errors in data name, and that training does not take."""


def _train_arguments(base: Config) -> Any:
    """The dataclass of ``jaxrec train``: every field of Config, with the preset's values."""
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
    """The configuration that the options change, and the arguments that are left."""
    name = args.pop(0) if args and not args[0].startswith("-") else None
    files = [a.partition("=")[2] for a in args if a.startswith("--config=")]
    files += [args[i + 1] for i, a in enumerate(args[:-1]) if a == "--config"]
    if files and name is not None:
        raise InputError(f"give a preset ({name}) or --config {files[0]}, not both")
    if not files and name is None:
        # A run to start from says what model it is.
        warm = [a.partition("=")[2] for a in args if a.startswith("--warm-start=")]
        warm += [args[i + 1] for i, a in enumerate(args[:-1]) if a == "--warm-start"]
        files = [str(Path(run) / "config.json") for run in warm]
    base = configs.load(files[0]) if files else presets.get(name or "quickstart")
    return base, args


def _leave_at_once() -> None:
    """Until the run watches for signals, one ends the process: nothing is there to be saved.

    Python's own KeyboardInterrupt could surface in a callback, which would swallow it.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, frame: os._exit(128 + number))


class Asked(NamedTuple):
    """What the arguments of ``jaxrec train`` ask for.

    Attributes:
      run: the run folder; None where it is named by itself.
      said: lines for the user on what was settled for them.
    """

    config: Config
    run: str | None
    overwrite: bool
    quiet: bool
    said: tuple[str, ...]


def configured(args: list[str]) -> Asked:
    """What arguments of ``jaxrec train`` ask for.

    Raises:
      InputError: an unknown preset or option, an unusable value, settings that do not go together.
    """
    base, args = _base_config(args)
    args = with_moments(args, CUT_TIMES)
    chosen = base.eval.metric
    if _names(args, "--eval.k") and not _names(args, "--eval.metric"):
        base = dataclasses.replace(base, eval=dataclasses.replace(base.eval, metric=None))
    args = ["--help" if arg == HELP_ALL else arg for arg in args]
    made = parse(
        _train_arguments(base), args, "jaxrec train [PRESET]", aliases=ALIASES, help_by=HELP_ALL
    )
    values = {
        f.name: getattr(made, f.name) for f in dataclasses.fields(Config) if f.name != "preset"
    }
    without = not configs.of_loss(made.loss.name).negatives
    if without and made.negatives == base.negatives:  # the preset's, and not asked for
        values["negatives"] = NegativesConfig()
    said = []
    if chosen is not None and base.eval.metric != chosen:
        metric = _follows(chosen, made.eval)
        values["eval"] = dataclasses.replace(made.eval, metric=metric)
        if metric != chosen:
            said.append(f"eval.metric is {metric}: --eval.k leaves out the cut-off of {chosen}")
    config = Config(preset=base.preset, **values)
    registry.check_known(config)
    return Asked(config, made.run, made.overwrite, made.quiet, tuple(said))


def _names(args: list[str], option: str) -> bool:
    """Whether arguments give an option."""
    return any(a.partition("=")[0].replace("_", "-") == option for a in args)


def _follows(metric: str, section: EvalConfig) -> str:
    """A metric of the base configuration at a cut-off that there is: its own, or the shown one."""
    name, at, k = metric.partition("@")
    if not at or k in map(str, section.k):
        return metric
    return f"{name}@{shown_cutoff(section.k)}"


def train(args: list[str]) -> None:
    """Train a preset; evaluate, and write a run folder."""
    if {"-h", "--help"} & set(args):
        base, _ = _base_config([arg for arg in args if arg not in ("-h", "--help")])
        print(short_help(base))
        return
    asked = configured(args)
    for line in () if asked.quiet else asked.said:
        print(line)
    _leave_at_once()
    own_process()
    from jaxrec import processes
    from jaxrec.training.run import train as start

    try:
        done = start(
            asked.config,
            run=asked.run,
            overwrite=asked.overwrite,
            quiet=asked.quiet,
            may_exit=True,
        )
    except InputError as e:
        if _OF_IMPORT.search(str(e)) is None or "jaxrec data import" in str(e):
            raise
        raise InputError(f"{e} (an option of `jaxrec data import`; train on what it writes)") from e
    if not asked.quiet and processes.first():
        print("next:", *done.next_commands(), sep="\n  ")


@dataclass(frozen=True)
class ResumeMesh:
    """The devices to go on with; as before where not given."""

    data: int | None = None
    """Parts that a batch is split into."""
    table: int | None = None
    """Parts that the table and the graph are split into."""
    coordinator: str | None = None
    """Of several processes: HOST:PORT of the first, or auto."""
    processes: int | None = None
    process_id: int | None = None
    memory: Literal["auto", "device", "host"] | None = None
    """Where the table lies."""


@dataclass(frozen=True)
class ResumeTrain:
    """The length to go on to; as before where not given."""

    epochs: Annotated[int | None, Range(1, INT32)] = None
    """To the same bits as a run of so many epochs from the start."""


@dataclass(frozen=True)
class Resume:
    """Go on with a run from its last good checkpoint."""

    run: Positional[str]
    """Run folder."""
    data: str | None = None
    """Where the data is now, if it moved."""
    train: ResumeTrain = ResumeTrain()
    mesh: ResumeMesh = ResumeMesh()
    quiet: bool = False


def resume(args: list[str]) -> None:
    """Go on with a run from its last good checkpoint, to the same bits."""
    made = parse(Resume, args, "jaxrec resume", aliases={"--train.epochs": "--epochs"})
    given = {n: v for n, v in dataclasses.asdict(made.mesh).items() if v is not None}
    mesh = None
    if given:
        stored = configs.load(Path(made.run) / "config.json")
        mesh = dataclasses.replace(stored.mesh, **given)
    _leave_at_once()
    own_process()
    from jaxrec.training.run import resume as go_on

    options = {"mesh": mesh, "epochs": made.train.epochs, "quiet": made.quiet}
    go_on(made.run, data=made.data, may_exit=True, **options)


@dataclass(frozen=True)
class Refit:
    """Train a finished run's model for production: on all pairs, for the length that was best."""

    source: Positional[str]
    """Run folder, whose configuration and length are taken."""
    run: str | None = None
    """New run folder; runs/PRESET-N by default."""
    data: str | None = None
    """Where the data is now, if it moved; or newer data."""
    quiet: bool = False


def refit(args: list[str]) -> None:
    """Train a finished run's model on all of its data, for production."""
    made = parse(Refit, args, "jaxrec refit")
    _leave_at_once()
    own_process()
    from jaxrec.training.run import refit as start

    start(made.source, data=made.data, to=made.run, quiet=made.quiet, may_exit=True)
