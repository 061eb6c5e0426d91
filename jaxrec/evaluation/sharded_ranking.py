"""Full ranking on a mesh: items are sharded over ``table``, users over ``data``.

Each device ranks its own items for its own users. The lists are then merged along ``table`` by
score, and ties go to the lower item id.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import cache, lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Int

from jaxrec.data.dataset import ItemsByUser
from jaxrec.evaluation.ranking import Block, BlockResult, Evaluator, judge
from jaxrec.evaluation.scorers import OF_ITEMS, ScoreFn, Scorer, dot_scorer
from jaxrec.evaluation.topk import Ranked, Rows, as_rows, rank, row_width
from jaxrec.graph.halo import DATA, TABLE, looked_up, on_mesh, put
from jaxrec.graph.partition import Layout
from jaxrec.parted.stored import PartRows

_WHOLE, _OF_USERS, _OF_ROWS = PartitionSpec(), PartitionSpec(DATA), PartitionSpec(TABLE)
_OF_PARTS: Any = PartitionSpec(DATA, TABLE)


def in_parts(params: Any, user_B: Array) -> Array:
    """Score function of :func:`sharded_scorer`'s scorers; it marks them and is never called."""
    raise TypeError("sharded factors are ranked by a MeshEvaluator")


_SPECS = {"table": _OF_ROWS, "item": _OF_ROWS, "id": _OF_ROWS, "row": _WHOLE}


def sharded_scorer(mesh: Mesh, layout: Layout, n_users: int, emb_SD: Float[Array, "S D"]) -> Scorer:
    """Make the scorer u · i from final embeddings that are sharded as ``layout`` says."""
    id_TI, order_TI = items_of_parts(layout, n_users)
    arrays = {"order": order_TI + np.int32(layout.users), "id": id_TI}
    placed = put(mesh, arrays, dict.fromkeys(arrays, _OF_ROWS))
    item_TID = _take_rows(mesh)(emb_SD, placed["order"])
    row_U = put(mesh, layout.place_N[:n_users], _WHOLE)
    params = {"table": emb_SD, "item": item_TID, "id": placed["id"], "row": row_U}
    return Scorer(in_parts, params, len(layout.place_N) - n_users)


