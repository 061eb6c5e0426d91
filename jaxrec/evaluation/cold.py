"""Users and items that are held out and that training has no pair of: how many, and results
without them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np

from jaxrec.config import Config
from jaxrec.data.dataset import Counted, Csr, Dataset, ItemsByUser
from jaxrec.errors import InputError

if TYPE_CHECKING:
    from jaxrec.evaluation.ranking import Evaluator
    from jaxrec.evaluation.ratings import RatingEvaluator
    from jaxrec.parted.stored import PartRows


class Met(NamedTuple):
    """Who has a train pair: masks of users [U] and items [I]."""

    user_U: np.ndarray
    item_I: np.ndarray

    @classmethod
    def of(cls, train: Counted) -> Met:
        return cls(train.user_counts() > 0, train.item_counts() > 0)

    def counts(self, relevant: ItemsByUser) -> dict[str, int]:
        """How many of the users and items of a held-out part are not among these."""
        users, items = relevant.degree > 0, relevant.item_counts(len(self.item_I)) > 0
        return {
            "users": int((users & ~self.user_U).sum()),
            "of_users": int(users.sum()),
            "items": int((items & ~self.item_I).sum()),
            "of_items": int(items.sum()),
        }

    def pairs(self, held_out: Dataset) -> Dataset:
        """The held-out pairs of these users with these items."""
        return held_out.take(self.user_U[held_out.user] & self.item_I[held_out.item])


class View(NamedTuple):
    """What a ranking is judged by: the items by user to be found, and those that are ranked,
    [I] bool, all where None."""

    relevant: ItemsByUser
    allowed: np.ndarray | None

    def without(
        self,
        met: Met,
        parts: tuple[int, ...] | None = None,
        total: Callable[[np.ndarray], np.ndarray] = lambda counts: counts,
    ) -> View:
        """The same without users and items that training has not met.

        Args:
          parts: those that this process counts, of rows in parts; its own where None.
          total: sums over all processes.
        """
        allowed = met.item_I if self.allowed is None else self.allowed & met.item_I
        relevant = self.relevant
        if isinstance(relevant, Csr):
            return View(relevant.among(*met), allowed)
        rows = cast("PartRows", relevant)
        return View(rows.among(*met, rows.parts if parts is None else parts, total), allowed)


class Cold(NamedTuple):
    """What is said of a split beside its result.

    Attributes:
      counts: as :meth:`Met.counts` gives them.
      left_out: whether the result is without them.
      other: judges the other way; None where nothing is cold, or nothing else is held out.
      ratings: judges ratings the other way.
    """

    counts: dict[str, int]
    left_out: bool
    other: Evaluator | None = None
    ratings: RatingEvaluator | None = None


def refuse_nothing(config: Config, split: str, view: View) -> None:
    """Raise InputError where leaving out the cold leaves nothing of a split that has pairs."""
    if config.eval.cold == "drop" and not view.relevant.degree.any():
        raise InputError(
            f"eval.cold drop leaves no {split} pair: in each the user or the item has no train "
            "pair; take eval.cold keep, or another split"
        )


def sentence(split: str, result: dict[str, Any], metric: str) -> str | None:
    """How many users and items of a split are cold, in a line; None where none is.

    Args:
      result: on the split, as it stands in eval.json.
      metric: that is shown; another where it was not measured.
    """
    cold = result.get("cold") or {}
    said = [
        f"{cold[kind]:,} of {cold[f'of_{kind}']:,} {kind}"
        for kind in ("users", "items", "pairs")
        if cold.get(kind)
    ]
    if not said:
        return None
    whole = result.get("metrics", {})
    name = metric if metric in whole else next(iter(whole), "")
    if "pairs" in cold:
        seen = whole.get(f"{name}_seen")
        rest = "" if seen is None else f"; without them {name} is {seen:.4f}, not {whole[name]:.4f}"
        return f"{split}: {' in '.join(said)} with no train pair{rest}"
    way = "with" if cold.get("left_out") else "without"
    other = cold.get(way, {}).get(name)
    if other is not None:
        rest = f"{way} them {name} is {other:.4f}, not {whole[name]:.4f}"
    else:
        rest = "nothing is held out but theirs"
    left = ", and are left out" if cold.get("left_out") else ""
    return f"{split}: {' and '.join(said)} have no train pair{left}; {rest}"
