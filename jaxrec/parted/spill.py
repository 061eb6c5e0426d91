"""Records on disk while more of them are made than memory holds: by block, or one after another."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from jaxrec.files import write_npy_header


def blocks(count: np.ndarray, rows: int) -> np.ndarray:
    """Where to cut keys 0, 1, ... with so many records each into blocks of at most ``rows``
    records; a key with more is a block of its own. [B + 1] with 0 first and all keys last."""
    sums, bounds = np.append(0, np.cumsum(count)), [0]
    while bounds[-1] < len(count):
        end = int(np.searchsorted(sums, sums[bounds[-1]] + rows, side="right")) - 1
        bounds.append(max(end, bounds[-1] + 1))
    return np.array(bounds, np.int64)


def _append(path: Path, x: np.ndarray) -> None:
    """Add bytes to a file. By Python's own writes: ``tofile`` loses a full disk's error."""
    with path.open("ab") as file:
        file.write(np.ascontiguousarray(x).data)


class Spill:
    """Records by block of their key, each block's in the order in which they came.

    Args:
      folder: is made.
      dtype: structured.
      key: the field that decides.
      bounds: [B + 1] of the blocks: block b has the keys from bounds[b] up to bounds[b + 1].
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
        """A block's records, all at once or so many at a time; then they are gone."""
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
        """Add values; they are cast."""
        _append(self._path, x.astype(self._dtype, copy=False))

    def __len__(self) -> int:
        return self._path.stat().st_size // self._dtype.itemsize

    def read(self, start: int, stop: int) -> np.ndarray:
        """The values from ``start`` up to ``stop``, or to the end where that comes first."""
        count = max(min(stop, len(self)) - start, 0)
        return np.fromfile(self._path, self._dtype, count, offset=start * self._dtype.itemsize)


class Array:
    """A new .npy file of one axis, written from its front to its end.

    Not through a memory map: on a full disk that would end the process without a word.
    """

    def __init__(self, path: Path, size: int, dtype: type[np.generic] = np.int32) -> None:
        self._path, self._dtype, self._left = path, dtype, size
        with path.open("wb") as file:
            write_npy_header(file, size, dtype)

    def append(self, x: np.ndarray) -> None:
        """Write the next values; they are cast."""
        self._left -= len(x)
        _append(self._path, x.astype(self._dtype, copy=False))

    def fill(self, value: int = 0, rows: int = 1 << 20) -> None:
        """Write this value up to the end."""
        assert self._left >= 0
        for first, last in stretches(0, self._left, rows):
            self.append(np.full(last - first, value, self._dtype))


def stretches(start: int, stop: int, rows: int) -> Iterator[tuple[int, int]]:
    """From ``start`` to ``stop`` in steps of at most ``rows``."""
    for first in range(start, stop, rows):
        yield first, min(first + rows, stop)
