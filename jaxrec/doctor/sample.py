"""The fixed sample that a run's measures are taken on: a function of the data, nothing is drawn
that changes."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from jaxrec.data.dataset import Csr, Dataset
from jaxrec.doctor.measures import TOP, Pairs, Sample

_USERS, _ITEMS, _LISTED, _PAIRS = 256, 256, 128, 1024


def _spaced(candidates: np.ndarray, most: int) -> np.ndarray:
    """At most so many of them, evenly over their order."""
    if len(candidates) <= most:
        return candidates
    return candidates[np.linspace(0, len(candidates) - 1, most).astype(np.int64)]


def _rows(number: np.ndarray) -> Int[Array, "n"]:
    """Row numbers on the device, narrowed before they go: JAX would compile that."""
    return jnp.asarray(number.astype(np.int32))


def _others(user: np.ndarray, known: Csr, n_items: int) -> np.ndarray:
    """For each user an item that they do not know, where a few tries find one."""
    rng = np.random.default_rng(0)
    other = rng.integers(0, n_items, len(user))
    key = np.repeat(np.arange(len(known.degree)), known.degree) * n_items + known.indices
    for _ in range(8):
        wanted = user.astype(np.int64) * n_items + other
        place = np.minimum(np.searchsorted(key, wanted), len(key) - 1)
        bad = key[place] == wanted
        if not bad.any():
            break
        other[bad] = rng.integers(0, n_items, int(bad.sum()))
    return other.astype(np.int32)


def _pairs(part: Dataset | None, known: Csr, rates: bool) -> Pairs | None:
    if part is None or part.n_edges == 0:
        return None
    at = _spaced(np.arange(part.n_edges), _PAIRS)
    user, item = part.user[at], part.item[at]
    other, rating = _others(user, known, part.n_items), None
    if rates and part.rating is not None:
        rating = jnp.asarray(part.rating[at].astype(np.float32))
    return Pairs(_rows(user), _rows(item), _rows(other), rating)


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
        _rows(_spaced(users, _USERS)),
        _rows(_spaced(np.flatnonzero(counts), _ITEMS)),
        _rows(_spaced(users, _LISTED)),
        _rows(popular),
        _pairs(train, known, rates),
        _pairs(validation, known, rates),
    )


def of_rows(n_users: int, n_items: int) -> Sample:
    """The same without data: rows alone."""
    return Sample(
        _rows(_spaced(np.arange(n_users), _USERS)),
        _rows(_spaced(np.arange(n_items), _ITEMS)),
        _rows(_spaced(np.arange(n_users), _LISTED)),
        None,
        None,
        None,
    )
