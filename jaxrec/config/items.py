"""The sections of a configuration that are about item graphs."""

from dataclasses import dataclass
from typing import Annotated

from jaxrec.config.checks import INT32, Count, Range, Share, check, check_fields

Weight = Annotated[float, Range(0, 1e9)]
"""Of a kind of related item."""


@dataclass(frozen=True)
class PairsConfig:
    """Pairs of items: where they come from, and how many are held out."""

    test: Share = 0.33
    """Share of the pairs held out as test, each with a negative pair beside it."""
    validation: Share = 0.1
    """Share of the remaining pairs held out as validation, the same way; 0 for none."""
    bought_together: Weight = 1.2
    """Product metadata: weight of a related item of this kind; 0 leaves the kind out."""
    also_bought: Weight = 1.0
    """Product metadata: weight of a related item of this kind; 0 leaves the kind out."""
    also_viewed: Weight = 0.5
    """Product metadata: weight of a related item of this kind; 0 leaves the kind out."""
    buy_after_viewing: Weight = 0.0
    """Product metadata: weight of a related item of this kind; left out unless it is given."""
    window: Annotated[float | None, Range(0, 1e300)] = None
    """Interactions: two items of a user are a pair where their times are at most so far apart
    (in the unit of the times: seconds mostly); any two where not given."""
    history: Annotated[int, Range(2, INT32)] = 200
    """Interactions: a user with more of them counts with so many of the latest; without times,
    with so many drawn at random (always the same ones)."""
    ranked: Count = 10_000
    """Evaluation: rank all items for so many items at most, drawn evenly from those with held-out
    neighbours; 0 leaves the ranking out."""
    min_weight: Annotated[float, Range(0, 1e30)] = 0.0
    """Leave out pairs that weigh less, once all that says the same pair is added up."""

    def __post_init__(self) -> None:
        check_fields(self, "pairs")
        check(
            any(self.relations().values()),
            f"pairs.{', pairs.'.join(RELATIONS)} are all 0: no kind of related item is left",
        )

    def relations(self) -> dict[str, float]:
        """Weight of each kind of related item of product metadata."""
        return {name: getattr(self, name) for name in RELATIONS}


@dataclass(frozen=True)
class WalksConfig:
    """Random walks over item pairs, and which of the items in one are a pair to learn from."""

    count: Annotated[int, Range(1, 10_000)] = 10
    """Walks from each item in an epoch, drawn anew each time."""
    length: Annotated[int, Range(2, 10_000)] = 10
    """Items a walk, its start counted."""
    p: Annotated[float, Range(0.01, 100)] = 1.0
    """node2vec: above 1 a walk seldom turns back, below 1 often. 1 with q = 1 is DeepWalk."""
    q: Annotated[float, Range(0.01, 100)] = 1.0
    """node2vec: below 1 a walk leaves the neighbourhood that it comes from, above 1 it stays."""
    weighted: bool = True
    """Steps by the weights of the pairs, or to all neighbours alike."""
    window: Annotated[int, Range(1, 10_000)] = 5
    """Items at most so far apart in a walk are a pair."""
    dynamic: bool = True
    """The window of each item is drawn from 1 to `window`, as word2vec's, so that near ones count
    more; or it is `window` always."""
    subsample: Share = 0.0
    """An item of frequency f stays in a walk with probability sqrt(t/f) + t/f, t being this; 0
    keeps all (word2vec's subsampling of frequent words)."""

    def __post_init__(self) -> None:
        check_fields(self, "walks")


RELATIONS = ("bought_together", "also_bought", "also_viewed", "buy_after_viewing")
"""The kinds of related items of product metadata."""
