"""Side information of items: features, encoded as weighted sums of rows of one table."""

from typing import Any

import numpy as np

from jaxrec.data import schema
from jaxrec.data.features import Features
from jaxrec.data.itemgraph import ItemGraph
from jaxrec.data.schema import Schema
from jaxrec.errors import InputError
from jaxrec.models.skipgram import Side


def fitted(train: ItemGraph) -> Schema:
    """Fit a schema to the items' features.

    Raises:
      InputError: there are no features, or a feature is a vector.
    """
    features = train.item_features
    if features is None or not features.columns:
        raise InputError(
            f"{train.name}: model.side needs features of the items, and this data has none; "
            "`jaxrec data import ... --items FILE` adds them"
        )
    fit = schema.fit(features, np.flatnonzero(train.degree()))
    if fit.vectors:
        name = next(iter(fit.vectors))
        raise InputError(
            f"{train.name}: feature {name!r} is a vector, but model.side takes only categories "
            "and numbers; leave it out of the data"
        )
    return fit


def n_rows(fit: Schema) -> int:
    """Return F, the number of rows of the feature table.

    There are two rows per number column, and one row per category value.
    """
    return 2 * len(fit.numbers) + sum(fit.category_sizes) + sum(fit.bag_sizes)


def n_features(fit: Schema) -> int:
    """Return the number of features, C."""
    return len(fit.numbers) + len(fit.categories) + len(fit.bags)


def encoded(features: Features, fit: Schema) -> Side:
    """Encode features by a schema, as NumPy arrays.

    Raises:
      InputError: a column has another type than in the schema.
    """
    x = schema.encode(features, fit)
    n, n_numbers = features.n_rows, len(fit.numbers)
    codes: list[np.ndarray] = []
    coefficients: list[np.ndarray] = []
    there: list[np.ndarray] = []
    column: list[int] = []
    row = 0

    def add(code_nW: Any, coefficient_nW: np.ndarray, there_n: np.ndarray) -> None:
        codes.append(np.broadcast_to(code_nW, coefficient_nW.shape))
        coefficients.append(coefficient_nW)
        column.extend([len(there)] * coefficient_nW.shape[1])
        there.append(there_n)

    for i in range(n_numbers):
        there_n = x.number[:, n_numbers + i] == 0
        value_n2 = np.stack([x.number[:, i], np.ones(n)], axis=1) * there_n[:, None]
        add(np.array([row, row + 1]), value_n2, there_n)
        row += 2
    for code_n, size in zip(x.category, fit.category_sizes, strict=True):
        add(row + code_n[:, None], (code_n > 0)[:, None], code_n > 0)
        row += size
    for code_nW, size in zip(x.bag, fit.bag_sizes, strict=True):
        used_nW = code_nW > 0
        count_n1 = np.maximum(used_nW.sum(axis=1, keepdims=True), 1)
        add(row + code_nW, used_nW / count_n1, np.asarray(used_nW.any(axis=1)))
        row += size
    return Side(
        np.concatenate(codes, axis=1).astype(np.int32),
        np.concatenate(coefficients, axis=1).astype(np.float32),
        np.stack(there, axis=1),
        np.array(column, np.int32),
    )
