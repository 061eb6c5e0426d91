"""Ranking over tables that lie in the host's memory: tiles of items pass through the devices.

The lists are those of :func:`jaxrec.evaluate.topk.rank`: a device has the factors of a block of
users and of one tile of items, and merges the best of each tile with the best so far.
"""

from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array

from jaxrec.evaluate import topk
from jaxrec.evaluate.scorers import ScoreFn, Scorer, fn_of
from jaxrec.evaluate.topk import Ranked, Rows

AXIS = "devices"
_OF_USERS, _OF_ITEMS = ("user", "user_bias"), ("item", "item_bias")


def from_host(params: Any, user_B: Array) -> Array:
    """Marks a scorer whose factors lie in the host's memory; it is never called."""
    raise TypeError("factors in the host's memory are ranked tile by tile")


def host_scorer(learned: Mapping[str, np.ndarray]) -> Scorer:
    """:func:`jaxrec.evaluate.scorers.scorer_of` of arrays that stay in the host's memory."""
    return Scorer(from_host, {n: np.asarray(x) for n, x in learned.items()}, len(learned["item"]))


class Asked(NamedTuple):
    """A block of users on each device: the factors, and what is masked."""

    factors: dict[str, Array]
    seen: Rows


def placed(devices: tuple[Any, ...], tree: Any, *axes: str) -> Any:
    """Arrays on these devices: whole on each, or a part of the first axis on each."""
    mesh = Mesh(np.array(devices), (AXIS,))
    return jax.device_put(tree, NamedSharding(mesh, PartitionSpec(*axes)))


@lru_cache(maxsize=64)
def _mapped(fn: ScoreFn, k: int, size: int, devices: tuple[Any, ...]) -> Callable:
    def body(
        best: Ranked, asked: Asked, of_all: dict[str, Array], tile: Array, allowed_I: Array | None
    ) -> Ranked:
        user_B = jnp.arange(len(asked.factors["user"]), dtype=jnp.int32)
        seen = topk.seen_pairs(asked.seen)
        first, begin = tile
        params = asked.factors | of_all
        return topk.merged(best, fn, k, params, user_B, seen, (first, begin, size), allowed_I)

    axes = (0, 0, None, None, None)
    return jax.pmap(body, axis_name=AXIS, in_axes=axes, devices=devices, donate_argnums=(0,))


def rank_tiles(
    k: int,
    params: dict[str, np.ndarray],
    user_SB: np.ndarray,
    seen: Rows,
    allowed_I: Array | None,
    devices: tuple[Any, ...],
) -> Ranked:
    """The top k of all items for a block of users on each of S devices.

    Args:
      params: of a :func:`host_scorer`.
      user_SB: users, row numbers of the factors.
      seen: of each block, on the devices.
      allowed_I: the items that are ranked, on each device; all where None.

    Returns:
      On the devices, by device; as of :func:`jaxrec.evaluate.topk.rank`.
    """
    n_items = len(params["item"])
    k, size = min(k, n_items), topk.tile_size(n_items, k)
    put = partial(placed, devices)
    asked = Asked(put({n: params[n][user_SB] for n in _OF_USERS if n in params}, AXIS), seen)
    rest = put({n: x for n, x in params.items() if n not in (*_OF_USERS, *_OF_ITEMS)})
    step = _mapped(fn_of(params), k, size, devices)
    shape = (*user_SB.shape, k)
    start = np.full(shape, -1, np.int32), np.full(shape, -np.inf, np.float32)
    best = put(Ranked(*start, np.zeros(user_SB.shape, bool)), AXIS)
    for begin in range(0, n_items, size):
        # The last tile begins early enough to be whole; what it repeats is left out.
        first = min(begin, n_items - size)
        items = {n: params[n][first : first + size] for n in _OF_ITEMS if n in params}
        place = put(np.array([first, begin], np.int32))
        best = step(best, asked, put(items) | rest, place, allowed_I)
    return best
