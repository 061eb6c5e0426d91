"""Ranks the top K of all items for blocks of users; seen items are masked."""

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Bool, Float, Int

from jaxrec import machine
from jaxrec.data.dataset import Csr, ItemsByUser
from jaxrec.errors import RunError
from jaxrec.evaluation.scorers import (
    BY_ITEM,
    BY_USER,
    TILES,
    ScoreFn,
    Scorer,
    fn_of,
    from_host,
)
from jaxrec.graph.halo import on_mesh

AXIS = "devices"  # the mesh axis over which blocks of users are distributed

# Bytes of scores of one block on a CPU device. If XLA's arrays come near 32 MiB, glibc maps new
# pages for each array, and ranking Gowalla's 29,858 users takes twice as long.
_SCORE_BYTES = 10 * 2**20
_CHUNK = 32
# A catalogue of more than _WHOLE items is ranked in tiles of _TILE items. A block can then have
# enough users that computing the scores takes longer than reading the items' factors.
_WHOLE = 2**17
_TILE = 2**14


def empty_csr(n_users: int) -> Csr:
    """Return an empty CSR of U users, which masks nothing."""
    return Csr(np.zeros(n_users + 1, np.int32), np.zeros(0, np.int32))


def sample(degree_U: np.ndarray, most: int, seed: int) -> np.ndarray:
    """Draw at most ``most`` users uniformly from the users with items; return them ascending."""
    user_n = np.flatnonzero(degree_U)
    if len(user_n) <= most:
        return user_n
    return np.sort(np.random.default_rng(seed).choice(user_n, most, replace=False))


def of_sample(csr: Csr, most: int, seed: int) -> Csr:
    """Restrict ``csr`` to a :func:`sample` of its users.

    Returns ``csr`` itself if the sample has every user with items.
    """
    kept = sample(csr.degree, most, seed)
    if len(kept) == (csr.degree > 0).sum():
        return csr
    user_U = np.full(len(csr.degree), -1)
    user_U[kept] = kept
    return csr.take(user_U)


class Rows(NamedTuple):
    """The CSR rows of one block of users; ``index_M`` is padding from ``indptr_[B]`` on."""

    indptr_: Int[Array | np.ndarray, "B+1"]
    index_M: Int[Array | np.ndarray, "M"]


class Ranked(NamedTuple):
    """The ids and scores of the top K items of each user in a block.

    Past the last admissible item, ids are -1 and scores are -inf. ``nan_B`` marks the users with a
    score of NaN.
    """

    item_BK: Int[Array, "B K"]
    score_BK: Float[Array, "B K"]
    nan_B: Bool[Array, "B"]


def _top_k(score_BI: Array, k: int) -> tuple[Array, Array]:
    """Compute ``lax.top_k``, in about half of its time if there are many items.

    The top k items are in the k chunks of ``_CHUNK`` items with the highest maxima, because no item
    outside these k chunks is above the maximum of any of them.
    """
    n_users, n_items = score_BI.shape
    whole = n_items // _CHUNK
    if whole < 4 * k:
        score_BK, item_BK = lax.top_k(score_BI, k)
        return score_BK, item_BK
    window = (1, _CHUNK)
    max_BC = lax.reduce_window(score_BI, -jnp.inf, lax.max, window, window, "VALID")
    if n_items % _CHUNK:
        tail_B1 = score_BI[:, whole * _CHUNK :].max(axis=1, keepdims=True)
        max_BC = jnp.concatenate([max_BC, tail_B1], axis=1)
    chunk_BK = jnp.sort(lax.top_k(max_BC, k)[1], axis=1)
    item_BS = chunk_BK[:, :, None] * _CHUNK + jnp.arange(_CHUNK, dtype=jnp.int32)
    item_BS = item_BS.reshape(n_users, k * _CHUNK)
    score_BS = jnp.take_along_axis(score_BI, item_BS, axis=1, mode="fill", fill_value=-jnp.inf)
    score_BK, place_BK = lax.top_k(score_BS, k)
    return score_BK, jnp.take_along_axis(item_BS, place_BK, axis=1)


