"""Interactions in memory and on disk: int32 user and item columns beside their id tables.

The prepared folder is ``manifest.json`` plus one ``.npy`` file a column. NumPy alone loads
it, memory-mapped and without pickle. The manifest carries a fingerprint of the content, and
says which array of the side features is in ``item_features.0.npy`` and so on.
"""

import hashlib
import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxrec.data.features import Features
from jaxrec.errors import InputError
from jaxrec.files import replacing

TRAIN, VALIDATION, TEST = 0, 1, 2
_COLUMNS = ("user", "item", "rating", "time", "weight", "split")
_DTYPES = {
    "user": np.int32,
    "item": np.int32,
    "rating": np.float32,
    "time": np.float64,
    "weight": np.float32,
    "split": np.uint8,
}
_SIDES = {"user_features": "users", "item_features": "items"}
_VERSION = 1


class Csr(NamedTuple):
    """Items by user: those of user u are ``indices[indptr[u]:indptr[u + 1]]``, ascending, unique.

    Shapes: indptr [U + 1], indices [nnz], both int32 (so nnz < 2^31).
    """

    indptr: np.ndarray
    indices: np.ndarray

    @property
    def degree(self) -> np.ndarray:
        """Items a user, [U] int32."""
        return np.diff(self.indptr)


@dataclass(frozen=True)
class Dataset:
    """E interactions of U users and I items.

    Attributes:
      user, item: [E] int32 row numbers into the id tables.
      user_ids, item_ids: [U] and [I], int64 or unicode; what the outside world calls them.
      rating: [E] float32, or None.
      time: [E] float64 (seconds since 1970, or any ordered number), or None.
      weight: [E] float32 positive event weights, or None (all 1).
      split: [E] uint8, 0 train, 1 validation, 2 test, where the source gives a split.
      user_features, item_features: a row for each of the ids, or None.
      exposed: by user the items that they were shown and left alone, or None; no pair of these is
        among the interactions.
      name: for people.
      notes: what was odd in the source but usable, counted: {"duplicate pairs": 3, ...}.

    Raises:
      InputError: features with more or fewer rows than there are ids.
    """

    user: np.ndarray
    item: np.ndarray
    user_ids: np.ndarray
    item_ids: np.ndarray
    rating: np.ndarray | None = None
    time: np.ndarray | None = None
    weight: np.ndarray | None = None
    split: np.ndarray | None = None
    name: str = "data"
    notes: dict[str, int] = field(default_factory=dict)
    user_features: Features | None = None
    item_features: Features | None = None
    exposed: Csr | None = None

    def __post_init__(self) -> None:
        for name, features in self.features().items():
            size = self.n_users if name == "user_features" else self.n_items
            for column in features.columns.values():
                if column.n_rows != size:
                    raise InputError(f"{name} has {column.n_rows} rows for {size} {_SIDES[name]}")

    @property
    def n_users(self) -> int:
        return len(self.user_ids)

    @property
    def n_items(self) -> int:
        return len(self.item_ids)

    @property
    def n_edges(self) -> int:
        return len(self.user)

    def columns(self) -> dict[str, np.ndarray]:
        """The columns that are there, by name."""
        named = {name: getattr(self, name) for name in _COLUMNS}
        return {name: column for name, column in named.items() if column is not None}

    def features(self) -> dict[str, Features]:
        """The side features that are there, by name."""
        named = {name: getattr(self, name) for name in _SIDES}
        return {name: features for name, features in named.items() if features is not None}

    def take(self, index: np.ndarray) -> "Dataset":
        """The interactions at ``index`` (numbers or a mask), with the same id tables."""
        return replace(self, **{name: column[index] for name, column in self.columns().items()})

    def csr(self) -> Csr:
        """Items by user, sorted and without repeats."""
        key = self.user.astype(np.int64) * self.n_items + self.item
        user, item = self.user, self.item
        if not (key[1:] > key[:-1]).all():
            user, item = np.divmod(np.unique(key), max(self.n_items, 1))
        indptr = np.append(0, np.cumsum(np.bincount(user, minlength=self.n_users)))
        return Csr(indptr.astype(np.int32), np.array(item, np.int32))

    def item_counts(self) -> np.ndarray:
        """Interactions an item, [I] int64."""
        return np.bincount(self.item, minlength=self.n_items)

    def user_counts(self) -> np.ndarray:
        """Interactions a user, [U] int64."""
        return np.bincount(self.user, minlength=self.n_users)

    def fingerprint(self) -> str:
        """SHA-256 over every column, both id tables and the features, as hexadecimal digits."""
        digest = hashlib.sha256()
        arrays = self.columns() | {"user_ids": self.user_ids, "item_ids": self.item_ids}
        for side, features in self.features().items():
            arrays |= {f"{side}:{name}": array for name, array in features.arrays().items()}
        for name, column in arrays.items():
            digest.update(f"{name}{column.dtype.str}{column.shape}".encode())
            digest.update(np.ascontiguousarray(column).data)
        return digest.hexdigest()

    def save(self, folder: str | Path) -> None:
        """Write the prepared folder; whole or not at all.

        Raises:
          InputError: the folder exists and is no empty folder, or cannot be written.
        """
        refuse_occupied(folder)
        with replacing(Path(folder).absolute()) as partial:
            partial.mkdir()
            arrays = self.columns() | {"user_ids": self.user_ids, "item_ids": self.item_ids}
            listed = {side: features.arrays() for side, features in self.features().items()}
            for side, parts in listed.items():
                arrays |= {f"{side}.{n}": array for n, array in enumerate(parts.values())}
            for name, column in arrays.items():
                np.save(partial / f"{name}.npy", column, allow_pickle=False)
            manifest = {
                "format": "jaxrec dataset",
                "version": _VERSION,
                "name": self.name,
                "users": self.n_users,
                "items": self.n_items,
                "interactions": self.n_edges,
                "columns": list(self.columns()),
                **{side: list(parts) for side, parts in listed.items()},
                "notes": self.notes,
                "fingerprint": self.fingerprint(),
            }
            (partial / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")

    @classmethod
    def load(cls, folder: str | Path, *, verify: bool = False) -> "Dataset":
        """Open a prepared folder, columns memory-mapped.

        Args:
          verify: also read every column and compare the fingerprint.

        Raises:
          InputError: a file is missing, damaged or not what the manifest says.
        """
        folder = Path(folder)
        manifest = _read_manifest(folder)
        arrays: dict[str, Any] = {
            name: _open(folder / f"{name}.npy")
            for name in (*manifest["columns"], "user_ids", "item_ids")
        }
        data = cls(**arrays, name=manifest["name"], notes=manifest["notes"])
        data._check_against(manifest, folder)
        sides: dict[str, Any] = {
            side: _load_features(folder, side, manifest[side], manifest[count])
            for side, count in _SIDES.items()
            if side in manifest
        }
        data = replace(data, **sides)
        if verify and data.fingerprint() != manifest["fingerprint"]:
            raise InputError(f"{folder}: content differs from its fingerprint; import again")
        return data

    def _check_against(self, manifest: dict[str, Any], folder: Path) -> None:
        wrong = None
        for name, column in self.columns().items():
            if column.shape != (manifest["interactions"],) or column.dtype != _DTYPES[name]:
                wrong = f"{name}.npy"
        if self.user_ids.ndim != 1 or self.n_users != manifest["users"]:
            wrong = "user_ids.npy"
        if self.item_ids.ndim != 1 or self.n_items != manifest["items"]:
            wrong = "item_ids.npy"
        if wrong:
            raise _mismatch(folder / wrong)
        for name, size in (("user", self.n_users), ("item", self.n_items)):
            column = getattr(self, name)
            if len(column) and not (column.min() >= 0 and column.max() < size):
                raise InputError(f"{folder / name}.npy: a row number outside the id table")


def refuse_occupied(folder: str | Path) -> None:
    """Raise InputError unless the path is free, or an empty folder."""
    folder = Path(folder)
    try:
        occupied = folder.exists() and (not folder.is_dir() or any(folder.iterdir()))
    except OSError as e:
        raise InputError(f"{folder}: cannot be written ({e.strerror or e})") from e
    if occupied:
        raise InputError(f"{folder}: exists already; name a new or an empty folder")


def is_prepared(folder: str | Path) -> bool:
    """Whether the path is a folder with a manifest."""
    return (Path(folder) / "manifest.json").is_file()


def _open(path: Path) -> np.ndarray:
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as e:
        raise InputError(f"{path}: damaged or missing; import the data again") from e


def _load_features(folder: Path, side: str, listed: list[str], n_rows: int) -> Features:
    arrays = {name: _open(folder / f"{side}.{n}.npy") for n, name in enumerate(listed)}
    features = Features.from_arrays(arrays)
    fault = features.fault(n_rows)
    if fault is not None:
        raise _mismatch(folder / f"{side}.{listed.index(fault)}.npy")
    return features


def _mismatch(path: Path) -> InputError:
    return InputError(f"{path}: not what manifest.json says; import again")


def _read_manifest(folder: Path) -> dict[str, Any]:
    path = folder / "manifest.json"
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        known = manifest["format"] == "jaxrec dataset" and manifest["version"] == _VERSION
        columns = set(manifest["columns"])
        complete = (
            {"user", "item"} <= columns <= set(_COLUMNS)
            and all(isinstance(manifest[n], int) for n in ("users", "items", "interactions"))
            and isinstance(manifest["name"], str)
            and isinstance(manifest["notes"], dict)
            and isinstance(manifest["fingerprint"], str)
        )
        nothing = np.empty(0)
        for side in manifest.keys() & _SIDES.keys():
            Features.from_arrays(dict.fromkeys(manifest[side], nothing))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as e:
        raise InputError(f"{path}: not a prepared data set's manifest; import again") from e
    if not (known and complete):
        raise InputError(f"{path}: not a manifest of version {_VERSION}; import again")
    return manifest
