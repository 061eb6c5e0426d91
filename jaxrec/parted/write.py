"""Partition sorted pairs on disk into one folder per part, each for one device of a mesh.

The arrays equal those of :func:`jaxrec.graph.partition.partition` and of
:func:`jaxrec.training.placement.mesh_data.mesh_data` to the last bit. Memory holds a few numbers
per user and item, and one block of pairs.
"""

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from jaxrec.config import SplitConfig
from jaxrec.data.formats import Columns, Repeats, TextOptions, remote
from jaxrec.data.prepared import refuse_occupied
from jaxrec.errors import InputError
from jaxrec.files import replacing, write_npy
from jaxrec.graph import buckets
from jaxrec.graph.bipartite import symmetric_weights
from jaxrec.graph.partition import Exchange, Layout, Sending, cut, layout_of, traffic
from jaxrec.parted import layout as folders
from jaxrec.parted.pairs import Flat, Sorted, Source, read_pairs
from jaxrec.parted.spill import Array, Spill, blocks, stretches

ROWS = 1 << 22
"""Default number of rows held in memory at once."""
_PAIR = np.dtype([("user", "i4"), ("item", "i4"), ("weight", "f4"), ("split", "u1")])


def partition_data(
    src: str | Path,
    out: str | Path,
    parts: int,
    *,
    split: SplitConfig | None = None,
    seed: int = 0,
    exchange: Literal["auto"] | Exchange = "auto",
    format: str | None = None,
    columns: Columns | None = None,
    event_weights: dict[str, float] | None = None,
    text: TextOptions | None = None,
    repeats: Repeats | None = None,
    rows: int = ROWS,
) -> dict[str, Any]:
    """Partition interactions, write them to a folder atomically, and return its manifest.

    Args:
      src: Parquet files (:func:`jaxrec.parted.pairs.sources`), or anything else that
        :func:`jaxrec.read` takes, read in pieces (:func:`jaxrec.data.formats.pieces`).
      parts: number of parts, T; runs on the folder need mesh.table T.
      split, seed: how pairs are held out.
      exchange: how parts exchange rows; "auto" chooses the kind that moves the fewest rows.
      format, columns, event_weights, text, repeats: as of :func:`jaxrec.read`.
      rows: number of rows of a file, or of pairs, held in memory at once.

    Raises:
      InputError: the source or the split cannot be used, or the folder cannot be written.
    """
    if parts < 2 or rows < 1:
        raise InputError(
            f"parts must be at least 2 and rows at least 1, not {parts} and {rows}; for one "
            "device `jaxrec data import` reads the source"
        )
    refuse_occupied(out)
    repeats = repeats or Repeats()
    with remote.local(src) as local, replacing(Path(out).absolute()) as partial:
        source = Source(local, format, columns, event_weights, text, repeats)
        partial.mkdir()
        with tempfile.TemporaryDirectory(dir=partial, prefix=".work-") as work:
            made = read_pairs(source, Path(work), split or SplitConfig(), seed, rows=rows)
            manifest = _Cut(made, partial, Path(work), parts, rows).write(exchange)
        return folders.seal(partial, manifest | {"seed": seed})


class _Needs(Sequence[np.ndarray]):
    """The rows that a part needs from each other part, stored on disk."""

    def __init__(self, path: Path, row: np.ndarray, layout: Layout) -> None:
        write_npy(path, row)
        self._path, self._rows = path, layout.rows
        self._bounds = np.searchsorted(row, np.arange(layout.parts + 1) * layout.rows)
        self.counts = np.diff(self._bounds)

    def __len__(self) -> int:
        return len(self.counts)

    def __getitem__(self, owner: Any) -> Any:
        row = np.load(self._path, mmap_mode="r", allow_pickle=False)
        return row[self._bounds[owner] : self._bounds[owner + 1]] - np.int32(owner * self._rows)


