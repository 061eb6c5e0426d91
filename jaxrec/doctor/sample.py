"""The fixed sample that a run's measures are taken on: a function of the data, nothing is drawn
that changes."""

import jax.numpy as jnp
import numpy as np

from jaxrec.data.dataset import Csr, Dataset
from jaxrec.doctor.measures import TOP, Pairs, Sample

_USERS, _ITEMS, _LISTED, _PAIRS = 256, 256, 128, 1024


def _spaced(candidates: np.ndarray, most: int) -> np.ndarray:
    """At most so many of them, evenly over their order."""
    if len(candidates) <= most:
        return candidates
    return candidates[np.linspace(0, len(candidates) - 1, most).astype(np.int64)]


def _others(user: np.ndarray, known: Csr, n_items: int) -> np.ndarray:
    """For each user an item that they do not know, where a few tries find one."""
    rng = np.random.default_rng(0)
    other = rng.integers(0, n_items, len(user))
    for _ in range(8):
        rows = (known.indices[known.indptr[u] : known.indptr[u + 1]] for u in user)
        bad = np.array([np.any(row == i) for row, i in zip(rows, other, strict=True)], bool)
        if not bad.any():
            break
        other[bad] = rng.integers(0, n_items, int(bad.sum()))
    return other.astype(np.int32)


def _pairs(part: Dataset | None, known: Csr, rates: bool) -> Pairs | None:
    if part is None or part.n_edges == 0:
        return None
    at = _spaced(np.arange(part.n_edges), _PAIRS)
    user, item = part.user[at], part.item[at]
    rating = None
    if rates and part.rating is not None:
        rating = jnp.asarray(part.rating[at], jnp.float32)
    other = _others(user, known, part.n_items)
    return Pairs(jnp.asarray(user), jnp.asarray(item), jnp.asarray(other), rating)


def of_data(train: Dataset, validation: Dataset | None, rates: bool = False) -> Sample:
    """Users and items that have train pairs, evenly over their numbers, and pairs likewise.

    Args:
      rates: whether the scores stand for ratings.
    """
    counts = train.item_counts()
    users = np.flatnonzero(train.user_counts())
    popular = np.argsort(-counts, kind="stable")[:TOP]
    known = train.csr()
    return Sample(
        jnp.asarray(_spaced(users, _USERS), jnp.int32),
        jnp.asarray(_spaced(np.flatnonzero(counts), _ITEMS), jnp.int32),
        jnp.asarray(_spaced(users, _LISTED), jnp.int32),
        jnp.asarray(popular, jnp.int32),
        _pairs(train, known, rates),
        _pairs(validation, known, rates),
    )


def of_rows(n_users: int, n_items: int) -> Sample:
    """The same without data: rows alone."""
    return Sample(
        jnp.asarray(_spaced(np.arange(n_users), _USERS), jnp.int32),
        jnp.asarray(_spaced(np.arange(n_items), _ITEMS), jnp.int32),
        jnp.asarray(_spaced(np.arange(n_users), _LISTED), jnp.int32),
        None,
        None,
        None,
    )
