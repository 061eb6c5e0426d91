"""Feature schemas fitted in training, and the encoding of features for models."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from jaxrec.data.features import Bag, Category, Column, Features, Number, Vector
from jaxrec.errors import InputError


class Scale(NamedTuple):
    """Mean and standard deviation of the values of a number column; (0, 1) if all are missing."""

    mean: float
    std: float


class Words(NamedTuple):
    """The names of a bag column, after the empty text, and the length of its longest row.

    The length is at least 1.
    """

    names: tuple[str, ...]
    width: int


class Encoded(NamedTuple):
    """Encoded features of n rows, the input of models.

    Attributes:
      number: [n, F] float32: the number columns, standardised; then a flag per number column (1 if
        missing, else 0); then the vectors, unchanged, each followed by its flag. Missing numbers
        are 0.
      category: for each category column, its codes, [n] int32; 0 where missing.
      bag: for each bag column, its codes, [n, W] int32: the codes of a row, ascending, then zeros.
        W differs between columns.
    """

    number: np.ndarray
    category: tuple[np.ndarray, ...]
    bag: tuple[np.ndarray, ...]


@dataclass(frozen=True)
class Schema:
    """Scales of numbers, names of categories and bags, and widths of vectors, by column name.

    The names of a column are the empty text, and then, sorted, the names in the rows to which the
    schema was fitted.
    """

    numbers: dict[str, Scale]
    categories: dict[str, tuple[str, ...]]
    bags: dict[str, Words]
    vectors: dict[str, int]

    @property
    def n_numbers(self) -> int:
        """F, the width of ``Encoded.number``."""
        return 2 * len(self.numbers) + sum(width + 1 for width in self.vectors.values())

    @property
    def category_sizes(self) -> tuple[int, ...]:
        """Number of codes of each category column: code 0 for the empty text, and one per name."""
        return tuple(len(names) for names in self.categories.values())

    @property
    def bag_sizes(self) -> tuple[int, ...]:
        """Number of codes of each bag column: code 0 for the empty text, and one per name."""
        return tuple(len(words.names) for words in self.bags.values())

    def to_dict(self) -> dict[str, Any]:
        """Return the schema as a dictionary for JSON, which :meth:`from_dict` reads."""
        return {
            "numbers": {name: scale._asdict() for name, scale in self.numbers.items()},
            "categories": {name: list(names) for name, names in self.categories.items()},
            "bags": {
                name: {"names": list(words.names), "width": words.width}
                for name, words in self.bags.items()
            },
            "vectors": dict(self.vectors),
        }

    @classmethod
    def from_dict(cls, made: dict[str, Any]) -> "Schema":
        """Build a schema from the result of :meth:`to_dict`."""
        return cls(
            {name: Scale(**scale) for name, scale in made["numbers"].items()},
            {name: tuple(names) for name, names in made["categories"].items()},
            {name: Words(tuple(w["names"]), w["width"]) for name, w in made["bags"].items()},
            dict(made["vectors"]),
        )


def fit(features: Features, rows: np.ndarray) -> Schema:
    """Fit a schema to the rows of the features that training uses, given by row number."""
    schema = Schema({}, {}, {}, {})
    for name, column in features.take(rows).columns.items():
        if isinstance(column, Number):
            schema.numbers[name] = _scale(column.value)
        elif isinstance(column, Category):
            schema.categories[name] = _used(column)
        elif isinstance(column, Bag):
            longest = int(np.diff(column.indptr).max(initial=1))
            schema.bags[name] = Words(_used(column), longest)
        else:
            schema.vectors[name] = column.value.shape[1]
    return schema


def encode(features: Features, schema: Schema) -> Encoded:
    """Encode features by a schema, which may have been fitted to the features of another file.

    Names are matched by their text. Names that the schema lacks, and names beyond a bag's width,
    count as missing. If a column of the schema is absent or empty, all its values are missing.
    Columns that the schema lacks are left out. Where the schema has a bag, a category is read as a
    bag of at most one name.

    Raises:
      InputError: a column has another type or width than in the schema.
    """
    n = features.n_rows
    numbers, flags, vectors = [], [], []
    for name, scale in schema.numbers.items():
        value = _value(features, name, Number, np.full(n, np.nan, np.float32))
        standard = (value.astype(np.float64) - scale.mean) / scale.std
        numbers.append(np.nan_to_num(standard, nan=0.0))
        flags.append(np.isnan(value))
    for name, width in schema.vectors.items():
        value = _value(features, name, Vector, np.full((n, width), np.nan, np.float32))
        if value.shape[1] != width:
            raise InputError(
                f"feature {name!r} has {value.shape[1]} numbers per row, but {width} in training; "
                "give vectors of that length, or leave the feature out"
            )
        missing = np.isnan(value)
        vectors += [np.where(missing, 0, value), missing.all(axis=1, keepdims=True)]
    parts = [*(column[:, None] for column in (*numbers, *flags)), *vectors]
    number = np.concatenate([np.zeros((n, 0)), *parts], axis=1).astype(np.float32)
    category = [_codes(features, name, names) for name, names in schema.categories.items()]
    bag = [_padded(features, name, words) for name, words in schema.bags.items()]
    return Encoded(number, tuple(category), tuple(bag))


def _scale(value: np.ndarray) -> Scale:
    there = value[~np.isnan(value)].astype(np.float64)
    if not len(there):
        return Scale(0.0, 1.0)
    # The computed standard deviation of equal numbers may be a rounding error instead of 0.
    return Scale(float(there.mean()), float(there.std()) if there.min() < there.max() else 1.0)


def _used(column: Category | Bag) -> tuple[str, ...]:
    code = np.unique(column.code)
    return ("", *sorted(column.names[code[code > 0]].tolist()))


def _found(features: Features, name: str, kind: type[Column]) -> Any:
    """Return the column ``name``; None if it is absent or all its values are missing.

    If ``kind`` is Bag, a category is converted to a bag. Any other kind raises InputError.
    """
    column = features.columns.get(name)
    if column is None or column.missing().all():
        return None
    if kind is Bag and isinstance(column, Category):
        return column.as_bag()
    if not isinstance(column, kind):
        raise InputError(
            f"feature {name!r} is a {column.kind} here, but was a {kind.kind} in training; "
            "convert it, or leave it out"
        )
    return column


def _value(
    features: Features, name: str, kind: type[Number | Vector], absent: np.ndarray
) -> np.ndarray:
    column = _found(features, name, kind)
    return absent if column is None else column.value


def _translated(column: Category | Bag, names: tuple[str, ...]) -> np.ndarray:
    """Convert the column's codes to positions in ``names``; a name that is not there gets 0."""
    known = {name: code for code, name in enumerate(names)}
    return np.array([known.get(name, 0) for name in column.names.tolist()], np.int32)[column.code]


def _codes(features: Features, name: str, names: tuple[str, ...]) -> np.ndarray:
    column = _found(features, name, Category)
    return np.zeros(features.n_rows, np.int32) if column is None else _translated(column, names)


def _padded(features: Features, name: str, words: Words) -> np.ndarray:
    n = features.n_rows
    padded = np.zeros((n, words.width), np.int32)
    column = _found(features, name, Bag)
    if column is not None:
        code = _translated(column, words.names)
        row = np.repeat(np.arange(n), np.diff(column.indptr))
        order = np.lexsort((code, row))
        order = order[code[order] > 0]
        row, code = row[order], code[order]
        place = np.arange(len(row)) - np.searchsorted(row, row)
        fits = place < words.width
        padded[row[fits], place[fits]] = code[fits]
    return padded
