"""What of the data a configuration does not read, and the option that would use it."""

from collections.abc import Mapping, Sequence

import numpy as np

from jaxrec.config import Config
from jaxrec.data.dataset import Counted, Dataset
from jaxrec.graph.bipartite import has_levels

_MANY_LEVELS = 10
"""Whole numbers up to here are stars; higher ones are counts of something."""


def unread(config: Config, parts: Sequence[Counted]) -> list[str]:
    """A line for each column that the run leaves unread; none where it reads all there is.

    Args:
      parts: train, validation and test; of data in parts on disk nothing is told. Columns of one
        value say nothing, and are passed over.
    """
    whole = [part for part in parts if isinstance(part, Dataset)]
    if not whole:
        return []
    found = [_ratings(config, whole), _weights(config, whole), _exposed(config, whole)]
    return [line for line in found if line is not None]


_SAID = ("ids of ", "left out", "not read", "times ")


def noted(notes: Mapping[str, int]) -> list[str]:
    """Of the notes of data, a line for each that changes what is trained on."""
    return [f"{what}: {count:,}" for what, count in notes.items() if what.startswith(_SAID)]


def _range(parts: Sequence[Dataset], name: str) -> tuple[float, float] | None:
    columns = [getattr(part, name) for part in parts if part.n_edges]
    if not columns or any(column is None for column in columns):
        return None
    return min(float(c.min()) for c in columns), max(float(c.max()) for c in columns)


def _ratings(config: Config, parts: Sequence[Dataset]) -> str | None:
    found = _range(parts, "rating")
    if found is None or config.filter.min_rating is not None:
        return None
    if "rating" in config.objective.reads:
        return None
    low, high = found
    if low == high >= 0:
        return None
    of = f"ratings {low:g} to {high:g}" if low < high else f"ratings of {low:g}"
    levels = config.model.levels
    if config.model.kind.rating_levels and (has_levels(parts[0]) if levels is None else levels):
        of += f" are types of edges, and are not used by loss {config.loss.name}"
    else:
        of += " are not used"
    line = f"{of}: every pair counts as a positive; --filter.min-rating keeps the likes"
    if low >= 0 and high > _MANY_LEVELS and _whole(parts):
        line += ", and counts are weights: `jaxrec data import ... --columns.weight COLUMN`"
    return line


def _whole(parts: Sequence[Dataset]) -> bool:
    ratings = (part.rating for part in parts if part.rating is not None)
    return all(bool((rating == np.round(rating)).all()) for rating in ratings)


def _weights(config: Config, parts: Sequence[Dataset]) -> str | None:
    found = _range(parts, "weight")
    if found is None or found[0] == found[1] or not config.model.sampled:
        return None
    return (
        f"weights {found[0]:g} to {found[1]:g} are used by the loss, and not by pinsage's choice "
        "of neighbours; lightgcn's layers use them"
    )


def _exposed(config: Config, parts: Sequence[Dataset]) -> str | None:
    shown = parts[0].exposed
    if shown is None or not len(shown.user) or not config.objective.negatives:
        return None
    if config.negatives.name == "exposed":
        return None
    return (
        f"{len(shown.user):,} pairs that were shown and left alone are not used; "
        "--negatives.name exposed draws negatives from them"
    )
