"""Sampled evaluation (``uni100``): each held-out item is ranked among 100 sampled items.

Sampled metrics are biased and can order models differently from metrics over all items (Krichene
and Rendle 2020). Use sampled metrics only to compare with papers that report them, never to choose
a model.
"""

from collections.abc import Sequence

import jax
import numpy as np

from jaxrec.data.dataset import Csr
from jaxrec.evaluation.ranking import Scorer

DRAWN = 100
PROTOCOL = (
    "BIASED: each held-out item is ranked among 100 items drawn uniformly of those that the user "
    "does not have (He et al. 2017); not comparable with a ranking of all items"
)
_BLOCK = 256


def uni100(
    scorer: Scorer, relevant: Csr, seen: Csr, ks: Sequence[int], seed: int
) -> dict[str, float]:
    """Compute hit_rate@k and ndcg@k as means over held-out pairs.

    The ndcg@k of a pair is 1 / log2(rank + 1) if the rank is at most k, else 0. A sampled item with
    the same score as the held-out item ranks above it.

    Args:
      scorer: scores all items.
      relevant: held-out items by user.
      seen: known items by user; neither known nor held-out items are sampled.
      ks: cut-offs.
      seed: seed of the sample, which is drawn with replacement.
    """
    rng = np.random.default_rng(seed)
    scores_of = jax.jit(scorer.fn)
    rank_P = []
    users = np.flatnonzero(relevant.degree)
    for start in range(0, len(users), _BLOCK):
        user_B = users[start : start + _BLOCK]
        # All blocks have one shape, so the program is compiled once.
        padded = np.resize(user_B, _BLOCK).astype(np.int32)
        score_BI = np.asarray(scores_of(scorer.params, padded))
        for row, user in enumerate(user_B):
            held_out = relevant.indices[relevant.indptr[user] : relevant.indptr[user + 1]]
            had = seen.indices[seen.indptr[user] : seen.indptr[user + 1]]
            free = np.ones(scorer.n_items, bool)
            free[held_out] = free[had] = False
            others = np.flatnonzero(free)
            if not len(others):
                continue
            drawn = others[rng.integers(0, len(others), (len(held_out), DRAWN))]
            own_score = score_BI[row, held_out][:, None]
            rank_P.append(1 + (score_BI[row, drawn] >= own_score).sum(axis=1))
    rank = np.concatenate(rank_P) if rank_P else np.zeros(0, np.int64)
    values = {}
    for k in ks:
        inside = rank <= k
        values[f"hit_rate@{k}"] = float(inside.mean()) if len(rank) else 0.0
        gain = inside / np.log2(rank + 1.0)
        values[f"ndcg@{k}"] = float(gain.mean()) if len(rank) else 0.0
    return values
