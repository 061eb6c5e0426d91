"""Temporary files, grouped into blocks or sequential, for records that do not fit in memory."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from jaxrec.files import write_npy_header


def blocks(count: np.ndarray, rows: int) -> np.ndarray:
    """Group keys 0, 1, ... into blocks of at most ``rows`` records, by the count of each key.

    A key with more than ``rows`` records is alone in its block. Returns bounds [B + 1], of which
    the first is 0 and the last is the number of keys.
    """
    sums, bounds = np.append(0, np.cumsum(count)), [0]
    while bounds[-1] < len(count):
        end = int(np.searchsorted(sums, sums[bounds[-1]] + rows, side="right")) - 1
        bounds.append(max(end, bounds[-1] + 1))
    return np.array(bounds, np.int64)


def _append(path: Path, x: np.ndarray) -> None:
    """Append an array's bytes with ``write``, since ``tofile`` hides the error of a full disk."""
    with path.open("ab") as file:
        file.write(np.ascontiguousarray(x).data)


class Spill:
    """Records on disk, grouped into blocks by key; each block keeps the order of arrival.

    Args:
      folder: the folder to create.
      dtype: structured dtype of a record.
      key: field by which records are grouped.
      bounds: [B + 1]; block b holds keys bounds[b] up to bounds[b + 1], exclusive.
    """

    def __init__(self, folder: Path, dtype: np.dtype, key: str, bounds: np.ndarray) -> None:
        folder.mkdir()
        self._folder, self._dtype, self._key, self._bounds = folder, dtype, key, bounds

    def __len__(self) -> int:
        return len(self._bounds) - 1

    def add(self, records: np.ndarray) -> None:
        """Append records to their blocks."""
        block = np.searchsorted(self._bounds, records[self._key], side="right") - 1
        order = np.argsort(block, kind="stable")
        records, ends = records[order], np.append(0, np.cumsum(np.bincount(block)))
        for n in np.flatnonzero(np.diff(ends)).tolist():
            _append(self._path(n), records[ends[n] : ends[n + 1]])

    def take(self, block: int, rows: int | None = None) -> Iterator[np.ndarray]:
        """Yield a block's records, all at once or ``rows`` at a time, then delete them."""
        path = self._path(block)
        if not path.exists():
            return
        with path.open("rb") as file:
            while len(found := np.fromfile(file, self._dtype, -1 if rows is None else rows)):
                yield found
        path.unlink()

    def _path(self, block: int) -> Path:
        return self._folder / f"{block}.records"


class Column:
    """An array on disk that grows at its end."""

    def __init__(self, path: Path, dtype: type[np.generic]) -> None:
        self._path, self._dtype = path, np.dtype(dtype)
        path.touch()

    def append(self, x: np.ndarray) -> None:
        """Append values, cast to the column's dtype."""
        _append(self._path, x.astype(self._dtype, copy=False))

    def __len__(self) -> int:
        return self._path.stat().st_size // self._dtype.itemsize

    def read(self, start: int, stop: int) -> np.ndarray:
        """Read the values from ``start`` to ``stop`` (exclusive) or to the end of the column."""
        count = max(min(stop, len(self)) - start, 0)
        return np.fromfile(self._path, self._dtype, count, offset=start * self._dtype.itemsize)


class Array:
    """A new one-dimensional .npy file, written sequentially.

    It is not a memory map, because a memory map kills the process without a message if the disk
    is full.
    """

    def __init__(self, path: Path, size: int, dtype: type[np.generic] = np.int32) -> None:
        self._path, self._dtype, self._left = path, dtype, size
        with path.open("wb") as file:
            write_npy_header(file, size, dtype)

    def append(self, x: np.ndarray) -> None:
        """Write the next values, cast to the array's dtype."""
        self._left -= len(x)
        _append(self._path, x.astype(self._dtype, copy=False))

    def fill(self, value: int = 0, rows: int = 1 << 20) -> None:
        """Fill the rest of the array with ``value``."""
        assert self._left >= 0
        for first, last in stretches(0, self._left, rows):
            self.append(np.full(last - first, value, self._dtype))


def stretches(start: int, stop: int, rows: int) -> Iterator[tuple[int, int]]:
    """Yield consecutive ranges of at most ``rows`` that cover ``start`` to ``stop`` (exclusive)."""
    for first in range(start, stop, rows):
        yield first, min(first + rows, stop)
