"""Metrics of lists beyond accuracy: use of the catalogue, novelty, diversity and fairness. ``jaxrec
evaluate RUN --metrics gini novelty`` adds them.

Throughout, L_u is the list of user u, cut at k, and n is the number of users with a list. For item
i, c_i is the number of lists with the item, p_i = c_i / Σ c is its share of all list entries, and
f_i is the number of its train users. U is the number of all users, and I that of all items.

gini@k              Gini index of c over all items: 0 if all items are shown equally often,
                    (I - 1) / I if only one item is shown (Fleder and Hosanagar 2009).
entropy@k           - Σ p_i ln p_i, in nats (Shannon 1948; as a measure of aggregate diversity
                    Adomavicius and Kwon 2012).
novelty@k           the mean over users of the mean of - log2(f_i / U) over the items in L_u, the
                    self-information (Zhou et al. 2010). For an item without train users, f_i counts
                    as 1.
epc@k               expected popularity complement: the mean over users of
                    Σ_r d_r (1 - f_i / U) / Σ_r d_r with d_r = 1 / log2(r + 1), without regard to
                    relevance (Vargas and Castells 2011).
popularity@k        average popularity: the mean over users of the mean f_i of the items in L_u
                    (Yin et al. 2012).
popularity_lift@k   (g_L - g_P) / g_P over the users with train items, where g_L is their
                    popularity@k, and g_P is the mean over these users of the mean f_i of their
                    train items (Abdollahpouri et al. 2020); 0 if both are equally popular.
diversity@k         intra-list diversity: the mean over users of the mean of 1 - cosine over all
                    pairs of items in L_u, where an item's vector is the binary vector of its train
                    users (Zhang and Hurley 2008).
personalisation@k   the mean over pairs of users of 1 - |L_u ∩ L_v| / k (Zhou et al. 2010).
serendipity@k       the mean over users of |hits in L_u outside the popularity list| / k (Ge et al.
                    2010, with popularity as the primitive recommender, as Murakami et al. 2008).
miscalibration@k    the mean over users of KL(p || 0.99 q + 0.01 p), where p has the shares of head,
                    middle and tail items in the user's train items, and q has their shares in L_u
                    (Steck 2018). Users without train items do not count.
                    Head items are the most popular items, with 1/5 of the train pairs. Tail items
                    are the least popular items, with 1/5 of the train pairs. Middle items are the
                    rest (Abdollahpouri et al. 2020).
user_gap@k          the mean recall@k of the 5 % of users with the most train items, minus the mean
                    recall@k of all other users (Li et al. 2021, "user-oriented fairness").
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from jaxrec.data.dataset import Csr
from jaxrec.errors import InputError, nearest
from jaxrec.evaluation.ranking import Lists

_ALPHA = 0.01
_ACTIVE = 0.05
_BLOCK = 4096


class Shown(NamedTuple):
    """Lists cut at k, with facts about users and items.

    Attributes:
      item_nk: items by rank; -1 past the end of a list.
      hit_nk: whether each item in ``item_nk`` is relevant to the user.
      relevant_n: number of relevant items of each user.
      user_n: the users.
      train: train items by user, for all users.
      count_I: number of train users of each item.
      popular_nk: the lists of the popularity baseline, in the form of ``item_nk``.
    """

    item_nk: np.ndarray
    hit_nk: np.ndarray
    relevant_n: np.ndarray
    user_n: np.ndarray
    train: Csr
    count_I: np.ndarray
    popular_nk: np.ndarray

    @property
    def n_users(self) -> int:
        return len(self.train.degree)

    @property
    def listed_nk(self) -> np.ndarray:
        return self.item_nk >= 0

    def mean(self, value_I: np.ndarray) -> np.ndarray:
        """Return the mean of ``value_I`` over each user's list, [n]; 0 for an empty list."""
        total = np.where(self.listed_nk, value_I[self.item_nk], 0.0).sum(axis=1)
        return total / np.maximum(self.listed_nk.sum(axis=1), 1)

    def shown_I(self) -> np.ndarray:
        """Return c, the number of lists that contain each item, [I]."""
        return np.bincount(self.item_nk[self.listed_nk], minlength=len(self.count_I))


