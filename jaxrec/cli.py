"""The command line: sub-commands from typed dataclasses; heavy imports inside the functions."""

import contextlib
import dataclasses
import io
import os
import re
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import tyro

from jaxrec import config as configs
from jaxrec import presets
from jaxrec.config import Config
from jaxrec.errors import InputError, JaxrecError, nearest

T = TypeVar("T")
Positional = tyro.conf.Positional


def parse(kind: Any, args: Sequence[str], prog: str, default: Any = None) -> Any:
    """Arguments as an instance of the dataclass ``kind``.

    tyro does the parsing; its boxes become one plain line.

    Raises:
      InputError: an unknown option (the nearest one is named) or an unusable value.
    """
    options = {} if default is None else {"default": default}
    heard = io.StringIO()
    try:
        with contextlib.redirect_stderr(heard):
            made, unknown = tyro.cli(
                kind, args=list(args), prog=prog, return_unknown_args=True, **options
            )
    except SystemExit as e:
        if e.code in (0, None):
            raise
        raise InputError(_plain(heard.getvalue(), prog)) from e
    if unknown:
        name = unknown[0].split("=")[0]
        known = _option_names(kind, "" if default is None else default)
        what = f"unknown option {name}" if name.startswith("-") else f"unexpected {name!r}"
        hint = nearest(name.replace("_", "-"), known)
        raise InputError(f"{what}{hint}; `{prog} --help` lists the options")
    return made


def _plain(box: str, prog: str) -> str:
    """The first message inside a tyro error box, as one line."""
    lines = [re.sub(r"\x1b\[[0-9;]*m", "", line).strip(" │|") for line in box.splitlines()]
    message = []
    for line in lines:
        if not line or line[0] in "╭╰+":
            continue
        if set(line) <= {"─", "-"}:
            break
        message.append(line)
    return f"{' '.join(message) or 'unusable arguments'}; `{prog} --help` lists the options"


def _option_names(kind: Any, default: Any, prefix: str = "--") -> list[str]:
    """Every option of a dataclass, nested ones by their dotted names."""
    names = []
    for f in dataclasses.fields(kind):
        name = prefix + f.name.replace("_", "-")
        inner = f.default_factory if dataclasses.is_dataclass(f.default_factory) else f.type
        if dataclasses.is_dataclass(inner):
            names += _option_names(inner, None, f"{name}.")
        else:
            names.append(name)
    return names


def _train_arguments(base: Config) -> Any:
    """The dataclass of ``jaxrec train``: every field of Config, with the preset's values."""
    own: list[Any] = [
        (
            "run",
            Annotated[str | None, tyro.conf.arg(help="Run folder; default runs/PRESET-N.")],
            field(default=None),
        ),
        (
            "config",
            Annotated[
                str | None,
                tyro.conf.arg(help="A config.json to begin from instead of a preset."),
            ],
            field(default=None),
        ),
        ("quiet", Annotated[bool, tyro.conf.arg(help="Print nothing.")], field(default=False)),
    ]
    fields: list[Any] = []
    for f in dataclasses.fields(Config):
        if f.name != "preset":
            value = getattr(base, f.name)
            nested = dataclasses.is_dataclass(value)
            made = field(default_factory=lambda v=value: v) if nested else field(default=value)
            fields.append((f.name, f.type, made))
    order = sorted(fields, key=lambda f: f[0] not in ("data", "seed"))
    return dataclasses.make_dataclass("Train", [*order[:1], *own, *order[1:]], frozen=True)


def _base_config(args: list[str]) -> tuple[Config, list[str]]:
    """The configuration that the options change, and the arguments that are left."""
    name = args.pop(0) if args and not args[0].startswith("-") else None
    files = [a.partition("=")[2] for a in args if a.startswith("--config=")]
    files += [args[i + 1] for i, a in enumerate(args[:-1]) if a == "--config"]
    if files and name is not None:
        raise InputError(f"give a preset ({name}) or --config {files[0]}, not both")
    base = configs.load(files[0]) if files else presets.get(name or "quickstart")
    return base, args


