"""``jaxrec data``: import, split, partition, describe and generate data, and write random walks."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from tyro.conf import Positional

from jaxrec.cli.arguments import CUT_TIMES, parse, with_moments
from jaxrec.config import Config, FilterConfig, PairsConfig, SplitConfig, WalksConfig
from jaxrec.config.checks import INT32, Number, Range, Seed
from jaxrec.errors import InputError, nearest

_Flag = Annotated[bool, tyro.conf.FlagCreatePairsOff]


@dataclass(frozen=True, kw_only=True)
class _Text:
    """Options for reading text files."""

    separator: str | None = None
    """Separator of cells in a text table: characters such as ';' or '::', or one of comma, tab,
    semicolon, bar and space; by default guessed from the file."""
    header: _Flag = False
    """The first row of a text table names the columns."""
    no_header: _Flag = False
    """The first row of a text table is data."""
    encoding: str | None = None
    """Encoding of text: utf-8 by default; latin-1, cp1252 and utf-16 are common."""
    skip_bad_lines: _Flag = False
    """Skip and count faulty lines."""
    skip_missing_ids: _Flag = False
    """Skip and count lines without a user or an item."""
    time_format: str | None = None
    """Format of times as for strptime, such as '%d/%m/%y', or 'day first' or 'month first' for
    dates such as 1/4/2014. By default a number, ISO 8601, 1.4.2014, or 1/4/2014 if some line tells
    the day from the month."""
    item_separator: str | None = None
    """Separator of the items in a cell, such as '|' or ' ', if a line holds the several items that
    a user ordered together."""

    def text(self) -> Any:
        """Return the options as a :class:`jaxrec.data.formats.TextOptions`.

        Raises:
          InputError: both --header and --no-header are given.
        """
        from jaxrec.data.formats import TextOptions

        if self.header and self.no_header:
            raise InputError("--header and --no-header contradict each other; give only one")
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
    """Generate synthetic data with planted communities and power-law popularity.

    Give --users, --items and --edges for interactions, or --items and --pairs for an item graph."""

    items: Number
    """Number of items."""
    out: str
    """Prepared folder to write; must be new or empty."""
    users: Annotated[int | None, Range(1, INT32)] = None
    """Number of users."""
    edges: Annotated[int | None, Range(1, INT32)] = None
    """Number of distinct pairs of a user and an item."""
    pairs: Annotated[int | None, Range(1, INT32)] = None
    """Number of distinct pairs of items."""
    missing: Annotated[float | None, Range(0, 1, below=True)] = None
    """For item graphs: also generate item features, of which this share of values is missing."""
    seed: Seed = 0
    """Random seed."""


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
            raise InputError(f"--event-weights {text!r}: write KIND=WEIGHT, such as purchase=3")
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
        """Column of the first item, for lists of item pairs."""
        dst: str | None = None
        """Column of the second item, for lists of item pairs."""
        weight: str | None = None
        """Column of positive weights, for lists of item pairs; by default all weights are 1."""

    @dataclass(frozen=True)
    class Import(_Text):
        """Read interactions or pairs of items and write a prepared folder.

        Product metadata and lists of item pairs become item graphs, which item models take. So do
        interactions with `--format co-occurrence`."""

        src: Positional[str]
        """File or folder to read."""
        out: str
        """Prepared folder to write; must be new or empty."""
        format: str | None = None
        """Format: prepared, lightgcn, csv, tsv, parquet, jsonl, recbole, movielens, or the name of
        a well-known data set (mind, netflix, ...); for item graphs: amazon-meta, pairs or
        co-occurrence. By default guessed from the path."""
        columns: AllColumns = field(default_factory=AllColumns)
        event_weights: tuple[str, ...] = ()
        """Weight of each kind of event: `--event-weights click=1 purchase=3`. An item whose events
        all have weight 0, as in `shown=0`, counts as shown to the user but not chosen, which
        --negatives.name exposed uses."""
        items: str | None = None
        """Table of item features keyed by id (.parquet, .csv, .tsv, RecBole's .item)."""
        users: str | None = None
        """Table of user features keyed by id."""
        cold_items: bool = False
        """Keep items without interactions that are only in the table of features."""
        cold_users: bool = False
        """Keep users without interactions that are only in the table of features."""
        keep: Literal["last", "first"] = "last"
        """Which rating and time to store for a repeated pair: the latest or the earliest."""
        count_repeats: _Flag = False
        """Weight each pair by the number of its repeats."""
        strict: bool = False
        """For product metadata: refuse broken lines and unknown items instead of skipping them."""
        pairs: PairsConfig = field(default_factory=PairsConfig)

    parsed = parse(Import, args, "jaxrec data import")
    weights = _weights(parsed.event_weights) or None
    columns = None if parsed.columns == AllColumns() else parsed.columns
    text = parsed.text()
    if parsed.format in item_formats.FORMATS or (
        parsed.format in (None, "prepared")
        and not is_address(parsed.src)
        and item_formats.is_item_graph(parsed.src, text)
    ):
        _refuse(
            parsed,
            ("event_weights", "users", "cold_users", "count_repeats"),
            "an item graph has no users",
        )
        if parsed.keep != "last":
            raise InputError(
                "--keep does not apply to this data: the weights of repeated item pairs are "
                "summed; leave it out"
            )
        given = {name: getattr(parsed.pairs, name) for name in ("test", "validation", "ranked")}
        if given != {name: getattr(PairsConfig(), name) for name in given}:
            raise InputError(
                "pairs.test, pairs.validation and pairs.ranked are options of `jaxrec train`; "
                "leave them out here"
            )
        from_interactions = parsed.format == "co-occurrence"
        return commands.import_items(
            parsed.src,
            parsed.out,
            parsed.format,
            pairs=parsed.pairs,
            columns=columns and _narrowed(columns, Columns if from_interactions else EdgeColumns),
            items=parsed.items,
            cold_items=parsed.cold_items,
            strict=parsed.strict,
            text=text,
        )
    _refuse(parsed, ("strict",), "it is for product metadata")
    repeats = Repeats(parsed.keep, parsed.count_repeats)
    if parsed.pairs != PairsConfig():
        raise InputError(
            "the options --pairs.* are for item graphs; leave them out, or make an item graph from "
            "interactions with --format co-occurrence"
        )
    return commands.import_data(
        parsed.src,
        parsed.out,
        parsed.format,
        columns and _narrowed(columns, Columns),
        weights,
        items=parsed.items,
        users=parsed.users,
        cold_items=parsed.cold_items,
        cold_users=parsed.cold_users,
        text=text,
        repeats=None if repeats == Repeats() else repeats,
    )


def _partition(args: list[str]) -> str:
    from jaxrec.data.formats import Columns, Repeats

    @dataclass(frozen=True)
    class Partition(_Text):
        """Partition interactions for a mesh of devices, out of core.

        Each process of `jaxrec train --data OUT --mesh.table PARTS` then reads only the parts of
        its own devices."""

        src: Positional[str]
        """File or folder to read; a folder with Parquet files is searched for them recursively."""
        out: str
        """Folder to write; must be new or empty."""
        parts: Annotated[int, Range(2, 2**16)]
        """Number of parts; later runs need the same number as --mesh.table."""
        split: SplitConfig = field(default_factory=SplitConfig)
        """auto splits by the names of files or folders (train, validation, test), or by hash if
        they have other names; random and cold-items are not supported."""
        seed: Seed = 0
        """Seed of the split."""
        exchange: Literal["auto", "all_gather", "all_to_all", "ring"] = "auto"
        """How a layer receives rows of other devices; see mesh.exchange of `jaxrec train`."""
        format: str | None = None
        """Format of interactions, as for `jaxrec data import`; by default guessed from the path."""
        columns: Columns = field(default_factory=Columns)
        event_weights: tuple[str, ...] = ()
        """Weight of each kind of event: `--event-weights click=1 purchase=3`."""
        keep: Literal["last", "first"] = "last"
        """Which time to store for a repeated pair: the latest or the earliest."""
        count_repeats: _Flag = False
        """Weight each pair by the number of its repeats."""
        rows: Number = 1 << 22
        """Largest number of rows and pairs in memory at once (about 200 bytes each)."""

    parsed = parse(Partition, with_moments(args, CUT_TIMES), "jaxrec data partition")
    from jaxrec.parted import layout
    from jaxrec.parted.write import partition_data

    manifest = partition_data(
        parsed.src,
        parsed.out,
        parsed.parts,
        split=parsed.split,
        seed=parsed.seed if parsed.split.seed is None else parsed.split.seed,
        exchange=parsed.exchange,
        format=parsed.format,
        columns=None if parsed.columns == Columns() else parsed.columns,
        event_weights=_weights(parsed.event_weights) or None,
        text=parsed.text(),
        repeats=Repeats(parsed.keep, parsed.count_repeats),
        rows=parsed.rows,
    )
    return f"{layout.described(manifest)}\n{'written to':<14}{parsed.out}"


def _refuse(parsed: Any, options: tuple[str, ...], why: str) -> None:
    """Raise InputError with the reason ``why`` if one of the options was given."""
    for name in options:
        if getattr(parsed, name):
            option = name.replace("_", "-")
            raise InputError(f"--{option} does not apply to this data: {why}; leave it out")


def _narrowed(columns: Any, kind: Any) -> Any:
    """Convert columns to the class ``kind``.

    Raises:
      InputError: ``columns`` names a column for a role that ``kind`` does not have.
    """
    for name in columns.roles():
        if name not in kind.roles() and getattr(columns, name) is not None:
            listed = ", ".join(kind.roles())
            raise InputError(
                f"--columns.{name} does not apply to this data; the possible columns are {listed}"
            )
    return kind(**{role: getattr(columns, role) for role in kind.roles()})


def _stats(args: list[str]) -> str:
    from jaxrec.data.formats import Columns

    @dataclass(frozen=True)
    class Stats(_Text):
        """Describe a data set: sizes, degrees, popularity, split and irregularities."""

        path: Positional[str]
        """Data in any form that --data of `jaxrec train` accepts."""
        format: str | None = None
        """Format of interactions, as for `jaxrec data import`; by default guessed from the path."""
        columns: Columns = field(default_factory=Columns)
        event_weights: tuple[str, ...] = ()
        """Weight of each kind of event: `--event-weights click=1 purchase=3`."""

    parsed = parse(Stats, args, "jaxrec data stats")
    from jaxrec.data import commands
    from jaxrec.parted import layout

    if layout.is_parted(parsed.path):
        return layout.described(layout.read(Path(parsed.path)))
    columns = None if parsed.columns == Columns() else parsed.columns
    weights = _weights(parsed.event_weights) or None
    options = [arg for arg in args if arg != parsed.path]
    text = parsed.text()
    return commands.stats(parsed.path, parsed.format, columns, weights, text, options=options)


def _synth(args: list[str]) -> str:
    parsed = parse(Synth, args, "jaxrec data synth")
    from jaxrec.data import commands

    if parsed.pairs is not None:
        _refuse(parsed, ("users", "edges"), "an item graph has --items and --pairs")
        return commands.synth_items(
            parsed.items, parsed.pairs, parsed.out, parsed.seed, parsed.missing
        )
    if parsed.missing is not None:
        raise InputError("--missing is for item graphs; give --pairs too")
    if parsed.users is None or parsed.edges is None:
        raise InputError("give --users and --edges for interactions, or --pairs for an item graph")
    return commands.synth(parsed.users, parsed.items, parsed.edges, parsed.out, parsed.seed)


def _walks(args: list[str]) -> str:
    @dataclass(frozen=True)
    class Walks:
        """Write random walks over an item graph as lists of item ids, in Parquet files."""

        path: Positional[str]
        """Item graph in any form that --data of an item model accepts."""
        out: str
        """Folder to write; must be new or empty."""
        count: Annotated[int, Range(1, 10_000)] = 10
        """Number of walks from each item."""
        length: Annotated[int, Range(2, 10_000)] = 10
        """Number of items in a walk."""
        p: Annotated[float, Range(0.01, 100)] = 1.0
        """Return parameter of node2vec: values above 1 make a walk turn back less often."""
        q: Annotated[float, Range(0.01, 100)] = 1.0
        """In-out parameter of node2vec: values below 1 make a walk move away faster."""
        weighted: bool = True
        """Draw steps by the weights of the pairs instead of uniformly."""
        seed: Seed = 0
        """Random seed."""

    parsed = parse(Walks, args, "jaxrec data walks")
    from jaxrec.training.items.walk_files import write_walks

    config = WalksConfig(parsed.count, parsed.length, parsed.p, parsed.q, parsed.weighted)
    return f"{parsed.out}: {write_walks(parsed.path, parsed.out, config, parsed.seed):,} walks"


def _split(args: list[str]) -> str:
    @dataclass(frozen=True)
    class Split:
        """Split interactions, and write the parts to a folder that others can train on.

        `jaxrec train --data OUT` uses the parts unchanged. The source may also be a run, whose
        split is then written."""

        src: Positional[str]
        """Data in any form that --data of `jaxrec train` accepts, or a run folder."""
        out: str
        """Folder to write; must be new or empty."""
        format: Literal["parquet", "csv", "prepared"] = "parquet"
        """Format of the files train, validation and test. The format prepared also stores features,
        and the items that were shown to users but not chosen."""
        split: SplitConfig = field(default_factory=SplitConfig)
        filter: FilterConfig = field(default_factory=FilterConfig)
        seed: Seed = 0
        """Seed of the split, unless --split.seed is given."""

    parsed = parse(Split, with_moments(args, CUT_TIMES), "jaxrec data split")
    from dataclasses import asdict

    from jaxrec import config as configs
    from jaxrec.data import commands
    from jaxrec.data.formats import resolve
    from jaxrec.evaluation.user_runs import load_data, splits_of

    run = None
    config = Config(data=parsed.src, seed=parsed.seed, split=parsed.split, filter=parsed.filter)
    if (Path(parsed.src) / "config.json").is_file():
        if config != Config(data=parsed.src):
            raise InputError(
                f"{parsed.src}: this is a run, which has its split already; leave out --split.*, "
                "--filter.* and --seed"
            )
        run = Path(parsed.src)
        config = configs.load(run / "config.json")
        if not config.objective.users:
            raise InputError(f"{run}: was trained on item pairs; give a run that has users")
    if config.split.name == "cold-items":
        raise InputError(
            "split.name cold-items ranks the held-out items among themselves, which the files of a "
            "split cannot record; share the data and the options instead"
        )
    data = resolve(parsed.src) if run is None else load_data(run, config, None)
    about = {
        "data": data.name,
        "fingerprint": data.fingerprint(),
        "split": asdict(config.split) | {"seed": config.split_seed},
        "filter": asdict(config.filter),
    }
    splits = splits_of(config, data, run)
    return commands.write_split(splits, parsed.out, parsed.format, about)


COMMANDS: dict[str, Callable[[list[str]], str]] = {
    "import": _import,
    "split": _split,
    "partition": _partition,
    "stats": _stats,
    "synth": _synth,
    "walks": _walks,
}


def data(args: list[str]) -> None:
    """Import, split, partition, describe or generate data, or write walks (see `jaxrec data`)."""
    if not args or args[0] in ("-h", "--help"):
        print(f"usage: jaxrec data {{{','.join(COMMANDS)}}} [options]; each has --help")
        return
    if args[0] not in COMMANDS:
        hint = nearest(args[0], COMMANDS)
        listed = ", ".join(COMMANDS)
        raise InputError(f"unknown command 'data {args[0]}'{hint}; the commands are {listed}")
    print(COMMANDS[args[0]](args[1:]))