def gini(shown: Shown) -> float:
    c_I = np.sort(shown.shown_I()).astype(np.float64)
    n, total = len(c_I), c_I.sum()
    rank_I = np.arange(1, n + 1)
    return float(((2 * rank_I - n - 1) * c_I).sum() / (n * total)) if total else 0.0


def entropy(shown: Shown) -> float:
    c_I = shown.shown_I().astype(np.float64)
    p = c_I[c_I > 0] / max(c_I.sum(), 1.0)
    return float(-(p * np.log(p)).sum())


def novelty(shown: Shown) -> float:
    return float(shown.mean(-np.log2(np.maximum(shown.count_I, 1) / shown.n_users)).mean())


def epc(shown: Shown) -> float:
    unseen_I = 1 - shown.count_I / shown.n_users
    discount_nk = shown.listed_nk / np.log2(np.arange(2, shown.item_nk.shape[1] + 2))
    total = np.maximum(discount_nk.sum(axis=1), 1e-12)
    return float(((discount_nk * unseen_I[shown.item_nk]).sum(axis=1) / total).mean())


def popularity(shown: Shown) -> float:
    return float(shown.mean(shown.count_I.astype(np.float64)).mean())


def popularity_lift(shown: Shown) -> float:
    known = shown.train.take(shown.user_n)
    user = np.repeat(np.arange(len(shown.user_n)), known.degree)
    weight = shown.count_I[known.indices].astype(np.float64)
    has = known.degree > 0
    total_n = np.bincount(user, weight, minlength=len(shown.user_n))
    tastes = float((total_n[has] / known.degree[has]).mean()) if has.any() else 0.0
    lists = float(shown.mean(shown.count_I.astype(np.float64))[has].mean()) if has.any() else 0.0
    return (lists - tastes) / tastes if tastes else 0.0


def diversity(shown: Shown) -> float:
    from scipy import sparse

    train, n_items = shown.train, len(shown.count_I)
    ones = np.ones(len(train.indices))
    held = sparse.csr_array((ones, train.indices, train.indptr), (shown.n_users, n_items))
    unit_IU = held.T.multiply(1 / np.sqrt(np.maximum(shown.count_I, 1))[:, None]).tocsr()
    has_I = shown.count_I > 0
    totals = []
    for start in range(0, len(shown.user_n), _BLOCK):
        item_bk = shown.item_nk[start : start + _BLOCK]
        listed_bk = item_bk >= 0
        indptr = np.append(0, np.cumsum(listed_bk.sum(axis=1)))
        items = item_bk[listed_bk]
        rows = sparse.csr_array((np.ones(len(items)), items, indptr), (len(item_bk), n_items))
        total = rows @ unit_IU
        # The squared length of a sum of unit vectors is the number of vectors plus twice the sum of
        # the cosines of all pairs.
        squared_b = total.multiply(total).sum(axis=1)
        own_b, size_b = rows @ has_I.astype(np.float64), np.diff(indptr)
        pairs_b = size_b * (size_b - 1)
        some = pairs_b > 0
        totals.append(1 - (squared_b - own_b)[some] / pairs_b[some])
    values = np.concatenate(totals) if totals else np.zeros(0)
    return float(values.mean()) if len(values) else 0.0


def personalisation(shown: Shown) -> float:
    n, k = shown.item_nk.shape
    c_I = shown.shown_I().astype(np.float64)
    return float(1 - (c_I * (c_I - 1)).sum() / (n * (n - 1) * k)) if n > 1 else 0.0


def serendipity(shown: Shown) -> float:
    n_items = len(shown.count_I)
    row_nk = np.arange(len(shown.item_nk))[:, None] * np.int64(n_items)
    expected = np.isin(row_nk + shown.item_nk, (row_nk + shown.popular_nk)[shown.popular_nk >= 0])
    useful_nk = shown.hit_nk & shown.listed_nk & ~expected
    return float((useful_nk.sum(axis=1) / shown.item_nk.shape[1]).mean())