def train(args: list[str]) -> None:
    """Train a preset; evaluate, and write a run folder."""
    base, args = _base_config(args)
    made = parse(_train_arguments(base), args, "jaxrec train [PRESET]")
    values = {
        f.name: getattr(made, f.name) for f in dataclasses.fields(Config) if f.name != "preset"
    }
    config = Config(preset=base.preset, **values)
    from jaxrec.train.run import train as start

    start(config, run=made.run, quiet=made.quiet)


@dataclass(frozen=True)
class Resume:
    """Go on with a run from its last good checkpoint."""

    run: Positional[str]
    """Run folder."""
    data: str | None = None
    """Where the data is now, if it moved."""
    quiet: bool = False


def resume(args: list[str]) -> None:
    """Go on with a run from its last good checkpoint, to the same bits."""
    made = parse(Resume, args, "jaxrec resume")
    from jaxrec.train.run import resume as go_on

    go_on(made.run, data=made.data, quiet=made.quiet)


@dataclass(frozen=True)
class Evaluate:
    """Rank all items for the users of a held-out split; writes RUN/eval.json."""

    run: Positional[str]
    """Run folder."""
    split: Literal["test", "val"] = "test"
    k: tuple[int, ...] = (10, 20, 50)
    """Cut-offs K."""
    baselines: tuple[Literal["item-knn", "ease"], ...] = ()
    """More baselines besides popularity and random."""
    data: str | None = None
    """Where the data is now, if it moved."""


def evaluate(args: list[str]) -> None:
    """Metrics of a finished run and of its baselines, as a table and in RUN/eval.json."""
    made = parse(Evaluate, args, "jaxrec evaluate")
    from jaxrec.evaluate.run import evaluate as measure
    from jaxrec.log import Reporter

    split = "validation" if made.split == "val" else "test"
    content = measure(made.run, split, made.k, baselines=made.baselines, data=made.data)
    names = list(content["metrics"])
    columns = {"model": content["metrics"], **content["baselines"]}
    rows = [[name, *(f"{m[name]:.6f}" for m in columns.values())] for name in names]
    reporter = Reporter()
    reporter.table(f"{split}: {content['users']:,} users", ["", *columns], rows)
    reporter.say(content["protocol"])


@dataclass(frozen=True)
class Recommend:
    """Top-K items by user, to a file."""

    run: Positional[str]
    """Run folder."""
    out: str
    """Where to: .parquet, .csv, .tsv or .jsonl."""
    users: str | None = None
    """File with a user id a line (or a `user` column); everyone by default."""
    k: Annotated[int, tyro.conf.arg(aliases=("-k",))] = 20
    """Items a user."""
    include_seen: bool = False
    """Also items that the user had in train and validation."""
    allow: str | None = None
    """File of item ids: only these."""
    deny: str | None = None
    """File of item ids: never these."""


def recommend(args: list[str]) -> None:
    """Write the top-K items of users to a file."""
    made = parse(Recommend, args, "jaxrec recommend")
    from jaxrec.recommend import Recommender, read_ids, write

    read = lambda path: None if path is None else read_ids(path)  # noqa: E731
    users, allow, deny = read(made.users), read(made.allow), read(made.deny)
    recommender = Recommender.load(made.run)
    frame = recommender.recommend(
        recommender.user_ids if users is None else users,
        k=made.k,
        include_seen=made.include_seen,
        allow=allow,
        deny=deny,
    )
    write(frame, made.out)
    print(f"{made.out}: {frame['user'].n_unique():,} users, {len(frame):,} rows")


@dataclass(frozen=True)
class Similar:
    """Nearest items by cosine."""

    run: Positional[str]
    """Run folder."""
    items: tuple[str, ...]
    """Item ids."""
    k: Annotated[int, tyro.conf.arg(aliases=("-k",))] = 10
    """Neighbours an item."""


