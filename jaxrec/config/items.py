"""The sections of a configuration that are about item graphs."""

import math
from dataclasses import dataclass

from jaxrec.config.checks import check


@dataclass(frozen=True)
class PairsConfig:
    """Pairs of items: where they come from, and how many are held out."""

    test: float = 0.33
    """Share of the pairs held out as test, each with a negative pair beside it."""
    validation: float = 0.1
    """Share of the remaining pairs held out as validation, the same way; 0 for none."""
    bought_together: float = 1.2
    """Product metadata: weight of a related item of this kind; 0 leaves the kind out."""
    also_bought: float = 1.0
    """Product metadata: weight of a related item of this kind; 0 leaves the kind out."""
    also_viewed: float = 0.5
    """Product metadata: weight of a related item of this kind; 0 leaves the kind out."""
    buy_after_viewing: float = 0.0
    """Product metadata: weight of a related item of this kind; left out unless it is given."""
    window: float | None = None
    """Interactions: two items of a user are a pair where their times are at most so far apart
    (in the unit of the times: seconds mostly); any two where not given."""
    history: int = 200
    """Interactions: a user with more of them counts with so many of the latest; without times,
    with so many drawn at random (always the same ones)."""
    ranked: int = 10_000
    """Evaluation: rank all items for so many items at most, drawn evenly from those with held-out
    neighbours; 0 leaves the ranking out."""
    min_weight: float = 0.0
    """Leave out pairs that weigh less, once all that says the same pair is added up."""

    def __post_init__(self) -> None:
        for share in ("test", "validation"):
            value = getattr(self, share)
            check(0 <= value < 1, f"pairs.{share} is a share in [0, 1), not {value}")
        for name in (*RELATIONS, "min_weight"):
            value = getattr(self, name)
            check(0 <= value < math.inf, f"pairs.{name} is a weight of at least 0, not {value}")
        check(
            any(self.relations().values()),
            f"pairs.{', pairs.'.join(RELATIONS)} are all 0: no kind of related item is left",
        )
        check(
            self.window is None or self.window >= 0,
            f"pairs.window must not be negative, not {self.window}",
        )
        check(self.ranked >= 0, f"pairs.ranked must not be negative, not {self.ranked}")
        check(self.history >= 2, f"pairs.history must be at least 2, not {self.history}")

    def relations(self) -> dict[str, float]:
        """Weight of each kind of related item of product metadata."""
        return {name: getattr(self, name) for name in RELATIONS}


@dataclass(frozen=True)
class WalksConfig:
    """Random walks over item pairs, and which of the items in one are a pair to learn from."""

    count: int = 10
    """Walks from each item in an epoch, drawn anew each time."""
    length: int = 10
    """Items a walk, its start counted."""
    p: float = 1.0
    """node2vec: above 1 a walk seldom turns back, below 1 often. 1 with q = 1 is DeepWalk."""
    q: float = 1.0
    """node2vec: below 1 a walk leaves the neighbourhood that it comes from, above 1 it stays."""
    weighted: bool = True
    """Steps by the weights of the pairs, or to all neighbours alike."""
    window: int = 5
    """Items at most so far apart in a walk are a pair."""
    dynamic: bool = True
    """The window of each item is drawn from 1 to `window`, as word2vec's, so that near ones count
    more; or it is `window` always."""
    subsample: float = 0.0
    """An item of frequency f stays in a walk with probability sqrt(t/f) + t/f, t being this; 0
    keeps all (word2vec's subsampling of frequent words)."""

    def __post_init__(self) -> None:
        check(self.count >= 1, f"walks.count must be at least 1, not {self.count}")
        check(self.length >= 2, f"walks.length must be at least 2, not {self.length}")
        check(self.window >= 1, f"walks.window must be at least 1, not {self.window}")
        for name in ("p", "q"):
            value = getattr(self, name)
            check(0.01 <= value <= 100, f"walks.{name} is a number in [0.01, 100], not {value}")
        check(
            0 <= self.subsample < 1, f"walks.subsample is a share in [0, 1), not {self.subsample}"
        )


OVER_ITEMS = ("skipgram", "item-mf")
"""Models of items alone, which learn from an item graph."""
RELATIONS = ("bought_together", "also_bought", "also_viewed", "buy_after_viewing")
"""The kinds of related items of product metadata."""
