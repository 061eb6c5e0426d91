"""The read-only data of steps on a mesh, and the batches drawn from it.

The pairs and the users' known items are sharded over the axis ``table``. Every device draws the
whole batch, which is a few integers per pair, with the same random numbers as a single device.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec
from jaxtyping import Array, Int, PRNGKeyArray

from jaxrec.config import Config
from jaxrec.data.dataset import Dataset
from jaxrec.graph.csr import DeviceCsr
from jaxrec.graph.halo import DATA, TABLE, masked
from jaxrec.graph.partition import Partition, Shard, cut
from jaxrec.losses import LogQ
from jaxrec.negatives import Popularity
from jaxrec.training.batch import Batch, Pairs, TrainData, positives, with_negatives


class MeshData(NamedTuple):
    """The data of a step, on the mesh.

    The first axis of all arrays in ``shard``, ``pairs``, ``known`` and ``users`` runs over the
    parts along ``table``.

    Attributes:
      shard: each device's part of the graph.
      pairs: the train pairs, with each array cut into equal parts.
      known: the train items of each user, for T ranges of users. The ranges have about equal
        numbers of pairs, so they differ from the users in the parts of the table.
      users: [T, 2] the first user of each range, and the user after its last one.
      place_N: each node's row in the table.
    """

    shard: Shard
    pairs: Pairs
    known: DeviceCsr
    users: Array
    key: PRNGKeyArray
    place_N: Array
    popularity: Popularity | None = None

    def specs(self) -> "MeshData":
        """Return how each array is sharded over the mesh."""
        over: Any = PartitionSpec(TABLE)
        whole: Any = PartitionSpec()
        parted = MeshData(over, over, over, over, whole, whole, whole)
        each = zip(self, parted, strict=True)
        return MeshData(*(jax.tree.map(lambda _, spec=spec: spec, x) for x, spec in each))


class Sizes(NamedTuple):
    """Lengths of the unsharded arrays of pairs: E, U + 1, and the number of users with pairs."""

    pairs: int
    indptr: int
    active: int


class ShardedArray:
    """An array in equal shards over ``table``; every device can read all of it by index."""

    def __init__(self, part: Array, size: int) -> None:
        self._part, self.shape = part, (size,)

    def __getitem__(self, index: Array) -> Array:
        width = self._part.shape[0]
        local = index - jax.lax.axis_index(TABLE).astype(index.dtype) * width
        is_local = (local >= 0) & (local < width)
        value = self._part[jnp.clip(local, 0, width - 1)]
        return jax.lax.psum(jnp.where(is_local, value, 0), TABLE)


def mesh_data(
    train: Dataset, partition: Partition, key: PRNGKeyArray, popularity: Popularity | None
) -> tuple[MeshData, Sizes]:
    """Return a mesh's training data as NumPy arrays, and the lengths of its arrays of pairs."""
    parts = partition.layout.parts
    order = np.lexsort((train.item, train.user))
    weight = None if train.weight is None else train.weight[order].astype(np.float32)
    counts = train.user_counts()
    indptr = np.append(0, np.cumsum(counts)).astype(np.int32)
    active = np.flatnonzero(counts).astype(np.int32)

    def parted(x: np.ndarray) -> Any:
        return np.pad(x, (0, -len(x) % parts)).reshape(parts, -1)

    pairs = Pairs(
        *(parted(x[order]) for x in (train.user, train.item)),
        weight_E=None if weight is None else parted(weight),
        indptr=parted(indptr),
        active=parted(active),
    )
    known = train.csr()
    bounds = cut(known.degree + 1, parts)
    indptrs = [known.indptr[bounds[t] : bounds[t + 1] + 1] for t in range(parts)]
    most_users, most = max(map(len, indptrs)), max(int(ptr[-1] - ptr[0]) for ptr in indptrs)
    rows = [np.pad(ptr - ptr[0], (0, most_users - len(ptr)), mode="edge") for ptr in indptrs]
    items = [known.indices[ptr[0] : ptr[-1]] for ptr in indptrs]
    held: Any = np.stack(rows).astype(np.int32), np.stack([_padded(x, most) for x in items])
    users: Any = np.stack([bounds[:-1], bounds[1:]], axis=1).astype(np.int32)
    place_N: Any = partition.layout.place_N
    data = MeshData(partition.shard, pairs, DeviceCsr(*held), users, key, place_N, popularity)
    return data, Sizes(train.n_edges, len(indptr), len(active))


def _padded(x: np.ndarray, size: int) -> np.ndarray:
    return np.pad(x, (0, size - len(x)))


def draw(config: Config, n_items: int, data: MeshData, sizes: Sizes, step: Int[Array, ""]) -> Batch:
    """Draw a step's batch, which is the same on every device.

    Args:
      data: this device's part of the data.
    """
    local = data.pairs

    def sharded(x: Array, size: int) -> Any:
        return ShardedArray(x, size)

    pairs = Pairs(
        user_E=sharded(local.user_E, sizes.pairs),
        item_E=sharded(local.item_E, sizes.pairs),
        weight_E=None if local.weight_E is None else sharded(local.weight_E, sizes.pairs),
        indptr=sharded(local.indptr, sizes.indptr),
        active=sharded(local.active, sizes.active),
    )
    whole = TrainData(data.shard.graph, pairs, data.known, data.key, data.popularity)
    drawn = positives(config, whole, step)
    first, last = data.users
    own_B = (drawn.user_B >= first) & (drawn.user_B < last)
    # Each device rejects negatives of its own users; all devices draw the same random numbers.
    local_users = drawn._replace(user_B=jnp.where(own_B, drawn.user_B - first, 0))
    batch = with_negatives(config, n_items, whole, local_users, step)

    def merged(x: Array) -> Array:
        whole = jax.lax.psum(masked(x.astype(jnp.int32), own_B), TABLE)
        return whole.astype(x.dtype)

    neg, valid_BN, log_q = batch.neg, batch.valid_BN, batch.log_q
    if config.negatives.rejects:
        neg = merged(neg) if neg.ndim == 2 else neg
        valid_BN = None if valid_BN is None else merged(valid_BN)
    if log_q is not None:
        assert data.popularity is not None
        log_q = log_q._replace(neg=data.popularity.log_q_I[neg])
    return Batch(drawn, neg, valid_BN, log_q)


def part_of(batch: Batch) -> Batch:
    """Return this device's part of a batch, given by the device's index along ``data``."""
    parts, n_pairs = jax.lax.axis_size(DATA), batch.positives.user_B.shape[0]
    size = n_pairs // parts
    at = jax.lax.axis_index(DATA).astype(jnp.int32) * size

    def cut_out(x_B: Array) -> Array:
        return jax.lax.dynamic_slice_in_dim(x_B, at, size)

    neg, log_q = batch.neg, batch.log_q
    private = neg.ndim == 2
    if log_q is not None:
        log_q = LogQ(cut_out(log_q.pos_B), cut_out(log_q.neg) if private else log_q.neg)
    return Batch(
        jax.tree.map(cut_out, batch.positives),
        cut_out(neg) if private else neg,
        None if batch.valid_BN is None else cut_out(batch.valid_BN),
        log_q,
    )
