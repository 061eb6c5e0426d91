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


OVER_ITEMS = ("skipgram", "item-mf")
"""Models of items alone, which learn from an item graph."""
RELATIONS = ("bought_together", "also_bought", "also_viewed", "buy_after_viewing")
"""The kinds of related items of product metadata."""