class _Cut:
    """Partitions sorted pairs and writes one folder per part."""

    def __init__(self, made: Sorted, out: Path, work: Path, parts: int, rows: int) -> None:
        self.made, self.out, self.work, self.rows = made, out, work, rows
        self.train = made.parts["train"]
        self.layout = layout_of(self.train.counts, None, parts)
        self.n_users = len(made.user_ids)
        self.place_N = self.layout.place_N
        part_N = self.place_N // self.layout.rows
        ends = np.arange(parts + 1)
        self.user_bounds = np.searchsorted(part_N[: self.n_users], ends)
        self.item_bounds = np.searchsorted(part_N[self.n_users :], ends)
        self.degree_S = self.layout.padded(np.concatenate(self.train.degrees))
        self.indptr = np.append(0, np.cumsum(self.train.counts[0]))
        self.apart = 0  # number of directed edges between different parts

    def write(self, exchange: Literal["auto"] | Exchange) -> dict[str, Any]:
        """Write every array, and return the manifest without its list of files."""
        made, layout, parts = self.made, self.layout, self.layout.parts
        self._write_shared()
        by_part = self._by_part()
        users, items = self.train.counts
        edges = [
            int(users[slice(*self.user_bounds[t : t + 2])].sum())
            + int(items[slice(*self.item_bounds[t : t + 2])].sum())
            for t in range(parts)
        ]
        needs = []
        for t in range(parts):
            folder = self.out / folders.part_folder(t)
            folder.mkdir()
            blocks_of_items = self._write_seen(folder, t, by_part)
            needs.append(self._write_edges(folder, t, blocks_of_items, edges, max(*edges, 1)))
            self._write_pairs(folder, t)
        count_TT = np.array([of.counts for of in needs])
        cost = traffic(count_TT, self.apart / (2 * len(self.train)), max(edges), layout.rows)
        chosen = cost.least() if exchange == "auto" else exchange
        sending = Sending.of(count_TT, chosen)
        for t in range(parts):
            self._write_exchange(self.out / folders.part_folder(t), t, sending, needs, edges[t])
        degree_TR = layout.padded(np.concatenate(self.train.counts)).reshape(parts, -1)
        arrays = {
            path.stem: [array.dtype.str, list(array.shape)]
            for path in sorted((self.out / folders.part_folder(0)).glob("*.npy"))
            if not path.stem.startswith(folders.SPLITS)
            for array in (np.load(path, mmap_mode="r", allow_pickle=False),)
        }
        return {
            "name": made.name,
            "users": self.n_users,
            "items": len(made.item_ids),
            "interactions": sum(map(len, made.parts.values())),
            "pairs": {name: len(part) for name, part in made.parts.items()},
            "parts": parts,
            "rows_users": layout.users,
            "rows_items": layout.items,
            "split": folders.split_as_dict(made.split),
            "exchange": chosen,
            "traffic": cost._asdict(),
            "arrays": arrays,
            "buckets": buckets.largest([buckets.sizes(degree_R) for degree_R in degree_TR]),
            "notes": made.notes,
            "reading": made.reading,
        }

    def _write_shared(self) -> None:
        """Write the arrays that every process reads."""
        made = self.made
        shared = {"user_ids": made.user_ids, "item_ids": made.item_ids, "shares": made.shares_I}
        shared["place"] = self.place_N
        for name, part in made.parts.items():
            for side, count in zip(("users", "items"), part.counts, strict=True):
                shared[f"{name}_{side}"] = count
        for name, array in shared.items():
            write_npy(self.out / f"{name}.npy", array)

    def _records(self, part: Flat, number: int, start: int, stop: int) -> Iterator[np.ndarray]:
        """Yield the pairs ``start`` to ``stop`` of a split, in blocks of ``self.rows``."""
        for first, last in stretches(start, stop, self.rows):
            records = np.zeros(last - first, _PAIR)
            for role, column in part.read(first, last).items():
                records[role] = column
            records["split"] = number
            yield records

    def _by_part(self) -> Spill:
        """Group all pairs by the part that owns their item; each split stays sorted by user."""
        spill = Spill(self.work / "by-part", _PAIR, "item", self.item_bounds)
        for number, name in enumerate(folders.SPLITS):
            part = self.made.parts[name]
            for records in self._records(part, number, 0, len(part)):
                spill.add(records)
        return spill

    def _write_seen(self, folder: Path, part: int, by_part: Spill) -> Spill:
        """Write each user's items in a part; return the part's train pairs in blocks of items."""
        first, last = self.item_bounds[part : part + 2]
        count_I = self.train.counts[1][first:last]
        by_item = Spill(
            *(self.work / f"by-item-{part}", _PAIR, "item", blocks(count_I, self.rows) + first)
        )
        degree_U = [np.zeros(self.n_users, np.int32) for _ in folders.SPLITS]
        sizes = [int(self.made.parts[n].counts[1][first:last].sum()) for n in folders.SPLITS]
        items = [
            Array(folder / f"{name}_items.npy", size)
            for name, size in zip(folders.SPLITS, sizes, strict=True)
        ]
        for records in by_part.take(part, self.rows):
            for number, item_P in enumerate(items):
                own = records[records["split"] == number]
                item_P.append(own["item"])
                np.add.at(degree_U[number], own["user"], 1)
            by_item.add(records[records["split"] == 0])
        for name, degree in zip(folders.SPLITS, degree_U, strict=True):
            indptr = np.append(0, np.cumsum(degree, dtype=np.int64)).astype(np.int32)
            write_npy(folder / f"{name}_indptr.npy", indptr)
        return by_item

    def _edges(self, part: int, by_item: Spill) -> Iterator[tuple[np.ndarray, np.ndarray, Any]]:
        """Yield the senders, receivers and weights of a part's edges, in order.

        Senders and receivers are rows of the whole table.
        """
        first, last = self.indptr[self.user_bounds[part : part + 2]].tolist()
        for records in self._records(self.train, 0, first, last):
            item = self.place_N[self.n_users :][records["item"]]
            yield item, self.place_N[records["user"]], records["weight"]
        for block in range(len(by_item)):
            for records in by_item.take(block):
                records = records[np.argsort(records["item"], kind="stable")]
                item = self.place_N[self.n_users :][records["item"]]
                yield self.place_N[records["user"]], item, records["weight"]

    def _write_edges(
        self, folder: Path, part: int, by_item: Spill, edges: list[int], most: int
    ) -> _Needs:
        """Write a part's graph, and return the rows that it needs from other parts.

        The senders are rows of the whole table until ``_write_exchange`` renumbers them.
        """
        rows = self.layout.rows
        kinds = {"senders": np.int32, "receivers": np.int32, "edges": np.float32}
        columns = [Array(folder / f"{name}.npy", most, kind) for name, kind in kinds.items()]
        needed_S, at = np.zeros(self.layout.size, bool), 0
        weighted = self.train.weight is not None
        for sender, receiver, weight in self._edges(part, by_item):
            weight = weight.astype(np.float64) if weighted else None
            normalised = symmetric_weights(sender, receiver, weight, self.degree_S)
            found = sender, receiver - part * rows, normalised
            for column, values in zip(columns, found, strict=True):
                column.append(values)
            needed_S[sender] = True
            self.apart += int((sender // rows != part).sum())
            at += len(sender)
        assert at == edges[part]
        for column, value in zip(columns, (0, rows, 0), strict=True):
            column.fill(value)
        own = slice(part * rows, (part + 1) * rows)
        degree_R = self.layout.padded(np.concatenate(self.train.counts))[own]
        small = {
            "indptr": np.append(0, np.cumsum(degree_R)).astype(np.int32),
            "degree": self.degree_S[own].astype(np.float32),
            "n_node": np.array([rows], np.int32),
            "n_edge": np.array([at], np.int32),
        }
        for name, array in small.items():
            write_npy(folder / f"{name}.npy", array)
        needed_S[own] = False
        row = np.flatnonzero(needed_S).astype(np.int32)
        return _Needs(self.work / f"needs-{part}.npy", row, self.layout)

    def _write_pairs(self, folder: Path, part: int) -> None:
        """Write a part's share of the train pairs, and the items of its range of users."""
        parts, train, (count_U, _) = self.layout.parts, self.train, self.train.counts
        width = -(-len(train) // parts)
        columns = {"user": np.int32, "item": np.int32}
        columns |= {} if train.weight is None else {"weight": np.float32}
        for role, dtype in columns.items():
            self._copy(folder / f"pairs_{role}.npy", role, part * width, width, width, dtype)
        active = np.flatnonzero(count_U)
        for name, array in (("pairs_indptr", self.indptr), ("pairs_active", active)):
            size = -(-len(array) // parts)
            own = array[part * size : (part + 1) * size]
            write_npy(folder / f"{name}.npy", np.pad(own, (0, size - len(own))).astype(np.int32))
        bounds = cut(count_U + 1, parts)
        first, last = (int(bound) for bound in bounds[part : part + 2])
        own = self.indptr[first : last + 1]
        most_users = int(np.diff(bounds).max()) + 1
        most = int(np.diff(self.indptr[bounds]).max())
        indptr = np.pad(own - own[0], (0, most_users - len(own)), mode="edge").astype(np.int32)
        write_npy(folder / "known_indptr.npy", indptr)
        write_npy(folder / "known_users.npy", np.array([first, last], np.int32))
        n_known = int(own[-1] - own[0])
        self._copy(folder / "known_items.npy", "item", int(own[0]), n_known, most, np.int32)

    def _copy(
        self, path: Path, role: str, start: int, count: int, size: int, dtype: type[np.generic]
    ) -> None:
        """Copy a range of a column of the train pairs, zero-padded to ``size``."""
        made, stop = Array(path, size, dtype), min(start + count, len(self.train))
        column = getattr(self.train, role)
        for first, last in stretches(start, stop, self.rows):
            made.append(column.read(first, last))
        made.fill()

    def _write_exchange(
        self, folder: Path, part: int, sending: Sending, needs: list[_Needs], edges: int
    ) -> None:
        """Write the rows that a part sends, and renumber senders as rows of the exchange result."""
        for n, row in enumerate(sending.rows_of(part, needs)):
            write_npy(folder / f"send_{n}.npy", row)
        sender_E = np.load(folder / "senders.npy", mmap_mode="r+", allow_pickle=False)
        own = [needs[part][owner] for owner in range(len(needs))]
        for first, last in stretches(0, edges, self.rows):
            sender = np.array(sender_E[first:last])
            sender_E[first:last] = sending.renamed(sender, part, own, self.layout.rows)