def popularity_groups(count_I: np.ndarray) -> np.ndarray:
    """Group items by popularity into head (0), middle (1) and tail (2), [I].

    The groups have 1/5, 3/5 and 1/5 of the train pairs.
    """
    order = np.argsort(-count_I, kind="stable")
    before = np.cumsum(count_I[order]) - count_I[order]
    share = before / max(count_I.sum(), 1)
    group_I = np.empty(len(count_I), np.int64)
    group_I[order] = np.where(share < 0.2, 0, np.where(share < 0.8, 1, 2))
    return group_I


def divergence(p_nG: np.ndarray, q_nG: np.ndarray) -> np.ndarray:
    """Return KL(p || (1 - α) q + α p) of each row, with α = 0.01 (Steck 2018)."""
    mixed_nG = (1 - _ALPHA) * q_nG + _ALPHA * p_nG
    safe = np.where(p_nG > 0, p_nG / np.where(p_nG > 0, mixed_nG, 1.0), 1.0)
    return (p_nG * np.log(safe)).sum(axis=1)


def miscalibration(shown: Shown) -> float:
    group_I = popularity_groups(shown.count_I)
    known, n = shown.train.take(shown.user_n), len(shown.user_n)

    def shares(user: np.ndarray, item: np.ndarray) -> np.ndarray:
        count = np.bincount(user * 3 + group_I[item], minlength=3 * n).reshape(n, 3)
        return count / np.maximum(count.sum(axis=1, keepdims=True), 1)

    p_nG = shares(np.repeat(np.arange(n), known.degree), known.indices)
    user_nk = np.broadcast_to(np.arange(n)[:, None], shown.item_nk.shape)
    q_nG = shares(user_nk[shown.listed_nk], shown.item_nk[shown.listed_nk])
    has = known.degree > 0
    return float(divergence(p_nG[has], q_nG[has]).mean()) if has.any() else 0.0


def user_gap(shown: Shown) -> float:
    activity_n = shown.train.degree[shown.user_n]
    order = np.argsort(-activity_n, kind="stable")
    recall_n = (shown.hit_nk.sum(axis=1) / np.maximum(shown.relevant_n, 1))[order]
    n_active = max(1, round(_ACTIVE * len(order)))
    if n_active == len(order):
        return 0.0
    return float(recall_n[:n_active].mean() - recall_n[n_active:].mean())


METRICS: dict[str, Callable[[Shown], float]] = {
    "gini": gini,
    "entropy": entropy,
    "novelty": novelty,
    "epc": epc,
    "popularity": popularity,
    "popularity_lift": popularity_lift,
    "diversity": diversity,
    "personalisation": personalisation,
    "serendipity": serendipity,
    "miscalibration": miscalibration,
    "user_gap": user_gap,
}
NAMES = (*METRICS, "uni100")


def check(names: Sequence[str]) -> None:
    """Raise InputError for an unknown metric."""
    for name in names:
        if name not in (*NAMES, "all"):
            raise InputError(
                f"--metrics: {name!r} is not a metric beyond accuracy{nearest(name, NAMES)}; give "
                f"one or more of {', '.join(NAMES)}, or all"
            )


def beyond(
    names: Sequence[str], lists: Lists, popular: Lists, train: Csr, n_items: int, ks: Sequence[int]
) -> dict[str, float]:
    """Compute metrics beyond accuracy, by name and cut-off ("gini@20"); see the module.

    Args:
      names: names of :data:`METRICS`.
      lists: lists of the model, with at least max(ks) items or with all items.
      popular: lists of the popularity baseline for the same users.
      train: train items by user.
      n_items: I.
      ks: cut-offs.
    """
    values = {}
    count_I = train.item_counts(n_items)
    for k in ks:
        shown = Shown(
            lists.item_nK[:, :k],
            lists.hit_nK[:, :k],
            lists.relevant_n,
            lists.user_n,
            train,
            count_I,
            popular.item_nK[:, :k],
        )
        values |= {f"{name}@{k}": METRICS[name](shown) for name in names}
    return values
