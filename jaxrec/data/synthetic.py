"""Draws synthetic interactions, for which the best possible recall is known.

Every user and item belongs to one community. The user of an interaction is drawn in proportion to
activity. The item is drawn in proportion to popularity: with probability ``LOYALTY`` from the
user's community, else from all items. Activity and popularity fall as a power of the rank.

No recommender can do better than to rank items by these probabilities, so the recall of that
ranking is an upper bound, which :func:`ceiling` computes.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from jaxrec import machine
from jaxrec.data.dataset import Csr, Dataset
from jaxrec.data.features import Bag, Category, Column, Features, Number
from jaxrec.data.pair_keys import distinct, pair_keys, rows_of_keys
from jaxrec.errors import InputError

LOYALTY = 0.8
"""Probability that the item is drawn from the user's community and not from all items."""
_POPULARITY_EXPONENT = 0.8
_ACTIVITY_EXPONENT = 0.8
_FIRST = 4
"""The number of items that are first drawn for every user; repeats are dropped. The users of all
further pairs are drawn by activity."""
_TAGS = 3
"""The largest number of tags of a user or item."""
_TAGS_OF_OWN = 4
"""The number of tags that each community has."""
_MISSING = 0.05
"""Share of the cells of each feature column that are missing."""
_BYTES = 64  # drawing needs this many bytes per node or pair
_YEAR = 365 * 24 * 3600
_START = 1_600_000_000
"""Start of the synthetic year, in seconds since 1970."""

EMBEDDED = ("synthetic", "synthetic-features", "synthetic-ratings")
"""Names of the built-in data sets; see :func:`embedded`."""
_EMBEDDED = {"users": 2_000, "items": 1_500, "communities": 12, "seed": 20_240}
_EMBEDDED_EDGES = 60_000


class Truth(NamedTuple):
    """The communities and probabilities from which interactions are drawn.

    Shapes: user_community [U], item_community [I] int64; activity [U], popularity [I] float64,
    each summing to 1.
    """

    user_community: np.ndarray
    item_community: np.ndarray
    activity: np.ndarray
    popularity: np.ndarray

    def scores(self) -> np.ndarray:
        """Return the probability of item i for a user of community c, [C, I]; rows sum to 1."""
        n_communities = int(self.item_community.max()) + 1
        own_CI = np.where(
            self.item_community == np.arange(n_communities)[:, None], self.popularity, 0.0
        )
        own_CI /= own_CI.sum(axis=1, keepdims=True)
        return LOYALTY * own_CI + (1 - LOYALTY) * self.popularity


def refuse_too_many(rows: int) -> None:
    """Raise InputError if ``rows`` nodes and pairs do not fit in memory."""
    needs, limit = _BYTES * rows, machine.memory()
    if needs > limit:
        raise InputError(
            f"{rows:,} nodes and pairs need {needs / 1e9:,.1f} GB of memory, but there are "
            f"{limit / 1e9:,.1f} GB; ask for fewer"
        )


