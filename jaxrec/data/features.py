"""Side features of users and items: typed columns with one row per id.

A column is a :class:`Number`, a :class:`Category`, a :class:`Bag` (several names per row) or a
:class:`Vector`. Any row may lack a value. Each text is stored once, in ``names``, and rows hold
indices into it; ``names[0]`` is the empty text, for missing values.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import numpy as np


@dataclass(frozen=True)
class Number:
    """One number per row.

    Shapes: value [n] float32, finite, or NaN where missing.
    """

    value: np.ndarray
    kind: ClassVar[str] = "number"

    @property
    def n_rows(self) -> int:
        return len(self.value)

    def missing(self) -> np.ndarray:
        """Return which rows have no value, [n] bool."""
        return np.isnan(self.value)

    def take(self, rows: np.ndarray) -> "Number":
        return Number(np.append(self.value, np.float32(np.nan))[rows])

    def fault(self) -> str | None:
        """Return the name of the first invalid array, or None if all are valid."""
        right = self.value.ndim == 1 and self.value.dtype == np.float32
        return None if right and not np.isinf(self.value).any() else "value"


@dataclass(frozen=True)
class Category:
    """One name per row.

    Shapes: code [n] int32, 0 where missing; names [C] unicode, names[0] empty.
    """

    code: np.ndarray
    names: np.ndarray
    kind: ClassVar[str] = "category"

    @property
    def n_rows(self) -> int:
        return len(self.code)

    def missing(self) -> np.ndarray:
        """Return which rows have no name, [n] bool."""
        return self.code == 0

    def take(self, rows: np.ndarray) -> "Category":
        return Category(np.append(self.code, np.int32(0))[rows], self.names)

    def fault(self) -> str | None:
        """Return the name of the first invalid array, or None if all are valid."""
        if not _are_names(self.names):
            return "names"
        return None if _are_codes(self.code, 0, len(self.names)) else "code"

    def as_bag(self) -> "Bag":
        """Return the column as a bag, with at most one name per row."""
        there = self.code > 0
        indptr = np.concatenate([[0], np.cumsum(there)]).astype(np.int32)
        return Bag(indptr, self.code[there], self.names)


@dataclass(frozen=True)
class Bag:
    """Any number of different names per row.

    Shapes: indptr [n + 1] int32; code [nnz] int32, all >= 1; row r has the codes at
    ``indptr[r]:indptr[r + 1]``, ascending and unique; names [C] unicode, names[0] empty. An empty
    row is missing.
    """

    indptr: np.ndarray
    code: np.ndarray
    names: np.ndarray
    kind: ClassVar[str] = "bag"

    @property
    def n_rows(self) -> int:
        return len(self.indptr) - 1

    def missing(self) -> np.ndarray:
        """Return which rows have no name, [n] bool."""
        return np.diff(self.indptr) == 0

    def take(self, rows: np.ndarray) -> "Bag":
        length = np.append(np.diff(self.indptr), np.int32(0))[rows]
        indptr = np.concatenate([[0], np.cumsum(length)])
        start = np.append(self.indptr[:-1], np.int32(0))[rows]
        place = np.arange(indptr[-1]) + np.repeat(start - indptr[:-1], length)
        return Bag(indptr.astype(np.int32), self.code[place], self.names)

    def fault(self) -> str | None:
        """Return the name of the first invalid array, or None if all are valid."""
        if not _are_names(self.names):
            return "names"
        indptr, code = self.indptr, self.code
        if not _are_codes(code, 1, len(self.names)):
            return "code"
        whole = indptr.ndim == 1 and indptr.dtype == np.int32 and len(indptr) > 0
        if not whole or indptr[0] != 0 or indptr[-1] != len(code) or (np.diff(indptr) < 0).any():
            return "indptr"
        falls = np.flatnonzero(np.diff(code) <= 0) + 1
        return None if np.isin(falls, indptr).all() else "code"


@dataclass(frozen=True)
class Vector:
    """W numbers per row.

    Shapes: value [n, W] float32; a row of NaN is missing.
    """

    value: np.ndarray
    kind: ClassVar[str] = "vector"

    @property
    def n_rows(self) -> int:
        return len(self.value)

    def missing(self) -> np.ndarray:
        """Return which rows have no numbers, [n] bool."""
        return np.asarray(np.isnan(self.value).all(axis=1))

    def take(self, rows: np.ndarray) -> "Vector":
        lack = np.full((1, self.value.shape[1]), np.nan, np.float32)
        return Vector(np.concatenate([self.value, lack])[rows])

    def fault(self) -> str | None:
        """Return the name of the first invalid array, or None if all are valid."""
        right = self.value.ndim == 2 and self.value.dtype == np.float32
        return None if right and not np.isinf(self.value).any() else "value"


Column = Number | Category | Bag | Vector
_KINDS: dict[str, Any] = {kind.kind: kind for kind in (Number, Category, Bag, Vector)}


@dataclass(frozen=True)
class Features:
    """Feature columns by name; each has n rows."""

    columns: dict[str, Column]

    @property
    def n_rows(self) -> int:
        return next((column.n_rows for column in self.columns.values()), 0)

    def take(self, rows: np.ndarray) -> "Features":
        """Return the rows with the numbers ``rows``; -1 gives a row without any value."""
        return Features({name: column.take(rows) for name, column in self.columns.items()})

    def only(self, names: Collection[str]) -> "Features":
        """Return the columns of these names; names without a column are ignored."""
        return Features({name: x for name, x in self.columns.items() if name in names})

    def arrays(self) -> dict[str, np.ndarray]:
        """Return every array by a name ``column:kind:array``, such as ``genres:bag:indptr``."""
        return {
            f"{name}:{column.kind}:{part.name}": getattr(column, part.name)
            for name, column in self.columns.items()
            for part in fields(column)
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> "Features":
        """Build features from the result of :meth:`arrays`.

        Raises:
          KeyError, TypeError, ValueError: a name is not one that :meth:`arrays` returns.
        """
        parts: dict[tuple[str, str], dict[str, np.ndarray]] = {}
        for key, array in arrays.items():
            name, kind, part = key.rsplit(":", 2)
            parts.setdefault((name, kind), {})[part] = array
        columns = {name: _KINDS[kind](**found) for (name, kind), found in parts.items()}
        if len(columns) < len(parts):
            raise ValueError("a column of two kinds")
        return cls(columns)

    def fault(self, n_rows: int) -> str | None:
        """Return the first invalid array's name (as in :meth:`arrays`); None if all are valid."""
        for name, column in self.columns.items():
            part = column.fault()
            if not part and column.n_rows != n_rows:
                part = fields(column)[0].name
            if part:
                return f"{name}:{column.kind}:{part}"
        return None


def _are_names(names: np.ndarray) -> bool:
    return names.ndim == 1 and names.dtype.kind == "U" and len(names) > 0 and names[0] == ""


def _are_codes(code: np.ndarray, least: int, n_names: int) -> bool:
    if code.ndim != 1 or code.dtype != np.int32:
        return False
    return not len(code) or bool(code.min() >= least and code.max() < n_names)