def rank(
    fn: ScoreFn,
    k: int,
    params: Any,
    user_B: Int[Array, "B"],
    seen: Rows | None,
    allowed_I: Bool[Array, "I"] | None = None,
) -> Ranked:
    """Find the k best items for each user of a block, except seen items and items not allowed."""
    if fn in TILES and k <= _TILE:
        n_items = jax.eval_shape(fn, params, user_B).shape[1]
        if n_items > _WHOLE:
            return _rank_tiles(fn, k, params, user_B, seen, allowed_I, n_items)
    score_BI = fn(params, user_B)
    # A score of NaN makes the sum NaN. Check this before masking, which could hide the NaN.
    nan_B = jnp.isnan(score_BI.sum(axis=1))
    if seen is not None:
        score_BI = score_BI.at[_seen_rows(seen), seen.index_M].set(-jnp.inf, mode="drop")
    if allowed_I is not None:
        score_BI = jnp.where(allowed_I, score_BI, -jnp.inf)
    score_BK, item_BK = _top_k(score_BI, min(k, score_BI.shape[1]))
    return Ranked(jnp.where(score_BK == -jnp.inf, -1, item_BK), score_BK, nan_B)


def _seen_rows(seen: Rows) -> Int[Array, "M"]:
    """Return the row in the block of each masked pair; padding gets row B, which is out of
    range."""
    m = jnp.arange(len(seen.index_M), dtype=jnp.int32)
    return jnp.searchsorted(seen.indptr_, m, side="right").astype(jnp.int32) - 1