def items_of_parts(layout: Layout, n_users: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the item ids of each shard, and the items' rows in the shard.

    Both are [T, ``layout.items``] for T shards. The ids are ascending and padded with the number of
    items. Rows are counted from the shard's first item row.
    """
    node = layout.nodes()[:, layout.users :]
    n_items = len(layout.place_N) - n_users
    # Sorted by id with padding last, so that ties on a device go to the lower id.
    id_TI = np.where(node < 0, n_items, node - n_users).astype(np.int32)
    order_TI = np.argsort(id_TI, axis=1, kind="stable").astype(np.int32)
    return np.take_along_axis(id_TI, order_TI, axis=1), order_TI


@lru_cache(maxsize=8)
def _take_rows(mesh: Mesh) -> Callable:
    body = on_mesh(mesh, lambda x, row: x[row[0]][None], (_OF_ROWS, _OF_ROWS), _OF_ROWS)
    return jax.jit(body)


def best_of_parts(
    score_BK: Float[Array, "B K"], item_BK: Int[Array, "B K"], k: int
) -> tuple[Float[Array, "B k"], Int[Array, "B k"]]:
    """Merge the lists of all shards into the best k items; ties go to the lower id."""
    lists = [jax.lax.all_gather(x, TABLE, axis=1, tiled=True) for x in (score_BK, item_BK)]
    worst_first, item_BL = jax.lax.sort((-lists[0], lists[1]), dimension=1, num_keys=2)
    return -worst_first[:, :k], item_BL[:, :k]


def rank_parts(
    k: int,
    n_items: int,
    id_I: Array,
    own: Scorer,
    user_B: Array,
    seen: Rows,
    allowed: Array | None = None,
) -> Ranked:
    """Compute the top k of all items for a block of users, on every device along ``table``.

    Args:
      id_I: ids of the device's items, ascending and padded with n_items.
      own: scorer of the device's items for ``user_B``.
      seen: masked items; only those that this device ranks are needed.
      allowed: [n_items] bool, ranked items; default: all.
    """
    index_M = jnp.asarray(seen.index_M)
    column_M = jnp.minimum(jnp.searchsorted(id_I, index_M), len(id_I) - 1).astype(jnp.int32)
    column_M = jnp.where(id_I[column_M] == index_M, column_M, len(id_I))  # drop other items
    seen = Rows(jnp.asarray(seen.indptr_), column_M)
    ranked_I = id_I < n_items
    if allowed is not None:
        ranked_I &= allowed[jnp.minimum(id_I, n_items - 1)]
    ranked = rank(own.fn, min(k, len(id_I)), own.params, user_B, seen, ranked_I)
    item_BK = jnp.where(ranked.item_BK < 0, n_items, id_I[ranked.item_BK])
    score_BK, item_BK = best_of_parts(ranked.score_BK, item_BK, min(k, n_items))
    nan_B = jax.lax.psum(ranked.nan_B.astype(jnp.int32), TABLE) > 0
    return Ranked(jnp.where(score_BK == -jnp.inf, -1, item_BK), score_BK, nan_B)


def _factors(params: dict[str, Array], block: Block) -> tuple[Scorer, Array]:
    """Return the scorer of this device's items for the users of a block.

    The second result has the users' row numbers in this scorer.
    """
    user_BD = looked_up(params["table"], params["row"][block.user_B])
    return dot_scorer(user_BD, params["item"][0]), jnp.arange(len(user_BD), dtype=jnp.int32)


@lru_cache(maxsize=64)
def _step(
    mesh: Mesh, fn: ScoreFn, ks: tuple[int, ...], n_items: int, parted: bool = False
) -> Callable:
    """Return the step that ranks one block of users at each position along ``data``.

    Args:
      parted: whether a device gets only those relevant and seen items that are in its shard. Each
        device then has all parameters of a baseline, but scores only the items of its shard.
    """

    def body(
        best_rank: Array, params: Any, block: Block, allowed_I: Array | None
    ) -> tuple[Array, BlockResult]:
        best_rank_I, user_B = best_rank[0], block.user_B[0]
        at = (0, 0) if parted else 0
        rows = (jax.tree.map(lambda x: x[at], csr) for csr in (block.seen, block.relevant))
        block = Block(user_B, *rows)
        if fn is in_parts or parted:
            id_I = params["id"][0]
            if fn is in_parts:
                own, user_B = _factors(params, block)
            else:
                item_I = jnp.minimum(id_I, n_items - 1)
                own = Scorer(fn, OF_ITEMS[fn](params["of"], item_I), len(id_I))
            ranked = rank_parts(max(ks), n_items, id_I, own, user_B, block.seen, allowed_I)
        else:
            ranked = rank(fn, max(ks), params, user_B, block.seen, allowed_I)
        best_rank_I, result = judge(ks, best_rank_I, ranked, block, TABLE if parted else None)
        # Every process needs the results of all processes.
        return best_rank_I[None], jax.tree.map(partial(jax.lax.all_gather, axis_name=DATA), result)

    params: Any = _SPECS if fn is in_parts else _WHOLE
    if parted and fn is not in_parts:
        params = {"id": _OF_ROWS, "of": _WHOLE}
    users: Any = _OF_USERS
    rows: Any = _OF_PARTS if parted else _OF_USERS
    specs = _OF_USERS, params, Block(users, rows, rows), _WHOLE
    return jax.jit(on_mesh(mesh, body, specs, (_OF_USERS, _WHOLE)), donate_argnums=0)


class MeshEvaluator(Evaluator):
    """An :class:`Evaluator` on a mesh, with the same metrics.

    Args:
      mesh: mesh with the axes ``data`` and ``table``.
      relevant, seen, ks, n_items, allowed, block: as in :class:`Evaluator`.
    """

    def __init__(
        self,
        mesh: Mesh,
        relevant: ItemsByUser,
        seen: ItemsByUser,
        ks: Sequence[int],
        n_items: int,
        *,
        allowed: np.ndarray | None = None,
        block: int | None = None,
    ) -> None:
        self._mesh = mesh
        here = jax.local_devices()[:1] * mesh.shape[DATA]
        how: dict[str, Any] = {"allowed": allowed, "block": block, "devices": here}
        super().__init__(relevant, seen, ks, n_items, **how)

    def _put(self, tree: Any, *axes: str) -> Any:
        spec = _OF_USERS if axes else _WHOLE
        return put(self._mesh, tree, jax.tree.map(lambda _: spec, tree))

    def _step(self, scorer: Scorer) -> tuple[Callable, Any]:
        step = _step(self._mesh, scorer.fn, self.ks, self.n_items)
        return step, scorer.params if scorer.fn is in_parts else self._put(scorer.params)

    def _least(self, best_rank: Array) -> np.ndarray:
        whole = NamedSharding(self._mesh, _WHOLE)
        return jax.device_get(jax.jit(lambda x: x.min(axis=0), out_shardings=whole)(best_rank))


class PartEvaluator(MeshEvaluator):
    """A :class:`MeshEvaluator` for items by user on disk; each device gets only its shard's items.

    Args:
      mesh: mesh whose axis ``table`` has the shards.
      layout: positions of the users and items in the shards.
      relevant, seen: items by user on disk; this process reads only its own shards.
      agree: returns the maximum of a number over all processes.
    """

    def __init__(
        self,
        mesh: Mesh,
        layout: Layout,
        relevant: PartRows,
        seen: PartRows,
        ks: Sequence[int],
        n_items: int,
        *,
        agree: Callable[[int], int],
        allowed: np.ndarray | None = None,
        block: int | None = None,
    ) -> None:
        super().__init__(mesh, relevant, seen, ks, n_items, allowed=allowed, block=block)
        self._rows = seen, relevant
        self._widths = [agree(self._width(rows)) for rows in self._rows]
        n_users = len(layout.place_N) - n_items
        self._id = put(mesh, items_of_parts(layout, n_users)[0], _OF_ROWS)

    def _width(self, rows: PartRows) -> int:
        """Return a width of :class:`Rows` that fits every block of every shard in
        ``rows.parts``."""
        users_SB = self._users_SB
        most = 0
        for part in rows.parts:
            degree_SB = np.where(users_SB >= 0, rows.degree_of(part)[users_SB], 0)
            most = max(most, int(degree_SB.sum(axis=1, dtype=np.int64).max()))
        return row_width(most)

    def _made(self) -> Iterator[Block]:
        n_data = self._mesh.shape[DATA]
        for start in range(0, len(self._users_SB), n_data):
            users_DB = self._users_SB[start : start + n_data]
            user = put(self._mesh, np.maximum(users_DB, 0).astype(np.int32), _OF_USERS)
            yield Block(user, *map(partial(self._placed, users_DB), self._rows, self._widths))

    def _placed(self, users_DB: np.ndarray, rows: PartRows, width: int) -> Rows:
        """Copy the rows of the users to the mesh; each device gets only its own items."""

        @cache
        def taken(place: int, part: int) -> Rows:
            return as_rows(rows.only(part).take(users_DB[place]), width)

        def array(name: str, size: int) -> Array:
            def stacked(at: Any) -> np.ndarray:
                places, parts = (
                    range(*s.indices(n)) for s, n in zip(at[:2], shape[:2], strict=True)
                )
                each = [[getattr(taken(d, t), name) for t in parts] for d in places]
                return np.stack([np.stack(row) for row in each])

            shape = (len(users_DB), self._mesh.shape[TABLE], size)
            return jax.make_array_from_callback(
                shape, NamedSharding(self._mesh, _OF_PARTS), stacked
            )

        return Rows(array("indptr_", users_DB.shape[1] + 1), array("index_M", width))

    def _step(self, scorer: Scorer) -> tuple[Callable, Any]:
        step = _step(self._mesh, scorer.fn, self.ks, self.n_items, parted=True)
        params = scorer.params
        if scorer.fn is not in_parts:
            params = {"id": self._id, "of": self._put(params)}
        return step, params
