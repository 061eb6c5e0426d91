"""The sections of a configuration for item graphs."""

from dataclasses import dataclass
from typing import Annotated

from jaxrec.config.checks import INT32, Count, Range, Share, check, check_fields

Weight = Annotated[float, Range(0, 1e9)]
"""Type of the weight that item pairs of one relation get."""


@dataclass(frozen=True)
class PairsConfig:
    """Sources of item pairs, and the shares of the pairs that are held out."""

    test: Share = 0.33
    """Share of the pairs held out as test; each held-out pair gets a negative pair."""
    validation: Share = 0.1
    """Share of the remaining pairs held out as validation, also with negative pairs; 0 for none."""
    bought_together: Weight = 1.2
    """Product metadata: weight of a related item of this kind; 0 leaves the kind out."""
    also_bought: Weight = 1.0
    """Product metadata: weight of a related item of this kind; 0 leaves the kind out."""
    also_viewed: Weight = 0.5
    """Product metadata: weight of a related item of this kind; 0 leaves the kind out."""
    buy_after_viewing: Weight = 0.0
    """Product metadata: weight of a related item of this kind; by default the kind is left out."""
    window: Annotated[float | None, Range(0, 1e300)] = None
    """Interactions: two items of a user form a pair if their times differ by at most this (in the
    data's unit, mostly seconds); default: no limit."""
    history: Annotated[int, Range(2, INT32)] = 200
    """Interactions: use at most this many of each user's interactions, the latest ones; without
    times, a fixed random choice of them."""
    ranked: Count = 10_000
    """Evaluation: rank all items as neighbours of at most this many items, which are drawn
    uniformly from the items with held-out neighbours; 0 for no ranking."""
    min_weight: Annotated[float, Range(0, 1e30)] = 0.0
    """Drop pairs whose total weight is smaller than this."""

    def __post_init__(self) -> None:
        check_fields(self, "pairs")
        check(
            any(self.relations().values()),
            f"pairs.{', pairs.'.join(RELATIONS)} are all 0; give at least one a weight",
        )

    def relations(self) -> dict[str, float]:
        """Return the weight of each kind of related item of product metadata."""
        return {name: getattr(self, name) for name in RELATIONS}


@dataclass(frozen=True)
class WalksConfig:
    """Random walks over item pairs, and the training pairs taken from them."""

    count: Annotated[int, Range(1, 10_000)] = 10
    """Walks from each item per epoch, drawn again in each epoch."""
    length: Annotated[int, Range(2, 10_000)] = 10
    """Items per walk, including its start."""
    p: Annotated[float, Range(0.01, 100)] = 1.0
    """node2vec return parameter: above 1, walks seldom turn back; below 1, they often do.
    p = q = 1 is DeepWalk."""
    q: Annotated[float, Range(0.01, 100)] = 1.0
    """node2vec in-out parameter: below 1, walks leave the neighbourhood; above 1, they stay."""
    weighted: bool = True
    """Draw steps by the weights of the pairs; if off, uniformly over neighbours."""
    window: Annotated[int, Range(1, 10_000)] = 5
    """Largest distance in a walk between two items of a pair."""
    dynamic: bool = True
    """Draw each item's window from 1 to `window`, as in word2vec, so that near items count more; if
    off, always use `window`."""
    subsample: Share = 0.0
    """Keep an item of frequency f in a walk with probability sqrt(t/f) + t/f, where t is this
    option; 0 keeps all (word2vec's subsampling)."""

    def __post_init__(self) -> None:
        check_fields(self, "walks")


RELATIONS = ("bought_together", "also_bought", "also_viewed", "buy_after_viewing")
"""The kinds of related items of product metadata."""