def _rank_tiles(
    fn: ScoreFn,
    k: int,
    params: Any,
    user_B: Int[Array, "B"],
    seen: Rows | None,
    allowed_I: Bool[Array, "I"] | None,
    n_items: int,
) -> Ranked:
    """Rank like :func:`rank`, but tile by tile, and merge the best items of all tiles."""
    pairs = seen_pairs(seen)

    def body(carry: Ranked, tile: Array) -> tuple[Ranked, None]:
        # The last tile starts early, so that it is full; its items that are also in the tile before
        # it are masked.
        first = jnp.minimum(tile * _TILE, n_items - _TILE)
        of_tile = TILES[fn](params, first, _TILE)
        where = first, tile * _TILE, _TILE
        return with_tile(carry, fn, k, of_tile, user_B, pairs, where, allowed_I), None

    shape = (user_B.shape[0], k)
    start = Ranked(
        jnp.full(shape, -1, jnp.int32), jnp.full(shape, -jnp.inf), jnp.zeros(shape[0], bool)
    )
    tiles = jnp.arange(-(-n_items // _TILE), dtype=jnp.int32)
    best, _ = lax.scan(body, start, tiles)
    return best


def seen_pairs(seen: Rows | None) -> tuple[Int[Array, "M"], Int[Array, "M"]]:
    """Return the row and the item of each masked pair."""
    if seen is None:
        return jnp.zeros(0, jnp.int32), jnp.zeros(0, jnp.int32)
    return _seen_rows(seen), jnp.asarray(seen.index_M)


def with_tile(
    best: Ranked,
    fn: ScoreFn,
    k: int,
    params: Any,
    user_B: Int[Array, "B"],
    seen: tuple[Int[Array, "M"], Int[Array, "M"]],
    tile: tuple[Array, Array, int],
    allowed_I: Bool[Array, "I"] | None,
) -> Ranked:
    """Merge the best items of earlier tiles with the best items of the next tile.

    Args:
      params: parameters of ``fn`` for this tile.
      seen: result of :func:`seen_pairs`.
      tile: (first, begin, size). The tile has items first .. first + size - 1; the items before
        ``begin`` are in earlier tiles too.
    """
    (first, begin, size), (row_M, index_M) = tile, seen
    score_BT = fn(params, user_B)
    nan_B = best.nan_B | jnp.isnan(score_BT.sum(axis=1))
    inside_M = (index_M >= first) & (index_M < first + size)
    column_M = jnp.where(inside_M, index_M - first, size)
    score_BT = score_BT.at[row_M, column_M].set(-jnp.inf, mode="drop")
    place_T = jnp.arange(size, dtype=jnp.int32)
    counts_T = first + place_T >= begin
    if allowed_I is not None:
        counts_T &= jax.lax.dynamic_slice_in_dim(allowed_I, first, size)
    score_BK, place_BK = _top_k(jnp.where(counts_T, score_BT, -jnp.inf), k)
    # Earlier tiles come first, so that ties go to lower ids.
    both_B2K = jnp.concatenate([best.score_BK, score_BK], axis=1)
    item_B2K = jnp.concatenate([best.item_BK, first + place_BK], axis=1)
    score_BK, at_BK = lax.top_k(both_B2K, k)
    item_BK = jnp.take_along_axis(item_B2K, at_BK, axis=1)
    return Ranked(jnp.where(score_BK == -jnp.inf, -1, item_BK), score_BK, nan_B)


# Lists and users' excluded items are padded to at least this number of items, so that small numbers
# share one compiled program.
_ROOM = 32


def free_memory() -> int:
    """Return the memory that is free or used as file cache, in bytes."""
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            fields = dict(line.split(":") for line in file)
        return int(fields["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError):
        return machine.memory() // 2


def block_size(n_items: int, users_a_device: int, device: Any) -> int:
    """Choose the number of users in a block, so that their scores fit a share of device memory.

    The number is from 32 to 4096, or ``users_a_device`` if that is less. It depends on total rather
    than free memory: the block size determines how float32 sums are grouped, which must not change
    in a resumed run.
    """
    stats = device.memory_stats() if device.platform != "cpu" else None
    if stats and "bytes_limit" in stats:
        budget = stats["bytes_limit"] // 32
    else:
        budget = min(_SCORE_BYTES, machine.memory() // 16)
    width = n_items if n_items <= _WHOLE else _TILE
    fitting = min(max(budget // (4 * width), 32), 4096)
    return max(min(fitting, users_a_device), 1)


def power_of_two(n: int) -> int:
    """Round ``n`` up to a power of two."""
    return 1 << max(n - 1, 0).bit_length()


def list_length(k: int) -> int:
    """Round a cut-off up to 1, 2 or 5 times a power of ten, the lengths that are asked for most."""
    ten = 10 ** (len(str(k)) - 1)
    return next(ten * n for n in (1, 2, 5, 10) if ten * n >= k)


def row_width(longest: int) -> int:
    """Return a width of :class:`Rows`, a power of two, for blocks of at most ``longest`` items."""
    return 1 << longest.bit_length()


def block_rows(csr: ItemsByUser, users_SB: np.ndarray, least: int = 0) -> Iterator[Rows]:
    """Yield the :class:`Rows` of each block of users; all have one width, at least ``least``."""
    degree_SB = np.where(users_SB >= 0, csr.degree[users_SB], 0)
    width = row_width(max(least, int(degree_SB.sum(axis=1, dtype=np.int64).max())))
    for user_B in users_SB:
        yield as_rows(csr.take(user_B), width)


def as_rows(csr: Csr, width: int) -> Rows:
    """Convert a CSR to :class:`Rows`, padded to ``width`` indices."""
    return Rows(csr.indptr, np.pad(csr.indices, (0, width - len(csr.indices))))


def nan_error(nan_users: int) -> RunError:
    return RunError(
        f"the scores of {nan_users} users are not numbers (NaN) and cannot be ranked; "
        "the parameters of the model hold NaN or infinite values"
    )


def placed(devices: tuple[Any, ...], tree: Any, *axes: str) -> Any:
    """Copy arrays to devices, split by their first axis if ``axes`` is ``AXIS``, else whole."""
    mesh = Mesh(np.array(devices), (AXIS,))
    return jax.device_put(tree, NamedSharding(mesh, PartitionSpec(*axes)))


def over_devices(
    devices: tuple[Any, ...], body: Callable, split: Sequence[bool], donated: tuple[int, ...] = ()
) -> Callable:
    """Map a function of one device's arrays over stacked arrays; their first axis is the devices.

    Args:
      split: for each argument, whether it is stacked; other arguments are replicated.
      donated: indices of donated arguments, whose memory the result reuses.
    """

    def one(*args: Any) -> Any:
        local = [
            jax.tree.map(lambda x: x[0], arg) if parted else arg
            for arg, parted in zip(args, split, strict=True)
        ]
        return jax.tree.map(lambda x: x[None], body(*local))

    mesh, axis, whole = Mesh(np.array(devices), (AXIS,)), PartitionSpec(AXIS), PartitionSpec()
    specs = tuple(axis if parted else whole for parted in split)
    return jax.jit(on_mesh(mesh, one, specs, axis), donate_argnums=donated)


@lru_cache(maxsize=64)
def _tile_step(fn: ScoreFn, k: int, size: int, devices: tuple[Any, ...]) -> Callable:
    def body(
        best: Ranked, of_users: Any, seen: Rows, of_items: Any, at: Array, allowed_I: Array | None
    ) -> Ranked:
        user_B, params = jnp.arange(len(best.nan_B), dtype=jnp.int32), of_users | of_items
        tile = at[0], at[1], size
        return with_tile(best, fn, k, params, user_B, seen_pairs(seen), tile, allowed_I)

    return over_devices(devices, body, (True, True, True, False, False, False), (0,))


def rank_from_host(
    k: int,
    params: dict[str, np.ndarray],
    user_SB: np.ndarray,
    seen: Rows,
    allowed_I: Any,
    devices: tuple[Any, ...],
) -> Ranked:
    """Rank like :func:`rank`, a block of users on each of S devices, with factors in host memory.

    A device holds the factors of its users and of one tile of items.

    Args:
      params: parameters of a :func:`jaxrec.evaluation.scorers.host_scorer`.
      user_SB: row numbers of the users.
      seen: masked items of each block, [S, ...].
      allowed_I: ranked items; default: all.

    Returns:
      Arrays on the devices, whose first axis is the devices.
    """
    n_items, put = len(params["item"]), partial(placed, devices)
    k, size = min(k, n_items), min(max(_TILE, k), n_items)
    of_users = put({n: params[n][user_SB] for n in BY_USER if n in params}, AXIS)
    rest = put({n: x for n, x in params.items() if n not in (*BY_USER, *BY_ITEM)})
    shape, allowed_I = (*user_SB.shape, k), None if allowed_I is None else put(allowed_I)
    start = np.full(shape, -1, np.int32), np.full(shape, -np.inf, np.float32)
    best = Ranked(*put((*start, np.zeros(user_SB.shape, bool)), AXIS))
    step = _tile_step(fn_of(params), k, size, devices)
    for begin in range(0, n_items, size):
        first = min(begin, n_items - size)  # the last tile starts early, so that it is full
        items = {n: params[n][first : first + size] for n in BY_ITEM if n in params}
        at = np.array([first, begin], np.int32)
        items, at = put((items, at))
        best = step(best, of_users, seen, items | rest, at, allowed_I)
    return best


_rank_jit = jax.jit(rank, static_argnums=(0, 1))


def top_k(
    scorer: Scorer,
    users: np.ndarray,
    seen: ItemsByUser | None,
    k: int,
    *,
    allowed: np.ndarray | None = None,
    block: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Compute the k best items of each user, best first; ties go to the lower id.

    The numbers of users, of items per list (at least 32) and of excluded items (at least 32 per
    user) are padded to powers of two, so that a server stops compiling after a few requests.

    Args:
      scorer: scores all items.
      users: [n] row numbers, in any order and possibly repeated.
      seen: excluded items by user, or None.
      k: length of the lists.
      allowed: [I] bool, admissible items; default: all.
      block: number of users that are ranked at once; default: chosen by device memory.

    Returns:
      Items [n, k] int32 and scores [n, k] float32; they are -1 and -inf past the last admissible
      item.

    Raises:
      RunError: a score is NaN.
    """
    n_users = len(users)
    item_nk = np.full((n_users, k), -1, np.int32)
    score_nk = np.full((n_users, k), -np.inf, np.float32)
    if n_users == 0:
        return item_nk, score_nk
    room = power_of_two(n_users)
    size = block or block_size(scorer.n_items, room, jax.local_devices()[0])
    users_SB = np.pad(users.astype(np.int32), (0, -n_users % size), constant_values=-1)
    users_SB = users_SB.reshape(-1, size)
    seen = empty_csr(int(users.max()) + 1) if seen is None else seen
    allowed = np.ones(scorer.n_items, bool) if allowed is None else allowed
    allowed_I = jnp.asarray(allowed)
    longest = min(power_of_two(max(k, _ROOM)), scorer.n_items)
    nan_users = 0
    for start, user_B, rows in zip(
        range(0, n_users, size), users_SB, block_rows(seen, users_SB, _ROOM * size), strict=True
    ):
        user_B = np.maximum(user_B, 0)  # padding is ranked as user 0 and then dropped
        if scorer.fn is from_host:
            rows_1 = jax.tree.map(lambda x: x[None], rows)
            device = tuple(jax.local_devices()[:1])
            ranked = rank_from_host(longest, scorer.params, user_B[None], rows_1, allowed, device)
            result = jax.tree.map(lambda x: x[0], jax.device_get(ranked))
        else:
            result = _rank_jit(scorer.fn, longest, scorer.params, user_B, rows, allowed_I)
        item_BK, score_BK, nan_B = jax.device_get(result)
        here = min(size, n_users - start)
        width = min(k, item_BK.shape[1])
        item_nk[start : start + here, :width] = item_BK[:here, :width]
        score_nk[start : start + here, :width] = score_BK[:here, :width]
        nan_users += int(nan_B[:here].sum())
    if nan_users:
        raise nan_error(nan_users)
    return item_nk, score_nk
