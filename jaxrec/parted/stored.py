"""Read a partitioned data set: its shared arrays, and the arrays of some parts."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from jaxrec.config import SplitConfig
from jaxrec.data.dataset import Csr, union
from jaxrec.data.prepared import open_array
from jaxrec.errors import InputError
from jaxrec.graph.halo import Stack
from jaxrec.graph.partition import Exchange, Layout, Traffic
from jaxrec.parted import layout as folders


@dataclass(frozen=True)
class Parted:
    """A data set that is partitioned on disk into T parts.

    ``own`` lists the parts that this process may read: all parts, or the parts of its devices.
    ``parts_in`` is the folder that holds their folders, by default ``folder``.
    """

    folder: Path
    manifest: dict[str, Any]
    own: tuple[int, ...]
    parts_in: Path | None = None

    @classmethod
    def open(cls, folder: str | Path, own: tuple[int, ...] | None = None) -> "Parted":
        """Open a folder without reading the files of its parts.

        Raises:
          InputError: the folder holds no partitioned data set.
        """
        manifest = folders.read(Path(folder))
        whole = tuple(range(manifest["parts"])) if own is None else own
        return cls(Path(folder), manifest, whole)

    def check(self) -> None:
        """Check the files that this process may read. Raises InputError if one has changed."""
        folders.check_files(self.folder, self.manifest, self.own)

    @property
    def name(self) -> str:
        return self.manifest["name"]

    @property
    def notes(self) -> dict[str, int]:
        return self.manifest["notes"]

    @property
    def reading(self) -> tuple[str, ...]:
        """An empty tuple, because `jaxrec data partition` has reported how columns were read."""
        return ()

    def fingerprint(self) -> str:
        """Return the SHA-256 of the manifest, which lists the hashes of all files."""
        return self.manifest["fingerprint"]

    @property
    def n_parts(self) -> int:
        """The number of parts, T."""
        return self.manifest["parts"]

    @property
    def split(self) -> SplitConfig:
        """The settings by which pairs were held out."""
        return SplitConfig(**self.manifest["split"])

    @property
    def exchange(self) -> Exchange:
        """The kind of exchange by which parts send each other rows."""
        return self.manifest["exchange"]

    @property
    def traffic(self) -> Traffic:
        """The communication cost of the partition."""
        return Traffic(**self.manifest["traffic"])

    @property
    def layout(self) -> Layout:
        """The assignment of nodes to parts and rows."""
        widths = self.manifest["rows_users"], self.manifest["rows_items"]
        return Layout(self.n_parts, *widths, np.array(self.shared("place")))

    def shared(self, name: str) -> np.ndarray:
        """Open an array that all parts share. Raises InputError if it is missing or damaged."""
        return open_array(self.folder / f"{name}.npy")

    def array(self, part: int, name: str) -> np.ndarray:
        """Memory-map an array of a part.

        Raises:
          InputError: the array is missing or damaged.
          ValueError: the part does not belong to this process.
        """
        if part not in self.own:
            raise ValueError(f"part {part} is not among {self.own}")
        folder = self.parts_in or self.folder
        return open_array(folder / folders.part_folder(part) / f"{name}.npy")

    @property
    def device_arrays(self) -> dict[str, Stack]:
        """The devices' arrays by name, each stacked over the parts and read part by part."""

        def stack(name: str, shape: list[int]) -> Stack:
            return Stack((self.n_parts, *shape), lambda part: np.array(self.array(part, name)))

        return {name: stack(name, shape) for name, (_, shape) in self.manifest["arrays"].items()}

    def of(self, split: str) -> "PartedSplit":
        """Return one split: train, validation or test."""
        return PartedSplit(self, split)

    def rows(self, *splits: str, parts: tuple[int, ...] | None = None) -> "PartRows":
        """Return the items of each user in the given splits, read from ``parts``.

        By default, ``parts`` are all parts that this process may read.
        """
        return PartRows(self, splits, self.own if parts is None else parts)


@dataclass(frozen=True)
class PartedSplit:
    """One split of a data set; implements :class:`jaxrec.data.dataset.Counted`."""

    parted: Parted
    split: str

    @property
    def name(self) -> str:
        return self.parted.name

    @property
    def user_ids(self) -> np.ndarray:
        return self.parted.shared("user_ids")

    @property
    def item_ids(self) -> np.ndarray:
        return self.parted.shared("item_ids")

    @property
    def n_users(self) -> int:
        return self.parted.manifest["users"]

    @property
    def n_items(self) -> int:
        return self.parted.manifest["items"]

    @property
    def n_edges(self) -> int:
        return self.parted.manifest["pairs"][self.split]

    def user_counts(self) -> np.ndarray:
        """Return the number of interactions per user, [U] int64."""
        return self.parted.shared(f"{self.split}_users")

    def item_counts(self) -> np.ndarray:
        """Return the number of interactions per item, [I] int64."""
        return self.parted.shared(f"{self.split}_items")

    def item_shares(self) -> np.ndarray:
        """Return ``Dataset.item_shares`` of the train pairs, [I]."""
        assert self.split == "train"
        return self.parted.shared("shares")


