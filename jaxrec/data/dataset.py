"""The Dataset of interactions: int32 user and item columns with their id tables.

On disk, a Dataset is a prepared folder (:mod:`jaxrec.data.prepared`) with one file per column.
"""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

from jaxrec.data import array_checks, prepared
from jaxrec.data.features import Features
from jaxrec.data.pair_keys import distinct, pair_keys, rows_of_keys
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
"""Format name of a Dataset in a prepared folder's manifest."""


REPEATED = "held-out pairs that are also in an earlier part of the split"
"""The note that counts pairs which occur in more than one part of a split."""


class Csr(NamedTuple):
    """The items of each user in CSR form: user u has ``indices[indptr[u]:indptr[u + 1]]``.

    The items of a user are sorted and unique.

    Shapes: indptr [U + 1], indices [nnz], both int32 (so nnz < 2^31).
    """

    indptr: np.ndarray
    indices: np.ndarray

    @property
    def degree(self) -> np.ndarray:
        """Number of items of each user, [U] int32."""
        return np.diff(self.indptr)

    def take(self, user_n: np.ndarray) -> "Csr":
        """Return a matrix with the rows of the users ``user_n``; -1 gives an empty row."""
        start = self.indptr[user_n]
        degree = np.where(user_n >= 0, self.indptr[user_n + 1] - start, 0)
        indptr = np.append(0, np.cumsum(degree))
        index = np.arange(indptr[-1]) + np.repeat(start - indptr[:-1], degree)
        return Csr(indptr.astype(np.int32), self.indices[index])

    def among(self, user_U: np.ndarray, item_I: np.ndarray) -> "Csr":
        """Return a matrix with only the pairs whose user and item are both True in the masks."""
        user = np.repeat(np.arange(len(self.degree)), self.degree)
        kept = user_U[user] & item_I[self.indices]
        degree_U = np.bincount(user[kept], minlength=len(self.degree))
        return Csr(np.append(0, np.cumsum(degree_U)).astype(np.int32), self.indices[kept])

    def keys(self, n_items: int) -> np.ndarray:
        """Return user · n_items + item of each pair, ascending, [nnz] int64."""
        return pair_keys(np.repeat(np.arange(len(self.degree)), self.degree), self.indices, n_items)

    def item_counts(self, n_items: int) -> np.ndarray:
        """Return the number of users of each item, [I] int64."""
        return np.bincount(self.indices, minlength=n_items)


def items_by_user(user: np.ndarray, item: np.ndarray, n_users: int, n_items: int) -> Csr:
    """Convert pairs of row numbers to a :class:`Csr`, sorted and without repeats."""
    key = pair_keys(user, item, n_items)
    if not (key[1:] > key[:-1]).all():
        user, item = rows_of_keys(distinct(key), n_items)
    indptr = np.append(0, np.cumsum(np.bincount(user, minlength=n_users)))
    return Csr(indptr.astype(np.int32), np.array(item, np.int32))


class Joined(NamedTuple):
    """The union of several matrices of users by items, computed only for the requested users."""

    rows: tuple[Csr, ...]

    @property
    def degree(self) -> np.ndarray:
        """Number of items of each user, [U]; an item counts once for each matrix that has it."""
        return np.sum([csr.degree for csr in self.rows], axis=0)

    def take(self, user_n: np.ndarray) -> Csr:
        """Return the union of the rows of the users ``user_n``; -1 gives an empty row."""
        return union(*(csr.take(user_n) for csr in self.rows))

    def item_counts(self, n_items: int) -> np.ndarray:
        """Return the number of users of each item, [I] int64; a pair counts once per matrix."""
        return np.sum([csr.item_counts(n_items) for csr in self.rows], axis=0)


def union(*rows: Csr) -> Csr:
    """Return the union of the matrices: the items that each user has in any of them."""
    n_users = len(rows[0].indptr) - 1
    user = np.concatenate([np.repeat(np.arange(n_users), csr.degree) for csr in rows])
    item = np.concatenate([csr.indices for csr in rows])
    width = int(item.max(initial=0)) + 1
    user, item = rows_of_keys(distinct(pair_keys(user, item, width)), width)
    indptr = np.searchsorted(user, np.arange(n_users + 1))
    return Csr(indptr.astype(np.int32), item.astype(np.int32))


@runtime_checkable
class ItemsByUser(Protocol):
    """The interface of a matrix of users by items, in memory (:class:`Csr`) or elsewhere."""

    @property
    def degree(self) -> np.ndarray: ...
    def take(self, user_n: np.ndarray) -> Csr: ...
    def item_counts(self, n_items: int) -> np.ndarray: ...


