"""Interactions in memory and on disk: int32 user and item columns beside their id tables.

On disk it is a prepared folder (:mod:`jaxrec.data.prepared`) with one file a column.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

from jaxrec.data import prepared
from jaxrec.data.features import Features
from jaxrec.data.keys import distinct
from jaxrec.errors import InputError

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
_EXPOSED = ["exposed_user", "exposed_item", "exposed_time"]
FORMAT = "jaxrec dataset"
"""What the manifest of a prepared folder calls a Dataset."""


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

    def take(self, user_n: np.ndarray) -> "Csr":
        """The rows at ``user_n``; -1 is an empty row."""
        start = self.indptr[user_n]
        degree = np.where(user_n >= 0, self.indptr[user_n + 1] - start, 0)
        indptr = np.append(0, np.cumsum(degree))
        index = np.arange(indptr[-1]) + np.repeat(start - indptr[:-1], degree)
        return Csr(indptr.astype(np.int32), self.indices[index])

    def item_counts(self, n_items: int) -> np.ndarray:
        """Users an item, [I] int64."""
        return np.bincount(self.indices, minlength=n_items)


def union(*rows: Csr) -> Csr:
    """The items of any, user by user: e.g. train and validation, to be masked in test."""
    n_users = len(rows[0].indptr) - 1
    user = np.concatenate([np.repeat(np.arange(n_users), csr.degree) for csr in rows])
    item = np.concatenate([csr.indices for csr in rows])
    width = int(item.max(initial=0)) + 1
    user, item = np.divmod(distinct(user * width + item), width)
    indptr = np.searchsorted(user, np.arange(n_users + 1))
    return Csr(indptr.astype(np.int32), item.astype(np.int32))


@runtime_checkable
class ItemsByUser(Protocol):
    """What can be asked of a :class:`Csr` without all of it in memory."""

    @property
    def degree(self) -> np.ndarray: ...
    def take(self, user_n: np.ndarray) -> Csr: ...
    def item_counts(self, n_items: int) -> np.ndarray: ...


@runtime_checkable
class Counted(Protocol):
    """What can be asked of a :class:`Dataset` without all of its interactions in memory."""

    @property
    def name(self) -> str: ...
    @property
    def user_ids(self) -> np.ndarray: ...
    @property
    def item_ids(self) -> np.ndarray: ...
    @property
    def n_users(self) -> int: ...
    @property
    def n_items(self) -> int: ...
    @property
    def n_edges(self) -> int: ...
    def user_counts(self) -> np.ndarray: ...
    def item_counts(self) -> np.ndarray: ...
    def item_shares(self) -> np.ndarray: ...


class Exposed(NamedTuple):
    """X pairs of a user and an item that they were shown and left alone, by user and item.

    Shapes: user, item [X] int32 row numbers into the id tables; time [X] float64, when it was shown
    last, or None.
    """

    user: np.ndarray
    item: np.ndarray
    time: np.ndarray | None = None

    def take(self, index: np.ndarray) -> "Exposed":
        """The pairs at ``index`` (numbers or a mask)."""
        time = None if self.time is None else self.time[index]
        return Exposed(self.user[index], self.item[index], time)

    def arrays(self) -> dict[str, np.ndarray]:
        """The columns that are there, by name."""
        named = {f"exposed_{name}": column for name, column in self._asdict().items()}
        return {name: column for name, column in named.items() if column is not None}


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
      exposed: what users were shown and left alone, or None; no pair of these is among the
        interactions.
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
    exposed: "Exposed | None" = None

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
        return self._csr(self.user, self.item)

    def exposed_csr(self) -> Csr:
        """What was shown and left alone by user, sorted and without repeats."""
        nothing = np.zeros(0, np.int32)
        shown = self.exposed or Exposed(nothing, nothing)
        return self._csr(shown.user, shown.item)

    def _csr(self, user: np.ndarray, item: np.ndarray) -> Csr:
        key = user.astype(np.int64) * self.n_items + item
        if not (key[1:] > key[:-1]).all():
            user, item = np.divmod(distinct(key), max(self.n_items, 1))
        indptr = np.append(0, np.cumsum(np.bincount(user, minlength=self.n_users)))
        return Csr(indptr.astype(np.int32), np.array(item, np.int32))

    def item_counts(self) -> np.ndarray:
        """Interactions an item, [I] int64."""
        return np.bincount(self.item, minlength=self.n_items)

    def user_counts(self) -> np.ndarray:
        """Interactions a user, [U] int64."""
        return np.bincount(self.user, minlength=self.n_users)

    def item_shares(self) -> np.ndarray:
        """Of each item, the sum of 1 / (interactions of the user) over its users, [I]."""
        share_U = 1 / np.maximum(self.user_counts(), 1)
        return np.bincount(self.item, share_U[self.user], self.n_items)

    def fingerprint(self) -> str:
        """SHA-256 over every column, both id tables and the features, as hexadecimal digits."""
        return prepared.fingerprint(self._arrays(), self.features())

    def _arrays(self) -> dict[str, np.ndarray]:
        exposed = {} if self.exposed is None else self.exposed.arrays()
        return self.columns() | {"user_ids": self.user_ids, "item_ids": self.item_ids} | exposed

    def save(self, folder: str | Path) -> None:
        """Write the prepared folder; whole or not at all.

        Raises:
          InputError: the folder exists and is no empty folder, or cannot be written.
        """
        manifest = {
            "format": FORMAT,
            "name": self.name,
            "users": self.n_users,
            "items": self.n_items,
            "interactions": self.n_edges,
            "columns": list(self.columns()),
            "notes": self.notes,
        }
        if self.exposed is not None:
            manifest["exposed"] = list(self.exposed.arrays())
        prepared.save(folder, self._arrays(), self.features(), manifest)

    @classmethod
    def load(cls, folder: str | Path, *, verify: bool = False) -> "Dataset":
        """Open a prepared folder, columns memory-mapped.

        Args:
          verify: also read every column and compare the fingerprint.

        Raises:
          InputError: a file is missing, damaged or not what the manifest says.
        """
        folder = Path(folder)
        manifest = prepared.read_manifest(
            *(folder, FORMAT, ("users", "items", "interactions"), tuple(_SIDES)),
            _is_complete,
        )
        arrays: dict[str, Any] = {
            name: prepared.open_array(folder / f"{name}.npy")
            for name in (*manifest["columns"], "user_ids", "item_ids")
        }
        data = cls(**arrays, name=manifest["name"], notes=manifest["notes"])
        data._check_against(manifest, folder)
        sides: dict[str, Any] = {
            side: prepared.load_features(folder, side, manifest[side], manifest[count])
            for side, count in _SIDES.items()
            if side in manifest
        }
        if "exposed" in manifest:
            columns = [prepared.open_array(folder / f"{name}.npy") for name in manifest["exposed"]]
            sides["exposed"] = _checked(Exposed(*columns), data, folder)
        data = replace(data, **sides)
        if verify and data.fingerprint() != manifest["fingerprint"]:
            raise InputError(f"{folder}: content differs from its fingerprint; import again")
        return data

    def _check_against(self, manifest: dict[str, Any], folder: Path) -> None:
        wrong = None
        for name, column in self.columns().items():
            if column.shape != (manifest["interactions"],) or column.dtype != _DTYPES[name]:
                wrong = f"{name}.npy"
        for name, count in (("user_ids", "users"), ("item_ids", "items")):
            ids = getattr(self, name)
            if ids.shape != (manifest[count],) or ids.dtype.kind not in "iU":
                wrong = f"{name}.npy"
        if wrong:
            raise prepared.mismatch(folder / wrong)
        for name, size in (("user", self.n_users), ("item", self.n_items)):
            column = getattr(self, name)
            if len(column) and not (column.min() >= 0 and column.max() < size):
                raise InputError(f"{folder / name}.npy: a row number outside the id table")


def _checked(exposed: Exposed, data: Dataset, folder: Path) -> Exposed:
    for (name, column), dtype in zip(
        exposed.arrays().items(), (np.int32, np.int32, np.float64), strict=False
    ):
        if column.shape != exposed.user.shape or column.dtype != dtype:
            raise prepared.mismatch(folder / f"{name}.npy")
    for name, column, size in (
        ("user", exposed.user, data.n_users),
        ("item", exposed.item, data.n_items),
    ):
        if len(column) and not (column.min() >= 0 and column.max() < size):
            raise InputError(f"{folder}/exposed_{name}.npy: a row number outside the id table")
    return exposed


def _is_complete(manifest: dict[str, Any]) -> bool:
    shown = manifest.get("exposed", _EXPOSED)
    known = {"user", "item"} <= set(manifest["columns"]) <= set(_COLUMNS)
    return known and shown in (_EXPOSED, _EXPOSED[:2])
