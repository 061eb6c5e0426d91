"""Evaluates item models: classifies labelled pairs, and ranks held-out neighbours.

The classification is measured by two areas, those under the ROC curve and the precision-recall
curve (:mod:`jaxrec.evaluation.threshold_curves`), over all pairs and over pairs of seen items. A
pair with an item that the model cannot score gets the median score of all other pairs (as in
"Beating the baseline recommender with graph and NLP in PyTorch", 2020). The ranking works as for
users: each query item's held-out neighbours are ranked among all items. The query item and its
train neighbours are masked.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from jaxrec.data.dataset import Csr, items_by_user
from jaxrec.data.itemgraph import ItemGraph, LabelledPairs
from jaxrec.data.pair_keys import distinct, pair_keys, rows_of_keys
from jaxrec.errors import InputError
from jaxrec.evaluation.ranking import Breakdown, Evaluator
from jaxrec.evaluation.scorers import PAIRS, PairFn, Scorer, dot_scorer, random_scorer
from jaxrec.evaluation.threshold_curves import areas, pr_curve, roc_curve
from jaxrec.evaluation.topk import power_of_two

_BLOCK = 2**15
_AREAS = ("auc", "average_precision")


def item_scorer(
    learned: Mapping[str, Any], scored_I: Bool[np.ndarray, "I"], *, context: bool = False
) -> Scorer:
    """Make the scorer of pairs of items (a, b): a · b, plus the biases of both items if any.

    Args:
      learned: "item" [I, D], and optionally "item_context" [I, D] and "item_bias" [I].
      scored_I: [I] bool, the items that can be scored. Other items are never recommended, and their
        own lists are empty.
      context: score by both tables, as (a · b' + a' · b) / 2, where a' and b' are the rows of
        "item_context".
    """
    left_ID = right_ID = jnp.asarray(learned["item"])
    if context:
        other_ID = jnp.asarray(learned["item_context"])
        left_ID = jnp.concatenate([left_ID, other_ID], axis=1)
        right_ID = jnp.concatenate([other_ID, right_ID], axis=1) * jnp.float32(0.5)
    bias_I = jnp.asarray(learned.get("item_bias", jnp.zeros(len(left_ID))), jnp.float32)
    bias_I = jnp.where(jnp.asarray(scored_I), bias_I, -jnp.inf)
    return dot_scorer(left_ID, right_ID, user_bias_U=bias_I, item_bias_I=bias_I)


def baselines(train: ItemGraph, scored_I: Bool[np.ndarray, "I"], seed: int) -> dict[str, Scorer]:
    """Return the two baselines of every result: random and popularity.

    Popularity scores a pair by the sum of log(1 + number of train pairs) over both items.
    """
    nothing_I1 = np.zeros((train.n_items, 1), np.float32)
    popularity_I = np.log1p(train.degree()).astype(np.float32)
    return {
        "popularity": item_scorer({"item": nothing_I1, "item_bias": popularity_I}, scored_I),
        "random": random_scorer(seed, train.n_items),
    }


class Judged(NamedTuple):
    """Scores and labels of pairs, and whether both items of a pair are seen. Shapes: [P]."""

    score_P: np.ndarray
    label_P: np.ndarray
    seen_P: np.ndarray

    def metrics(self) -> dict[str, float]:
        """Compute the areas over all pairs, and over the pairs of seen items.

        The areas over pairs of seen items are omitted if all of these pairs have the same label.

        Raises:
          RunError: a score is NaN.
        """
        whole = areas(self.score_P, self.label_P)
        values: dict[str, float] = dict(zip(_AREAS, whole, strict=True))
        label_P = self.label_P[self.seen_P]
        if label_P.any() and not label_P.all():
            seen = areas(self.score_P[self.seen_P], label_P)
            values |= {f"{name}_seen": area for name, area in zip(_AREAS, seen, strict=True)}
        return values

    def curves(self) -> dict[str, np.ndarray]:
        """Return the content of curves.npz, with at most 1,000 points per curve."""
        roc = roc_curve(self.score_P, self.label_P).thinned()
        pr = pr_curve(self.score_P, self.label_P).thinned()
        return {
            "roc_fpr": roc.x,
            "roc_tpr": roc.y,
            "roc_threshold": roc.threshold,
            "pr_recall": pr.x,
            "pr_precision": pr.y,
            "pr_threshold": pr.threshold,
        }


class PairEvaluator:
    """Evaluates item scorers on held-out pairs.

    Args:
      held_out: the labelled pairs.
      train: the train pairs; items with a train pair are seen.
      ks: cut-offs K of the ranking.
      masked: further labelled pairs, whose positive pairs are masked in the ranking; the validation
        pairs, if ``held_out`` has the test pairs.
      scored_I: items that the model can score; default: seen items.
      ranked: largest number of query items, which are drawn uniformly from the items with held-out
        neighbours; 0 skips the ranking.
      seed: seed of the draw of query items.
      block: number of query items ranked at once on a device; default: chosen by device memory.

    Raises:
      InputError: there are no held-out pairs.
    """

    def __init__(
        self,
        held_out: LabelledPairs,
        train: ItemGraph,
        ks: Sequence[int],
        *,
        masked: LabelledPairs | None = None,
        scored_I: Bool[np.ndarray, "I"] | None = None,
        ranked: int = 10_000,
        seed: int = 0,
        block: int | None = None,
    ) -> None:
        if not held_out.n_pairs:
            raise InputError(
                "nothing to evaluate: no pairs are held out in this split; hold some out with "
                "--pairs.test or --pairs.validation"
            )
        self._pairs = held_out
        self.pairs = held_out.n_pairs
        self._seen_I = seen_I = train.degree() > 0
        self.scored_I = seen_I if scored_I is None else scored_I
        self._seen_P = seen_I[held_out.a_P] & seen_I[held_out.b_P]
        self._scored_P = self.scored_I[held_out.a_P] & self.scored_I[held_out.b_P]
        self._ranking = None
        if ranked:
            relevant, known = _neighbours(held_out, train, masked, ranked, seed)
            self._ranking = Evaluator(relevant, known, ks, train.n_items, block=block)

    @property
    def cold(self) -> dict[str, int]:
        """Counts of the held-out pairs with cold items, and of the cold items in held-out pairs."""
        items = np.unique(np.concatenate([self._pairs.a_P, self._pairs.b_P]))
        return {
            "pairs": int((~self._seen_P).sum()),
            "of_pairs": self.pairs,
            "items": int((~self._seen_I[items]).sum()),
            "of_items": len(items),
        }

    @property
    def users(self) -> int:
        """The number of query items."""
        return 0 if self._ranking is None else self._ranking.users

    def judge(self, scorer: Scorer) -> Judged:
        """Score the held-out pairs."""
        held_out, scored_P = self._pairs, self._scored_P
        score_P = np.zeros(held_out.n_pairs)
        score_P[scored_P] = scores(scorer, held_out.a_P[scored_P], held_out.b_P[scored_P])
        if scored_P.any() and not scored_P.all():
            score_P[~scored_P] = np.median(score_P[scored_P])
        return Judged(score_P, held_out.label_P, self._seen_P)

    def __call__(
        self, scorer: Scorer, should_stop: Callable[[], bool] | None = None
    ) -> dict[str, float] | None:
        """Compute areas and ranking metrics; None if ``should_stop`` returned True.

        Raises:
          RunError: a score is NaN.
        """
        if should_stop is not None and should_stop():
            return None
        values = self.judge(scorer).metrics()
        if self._ranking is None:
            return values
        ranked = self._ranking(scorer, should_stop)
        return None if ranked is None else values | ranked

    def breakdown(
        self, scorer: Scorer, k: int, should_stop: Callable[[], bool] | None = None
    ) -> Breakdown | None:
        """Compute recall@k by query item and hits by item, as :meth:`Evaluator.breakdown`.

        Returns None if ``should_stop`` returned True, or if nothing is ranked.
        """
        return self._ranking and self._ranking.breakdown(scorer, k, should_stop)


@partial(jax.jit, static_argnums=0)
def _block_scores(
    fn: PairFn, params: Any, a_B: Int[Array, "B"], b_B: Int[Array, "B"]
) -> Float[Array, "B"]:
    return fn(params, a_B, b_B)


def scores(
    scorer: Scorer, a_P: Int[np.ndarray, "P"], b_P: Int[np.ndarray, "P"]
) -> Float[np.ndarray, "P"]:
    """Score pairs, [P] float32, block by block on the device."""
    size = min(_BLOCK, power_of_two(len(a_P)))
    waiting: list[Array] = []
    blocks: list[np.ndarray] = []
    for start in range(0, len(a_P), size):
        ends = (side[start : start + size] for side in (a_P, b_P))
        ends = (np.pad(side, (0, size - len(side))) for side in ends)
        waiting.append(_block_scores(PAIRS[scorer.fn], scorer.params, *ends))
        if len(waiting) == 2:
            blocks.append(jax.device_get(waiting.pop(0)))
    blocks += jax.device_get(waiting)
    return np.concatenate([np.zeros(0, np.float32), *blocks])[: len(a_P)]


def _neighbours(
    held_out: LabelledPairs,
    train: ItemGraph,
    masked: LabelledPairs | None,
    ranked: int,
    seed: int,
) -> tuple[Csr, Csr]:
    """Return the held-out neighbours and the masked items of the query items."""
    n = train.n_items
    queries = distinct(np.concatenate([side[held_out.label_P] for side in held_out[:2]]))
    if len(queries) > ranked:
        rng = np.random.default_rng([seed, 5])
        queries = np.sort(rng.choice(queries, ranked, replace=False))
    asks_I = np.zeros(n, bool)
    asks_I[queries] = True
    known = [(train.src, train.dst)]
    if masked is not None:
        known.append((masked.a_P[masked.label_P], masked.b_P[masked.label_P]))
    relevant = _csr([(held_out.a_P[held_out.label_P], held_out.b_P[held_out.label_P])], asks_I)
    return relevant, _csr(known, asks_I, itself=True)


def _csr(
    pairs: Sequence[tuple[np.ndarray, np.ndarray]], asks_I: np.ndarray, itself: bool = False
) -> Csr:
    """Build a CSR of the pairs in both directions; only the rows of query items have entries.

    ``itself`` adds each query item to its own row.
    """
    n = len(asks_I)
    keys = [np.flatnonzero(asks_I) * (n + 1)] if itself else []
    for pair in pairs:
        for row, column in (pair, pair[::-1]):
            kept = asks_I[row]
            keys.append(pair_keys(row[kept], column[kept], n))
    return items_by_user(*rows_of_keys(distinct(np.concatenate(keys)), n), n, n)
