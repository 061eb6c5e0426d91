"""Full ranking over items that lie in parts on a mesh of devices; users are split over ``data``.

Each device ranks its own items for the users of its place along ``data``, and the lists of the
devices along ``table`` are merged: by score, ties to the lower item id.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Int

from jaxrec.data.dataset import Csr
from jaxrec.evaluate.ranking import Block, BlockResult, Evaluator, judge, rank_block
from jaxrec.evaluate.scorers import ScoreFn, Scorer, dot_scorer
from jaxrec.evaluate.topk import Ranked, Rows, rank
from jaxrec.graph.halo import DATA, TABLE, looked_up, on_mesh, put
from jaxrec.graph.partition import Layout

_WHOLE, _OF_USERS, _OF_ROWS = PartitionSpec(), PartitionSpec(DATA), PartitionSpec(TABLE)


def in_parts(params: Any, user_B: Array) -> Array:
    """Marks a scorer whose factors lie in parts (:func:`sharded_scorer`); it is never called."""
    raise TypeError("factors in parts are ranked by a MeshEvaluator")


_SPECS = {"table": _OF_ROWS, "item": _OF_ROWS, "id": _OF_ROWS, "row": _WHOLE}


def sharded_scorer(mesh: Mesh, layout: Layout, n_users: int, emb_SD: Float[Array, "S D"]) -> Scorer:
    """Scores u · i of final embeddings that lie on the mesh as the layout says."""
    node = layout.nodes()[:, layout.users :]
    n_items = len(layout.place_N) - n_users
    # By id within a part, padding last: a device's ties then go to the lower id by themselves.
    id_TI = np.where(node < 0, n_items, node - n_users).astype(np.int32)
    order_TI = np.argsort(id_TI, axis=1, kind="stable").astype(np.int32)
    id_TI = np.take_along_axis(id_TI, order_TI, axis=1)
    arrays = {"order": order_TI + np.int32(layout.users), "id": id_TI}
    placed = put(mesh, arrays, dict.fromkeys(arrays, _OF_ROWS))
    item_TID = _taken(mesh)(emb_SD, placed["order"])
    row_U = put(mesh, layout.place_N[:n_users], _WHOLE)
    params = {"table": emb_SD, "item": item_TID, "id": placed["id"], "row": row_U}
    return Scorer(in_parts, params, n_items)


@lru_cache(maxsize=8)
def _taken(mesh: Mesh) -> Callable:
    body = on_mesh(mesh, lambda x, row: x[row[0]][None], (_OF_ROWS, _OF_ROWS), _OF_ROWS)
    return jax.jit(body)


def merged(
    score_BK: Float[Array, "B K"], item_BK: Int[Array, "B K"], k: int
) -> tuple[Float[Array, "B k"], Int[Array, "B k"]]:
    """The best k of all parts' lists, ties to the lower id."""
    lists = [jax.lax.all_gather(x, TABLE, axis=1, tiled=True) for x in (score_BK, item_BK)]
    worst_first, item_BL = jax.lax.sort((-lists[0], lists[1]), dimension=1, num_keys=2)
    return -worst_first[:, :k], item_BL[:, :k]


def rank_parts(k: int, n_items: int, params: dict[str, Array], block: Block) -> Ranked:
    """The top k of all items for a block of users, on every device along ``table``."""
    id_I = params["id"][0]
    user_BD = looked_up(params["table"], params["row"][block.user_B])
    index_M = jnp.asarray(block.seen.index_M)
    column_M = jnp.minimum(jnp.searchsorted(id_I, index_M), len(id_I) - 1).astype(jnp.int32)
    column_M = jnp.where(id_I[column_M] == index_M, column_M, len(id_I))  # not here: dropped
    own = dot_scorer(user_BD, params["item"][0])
    user_B = jnp.arange(len(user_BD), dtype=jnp.int32)
    seen = Rows(jnp.asarray(block.seen.indptr_), column_M)
    ranked = rank(own.fn, min(k, len(id_I)), own.params, user_B, seen, id_I < n_items)
    item_BK = jnp.where(ranked.item_BK < 0, n_items, id_I[ranked.item_BK])
    score_BK, item_BK = merged(ranked.score_BK, item_BK, min(k, n_items))
    nan_B = jax.lax.psum(ranked.nan_B.astype(jnp.int32), TABLE) > 0
    return Ranked(jnp.where(score_BK == -jnp.inf, -1, item_BK), score_BK, nan_B)


@lru_cache(maxsize=64)
def _step(mesh: Mesh, fn: ScoreFn, ks: tuple[int, ...], n_items: int) -> Callable:
    def body(best_rank: Array, params: Any, block: Block, _: None) -> tuple[Array, BlockResult]:
        best_rank_I, block = jax.tree.map(lambda x: x[0], (best_rank, block))
        if fn is in_parts:
            ranked = rank_parts(max(ks), n_items, params, block)
            best_rank_I, result = judge(ks, best_rank_I, ranked, block)
        else:
            best_rank_I, result = rank_block(fn, ks, best_rank_I, params, block)
        # Every process reads the results of all.
        return best_rank_I[None], jax.tree.map(partial(jax.lax.all_gather, axis_name=DATA), result)

    specs = _OF_USERS, _SPECS if fn is in_parts else _WHOLE, _OF_USERS, _WHOLE
    return jax.jit(on_mesh(mesh, body, specs, (_OF_USERS, _WHOLE)), donate_argnums=0)


class MeshEvaluator(Evaluator):
    """Ranks all items on a mesh: as :class:`Evaluator`, to the same metrics.

    Args:
      mesh: over ``data`` and ``table``.
      relevant, seen, ks, n_items, block: as there.
    """

    def __init__(
        self,
        mesh: Mesh,
        relevant: Csr,
        seen: Csr,
        ks: Sequence[int],
        n_items: int,
        *,
        block: int | None = None,
    ) -> None:
        self._mesh = mesh
        here = jax.local_devices()[:1] * mesh.shape[DATA]
        super().__init__(relevant, seen, ks, n_items, block=block, devices=here)

    def _put(self, tree: Any, *axes: str) -> Any:
        spec = _OF_USERS if axes else _WHOLE
        return put(self._mesh, tree, jax.tree.map(lambda _: spec, tree))

    def _step(self, scorer: Scorer) -> tuple[Callable, Any]:
        step = _step(self._mesh, scorer.fn, self.ks, self.n_items)
        return step, scorer.params if scorer.fn is in_parts else self._put(scorer.params)

    def _least(self, best_rank: Array) -> np.ndarray:
        whole = NamedSharding(self._mesh, _WHOLE)
        return jax.device_get(jax.jit(lambda x: x.min(axis=0), out_shardings=whole)(best_rank))
