"""``jaxrec data import``, ``stats`` and ``synth``."""

from collections.abc import Callable
from dataclasses import dataclass, field

from tyro.conf import Positional

from jaxrec.cli.arguments import parse
from jaxrec.errors import InputError, nearest


@dataclass(frozen=True)
class Stats:
    """Sizes, degrees, popularity, split and oddities of a data set."""

    path: Positional[str]
    """Anything that --data takes."""


@dataclass(frozen=True)
class Synth:
    """Make up data with planted communities and power-law popularity."""

    users: int
    items: int
    edges: int
    """Pairs, all different."""
    out: str
    """Prepared folder to write; new or empty."""
    seed: int = 0


def _weights(texts: tuple[str, ...]) -> dict[str, float]:
    weights = {}
    for text in texts:
        name, equals, value = text.rpartition("=")
        try:
            weights[name] = float(value)
        except ValueError:
            equals = ""
        if not equals or not name:
            raise InputError(f"--event-weights {text!r} is not of the form purchase=3")
    return weights


def _import(args: list[str]) -> str:
    from jaxrec.data import commands
    from jaxrec.data.formats import Columns

    @dataclass(frozen=True)
    class Import:
        """Read interactions of any known format and write a prepared folder."""

        src: Positional[str]
        """File or folder to read."""
        out: str
        """Prepared folder to write; new or empty."""
        format: str | None = None
        """prepared, lightgcn, csv, tsv, parquet, recbole or movielens; told from the path if not
        given."""
        columns: Columns = field(default_factory=Columns)
        event_weights: tuple[str, ...] = ()
        """Weight of each kind of event: `--event-weights click=1 purchase=3`. A weight of 0 is for
        what was shown and left alone: `shown=0`, for --negatives.name exposed."""
        items: str | None = None
        """Features of items: a table keyed by id (.parquet, .csv, .tsv, RecBole's .item)."""
        users: str | None = None
        """Features of users, likewise."""
        cold_items: bool = False
        """Keep items that only the table of features has, without interactions."""
        cold_users: bool = False
        """Keep users that only the table of features has, without interactions."""

    made = parse(Import, args, "jaxrec data import")
    columns = made.columns if made.columns.given() else None
    weights = _weights(made.event_weights) or None
    return commands.import_data(
        made.src,
        made.out,
        made.format,
        columns,
        weights,
        items=made.items,
        users=made.users,
        cold_items=made.cold_items,
        cold_users=made.cold_users,
    )


def _stats(args: list[str]) -> str:
    made = parse(Stats, args, "jaxrec data stats")
    from jaxrec.data import commands

    return commands.stats(made.path)


def _synth(args: list[str]) -> str:
    made = parse(Synth, args, "jaxrec data synth")
    from jaxrec.data import commands

    return commands.synth(made.users, made.items, made.edges, made.out, made.seed)


_COMMANDS: dict[str, Callable[[list[str]], str]] = {
    "import": _import,
    "stats": _stats,
    "synth": _synth,
}


def data(args: list[str]) -> None:
    """Import data, look at it, or make it up: data import | stats | synth."""
    if not args or args[0] in ("-h", "--help"):
        print(f"usage: jaxrec data {{{','.join(_COMMANDS)}}} [options]; each has --help")
        return
    if args[0] not in _COMMANDS:
        hint = nearest(args[0], _COMMANDS)
        raise InputError(f"no command 'data {args[0]}'{hint}; there are {', '.join(_COMMANDS)}")
    print(_COMMANDS[args[0]](args[1:]))
