"""Notes on data that a configuration does not read, with the option that would use it."""

from collections.abc import Mapping, Sequence

import numpy as np

from jaxrec.config import Config
from jaxrec.data.dataset import Counted, Dataset
from jaxrec.graph.bipartite import has_levels

_MANY_LEVELS = 10
"""Whole-number ratings are taken for counts if the largest one is above this limit."""


def unread(config: Config, parts: Sequence[Counted]) -> list[str]:
    """Return a line for each column that the run does not read.

    Args:
      parts: train, validation and test. Partitioned data on disk and columns with a single value
        give no lines.
    """
    whole = [part for part in parts if isinstance(part, Dataset)]
    if not whole:
        return []
    found = [_ratings(config, whole), _weights(config, whole), _exposed(config, whole)]
    return [line for line in found if line is not None]


_CHANGES_TRAINING = ("ids of ", "left out", "not read", "times ")


def noted(notes: Mapping[str, int]) -> list[str]:
    """Return a line for each note about a change that reading made to the training data."""
    return [f"{note}: {n:,}" for note, n in notes.items() if note.startswith(_CHANGES_TRAINING)]


def _range(parts: Sequence[Dataset], name: str) -> tuple[float, float] | None:
    columns = [getattr(part, name) for part in parts if part.n_edges]
    if not columns or any(column is None for column in columns):
        return None
    return min(float(c.min()) for c in columns), max(float(c.max()) for c in columns)


def _ratings(config: Config, parts: Sequence[Dataset]) -> str | None:
    bounds = _range(parts, "rating")
    if bounds is None or config.filter.min_rating is not None:
        return None
    if "rating" in config.objective.reads:
        return None
    low, high = bounds
    if low == high >= 0:
        return None
    line = f"ratings {low:g} to {high:g}" if low < high else f"ratings of {low:g}"
    levels = config.model.levels
    if config.model.kind.rating_levels and (has_levels(parts[0]) if levels is None else levels):
        line += f" are types of edges, and are not used by loss {config.loss.name}"
    else:
        line += " are not used"
    line += ": every pair counts as a positive; --filter.min-rating R drops pairs rated below R"
    if low >= 0 and high > _MANY_LEVELS and _whole_numbers(parts):
        line += "; to use counts as weights: `jaxrec data import ... --columns.weight COLUMN`"
    return line


def _whole_numbers(parts: Sequence[Dataset]) -> bool:
    ratings = (part.rating for part in parts if part.rating is not None)
    return all(bool((rating == np.round(rating)).all()) for rating in ratings)


def _weights(config: Config, parts: Sequence[Dataset]) -> str | None:
    bounds = _range(parts, "weight")
    if bounds is None or bounds[0] == bounds[1] or not config.model.sampled:
        return None
    return (
        f"weights {bounds[0]:g} to {bounds[1]:g} are used by the loss, but not when pinsage "
        "samples neighbours; lightgcn's layers use them"
    )


def _exposed(config: Config, parts: Sequence[Dataset]) -> str | None:
    shown = parts[0].exposed
    if shown is None or not len(shown.user) or not config.objective.negatives:
        return None
    if config.negatives.name == "exposed":
        return None
    return (
        f"{len(shown.user):,} pairs that were shown but not chosen are not used; "
        "--negatives.name exposed draws negatives from them"
    )
