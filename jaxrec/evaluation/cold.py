"""Counts of cold users and items, which have no train pairs, and results without them."""

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
    """Masks of the users [U] and items [I] that have train pairs."""

    user_U: np.ndarray
    item_I: np.ndarray

    @classmethod
    def of(cls, train: Counted) -> Met:
        return cls(train.user_counts() > 0, train.item_counts() > 0)

    def counts(self, relevant: ItemsByUser) -> dict[str, int]:
        """Count the cold users and items of a held-out split, and all of its users and items."""
        users, items = relevant.degree > 0, relevant.item_counts(len(self.item_I)) > 0
        return {
            "users": int((users & ~self.user_U).sum()),
            "of_users": int(users.sum()),
            "items": int((items & ~self.item_I).sum()),
            "of_items": int(items.sum()),
        }

    def pairs(self, held_out: Dataset) -> Dataset:
        """Select the held-out pairs whose user and item both have train pairs."""
        return held_out.take(self.user_U[held_out.user] & self.item_I[held_out.item])


class View(NamedTuple):
    """Relevant items by user, and the items that are ranked, [I] bool or None for all."""

    relevant: ItemsByUser
    allowed: np.ndarray | None

    def without(
        self,
        met: Met,
        parts: tuple[int, ...] | None = None,
        total: Callable[[np.ndarray], np.ndarray] = lambda counts: counts,
    ) -> View:
        """Return the view without cold users and items.

        Args:
          met: the users and items that are not cold.
          parts: numbers of the partitions whose pairs this process counts, if ``relevant`` is
            partitioned; default: ``relevant.parts``.
          total: function that sums an array of counts over all processes.
        """
        allowed = met.item_I if self.allowed is None else self.allowed & met.item_I
        relevant = self.relevant
        if isinstance(relevant, Csr):
            return View(relevant.among(*met), allowed)
        rows = cast("PartRows", relevant)
        return View(rows.among(*met, rows.parts if parts is None else parts, total), allowed)


class Cold(NamedTuple):
    """Counts of cold users and items, and evaluators with the other setting of ``eval.cold``.

    Attributes:
      counts: result of :meth:`Met.counts`.
      left_out: whether the main result excludes cold users and items.
      other: evaluator with the other setting; None if nothing is cold, or everything is cold.
      ratings: rating evaluator with the other setting.
    """

    counts: dict[str, int]
    left_out: bool
    other: Evaluator | None = None
    ratings: RatingEvaluator | None = None


def refuse_nothing(config: Config, split: str, view: View) -> None:
    """Raise InputError if ``eval.cold`` drops cold users and items, and no pair is left."""
    if config.eval.cold == "drop" and not view.relevant.degree.any():
        raise InputError(
            f"eval.cold drop leaves no {split} pair, because the user or the item of each has no "
            "train pair; set eval.cold keep, or evaluate another split"
        )


def sentence(split: str, result: dict[str, Any], metric: str) -> str | None:
    """Return a line about the cold users and items of a split; None if the split has none.

    Args:
      result: result of the split in eval.json.
      metric: name of the metric to show; if it was not measured, the first measured one is shown.
    """
    cold = result.get("cold") or {}
    counts = [
        f"{cold[kind]:,} of {cold[f'of_{kind}']:,} {kind}"
        for kind in ("users", "items", "pairs")
        if cold.get(kind)
    ]
    if not counts:
        return None
    whole = result.get("metrics", {})
    name = metric if metric in whole else next(iter(whole), "")
    if "pairs" in cold:
        seen = whole.get(f"{name}_seen")
        rest = (
            ""
            if seen is None
            else f"; {name} is {whole[name]:.4f}, and {seen:.4f} without these pairs"
        )
        return f"{split}: {' in '.join(counts)} with no train pair{rest}"
    way = "with" if cold.get("left_out") else "without"
    other = cold.get(way, {}).get(name)
    if other is not None:
        rest = f"{name} is {whole[name]:.4f}, and {other:.4f} {way} them"
    else:
        rest = "all held-out pairs belong to them"
    left = ", and are left out" if cold.get("left_out") else ""
    return f"{split}: {' and '.join(counts)} have no train pair{left}; {rest}"
