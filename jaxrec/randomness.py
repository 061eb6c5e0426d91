"""One random key for each purpose: no key draws numbers twice, or draws and has children.

``jax.random.split(key, n)[i]`` is ``jax.random.fold_in(key, i)``: a key that is both split and
folded gives the same child out twice. So children are made here alone, by the names below.
"""

from enum import IntEnum, unique

import jax
from jaxtyping import PRNGKeyArray


@unique
class OfSeed(IntEnum):
    """Children of a run's seed."""

    SEARCH = 0
    REFIT = 1
    CHANCE = 2  # the baseline that ranks at random
    WALKS = 3  # of `jaxrec data walks`


@unique
class OfPhase(IntEnum):
    """Children of a phase's key."""

    PARAMETERS = 0
    DATA = 1


@unique
class OfParameters(IntEnum):
    """Children of the key of the initial parameters; flax counts its own from 0."""

    SPECTRAL = 1 << 16


@unique
class OfData(IntEnum):
    """Children of the data's key, where users and items are trained."""

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
    """The key of one purpose."""
    return jax.random.fold_in(key, int(purpose))
