"""Parquet files to pairs sorted by user and item, merged and split as an import in memory does it.

Two passes over the files: the first finds the ids and how many rows each has; the second numbers
them and puts the rows into blocks of users on disk. Each block is then sorted, merged and split by
itself. In memory are the ids, counts by id, and a block or so many rows of a file.
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
from jaxrec.data.formats.sources import part_of_name
from jaxrec.data.split import BY_TIME, draw, pair_id_hashes, refuse_empty_cut
from jaxrec.errors import InputError
from jaxrec.parted.spill import Column, Spill, blocks

SPLITS = {"train": TRAIN, "validation": VALIDATION, "test": TEST}
_RECORD = np.dtype(
    [("user", "i4"), ("item", "i4"), ("weight", "f4"), ("time", "f8"), ("label", "u1")]
)


def sources(src: str | Path) -> dict[Path, int | None]:
    """The Parquet files of a folder and of those in it, or the one that is named, in the order of
    their names; and the part of the split that each one is.

    That is told by a file's name (``train.parquet``, ``a.test.parquet``) or by its folder's
    (``train``, ``split=test``). Names with a point or underscore first are left out.

    Raises:
      InputError: there is none, or some have a part and others none.
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
                f"{src / path}: is no part of a split by its name, and others are; name it or its "
                "folder train, validation or test"
            )
    if TRAIN not in found.values():
        raise InputError(f"{src}: has files of a split, and none of train among them")
    return {src / path: part for path, part in found.items()}


def _part(path: Path) -> int | None:
    words = [path.stem.split(".")[-1], *(word.split("=")[-1] for word in path.parts[-2::-1])]
    return next((part for word in words if (part := part_of_name(word)) is not None), None)


class Tally:
    """Ids and how many rows each has, merged now and then."""

    def __init__(self) -> None:
        self._kept: list[pl.DataFrame] = []
        self._merged = 0

    def add(self, ids: pl.Series) -> None:
        """Count the rows of a column."""
        counted = pl.DataFrame({"id": ids}).group_by("id").len("count")
        self._kept.append(counted.with_columns(pl.col("count").cast(pl.Int64)))
        if sum(frame.height for frame in self._kept) > 2 * self._merged + 1_000_000:
            self._kept = [self._together()]
            self._merged = self._kept[0].height

    def table(self) -> tuple[pl.Series, np.ndarray]:
        """The ids in ascending order (whole numbers by value), and their counts."""
        frame = self._together().sort("id")
        return frame["id"], frame["count"].to_numpy()

    def _together(self) -> pl.DataFrame:
        kind = id_kind(frame["id"].dtype for frame in self._kept)
        whole = pl.concat([frame.with_columns(pl.col("id").cast(kind)) for frame in self._kept])
        return whole.group_by("id").agg(pl.col("count").sum())


@dataclass(frozen=True)
class Flat:
    """Pairs of one part of the split on disk, by (user, item), and how many each id has.

    ``weight`` is None where all weigh 1; ``degrees`` are the sums of the weights, or the counts.
    """

    user: Column
    item: Column
    weight: Column | None
    counts: tuple[np.ndarray, np.ndarray]
    degrees: tuple[np.ndarray, np.ndarray]

    def __len__(self) -> int:
        return len(self.user)

    def read(self, start: int, stop: int) -> dict[str, np.ndarray]:
        """The pairs from ``start`` up to ``stop``: user, item, and weight where there is one."""
        found = {"user": self.user.read(start, stop), "item": self.item.read(start, stop)}
        return found if self.weight is None else found | {"weight": self.weight.read(start, stop)}

    def append(self, records: np.ndarray) -> None:
        """Add pairs of users behind those that there are."""
        user, item = records["user"], records["item"]
        self.user.append(user)
        self.item.append(item)
        sides = zip((user, item), self.counts, self.degrees, strict=True)
        for node, count, degree in sides:
            np.add.at(count, node, 1)
            if self.weight is not None:  # one after the other, as a bincount of all adds them up
                np.add.at(degree, node, records["weight"].astype(np.float64))
        if self.weight is not None:
            self.weight.append(records["weight"])


@dataclass(frozen=True)
class Sorted:
    """A source's pairs on disk, by the part of the split.

    ``shares_I`` adds up 1 / (train pairs of the user) over the train pairs of each item;
    ``reading`` says which columns were taken for what.
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
    """The split with its name resolved.

    Raises:
      InputError: one that cannot be drawn out of core, or that the source does not give.
    """
    name = config.name
    if name == "auto":
        name = "given" if given else "hashed"
    if name == "given" and not given:
        raise InputError(f"{src}: the data gives no split; choose --split.name hashed")
    if name in ("random", "cold-items"):
        raise InputError(
            f"split.name {name} draws from all pairs at once, which are never in memory together "
            "here; take --split.name hashed, a random split whose draw is of each pair alone"
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
      folder: an empty one for what is made on the way.
      columns, weights: as of :func:`jaxrec.data.formats.read`; ratings are left out.
      rows: how many are in memory at once.

    Raises:
      InputError: as an import in memory, and what :func:`split_of` refuses.
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
    """What makes pairs of a block's records."""

    src: Path
    config: SplitConfig
    seed: int
    user_ids: np.ndarray
    item_ids: np.ndarray
    weighted: bool
    timed: bool

    @cached_property
    def _hashes(self) -> tuple[np.ndarray, np.ndarray]:
        """Of the ids, by which equal times are ordered."""
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
            raise InputError(f"{self.src}: no pair with a weight above 0; nothing is left")
        carved = self.config.name == "given" and self.config.validation > 0
        if carved and not len(parts["validation"]):
            raise InputError(
                f"{self.src}: the split that is given has no validation part, and to carve one out "
                "of train needs all pairs at once; give one, or --split.validation 0"
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
        """Sorted by user, item and part, repeats merged, without what weighs nothing."""
        n_items = len(self.item_ids)
        key = records["user"].astype(np.int64) * n_items + records["item"]
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
        """What ``split.repeats`` makes of pairs that an earlier part has too."""
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