def similar(args: list[str]) -> None:
    """Print the items nearest to given ones."""
    made = parse(Similar, args, "jaxrec similar")
    from jaxrec.recommend import Recommender

    frame = Recommender.load(made.run).similar_items(made.items, k=made.k)
    print("item\tsimilar\trank\tscore")
    for row in frame.iter_rows():
        print(*row[:3], f"{row[3]:.4f}", sep="\t")


@dataclass(frozen=True)
class Export:
    """Embeddings and ids for the world outside."""

    run: Positional[str]
    """Run folder."""
    to: Literal["npz", "parquet", "safetensors"]
    out: str


def export(args: list[str]) -> None:
    """Write the embeddings and their ids as npz, parquet or safetensors."""
    made = parse(Export, args, "jaxrec export")
    from jaxrec.export import export as write

    write(made.run, made.to, made.out)
    print(made.out)


@dataclass(frozen=True)
class Report:
    """One HTML page about one or several runs."""

    runs: Positional[tuple[str, ...]]
    """Run folders."""
    out: str


def report(args: list[str]) -> None:
    """Write one self-contained HTML page about runs."""
    made = parse(Report, args, "jaxrec report")
    if not made.runs:
        raise InputError("name at least one run folder: jaxrec report RUN --out report.html")
    from jaxrec.report import report as write

    write([Path(r) for r in made.runs], Path(made.out))
    print(made.out)


def list_presets(args: list[str]) -> None:
    """List the presets with what to expect of them."""
    if args:
        raise InputError("`jaxrec presets` takes no arguments")
    for name, make in presets.PRESETS.items():
        lines = [line.strip() for line in (make.__doc__ or "").strip().splitlines()]
        print(f"{name}\n    " + "\n    ".join(line for line in lines if line))


def env(args: list[str]) -> None:
    """Print versions and devices, for bug reports."""
    if args:
        raise InputError("`jaxrec env` takes no arguments")
    import jax

    from jaxrec.graph.spmm import default_kernel
    from jaxrec.train.run import versions

    for name, version in versions().items():
        print(f"{name:18} {version}")
    devices = jax.devices()
    print(f"{'devices':18} {len(devices)} x {devices[0].device_kind} ({devices[0].platform})")
    print(f"{'kernel':18} {default_kernel()}")


COMMANDS: dict[str, Callable[[list[str]], None]] = {
    "train": train,
    "resume": resume,
    "evaluate": evaluate,
    "recommend": recommend,
    "similar": similar,
    "export": export,
    "report": report,
    "presets": list_presets,
    "env": env,
}


def _usage() -> str:
    lines = ["usage: jaxrec COMMAND [options]", "", "commands:"]
    for name, command in COMMANDS.items():
        lines.append(f"  {name:11}{(command.__doc__ or '').splitlines()[0]}")
    lines += ["", "`jaxrec COMMAND --help` lists a command's options; --debug shows tracebacks."]
    return "\n".join(lines)


def _run(args: list[str]) -> int:
    if not args or args[0] in ("-h", "--help"):
        print(_usage())
        return 0 if args else 2
    if args[0] == "--version":
        from jaxrec import __version__

        print(f"jaxrec {__version__}")
        return 0
    if args[0] not in COMMANDS:
        hint = nearest(args[0], COMMANDS)
        raise InputError(f"no command {args[0]!r}{hint}; `jaxrec --help` lists them")
    COMMANDS[args[0]](args[1:])
    return 0


def main() -> None:
    """Entry point: run a command and exit with the contract's status."""
    args = sys.argv[1:]
    debug = "--debug" in args
    args = [a for a in args if a != "--debug"]
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        status = _run(args)
    except JaxrecError as e:
        if debug:
            raise
        print(f"jaxrec: {e}", file=sys.stderr)
        status = e.exit_status
    except KeyboardInterrupt:
        if debug:
            raise
        status = 128 + signal.SIGINT
    except BrokenPipeError:
        # The reader of our output went away; Python would complain again while it closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 1
    sys.exit(status)


if __name__ == "__main__":
    main()
