"""Read files into sorted pairs, merged and split exactly as by an import in memory.

The first pass over the files counts the rows of each id. The second pass numbers the ids and
writes the rows to disk in blocks of users. Each block is then sorted, merged and split by itself.
Memory holds the ids, their counts, and one block or one batch of rows. Parquet files are read
twice; other files are parsed once, and their rows wait on disk for the second pass.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl

from jaxrec.config import SplitConfig
from jaxrec.data import formats
from jaxrec.data.dataset import REPEATED, TEST, TRAIN, VALIDATION, Dataset
from jaxrec.data.formats import Columns, Repeats, TextOptions, parquet, paths
from jaxrec.data.formats.assemble import (
    LIMIT,
    IdPlaces,
    Part,
    count_rows,
    id_kind,
    in_some_files,
    merge_repeats,
    readings,
    refuse_negative,
    whole_ids,
)
from jaxrec.data.pair_keys import pair_keys
from jaxrec.data.prepared import is_prepared
from jaxrec.data.split import BY_TIME, draw, pair_id_hashes, refuse_empty_cut
from jaxrec.errors import InputError
from jaxrec.parted.spill import Column, Spill, blocks

SPLITS = {"train": TRAIN, "validation": VALIDATION, "test": TEST}
_RECORD = np.dtype(
    [("user", "i4"), ("item", "i4"), ("weight", "f4"), ("time", "f8"), ("label", "u1")]
)


def sources(src: str | Path) -> dict[Path, int | None]:
    """Find the Parquet files of a source, sorted by name, and the split that each belongs to.

    The source is a file, or a folder that is searched recursively. The name of a file
    (``train.parquet``, ``a.test.parquet``) or of its folder (``train``, ``split=test``) gives the
    split. If no file names a split, or all files name the same, each file gets None. Names that
    begin with a dot or underscore are ignored.

    Raises:
      InputError: there is no file, only some files name a split, or no file names train.
    """
    src = Path(src)
    if src.is_file():
        return {src: None}
    if not src.is_dir():
        raise InputError(f"{src}: no such file or folder")
    files = [path.relative_to(src) for path in sorted(src.rglob("*.parquet"))]
    files = [path for path in files if not any(word[0] in "._" for word in path.parts)]
    if not files:
        raise InputError(f"{src}: no .parquet file; give a folder with some")
    found = {path: _part(path) for path in files}
    if len(set(found.values())) == 1:
        return {src / path: None for path in found}
    for path, part in found.items():
        if part is None:
            raise InputError(
                f"{src / path}: other files name a part of the split, this one does not; name "
                "it or its folder train, validation or test"
            )
    if TRAIN not in found.values():
        raise InputError(f"{src}: no file or folder of the split is named train; add one")
    return {src / path: part for path, part in found.items()}


def _part(path: Path) -> int | None:
    words = [path.stem.split(".")[-1], *(word.split("=")[-1] for word in path.parts[-2::-1])]
    return next((part for word in words if (part := paths.part_of_name(word)) is not None), None)


@dataclass(frozen=True)
class Source:
    """A source of interactions, and how it is read; see :func:`jaxrec.data.formats.read`."""

    src: Path
    format: str | None = None
    columns: Columns | None = None
    weights: dict[str, float] | None = None
    text: TextOptions | None = None
    repeats: Repeats = field(default_factory=Repeats)

    def is_columnar(self) -> bool:
        """Return whether the source is Parquet: a file, or a folder searched recursively."""
        if paths.is_pattern(self.src):
            return False
        if self.format is not None or self.src.is_file():
            return (self.format or self.src.suffix.lower().lstrip(".")) == "parquet"
        if not self.src.is_dir() or is_prepared(self.src):
            return False
        return any(self.src.rglob("*.parquet"))

    def parts(self, rows: int, *, timed: bool) -> Iterator[Part]:
        """Yield the interactions in pieces of about ``rows`` rows.

        Args:
          timed: whether times are needed; if not, the time column of Parquet files is not read.
        """
        if not self.is_columnar():
            yield from formats.pieces(
                *(self.src, self.format, self.columns, self.weights), text=self.text, rows=rows
            )
            return
        weights = formats.checked_weights(self.columns, self.weights)
        taken = replace(self.columns or Columns(), rating="")
        taken = taken if timed or weights else replace(taken, time="")
        for path, split in sources(self.src).items():
            more = paths.partition(self.src, path)
            options = {"split": split, "options": self.text, "more": more}
            yield from parquet.pieces(path, taken, weights, rows, **options)


class _Twice:
    """The rows of a source, read twice; ratings are dropped.

    Attributes:
      notes: counts of irregularities, complete after the first pass.
      given: whether the source gives a split.
      reading: how the columns of each file were read.
      lone: ids that the source names without a pair.
      untyped: whether all files are text, which does not distinguish numbers from texts.
    """

    def __init__(self, source: Source, folder: Path, rows: int, *, timed: bool) -> None:
        folder.mkdir()
        self._source, self._folder, self._rows, self._timed = source, folder, rows, timed
        self._kept: list[tuple[Path, int | None]] | None = None if source.is_columnar() else []
        self.notes, self.given = Counter[str](), False
        self.reading: dict[tuple[str, str], None] = {}
        self.lone: dict[str, list[pl.Series]] = {"user": [], "item": []}
        self.untyped = True

    def first(self) -> Iterator[pl.DataFrame]:
        """Yield the rows of each piece."""
        for n, part in enumerate(self._parts()):
            self.notes.update(part.notes)
            self.given |= part.split is not None
            self.untyped &= part.untyped
            self.reading[part.path.name, part.reading] = None
            for role, more in (("user", part.lone_users), ("item", part.lone_items)):
                if more is not None:
                    self.lone[role].append(more)
            if self._kept is not None and part.frame.height:
                path = self._folder / f"{n}.parquet"
                part.frame.write_parquet(path, compression="lz4")
                self._kept.append((path, part.split))
            yield part.frame

    def second(self) -> Iterator[tuple[int | None, pl.DataFrame]]:
        """Yield the same rows again, each piece with its split (None if the source gives none)."""
        if self._kept is None:
            for part in self._parts():
                yield part.split, part.frame
            return
        for path, split in self._kept:
            yield split, pl.read_parquet(path, glob=False)
            path.unlink()

    def _parts(self) -> Iterator[Part]:
        for part in self._source.parts(self._rows, timed=self._timed):
            part.frame = part.frame.select(pl.exclude("rating"))
            if self._source.repeats.count:
                count_rows(part)
            if part.frame.height:
                refuse_negative(part)
            yield part


class Tally:
    """A counter of the rows of each id; it merges its partial counts now and then."""

    def __init__(self) -> None:
        self._kept: list[pl.DataFrame] = []
        self._merged = 0

    def add(self, ids: pl.Series, *, rows: bool = True) -> None:
        """Count a row for each id of the column; if ``rows`` is False, add the ids with count 0."""
        counted = pl.DataFrame({"id": ids}).group_by("id").len("count")
        count = pl.col("count").cast(pl.Int64) if rows else pl.lit(0, pl.Int64).alias("count")
        self._kept.append(counted.with_columns(count))
        if sum(frame.height for frame in self._kept) > 2 * self._merged + 1_000_000:
            self._kept = [self._together()]
            self._merged = self._kept[0].height

    def table(self, *, untyped: bool = False) -> tuple[pl.Series, np.ndarray]:
        """Return the ids in ascending order (integers by value), and their counts.

        Args:
          untyped: convert ids of text to integers if every id is a whole number; 1.0 counts as one.
        """
        frame = self._together()
        if untyped:
            frame = frame.with_columns(whole_ids(frame["id"]))
            frame = frame.group_by("id").agg(pl.col("count").sum())
        frame = frame.sort("id")
        return frame["id"], frame["count"].to_numpy()

    def _together(self) -> pl.DataFrame:
        kind = id_kind(frame["id"].dtype for frame in self._kept)
        whole = pl.concat([frame.with_columns(pl.col("id").cast(kind)) for frame in self._kept])
        return whole.group_by("id").agg(pl.col("count").sum())


@dataclass(frozen=True)
class Flat:
    """The pairs of one split on disk, sorted by (user, item), with counts per user and item.

    ``weight`` is None if all weights are 1. ``degrees`` holds the sum of weights per user and per
    item; it is ``counts`` if all weights are 1.
    """

    user: Column
    item: Column
    weight: Column | None
    counts: tuple[np.ndarray, np.ndarray]
    degrees: tuple[np.ndarray, np.ndarray]

    def __len__(self) -> int:
        return len(self.user)

    def read(self, start: int, stop: int) -> dict[str, np.ndarray]:
        """Read the pairs from ``start`` to ``stop``: user, item, and weight if there is one."""
        found = {"user": self.user.read(start, stop), "item": self.item.read(start, stop)}
        return found if self.weight is None else found | {"weight": self.weight.read(start, stop)}

    def append(self, records: np.ndarray) -> None:
        """Append pairs, whose users must come after the users of all pairs appended so far."""
        user, item = records["user"], records["item"]
        self.user.append(user)
        self.item.append(item)
        sides = zip((user, item), self.counts, self.degrees, strict=True)
        for node, count, degree in sides:
            np.add.at(count, node, 1)
            # Weights are added one by one, so the sums equal those of one bincount over all pairs.
            if self.weight is not None:
                np.add.at(degree, node, records["weight"].astype(np.float64))
        if self.weight is not None:
            self.weight.append(records["weight"])


@dataclass(frozen=True)
class Sorted:
    """The pairs of a source on disk, by split.

    ``shares_I`` sums 1 / (train pairs of the user) over the train pairs of each item. ``reading``
    says how the columns were read.
    """

    name: str
    user_ids: np.ndarray
    item_ids: np.ndarray
    parts: Mapping[str, Flat]
    shares_I: np.ndarray
    split: SplitConfig
    notes: dict[str, int]
    reading: tuple[str, ...]


def split_of(src: str | Path, config: SplitConfig, given: bool) -> SplitConfig:
    """Return the split's configuration, with ``auto`` resolved to ``given`` or ``hashed``.

    Raises:
      InputError: the split cannot be drawn out of core, or the source lacks the given split.
    """
    name = config.name
    if name == "auto":
        name = "given" if given else "hashed"
    if name == "given" and not given:
        raise InputError(f"{src}: the data gives no split; choose --split.name hashed")
    if name in ("random", "cold-items", "folds", "windows"):
        raise InputError(
            f"split.name {name} needs all pairs in memory at once, which partitioning avoids; take "
            "--split.name hashed, a random split that draws for each pair alone"
        )
    if name == "temporal" and not config.per_user:
        for part in ("test", "validation"):
            if getattr(config, f"{part}_time") is None and getattr(config, part) > 0:
                raise InputError(
                    f"split.name temporal over all pairs needs cut times here: give "
                    f"--split.{part}-time, or --split.{part} 0"
                )
    return replace(config, name=name)


def read_pairs(
    source: Source, folder: Path, config: SplitConfig, seed: int, *, rows: int
) -> Sorted:
    """Read the pairs of a source, and number, sort, merge and split them; ratings are ignored.

    Args:
      folder: an empty folder for temporary files.
      rows: rows held in memory at once.

    Raises:
      InputError: the data is invalid, or :func:`split_of` refuses the split.
    """
    src = source.src
    split_of(src, config, True)  # refuse unsupported splits before reading
    twice = _Twice(source, folder / "read", rows, timed=config.name in BY_TIME)
    tallies, timed, weighted = {"user": Tally(), "item": Tally()}, True, True
    height, having = 0, Counter[str]()
    for frame in twice.first():
        timed &= "time" in frame.columns
        weighted &= "weight" in frame.columns
        height += frame.height
        having.update(dict.fromkeys({"time", "weight"} & set(frame.columns), frame.height))
        for role, tally in tallies.items():
            tally.add(frame[role])
    for role, count in having.items():
        twice.notes.update(in_some_files(role, count, height))
    config = split_of(src, config, twice.given)
    if config.name in BY_TIME and not timed:
        raise InputError(f"{src}: split {config.name} needs a time column; this data has none")
    for role, tally in tallies.items():
        for more in twice.lone[role]:
            tally.add(more, rows=False)
    tables = {role: tally.table(untyped=twice.untyped) for role, tally in tallies.items()}
    if sum(len(table) for table, _ in tables.values()) > LIMIT:
        raise InputError(f"{src}: more users and items than int32 can count ({LIMIT})")
    places = {role: IdPlaces(table) for role, (table, _) in tables.items()}
    spill = Spill(folder / "by-user", _RECORD, "user", blocks(tables["user"][1], rows))
    for part, frame in twice.second():
        for first in range(0, frame.height, rows):
            block = frame[first : first + rows]
            record = np.zeros(block.height, _RECORD)
            for role, place in places.items():
                whole = tables[role][0].dtype == pl.Int64
                record[role] = place(whole_ids(block[role]) if whole else block[role])
            for role in ("weight", "time"):
                if role in block.columns and {"weight": weighted, "time": timed}[role]:
                    record[role] = block[role].to_numpy()
            record["label"] = part or TRAIN
            spill.add(record)
    ids = places["user"].ids, places["item"].ids
    block = _Block(src, config, seed, *ids, weighted, timed, source.repeats.keep)
    notes = Counter({what: count for what, count in twice.notes.items() if count})
    return block.sorted(spill, folder, readings(twice.reading), notes)


@dataclass
class _Block:
    """Merges and splits records, one block of users at a time."""

    src: Path
    config: SplitConfig
    seed: int
    user_ids: np.ndarray
    item_ids: np.ndarray
    weighted: bool
    timed: bool
    keep: Literal["last", "first"] = "last"

    @cached_property
    def _hashes(self) -> tuple[np.ndarray, np.ndarray]:
        """The hashes of the user and item ids, which break ties between equal times."""
        return pair_id_hashes(self.user_ids, self.item_ids)

    def sorted(
        self, spill: Spill, folder: Path, reading: tuple[str, ...], notes: Counter[str]
    ) -> Sorted:
        sizes = len(self.user_ids), len(self.item_ids)
        parts = {name: self._flat(folder, name, sizes) for name in SPLITS}
        shares_I = np.zeros(sizes[1])
        for n in range(len(spill)):
            for records in spill.take(n):
                pairs = self.merged(records, notes)
                label = self._labels(pairs, notes)
                for name, number in SPLITS.items():
                    parts[name].append(pairs[label == number])
                train = pairs[label == TRAIN]
                share_U = 1 / np.maximum(parts["train"].counts[0][train["user"]], 1)
                np.add.at(shares_I, train["item"], share_U)
        if not any(map(len, parts.values())):
            raise InputError(f"{self.src}: no pair has a weight above 0")
        carved = self.config.name == "given" and self.config.validation > 0
        if carved and not len(parts["validation"]):
            raise InputError(
                f"{self.src}: the given split has no validation part, and drawing one from train "
                "needs all pairs in memory; add validation files, or give --split.validation 0"
            )
        if not len(parts["train"]):
            raise InputError(
                f"{self.src}: split {self.config.name} leaves no train pair; hold out less"
            )
        refuse_empty_cut(
            str(self.src), None, self.config, len(parts["validation"]), len(parts["test"])
        )
        if len(parts["train"]) >= LIMIT:
            raise InputError(f"{self.src}: {len(parts['train']):,} pairs are more than 2^31 - 1")
        for side, count in zip(("users", "items"), parts["train"].counts, strict=True):
            notes[f"{side} without train pairs"] = int((count == 0).sum())
        found = {what: count for what, count in notes.items() if count}
        name = formats.name_of(self.src)
        ids, told = (self.user_ids, self.item_ids), (found, reading)
        return Sorted(name, *ids, parts, shares_I, self.config, *told)

    def _flat(self, folder: Path, name: str, sizes: tuple[int, int]) -> Flat:
        def column(role: str, dtype: type[np.generic]) -> Column:
            return Column(folder / f"{name}.{role}", dtype)

        def zeros(dtype: type[np.generic]) -> tuple[np.ndarray, np.ndarray]:
            return np.zeros(sizes[0], dtype), np.zeros(sizes[1], dtype)

        weight = column("weight", np.float32) if self.weighted else None
        counts = zeros(np.int64)
        degrees = zeros(np.float64) if self.weighted else counts
        return Flat(column("user", np.int32), column("item", np.int32), weight, counts, degrees)

    def merged(self, records: np.ndarray, notes: Counter[str]) -> np.ndarray:
        """Sort records by user, item and split, merge repeats, and drop pairs of weight 0."""
        n_items = len(self.item_ids)
        key = pair_keys(records["user"], records["item"], n_items)
        key = key * 3 + records["label"]
        order = np.argsort(key, kind="stable")
        key = key[order]
        repeat = key[1:] == key[:-1]
        if repeat.any():
            notes["duplicate pairs"] += int(repeat.sum())
            columns: dict[str, Any] = {"time": None, "weight": None}
            if self.timed:
                columns["time"] = records["time"]
            if self.weighted:
                columns["weight"] = records["weight"]
            last, order = merge_repeats(key, order, repeat, columns, keep=self.keep)
            key = key[last]
        records = records[order]
        if self.weighted:
            there = records["weight"] > 0
            notes["left alone"] += int((~there).sum())
            records, key = records[there], key[there]
        key //= 3
        again = np.append(False, key[1:] == key[:-1]) if len(key) else np.zeros(0, bool)
        return self._settled(records, again, notes) if again.any() else records

    def _settled(self, records: np.ndarray, again: np.ndarray, notes: Counter[str]) -> np.ndarray:
        """Apply ``split.repeats`` to pairs that also occur in an earlier split, such as train."""
        if self.config.repeats == "refuse":
            one = records[again][0]
            raise InputError(
                f"{self.src}: user {self.user_ids[one['user']]} and item "
                f"{self.item_ids[one['item']]} are a pair in two parts of the split; drop it from "
                "one of them, or set --split.repeats drop or keep"
            )
        notes[REPEATED] += int(again.sum())
        return records if self.config.repeats == "keep" else records[~again]

    def _labels(self, pairs: np.ndarray, notes: Counter[str]) -> np.ndarray:
        if self.config.name == "given":
            return pairs["label"]
        time = np.array(pairs["time"]) if self.timed else None
        user, item = (np.ascontiguousarray(pairs[role]) for role in ("user", "item"))
        block = Dataset(user, item, self.user_ids, self.item_ids, time=time)
        hashes = self._hashes if self.config.name in BY_TIME else None
        drawn = draw(block, self.config, self.seed, hashes=hashes)
        notes.update(drawn.notes)
        return drawn.label