class PartRows:
    """Items by user on disk; implements :class:`jaxrec.data.dataset.ItemsByUser`.

    ``degree`` and ``item_counts`` cover all parts of the table; ``take`` only reads ``parts``.
    """

    def __init__(self, parted: Parted, splits: tuple[str, ...], parts: tuple[int, ...]) -> None:
        self.parted, self.splits, self.parts = parted, splits, parts
        self._degree: np.ndarray | None = None
        self._counts: np.ndarray | None = None
        self._item_I: np.ndarray | None = None

    @property
    def degree(self) -> np.ndarray:
        """The number of items per user, [U]."""
        if self._degree is None:
            counts = (self.parted.of(split).user_counts() for split in self.splits)
            self._degree = sum(counts, np.zeros(self.parted.manifest["users"], np.int64))
        return self._degree

    def of_users(self, user_n: np.ndarray) -> "PartRows":
        """Keep the rows of some users.

        Other users get degree 0, and must not be passed to ``take``.
        """
        made = PartRows(self.parted, self.splits, self.parts)
        made._degree = np.zeros_like(self.degree)
        made._degree[user_n] = self.degree[user_n]
        return made

    def among(
        self,
        user_U: np.ndarray,
        item_I: np.ndarray,
        parts: tuple[int, ...],
        total: Callable[[np.ndarray], np.ndarray],
    ) -> "PartRows":
        """Keep the pairs of some users with some items, both given as masks.

        Other users must not be passed to ``take``.

        Args:
          parts: parts of the table whose pairs this process counts.
          total: sums a count over all processes.
        """
        n_users = len(user_U)
        found = np.zeros(n_users + len(item_I), np.int64)
        for part, split in ((part, split) for part in parts for split in self.splits):
            csr = self._csr(part, split).among(user_U, item_I)
            found[:n_users] += csr.degree
            found[n_users:] += csr.item_counts(len(item_I))
        made = PartRows(self.parted, self.splits, self.parts)
        found = total(found)
        made._degree, made._counts, made._item_I = found[:n_users], found[n_users:], item_I
        return made

    def only(self, part: int) -> "PartRows":
        """Keep the items of one part of the table."""
        made = PartRows(self.parted, self.splits, (part,))
        made._item_I = self._item_I
        return made

    def degree_of(self, part: int) -> np.ndarray:
        """Return the number of items per user in one part, [U]."""
        found = (np.diff(self.parted.array(part, f"{split}_indptr")) for split in self.splits)
        return sum(found, np.zeros(self.parted.manifest["users"], np.int32))

    def item_counts(self, n_items: int) -> np.ndarray:
        """Return the number of users per item, [I]."""
        if self._counts is not None:
            return self._counts
        counts = (self.parted.of(split).item_counts() for split in self.splits)
        return sum(counts, np.zeros(n_items, np.int64))

    def take(self, user_n: np.ndarray) -> Csr:
        """Read the rows of ``user_n``; -1 gives an empty row."""
        none = Csr(np.zeros(len(user_n) + 1, np.int32), np.zeros(0, np.int32))
        pieces = ((part, split) for part in self.parts for split in self.splits)
        found = union(none, *(self._csr(part, split).take(user_n) for part, split in pieces))
        if self._item_I is None:
            return found
        return found.among(np.ones(len(user_n), bool), self._item_I)

    def _csr(self, part: int, split: str) -> Csr:
        arrays = (self.parted.array(part, f"{split}_{name}") for name in ("indptr", "items"))
        return Csr(*arrays)


def refuse_other_parts(parted: Parted, table: int) -> None:
    """Raise InputError unless ``table`` (mesh.table) equals the number of parts."""
    if table != parted.n_parts:
        again = f"partition the source again with --parts {table}"
        if table == 1:
            again = "`jaxrec data import` the source for one device"
        raise InputError(
            f"{parted.folder}: has {parted.n_parts} parts, but mesh.table is {table}; give "
            f"--mesh.table {parted.n_parts}, or {again}"
        )
