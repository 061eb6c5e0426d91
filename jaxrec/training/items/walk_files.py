"""Writes random walks to Parquet files, so that other programs can train on them."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import polars as pl

from jaxrec.config import PairsConfig, WalksConfig
from jaxrec.data.formats.item_graphs import resolve_items
from jaxrec.data.itemgraph import ItemGraph
from jaxrec.data.prepared import refuse_occupied
from jaxrec.errors import InputError
from jaxrec.files import replacing
from jaxrec.graph import walks
from jaxrec.randomness import OfSeed, child

_BLOCK = 1 << 16  # number of walks per file


def write_walks(
    data: str | ItemGraph, out: str | Path, config: WalksConfig | None = None, seed: int = 0
) -> int:
    """Write ``config.count`` walks from every item that has a pair, 65,536 per Parquet file.

    Args:
      data: an item graph, or anything that ``--data`` of an item model takes.
      out: a new or empty folder; its files have one column, ``walk``, of lists of item ids.
      config: the settings of the walks; ``window`` is not used.

    Returns:
      The number of walks.

    Raises:
      InputError: the data cannot be used, or the folder is not empty.
    """
    config = config or WalksConfig()
    refuse_occupied(out)
    graph = data if isinstance(data, ItemGraph) else resolve_items(data, PairsConfig())
    adjacency = graph.adjacency()
    start_A = np.flatnonzero(adjacency.degree).astype(np.int32)
    if not len(start_A):
        raise InputError(f"{graph.name}: no item has a pair to walk along; give data with pairs")
    weight = adjacency.weight if config.weighted else None
    on_device = walks.walk_graph(adjacency.indptr, adjacency.indices, weight)
    name = np.asarray(graph.item_ids).astype(str)
    walk = jax.jit(walks.walk, static_argnums=3, static_argnames=("p", "q"))
    total, key = config.count * len(start_A), child(jax.random.key(seed), OfSeed.WALKS)
    with replacing(Path(out).absolute()) as folder:
        folder.mkdir()
        for part, first in enumerate(range(0, total, _BLOCK)):
            index = np.arange(first, min(first + _BLOCK, total))
            number, place = np.divmod(index, len(start_A))
            nodes = jnp.asarray(start_A[place]), jnp.asarray(number, jnp.int32)
            walk_LW = walk(on_device, *nodes, config.length, key, p=config.p, q=config.q)
            walk_WL = np.asarray(walk_LW).T
            # A walk is padded with -1 if it stops early. Its start has a pair, so no walk is empty.
            row = pl.Series(name[walk_WL[walk_WL >= 0]])
            ends = np.cumsum((walk_WL >= 0).sum(axis=1))
            frame = pl.DataFrame(
                {"walk": np.repeat(np.arange(len(ends)), np.diff(ends, prepend=0))}
            )
            frame = frame.with_columns(item=row).group_by("walk", maintain_order=True).agg("item")
            frame.select(walk="item").write_parquet(folder / f"part-{part:05d}.parquet")
    return total
