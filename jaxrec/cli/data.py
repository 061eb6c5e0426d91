"""``jaxrec data import``, ``partition``, ``stats``, ``synth`` and ``walks``."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from tyro.conf import Positional

from jaxrec.cli.arguments import CUT_TIMES, parse, with_moments
from jaxrec.config import PairsConfig, SplitConfig, WalksConfig
from jaxrec.config.checks import INT32, Number, Range, Seed
from jaxrec.errors import InputError, nearest

_Flag = Annotated[bool, tyro.conf.FlagCreatePairsOff]


@dataclass(frozen=True, kw_only=True)
class _Text:
    """Options of how text is read."""

    separator: str | None = None
    """Between the cells of a text table: characters such as ';' or '::', or comma, tab, semicolon,
    bar or space; by the name (.tsv) or found if not given."""
    header: _Flag = False
    """The first row of a text table names the columns."""
    no_header: _Flag = False
    """The first row of a text table is data."""
    encoding: str | None = None
    """Of text: utf-8 if not given; latin-1, cp1252 and utf-16 are common."""
    skip_bad_lines: _Flag = False
    """Leave out faulty lines, and count them."""
    skip_missing_ids: _Flag = False
    """Leave out lines without a user or an item, and count them."""
    time_format: str | None = None
    """How times are written, as strptime has it: '%d/%m/%Y', '%m/%d/%Y %H:%M'; ISO 8601 or a number
    if not given."""
    item_separator: str | None = None
    """Between the items of a cell, where a line is an order of several: '|' or ' '."""

    def text(self) -> Any:
        """The options as the readers take them."""
        from jaxrec.data.formats import TextOptions

        if self.header and self.no_header:
            raise InputError("--header and --no-header contradict each other; give one")
        return TextOptions(
            self.separator,
            True if self.header else False if self.no_header else None,
            self.encoding,
            self.skip_bad_lines,
            self.skip_missing_ids,
            self.time_format,
            self.item_separator,
        )


@dataclass(frozen=True)
class Synth:
    """Make up data with planted communities and power-law popularity.

    Interactions by --users, --items and --edges; an item graph by --items and --pairs."""

    items: Number
    out: str
    """Prepared folder to write; new or empty."""
    users: Annotated[int | None, Range(1, INT32)] = None
    edges: Annotated[int | None, Range(1, INT32)] = None
    """Pairs of user and item, all different."""
    pairs: Annotated[int | None, Range(1, INT32)] = None
    """Pairs of items, all different."""
    missing: Annotated[float | None, Range(0, 1, below=True)] = None
    """Item graphs: give the items features, this share of them missing."""
    seed: Seed = 0


def _weights(texts: tuple[str, ...]) -> dict[str, float]:
    weights = {}
    for text in texts:
        name, equals, value = text.rpartition("=")
        try:
            weights[name] = float(value)
            Range(0, 1e9).check(weights[name], f"--event-weights {name}")
        except ValueError:
            equals = ""
        if not equals or not name:
            raise InputError(f"--event-weights {text!r} is not of the form purchase=3")
    return weights


def _import(args: list[str]) -> str:
    from jaxrec.data import commands
    from jaxrec.data.formats import Columns, Repeats
    from jaxrec.data.formats import item_graphs as item_formats
    from jaxrec.data.formats.columns import EdgeColumns
    from jaxrec.data.formats.remote import is_address

    @dataclass(frozen=True)
    class AllColumns(Columns):
        src: str | None = None
        """Lists of pairs: one item."""
        dst: str | None = None
        """Lists of pairs: the other."""
        weight: str | None = None
        """Lists of pairs: a positive number; 1 where there is none."""

    @dataclass(frozen=True)
    class Import(_Text):
        """Read interactions or pairs of items and write a prepared folder.

        Product metadata and lists of pairs become item graphs, for models of items; of
        interactions `--format co-occurrence` makes one."""

        src: Positional[str]
        """File or folder to read."""
        out: str
        """Prepared folder to write; new or empty."""
        format: str | None = None
        """prepared, lightgcn, csv, tsv, parquet, jsonl, recbole, movielens, or the name of a
        well-known set (mind, netflix, ...); of item graphs: amazon-meta, pairs or co-occurrence;
        told from the path if not given."""
        columns: AllColumns = field(default_factory=AllColumns)
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
        keep: Literal["last", "first"] = "last"
        """Whose rating and time stay of a pair that is there several times: those of its latest
        time, or of its earliest."""
        count_repeats: _Flag = False
        """Let a pair weigh as often as it is there."""
        strict: bool = False
        """Product metadata: refuse broken lines and items that are not there."""
        pairs: PairsConfig = field(default_factory=PairsConfig)

    made = parse(Import, args, "jaxrec data import")
    weights = _weights(made.event_weights) or None
    columns = None if made.columns == AllColumns() else made.columns
    text = made.text()
    if made.format in item_formats.FORMATS or (
        made.format in (None, "prepared")
        and not is_address(made.src)
        and item_formats.is_item_graph(made.src, text)
    ):
        _refuse(
            made,
            ("event_weights", "users", "cold_users", "count_repeats"),
            "an item graph has no users",
        )
        if made.keep != "last":
            raise InputError("--keep does not go with this data: pairs of items add up")
        given = {name: getattr(made.pairs, name) for name in ("test", "validation", "ranked")}
        if given != {name: getattr(PairsConfig(), name) for name in given}:
            raise InputError("pairs.test, pairs.validation and pairs.ranked are options of train")
        of_users = made.format == "co-occurrence"
        return commands.import_items(
            made.src,
            made.out,
            made.format,
            pairs=made.pairs,
            columns=columns and _narrowed(columns, Columns if of_users else EdgeColumns),
            items=made.items,
            cold_items=made.cold_items,
            strict=made.strict,
            text=text,
        )
    _refuse(made, ("strict",), "it is for product metadata")
    repeats = Repeats(made.keep, made.count_repeats)
    if made.pairs != PairsConfig():
        raise InputError("options of pairs are for item graphs; --format co-occurrence makes one")
    return commands.import_data(
        made.src,
        made.out,
        made.format,
        columns and _narrowed(columns, Columns),
        weights,
        items=made.items,
        users=made.users,
        cold_items=made.cold_items,
        cold_users=made.cold_users,
        text=text,
        repeats=None if repeats == Repeats() else repeats,
    )


def _partition(args: list[str]) -> str:
    from jaxrec.data.formats import Columns

    @dataclass(frozen=True)
    class Partition:
        """Cut interactions in Parquet into parts for a mesh of devices, out of core.

        Each process of `jaxrec train --data OUT --mesh.table PARTS` then reads the parts of its own
        devices alone."""

        src: Positional[str]
        """A Parquet file, or a folder of them, also of folders in it."""
        out: str
        """Folder to write; new or empty."""
        parts: Annotated[int, Range(2, 2**16)]
        """What --mesh.table will be."""
        split: SplitConfig = field(default_factory=SplitConfig)
        """auto is the split that names of files or folders give (train, validation, test), else
        hashed; random and cold-items are not there."""
        seed: Seed = 0
        """Of the split."""
        exchange: Literal["auto", "all_gather", "all_to_all", "ring"] = "auto"
        """How a layer of propagation gets the rows of other devices, as mesh.exchange says."""
        columns: Columns = field(default_factory=Columns)
        event_weights: tuple[str, ...] = ()
        """Weight of each kind of event: `--event-weights click=1 purchase=3`."""
        rows: Number = 1 << 22
        """Rows of a file, and pairs, that are in memory at once (about 200 bytes each)."""

    made = parse(Partition, with_moments(args, CUT_TIMES), "jaxrec data partition")
    from jaxrec.parted import layout
    from jaxrec.parted.write import partition_data

    manifest = partition_data(
        made.src,
        made.out,
        made.parts,
        split=made.split,
        seed=made.seed if made.split.seed is None else made.split.seed,
        exchange=made.exchange,
        columns=made.columns,
        event_weights=_weights(made.event_weights) or None,
        rows=made.rows,
    )
    return f"{layout.described(manifest)}\n{'written to':<14}{made.out}"


def _refuse(made: Any, options: tuple[str, ...], why: str) -> None:
    for name in options:
        if getattr(made, name):
            raise InputError(f"--{name.replace('_', '-')} does not go with this data: {why}")


def _narrowed(columns: Any, kind: Any) -> Any:
    """The columns of a kind. Raises InputError where others are named."""
    for name in columns.roles():
        if name not in kind.roles() and getattr(columns, name) is not None:
            listed = ", ".join(kind.roles())
            raise InputError(f"--columns.{name} does not go with this data, which has {listed}")
    return kind(**{role: getattr(columns, role) for role in kind.roles()})


def _stats(args: list[str]) -> str:
    from jaxrec.data.formats import Columns

    @dataclass(frozen=True)
    class Stats(_Text):
        """Sizes, degrees, popularity, split and oddities of a data set."""

        path: Positional[str]
        """Anything that --data takes."""
        format: str | None = None
        """Of interactions, as `jaxrec data import` takes it; told from the path if not given."""
        columns: Columns = field(default_factory=Columns)
        event_weights: tuple[str, ...] = ()
        """Weight of each kind of event: `--event-weights click=1 purchase=3`."""

    made = parse(Stats, args, "jaxrec data stats")
    from jaxrec.data import commands
    from jaxrec.parted import layout

    if layout.is_parted(made.path):
        return layout.described(layout.read(Path(made.path)))
    columns = None if made.columns == Columns() else made.columns
    weights = _weights(made.event_weights) or None
    options = [arg for arg in args if arg != made.path]
    text = made.text()
    return commands.stats(made.path, made.format, columns, weights, text, options=options)


def _synth(args: list[str]) -> str:
    made = parse(Synth, args, "jaxrec data synth")
    from jaxrec.data import commands

    if made.pairs is not None:
        _refuse(made, ("users", "edges"), "an item graph has --items and --pairs")
        return commands.synth_items(made.items, made.pairs, made.out, made.seed, made.missing)
    if made.missing is not None:
        raise InputError("--missing is for item graphs: give --pairs")
    if made.users is None or made.edges is None:
        raise InputError("give --users and --edges, or --pairs for an item graph")
    return commands.synth(made.users, made.items, made.edges, made.out, made.seed)


def _walks(args: list[str]) -> str:
    @dataclass(frozen=True)
    class Walks:
        """Write random walks over an item graph as Parquet files of lists of item ids."""

        path: Positional[str]
        """Anything that --data of a model of items takes."""
        out: str
        """Folder to write; new or empty."""
        count: Annotated[int, Range(1, 10_000)] = 10
        """Walks from each item."""
        length: Annotated[int, Range(2, 10_000)] = 10
        """Items a walk."""
        p: Annotated[float, Range(0.01, 100)] = 1.0
        """node2vec: above 1 a walk seldom turns back."""
        q: Annotated[float, Range(0.01, 100)] = 1.0
        """node2vec: below 1 a walk leaves the neighbourhood that it comes from."""
        weighted: bool = True
        """Steps by the weights of the pairs, or to all neighbours alike."""
        seed: Seed = 0

    made = parse(Walks, args, "jaxrec data walks")
    from jaxrec.training.items.walk_files import write_walks

    config = WalksConfig(made.count, made.length, made.p, made.q, made.weighted)
    return f"{made.out}: {write_walks(made.path, made.out, config, made.seed):,} walks"


COMMANDS: dict[str, Callable[[list[str]], str]] = {
    "import": _import,
    "partition": _partition,
    "stats": _stats,
    "synth": _synth,
    "walks": _walks,
}


def data(args: list[str]) -> None:
    """Import data, cut it in parts, look at it, make it up, or walk: `jaxrec data` lists them."""
    if not args or args[0] in ("-h", "--help"):
        print(f"usage: jaxrec data {{{','.join(COMMANDS)}}} [options]; each has --help")
        return
    if args[0] not in COMMANDS:
        hint = nearest(args[0], COMMANDS)
        raise InputError(f"no command 'data {args[0]}'{hint}; there are {', '.join(COMMANDS)}")
    print(COMMANDS[args[0]](args[1:]))