def truth(users: int, items: int, *, communities: int = 12, seed: int = 0) -> Truth:
    """Return the communities and probabilities that :func:`make` uses for the same arguments."""
    rng = np.random.default_rng([seed, 0])
    place_U, place_I = rng.permutation(users), rng.permutation(items)
    # Users and items are assigned to communities in turn, so sizes differ by at most one.
    activity = (place_U // communities + 1.0) ** -_ACTIVITY_EXPONENT
    popularity = (place_I // communities + 1.0) ** -_POPULARITY_EXPONENT
    return Truth(
        place_U % communities,
        place_I % communities,
        activity / activity.sum(),
        popularity / popularity.sum(),
    )


def make(
    users: int,
    items: int,
    edges: int,
    *,
    communities: int = 12,
    seed: int = 0,
    features: bool = False,
) -> Dataset:
    """Draw exactly ``edges`` different pairs, each with a time within one year.

    Ids are texts such as ``u0001`` and ``i0001``, in the order of the rows. Every user has at
    least one pair; an item may have none. With ``features``, users and items have features that
    depend on their community (``group``, ``tags``) and their activity or popularity (``level``).
    The pairs are the same with and without features.

    Raises:
      InputError: there are fewer edges than users, more edges than a quarter of all pairs, or more
        communities than users or items; or memory is too small.
    """
    refuse_too_many(users + items + edges)
    if not 1 <= communities <= min(users, items):
        raise InputError(f"communities must be in [1, {min(users, items)}], not {communities}")
    if not users <= edges <= users * items // 4:
        raise InputError(
            f"edges must be in [{users}, {users * items // 4}] for {users} users and {items} "
            f"items (at least one per user, at most a quarter of all pairs), not {edges}"
        )
    planted = truth(users, items, communities=communities, seed=seed)
    rng = np.random.default_rng([seed, 1])
    user = np.repeat(np.arange(users), min(_FIRST, edges // users))
    key = np.empty(0, np.int64)
    while len(key) < edges:
        drawn = np.concatenate([key, pair_keys(user, draw_items(planted, user, rng), items)])
        _, first = np.unique(drawn, return_index=True)
        key = drawn[np.sort(first)]
        user = rng.choice(users, edges - len(key), p=planted.activity)
    user, item = rows_of_keys(np.sort(key), items)
    return Dataset(
        user=user.astype(np.int32),
        item=item.astype(np.int32),
        user_ids=ids("u", users),
        item_ids=ids("i", items),
        time=(_START + rng.integers(0, _YEAR, edges)).astype(np.float64),
        name=f"synthetic-{users}x{items}-{edges}-seed{seed}",
        **(_features(planted, communities, seed) if features else {}),
    )


def embedded(name: str = "synthetic") -> Dataset:
    """Return built-in data, which is always the same: 2,000 users, 1,500 items, 60,000 pairs.

    Args:
      name: one of ``EMBEDDED``: pairs alone, pairs with features, or pairs with features and
        ratings.
    """
    data = make(edges=_EMBEDDED_EDGES, features=name != "synthetic", **_EMBEDDED)
    return rated(data, embedded_truth()) if name == "synthetic-ratings" else data


def rated(data: Dataset, planted: Truth, seed: int = 0) -> Dataset:
    """Return the data with ratings from 1 to 5 that depend on the communities.

    A rating is 3.5 + b_u + b_i + 0.6 · [u and i are of one community] + noise, rounded to a whole
    number from 1 to 5; b_u, b_i and the noise are normal with standard deviations 0.4, 0.5 and 0.5.
    """
    rng = np.random.default_rng([seed, 3])
    bias_U, bias_I = 0.4 * rng.normal(size=data.n_users), 0.5 * rng.normal(size=data.n_items)
    own = planted.user_community[data.user] == planted.item_community[data.item]
    level = 3.5 + bias_U[data.user] + bias_I[data.item] + 0.6 * own
    level += 0.5 * rng.normal(size=data.n_edges)
    return replace(data, rating=np.clip(np.round(level), 1, 5).astype(np.float32))


def embedded_truth() -> Truth:
    """Return the communities and probabilities from which :func:`embedded` is drawn."""
    return truth(**_EMBEDDED)


def ceiling(planted: Truth, seen: Sequence[Dataset], test: Dataset, k: int = 20) -> float:
    """Compute the recall@k of a ranking by the probabilities that generated the data.

    Args:
      planted: the communities and probabilities from which the data was drawn.
      seen: data sets whose pairs are masked: the train part, and the validation part if ``test``
        is the test part.
      test: the data set whose pairs are to be found.
      k: length of the lists.

    Returns:
      The mean of hits / test items over the users with test items. Of items with equal scores, the
      one with the lower row number ranks first.
    """
    score_CI = planted.scores()
    masked, wanted = [part.csr() for part in seen], test.csr()
    users = np.flatnonzero(wanted.degree)
    total = 0.0
    for block_B in np.array_split(users, max(1, len(users) // 1024)):
        score_BI = score_CI[planted.user_community[block_B]]
        for part in masked:
            row, item = _pairs_of(part, block_B)
            score_BI[row, item] = -np.inf
        top_BK = np.argsort(-score_BI, axis=1, kind="stable")[:, :k]
        hit_BI = np.zeros(score_BI.shape, bool)
        hit_BI[_pairs_of(wanted, block_B)] = True
        hits_B = np.take_along_axis(hit_BI, top_BK, axis=1).sum(axis=1)
        total += float((hits_B / wanted.degree[block_B]).sum())
    return total / len(users) if len(users) else 0.0


def draw_items(planted: Truth, user: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw an item for each entry of ``user``, by the probabilities of :meth:`Truth.scores`."""
    # Items are sorted by community, so that each community is one range of ``total``.
    order = np.argsort(planted.item_community, kind="stable")
    total = np.concatenate([[0.0], np.cumsum(planted.popularity[order])])
    size = np.bincount(planted.item_community)
    end = np.cumsum(size)
    loyal = rng.random(len(user)) < LOYALTY
    community = planted.user_community[user]
    first = np.where(loyal, end[community] - size[community], 0)
    last = np.where(loyal, end[community], len(order))
    point = total[first] + rng.random(len(user)) * (total[last] - total[first])
    place = np.searchsorted(total, point, side="right") - 1
    return order[np.clip(place, first, last - 1)]


def _pairs_of(part: Csr, block_B: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return, for every pair of the block's users, the user's row in the block and the item."""
    degree_B = part.degree[block_B]
    row = np.repeat(np.arange(len(block_B)), degree_B)
    start = np.repeat(part.indptr[block_B] - (np.cumsum(degree_B) - degree_B), degree_B)
    return row, part.indices[start + np.arange(len(row))]


def _features(planted: Truth, communities: int, seed: int) -> dict[str, Any]:
    """Draw features of users and of items, from a generator that the pairs do not use."""
    rng = np.random.default_rng([seed, 2])
    return {
        "user_features": telling(planted.user_community, planted.activity, communities, rng),
        "item_features": telling(planted.item_community, planted.popularity, communities, rng),
    }


def telling(
    community: np.ndarray,
    share: np.ndarray,
    communities: int,
    rng: np.random.Generator,
    missing: float = _MISSING,
) -> Features:
    """Draw features of each row: a category and a bag that depend on its community, and a number
    that depends on its share (activity or popularity).

    In each column, the share ``missing`` of the cells is missing.
    """
    n = len(community)
    rows_nT = np.repeat(np.arange(n)[:, None], _TAGS, axis=1)

    def told(community: np.ndarray) -> np.ndarray:
        loyal = rng.random(community.shape) < LOYALTY
        return np.where(loyal, community, rng.integers(0, communities, community.shape))

    group = np.where(rng.random(n) < missing, 0, told(community) + 1)
    tag_nT = told(community[rows_nT]) * _TAGS_OF_OWN + rng.integers(0, _TAGS_OF_OWN, rows_nT.shape)
    count = np.where(rng.random(n) < missing, 0, rng.integers(1, _TAGS + 1, n))
    there_nT = np.arange(_TAGS) < count[:, None]
    n_tags = communities * _TAGS_OF_OWN
    row, tag = np.divmod(distinct((rows_nT * n_tags + tag_nT)[there_nT]), n_tags)
    indptr = np.searchsorted(row, np.arange(n + 1)).astype(np.int32)
    level = np.log(share * n) + rng.normal(0, 0.5, n)
    level[rng.random(n) < missing] = np.nan
    columns: dict[str, Column] = {
        "group": Category(group.astype(np.int32), _names("g", communities)),
        "tags": Bag(indptr, (tag + 1).astype(np.int32), _names("t", n_tags)),
        "level": Number(level.astype(np.float32)),
    }
    return Features(columns)


def _names(letter: str, count: int) -> np.ndarray:
    return np.array(["", *ids(letter, count)])


def ids(letter: str, count: int) -> np.ndarray:
    """Return ``count`` ids such as ``i0001``."""
    width = len(str(count))
    return np.array([f"{letter}{n:0{width}}" for n in range(1, count + 1)])
