"""Full ranking of all items for every user; seen items are masked, ties go to the lower item id.

:func:`rank_block` evaluates one block of users on one device. It is a plain function, which
``jax.shard_map`` can map over devices; :class:`Evaluator` maps its two halves, ``rank`` and
:func:`judge`, separately. No array has users times items entries, and no loop runs over users.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache, partial
from itertools import chain, islice
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from jaxrec.data.dataset import Csr, ItemsByUser, union
from jaxrec.errors import InputError
from jaxrec.evaluation import metrics
from jaxrec.evaluation.scorers import (
    ScoreFn,
    Scorer,
    dot_scorer,
    from_host,
    popularity_scorer,
    random_scorer,
)
from jaxrec.evaluation.topk import (
    AXIS,
    Ranked,
    Rows,
    block_rows,
    block_size,
    empty_csr,
    list_length,
    nan_error,
    over_devices,
    placed,
    rank,
    rank_from_host,
    top_k,
)
from jaxrec.graph.csr import DeviceCsr, contains

__all__ = [
    "Breakdown",
    "Evaluator",
    "Lists",
    "Scorer",
    "dot_scorer",
    "empty_csr",
    "popularity_scorer",
    "random_scorer",
    "rank_block",
    "top_k",
    "union",
]


class Block(NamedTuple):
    """B users with their masked and their relevant items; padding users have no relevant items."""

    user_B: Int[Array | np.ndarray, "B"]
    seen: Rows
    relevant: Rows


class BlockResult(NamedTuple):
    """Sums of the metrics over the users of a block, and the lists of these users.

    The sums are in the order of ``metrics.keys``. ``nan_users`` is the number of users with a score
    of NaN.
    """

    sums_M: Float[Array, "M"]
    nan_users: Int[Array, ""]
    item_BK: Int[Array, "B K"]
    hit_BK: Bool[Array, "B K"]


def rank_block(
    fn: ScoreFn,
    ks: tuple[int, ...],
    best_rank_I: Int[Array, "I"],
    params: Any,
    block: Block,
    allowed_I: Bool[Array, "I"] | None = None,
) -> tuple[Int[Array, "I"], BlockResult]:
    """Evaluate a block of users on one device: score, mask, take the top k, and sum the metrics.

    Args:
      fn: score function, see :class:`Scorer`.
      ks: cut-offs.
      best_rank_I: best rank (from 0) of each item over all users so far, for coverage.
      params: parameters of ``fn``.
      block: the users with their items.
      allowed_I: which items are ranked; default: all.

    Returns:
      The updated ``best_rank_I``, and the result of the block.
    """
    ranked = rank(fn, max(ks), params, jnp.asarray(block.user_B), block.seen, allowed_I)
    return judge(ks, best_rank_I, ranked, block)


def judge(
    ks: tuple[int, ...],
    best_rank_I: Int[Array, "I"],
    ranked: Ranked,
    block: Block,
    over: str | None = None,
) -> tuple[Int[Array, "I"], BlockResult]:
    """Compute the result of :func:`rank_block` for given lists, cut at max(ks).

    If ``over`` names a mesh axis, each device along it has only the relevant items of its shard,
    and hits are summed over the axis.
    """
    ranked = ranked._replace(item_BK=ranked.item_BK[:, : max(ks)])
    n_relevant_B = jnp.diff(block.relevant.indptr_)
    relevant = DeviceCsr(jnp.asarray(block.relevant.indptr_), jnp.asarray(block.relevant.index_M))
    row_B = jnp.arange(len(n_relevant_B), dtype=jnp.int32)
    hit_BK = contains(relevant, row_B, ranked.item_BK)
    if over is not None:
        n_relevant_B, hits_BK = lax.psum((n_relevant_B, hit_BK.astype(jnp.int32)), over)
        hit_BK = hits_BK > 0
    counted_B = n_relevant_B > 0
    by_user = metrics.per_user(hit_BK, n_relevant_B, ks)
    sums_M = jnp.stack([by_user[key].sum(where=counted_B) for key in metrics.keys(ks)])
    listed_BK = counted_B[:, None] & (ranked.item_BK >= 0)
    rank_BK = lax.broadcasted_iota(jnp.int32, hit_BK.shape, 1)
    where_BK = jnp.where(listed_BK, ranked.item_BK, len(best_rank_I))
    best_rank_I = best_rank_I.at[where_BK].min(rank_BK, mode="drop")
    nan_users = (ranked.nan_B & counted_B).sum(dtype=jnp.int32)
    return best_rank_I, BlockResult(sums_M, nan_users, ranked.item_BK, hit_BK)


class Lists(NamedTuple):
    """The lists of n ranked users, in ascending order of users.

    Attributes:
      user_n: row numbers of the users.
      item_nK: items by rank; -1 past the end of a list.
      hit_nK: whether each item in ``item_nK`` is relevant to the user.
      relevant_n: number of relevant items per user.
    """

    user_n: np.ndarray
    item_nK: np.ndarray
    hit_nK: np.ndarray
    relevant_n: np.ndarray


class Breakdown(NamedTuple):
    """Recall by user, for the n ranked users in ascending order, and hits by item.

    Attributes:
      user_n, recall_n: each ranked user and their recall@k.
      hits_I: number of users for whom the item is a hit.
      relevant_I: number of ranked users for whom the item is relevant.
    """

    user_n: np.ndarray
    recall_n: np.ndarray
    hits_I: np.ndarray
    relevant_I: np.ndarray


@lru_cache(maxsize=64)
def _mapped(fn: ScoreFn, k: int, devices: tuple[Any, ...]) -> Callable:
    def body(params: Any, block: Block, allowed_I: Array | None) -> Ranked:
        return rank(fn, k, params, jnp.asarray(block.user_B), block.seen, allowed_I)

    return over_devices(devices, body, (False, True, False))


# ``names`` is part of the cache key, so registering a metric leads to a new compilation.
@lru_cache(maxsize=64)
def _judged(ks: tuple[int, ...], devices: tuple[Any, ...], names: tuple[str, ...]) -> Callable:
    return over_devices(devices, partial(judge, ks), (True, True, True), (0,))


class Evaluator:
    """Ranks all items for the users with relevant items, on all local devices.

    Data in memory is copied to the devices once; data on disk is read block by block in each call.
    A score function is compiled once per shape.

    Args:
      relevant: relevant items by user. An item that is also seen is always a miss.
      seen: masked items by user, for the same users.
      ks: cut-offs K.
      n_items: I.
      allowed: [I] bool, which items are ranked; default: all.
      block: number of users ranked at once on a device; default: chosen by device memory.
      devices: default ``jax.local_devices()``.

    Raises:
      InputError: no user has a relevant item.
    """

    def __init__(
        self,
        relevant: ItemsByUser,
        seen: ItemsByUser,
        ks: Sequence[int],
        n_items: int,
        *,
        allowed: np.ndarray | None = None,
        block: int | None = None,
        devices: Sequence[Any] | None = None,
    ) -> None:
        if len(relevant.degree) != len(seen.degree):
            raise ValueError("relevant and seen have different numbers of users")
        self.ks = tuple(ks)
        self.n_items = n_items
        self._relevant = relevant
        self._devices = tuple(devices or jax.local_devices())
        user_n = np.flatnonzero(relevant.degree)
        self.users = len(user_n)
        if not self.users:
            raise InputError("nothing to evaluate: no user has a relevant item in this split")
        n_devices = len(self._devices)
        a_device = -(-self.users // n_devices)
        size = min(block or block_size(n_items, a_device, self._devices[0]), a_device)
        n_blocks = -(-a_device // size) * n_devices
        # Distribute users by degree, so that all blocks have about the same number of seen items.
        order_n = user_n[np.argsort(seen.degree[user_n], kind="stable")]
        padded = np.pad(order_n, (0, n_blocks * size - self.users), constant_values=-1)
        users_SB = padded.reshape(size, n_blocks).T
        self._users_SB = users_SB
        self._seen: ItemsByUser | None = seen
        self._allowed = None if allowed is None else self._put(allowed)
        self._blocks: list[Block] | None = None
        if isinstance(relevant, Csr) and isinstance(seen, Csr):
            self._blocks, self._seen = list(self._made()), None

    def _made(self) -> Iterator[Block]:
        """Yield stacks of blocks of users on the devices, with one block per device."""
        users_SB, n_devices = self._users_SB, len(self._devices)
        assert self._seen is not None, "data in memory is stored as blocks"
        both = block_rows(self._seen, users_SB), block_rows(self._relevant, users_SB)
        each = zip(users_SB, *both, strict=True)
        while group := list(islice(each, n_devices)):
            blocks = [Block(np.maximum(user, 0).astype(np.int32), *rows) for user, *rows in group]
            yield self._put(jax.tree.map(lambda *xs: np.stack(xs), *blocks), AXIS)

    def _put(self, tree: Any, *axes: str) -> Any:
        return placed(self._devices, tree, *axes)

    def _step(self, scorer: Scorer) -> tuple[Callable, Any]:
        """Return the step that ranks a block on each device, and the step's parameters."""
        # Two programs: the large one makes lists of few lengths, so that most other cut-offs
        # recompile only the small one, which computes the metrics.
        longest = min(list_length(max(self.ks)), self.n_items)
        judged = _judged(self.ks, self._devices, metrics.names())
        if scorer.fn is from_host:

            def ranked(params: Any, block: Block, allowed_I: Array | None) -> Ranked:
                user_SB = np.asarray(block.user_B)
                how = block.seen, allowed_I, self._devices
                return rank_from_host(longest, params, user_SB, *how)
        else:
            ranked = _mapped(scorer.fn, longest, self._devices)

        def step(
            best_rank: Array, params: Any, block: Block, allowed_I: Array | None
        ) -> tuple[Array, BlockResult]:
            return judged(best_rank, ranked(params, block, allowed_I), block)

        return step, scorer.params if scorer.fn is from_host else self._put(scorer.params)

    def _least(self, best_rank: Array) -> np.ndarray:
        """Return each item's best rank over devices, [I]."""
        return jax.device_get(best_rank).min(axis=0)

    def _run(
        self,
        scorer: Scorer,
        read: Callable[[BlockResult], None],
        should_stop: Callable[[], bool] | None = None,
    ) -> np.ndarray | None:
        """Rank all blocks, and return the best rank of each item [I].

        ``read`` is called with each block's result while the next block is computed. Returns None
        if ``should_stop`` returned True before a block. Raises RunError if a score is NaN.
        """
        if scorer.n_items != self.n_items:
            raise ValueError(
                f"the scorer has {scorer.n_items} items, but the evaluator has {self.n_items}"
            )
        step, params = self._step(scorer)
        unranked = np.full((len(self._devices), self.n_items), max(self.ks), np.int32)
        best_rank = self._put(unranked, AXIS)
        results: list[BlockResult] = []
        nan_users = 0
        for block in chain(self._made() if self._blocks is None else self._blocks, [None]):
            if block is not None:
                if should_stop is not None and should_stop():
                    return None
                best_rank, result = step(best_rank, params, block, self._allowed)
                results.append(result)
            if len(results) == 2 or block is None:
                result = results.pop(0)
                nan_users += int(jax.device_get(result.nan_users).sum())
                read(result)
        if nan_users:
            raise nan_error(nan_users)
        return self._least(best_rank)

    def __call__(
        self, scorer: Scorer, should_stop: Callable[[], bool] | None = None
    ) -> dict[str, float] | None:
        """Compute the mean of every metric over users, and coverage, by name and cut-off.

        Args:
          scorer: the scorer to evaluate.
          should_stop: called before each block; if it returns True, the result is None.

        Raises:
          RunError: a score is NaN.
        """
        keys = metrics.keys(self.ks)
        total_M = np.zeros(len(keys), np.float64)

        def add(result: BlockResult) -> None:
            # Sums within a block are float32; sums over blocks and devices are float64.
            total_M[:] += jax.device_get(result.sums_M).sum(axis=0, dtype=np.float64)

        best_rank_I = self._run(scorer, add, should_stop)
        if best_rank_I is None:
            return None
        means = dict(zip(keys, (total_M / self.users).tolist(), strict=True))
        return means | metrics.coverage(best_rank_I, self.ks)

    def lists(self, scorer: Scorer, should_stop: Callable[[], bool] | None = None) -> Lists | None:
        """Compute the list of the max(ks) best items for each user with relevant items.

        Args:
          scorer: the scorer to evaluate.
          should_stop: called before each block; if it returns True, the result is None.

        Raises:
          RunError: a score is NaN.
        """
        blocks = []

        def keep(result: BlockResult) -> None:
            blocks.append(jax.device_get((result.item_BK, result.hit_BK)))

        if self._run(scorer, keep, should_stop) is None:
            return None
        item_nK, hit_nK = (
            np.concatenate([part.reshape(-1, part.shape[-1]) for part in parts])
            for parts in zip(*blocks, strict=True)
        )
        user_n = self._users_SB.ravel()
        order_n = np.argsort(user_n)[-self.users :]  # padding is -1 and sorts first
        user_n = user_n[order_n]
        return Lists(user_n, item_nK[order_n], hit_nK[order_n], self._relevant.degree[user_n])

    def breakdown(
        self, scorer: Scorer, k: int, should_stop: Callable[[], bool] | None = None
    ) -> Breakdown | None:
        """Compute recall@k by user and hits by item.

        Args:
          scorer: the scorer to evaluate.
          k: cut-off, at most max(ks).
          should_stop: called before each block; if it returns True, the result is None.

        Raises:
          RunError: a score is NaN.
        """
        lists = self.lists(scorer, should_stop)
        return None if lists is None else self.broken_down(lists, k)

    def broken_down(self, lists: Lists, k: int) -> Breakdown:
        """Compute the :meth:`breakdown` of given lists, cut at k."""
        if k > max(self.ks):
            raise ValueError(f"the lists have {max(self.ks)} items, which is fewer than {k}")
        item_nK, hit_nK = lists.item_nK[:, :k], lists.hit_nK[:, :k]
        return Breakdown(
            lists.user_n,
            hit_nK.sum(axis=1) / lists.relevant_n,
            np.bincount(item_nK[hit_nK], minlength=self.n_items),
            self._relevant.item_counts(self.n_items),
        )