@runtime_checkable
class Counted(Protocol):
    """The interface of a data set, in memory (:class:`Dataset`) or elsewhere."""

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
    """X exposed pairs: items that users were shown and did not choose, sorted by user and item.

    Shapes: user, item [X] int32 row numbers into the id tables; time [X] float64 of each
    pair's last exposure, or None.
    """

    user: np.ndarray
    item: np.ndarray
    time: np.ndarray | None = None

    def take(self, index: np.ndarray) -> "Exposed":
        """Return the pairs at ``index`` (numbers or a mask)."""
        time = None if self.time is None else self.time[index]
        return Exposed(self.user[index], self.item[index], time)

    def checked(self, n_users: int, n_items: int, name: str) -> "Exposed":
        """Check the columns and convert them to their dtypes.

        Raises:
          InputError: row numbers are outside the id tables, columns have different lengths, or a
            time is missing. The message names the data by ``name``.
        """
        user = array_checks.rows(self.user, n_users, f"{name}: exposed user", "users")
        item = array_checks.rows(self.item, n_items, f"{name}: exposed item", "items", len(user))
        if self.time is None:
            return Exposed(user, item)
        return Exposed(
            user, item, array_checks.times(self.time, f"{name}: exposed time", len(user))
        )

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the columns that are not None, by names such as ``exposed_user``."""
        named = {f"exposed_{name}": column for name, column in self._asdict().items()}
        return {name: column for name, column in named.items() if column is not None}


@dataclass(frozen=True)
class Dataset:
    """E interactions of U users and I items.

    Attributes:
      user, item: [E] int32 row numbers into the id tables.
      user_ids, item_ids: [U] and [I], int64 or unicode; external ids.
      rating: [E] float32, or None.
      time: [E] float64 (seconds since 1970, or any ordered number), or None.
      weight: [E] float32 positive event weights, or None (all 1).
      split: [E] uint8, 0 train, 1 validation, 2 test, or None if the source has no split. A pair
        may occur in several of these parts.
      user_features, item_features: one row per id, or None.
      exposed: exposed pairs, disjoint from the interactions, or None.
      name: the name of the data, for messages and reports.
      notes: counts of irregularities of the source: {"duplicate pairs": 3, ...}.
      reading: one line per table that was read, with the role of each column.

    Arrays of other types, lists and columns of data frames are converted if no value changes
    (:mod:`jaxrec.data.array_checks`).

    Raises:
      InputError: columns have different lengths, row numbers are outside the id tables, ids are
        missing or repeated, numbers are missing or infinite, weights are not positive, or features
        do not have one row per id.

    >>> import jaxrec
    >>> user, item = np.array([0, 0, 1]), np.array([0, 1, 1])
    >>> data = jaxrec.Dataset(user, item, np.array(["ann", "bob"]), np.array(["tea", "cup"]))
    >>> data.n_users, data.n_items, data.n_edges
    (2, 2, 3)
    >>> data.item_counts().tolist()
    [1, 2]
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
    reading: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        checked: dict[str, Any] = {
            name: array_checks.id_table(getattr(self, name), f"{self.name}: {name}")
            for name in ("user_ids", "item_ids")
        }
        sizes = {"users": len(checked["user_ids"]), "items": len(checked["item_ids"])}
        checked["user"] = array_checks.rows(
            self.user, sizes["users"], f"{self.name}: user", "users"
        )
        length = len(checked["user"])
        checked["item"] = array_checks.rows(
            self.item, sizes["items"], f"{self.name}: item", "items", length
        )
        checks = {
            "rating": array_checks.numbers,
            "time": array_checks.times,
            "weight": array_checks.weights,
            "split": array_checks.labels,
        }
        for name, check in checks.items():
            column = getattr(self, name)
            if column is not None:
                checked[name] = check(column, f"{self.name}: {name}", length)
        for name, features in self.features().items():
            side = _SIDES[name]
            array_checks.check_features(features, sizes[side], f"{self.name}: {name}", side)
        if self.exposed is not None:
            checked["exposed"] = self.exposed.checked(sizes["users"], sizes["items"], self.name)
        for name, array in checked.items():
            object.__setattr__(self, name, array)

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
        """Return the columns that are not None, by name."""
        named = {name: getattr(self, name) for name in _COLUMNS}
        return {name: column for name, column in named.items() if column is not None}

    def features(self) -> dict[str, Features]:
        """Return the side features that are not None, by name."""
        named = {name: getattr(self, name) for name in _SIDES}
        return {name: features for name, features in named.items() if features is not None}

    def take(self, index: np.ndarray) -> "Dataset":
        """Return the interactions at ``index`` (numbers or a mask), with the same id tables."""
        selected = object.__new__(Dataset)  # the columns were checked before
        columns = {name: column[index] for name, column in self.columns().items()}
        selected.__dict__.update(self.__dict__ | columns)
        selected.__dict__.pop("_csr", None)  # the cached matrix covers all interactions
        return selected

    def keys(self) -> np.ndarray:
        """Return user · I + item of each interaction, [E] int64."""
        return pair_keys(self.user, self.item, self.n_items)

    def csr(self) -> Csr:
        """Return the items of each user, sorted and without repeats; the result is cached."""
        return self._csr

    @cached_property
    def _csr(self) -> Csr:
        return items_by_user(self.user, self.item, self.n_users, self.n_items)

    def exposed_csr(self) -> Csr:
        """Return the exposed items of each user, sorted and without repeats."""
        empty = np.zeros(0, np.int32)
        shown = self.exposed or Exposed(empty, empty)
        return items_by_user(shown.user, shown.item, self.n_users, self.n_items)

    def item_counts(self) -> np.ndarray:
        """Return the number of interactions per item, [I] int64."""
        return np.bincount(self.item, minlength=self.n_items)

    def user_counts(self) -> np.ndarray:
        """Return the number of interactions per user, [U] int64."""
        return np.bincount(self.user, minlength=self.n_users)

    def item_shares(self) -> np.ndarray:
        """Return each item's sum over its interactions of 1 / the user's interaction count, [I]."""
        share_U = 1 / np.maximum(self.user_counts(), 1)
        return np.bincount(self.item, share_U[self.user], self.n_items)

    def fingerprint(self) -> str:
        """Return the SHA-256 of all columns, id tables and features, as hexadecimal digits."""
        return prepared.fingerprint(self._arrays(), self.features())

    def _arrays(self) -> dict[str, np.ndarray]:
        exposed = {} if self.exposed is None else self.exposed.arrays()
        return self.columns() | {"user_ids": self.user_ids, "item_ids": self.item_ids} | exposed

    def save(self, folder: str | Path) -> None:
        """Write the prepared folder, either whole or not at all.

        Raises:
          InputError: the folder exists and is not empty, or cannot be written.
        """
        manifest = {
            "format": FORMAT,
            "name": self.name,
            "users": self.n_users,
            "items": self.n_items,
            "interactions": self.n_edges,
            "columns": list(self.columns()),
            "notes": self.notes,
            "reading": self.reading,
        }
        if self.exposed is not None:
            manifest["exposed"] = list(self.exposed.arrays())
        prepared.save(folder, self._arrays(), self.features(), manifest)

    @classmethod
    def load(cls, folder: str | Path, *, verify: bool = False) -> "Dataset":
        """Open a prepared folder, with memory-mapped columns.

        Args:
          verify: also read every column and compare the fingerprint.

        Raises:
          InputError: a file is missing, damaged or does not match the manifest.
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
        _check_against(manifest, arrays, folder)
        sides: dict[str, Any] = {
            side: prepared.load_features(folder, side, manifest[side], manifest[count])
            for side, count in _SIDES.items()
            if side in manifest
        }
        if "exposed" in manifest:
            columns = [prepared.open_array(folder / f"{name}.npy") for name in manifest["exposed"]]
            sides["exposed"] = _shown(Exposed(*columns), manifest, folder)
        try:
            named = {name: manifest[name] for name in ("name", "notes")}
            data = cls(**arrays, **sides, **named, reading=prepared.reading(manifest))
        except InputError as e:
            raise InputError(f"{folder}: {e}; import the data again") from e
        if verify and data.fingerprint() != manifest["fingerprint"]:
            raise InputError(
                f"{folder}: its content differs from its fingerprint; import the data again"
            )
        return data


def _check_against(manifest: dict[str, Any], arrays: dict[str, np.ndarray], folder: Path) -> None:
    """Raise InputError if an array has a wrong dtype, a wrong length or wrong row numbers."""
    for name in manifest["columns"]:
        column = arrays[name]
        if column.shape != (manifest["interactions"],) or column.dtype != _DTYPES[name]:
            raise prepared.mismatch(folder / f"{name}.npy")
    for name, count in (("user_ids", "users"), ("item_ids", "items")):
        if arrays[name].shape != (manifest[count],) or arrays[name].dtype.kind not in "iU":
            raise prepared.mismatch(folder / f"{name}.npy")
    for name, count in (("user", "users"), ("item", "items")):
        array_checks.rows(arrays[name], manifest[count], f"{folder / name}.npy", count)


def _shown(exposed: Exposed, manifest: dict[str, Any], folder: Path) -> Exposed:
    """Check the exposed pairs of a prepared folder, and return them."""
    for (name, column), dtype in zip(
        exposed.arrays().items(), (np.int32, np.int32, np.float64), strict=False
    ):
        if column.shape != exposed.user.shape or column.dtype != dtype:
            raise prepared.mismatch(folder / f"{name}.npy")
    for name, column, count in (
        ("user", exposed.user, "users"),
        ("item", exposed.item, "items"),
    ):
        array_checks.rows(column, manifest[count], f"{folder}/exposed_{name}.npy", count)
    return exposed


def _is_complete(manifest: dict[str, Any]) -> bool:
    shown = manifest.get("exposed", _EXPOSED)
    known = {"user", "item"} <= set(manifest["columns"]) <= set(_COLUMNS)
    return known and shown in (_EXPOSED, _EXPOSED[:2])
