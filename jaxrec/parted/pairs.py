"""Read Parquet files into sorted pairs, merged and split exactly as by an import in memory.

The first pass over the files counts the rows of each id. The second pass numbers the ids and
writes the rows to disk in blocks of users. Each block is then sorted, merged and split by itself.
Memory holds the ids, their counts, and one block or one batch of rows.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from jaxrec.config import SplitConfig
from jaxrec.data.dataset import REPEATED, TEST, TRAIN, VALIDATION, Dataset
from jaxrec.data.formats import parquet
from jaxrec.data.formats.assemble import LIMIT, IdPlaces, id_kind, merge_repeats
from jaxrec.data.formats.columns import Columns
from jaxrec.data.formats.paths import part_of_name
from jaxrec.data.pair_keys import pair_keys
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
    paths = [path.relative_to(src) for path in sorted(src.rglob("*.parquet"))]
    paths = [path for path in paths if not any(word[0] in "._" for word in path.parts)]
    if not paths:
        raise InputError(f"{src}: no .parquet file; `jaxrec data import` takes other formats")
    found = {path: _part(path) for path in paths}
    if len(set(found.values())) == 1:
        return {src / path: None for path in found}
    for path, part in found.items():
        if part is None:
            raise InputError(
                f"{src / path}: other files name a part of the split, this one does not; name "
                "it or its folder train, validation or test"
            )
    if TRAIN not in found.values():
        raise InputError(f"{src}: the files of the split include none of train")
    return {src / path: part for path, part in found.items()}


def _part(path: Path) -> int | None:
    words = [path.stem.split(".")[-1], *(word.split("=")[-1] for word in path.parts[-2::-1])]
    return next((part for word in words if (part := part_of_name(word)) is not None), None)


class Tally:
    """A counter of the rows of each id; it merges its partial counts now and then."""

    def __init__(self) -> None:
        self._kept: list[pl.DataFrame] = []
        self._merged = 0

    def add(self, ids: pl.Series) -> None:
        """Add the rows of a column of ids to the counts."""
        counted = pl.DataFrame({"id": ids}).group_by("id").len("count")
        self._kept.append(counted.with_columns(pl.col("count").cast(pl.Int64)))
        if sum(frame.height for frame in self._kept) > 2 * self._merged + 1_000_000:
            self._kept = [self._together()]
            self._merged = self._kept[0].height

    def table(self) -> tuple[pl.Series, np.ndarray]:
        """Return the ids in ascending order (integers by value), and their counts."""
        frame = self._together().sort("id")
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
        """Append the pairs of users that follow all earlier users."""
        user, item = records["user"], records["item"]
        self.user.append(user)
        self.item.append(item)
        sides = zip((user, item), self.counts, self.degrees, strict=True)
        for node, count, degree in sides:
            np.add.at(count, node, 1)
            # The sums are computed in sequence, like one bincount over all pairs.
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
    """Resolve the name of the split.

    Raises:
      InputError: the split cannot be drawn out of core, or the source lacks the given split.
    """
    name = config.name
    if name == "auto":
        name = "given" if given else "hashed"
    if name == "given" and not given:
        raise InputError(f"{src}: the data gives no split; choose --split.name hashed")
    if name in ("random", "cold-items"):
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
    src: str | Path,
    folder: Path,
    config: SplitConfig,
    seed: int,
    *,
    columns: Columns | None = None,
    weights: Mapping[str, float] | None = None,
    rows: int,
) -> Sorted:
    """Read, number, sort, merge and split the pairs of Parquet files.

    Args:
      folder: an empty folder for temporary files.
      columns, weights: as in :func:`jaxrec.data.formats.read`; ratings are ignored.
      rows: rows held in memory at once.

    Raises:
      InputError: the data is invalid, or :func:`split_of` refuses the split.
    """
    src = Path(src)
    files = sources(src)
    config = split_of(src, config, any(part is not None for part in files.values()))
    by_time = config.name in BY_TIME
    taken = replace(columns or Columns(), rating="")
    if not (by_time or weights):
        taken = replace(taken, time="")

    def batches() -> Iterator[tuple[int | None, pl.DataFrame]]:
        for path, part in files.items():
            for frame in parquet.batches(path, taken, dict(weights or {}), rows):
                yield part, frame

    tallies, timed, weighted = {"user": Tally(), "item": Tally()}, True, True
    for _, frame in batches():
        timed &= "time" in frame.columns
        weighted &= "weight" in frame.columns
        for role, tally in tallies.items():
            tally.add(frame[role])
    if by_time and not timed:
        raise InputError(f"{src}: split {config.name} needs a time column; this data has none")
    tables = {role: tally.table() for role, tally in tallies.items()}
    if sum(len(table) for table, _ in tables.values()) > LIMIT:
        raise InputError(f"{src}: more users and items than int32 can count ({LIMIT})")
    places = {role: IdPlaces(table) for role, (table, _) in tables.items()}
    spill = Spill(folder / "by-user", _RECORD, "user", blocks(tables["user"][1], rows))
    for part, frame in batches():
        record = np.zeros(frame.height, _RECORD)
        for role, place in places.items():
            record[role] = place(frame[role])
        for role in ("weight", "time"):
            if role in frame.columns and {"weight": weighted, "time": timed}[role]:
                record[role] = frame[role].to_numpy()
        record["label"] = part or TRAIN
        spill.add(record)
    block = _Block(src, config, seed, places["user"].ids, places["item"].ids, weighted, timed)
    said = {parquet.reading(path, taken, weights or {}) for path in files}
    return block.sorted(spill, folder, tuple(sorted(said)))


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

    @cached_property
    def _hashes(self) -> tuple[np.ndarray, np.ndarray]:
        """The hashes of the user and item ids, which break ties between equal times."""
        return pair_id_hashes(self.user_ids, self.item_ids)

    def sorted(self, spill: Spill, folder: Path, reading: tuple[str, ...]) -> Sorted:
        sizes = len(self.user_ids), len(self.item_ids)
        parts = {name: self._flat(folder, name, sizes) for name in SPLITS}
        shares_I, notes = np.zeros(sizes[1]), Counter[str]()
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
        name = self.src.resolve().stem if self.src.is_file() else self.src.resolve().name
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
            last, order = merge_repeats(key, order, repeat, columns)
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
