"""Derive a separate random key for each purpose, so that no key is used twice.

``jax.random.split(key, n)[i]`` equals ``jax.random.fold_in(key, i)``, so a key that is both split
and folded returns the same child twice. Therefore all child keys are derived by :func:`child`,
from the numbers below.
"""

from enum import IntEnum, unique

import jax
from jaxtyping import PRNGKeyArray


@unique
class OfSeed(IntEnum):
    """Child keys of a run's seed."""

    SEARCH = 0
    REFIT = 1
    CHANCE = 2  # the baseline that ranks at random
    WALKS = 3  # the random walks of `jaxrec data walks`


@unique
class OfPhase(IntEnum):
    """Child keys of a phase's key."""

    PARAMETERS = 0
    DATA = 1


@unique
class OfParameters(IntEnum):
    """Child keys of the parameters' key, with large numbers, since flax derives keys 0, 1, ..."""

    SPECTRAL = 1 << 16


@unique
class OfData(IntEnum):
    """Child keys of the data's key, for models of users and items."""

    POSITIVES = 0
    NEGATIVES = 1
    DROPOUT = 2
    HARD = 3
    NEIGHBORS = 4
    EXPOSED = 5


@unique
class OfItems(IntEnum):
    """Child keys of the data's key, for item models."""

    WALKS = 0
    ORDER = 1
    NEGATIVES = 2
    WINDOWS = 3


def child(key: PRNGKeyArray, purpose: IntEnum) -> PRNGKeyArray:
    """Return the child key for a purpose."""
    return jax.random.fold_in(key, int(purpose))
