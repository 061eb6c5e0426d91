"""Random walks as files, for other programs to learn from."""

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

_BLOCK = 1 << 16  # walks a file


def write_walks(
    data: str | ItemGraph, out: str | Path, config: WalksConfig | None = None, seed: int = 0
) -> int:
    """Write ``count`` walks from every item that has a pair, 65,536 a Parquet file.

    Args:
      data: what ``--data`` of an item model takes.
      out: a new or empty folder; its files have one column, ``walk``, lists of item ids.
      config: of the walks; its window is not for here.

    Returns:
      How many walks there are.

    Raises:
      InputError: data that cannot be used, or a folder that holds something.
    """
    config = config or WalksConfig()
    refuse_occupied(out)
    graph = data if isinstance(data, ItemGraph) else resolve_items(data, PairsConfig())
    around = graph.adjacency()
    start_A = np.flatnonzero(around.degree).astype(np.int32)
    if not len(start_A):
        raise InputError(f"{graph.name}: no item has a pair to walk along")
    weight = around.weight if config.weighted else None
    on_device = walks.walk_graph(around.indptr, around.indices, weight)
    name = np.asarray(graph.item_ids).astype(str)
    walk = jax.jit(walks.walk, static_argnums=3, static_argnames=("p", "q"))
    total, key = config.count * len(start_A), child(jax.random.key(seed), OfSeed.WALKS)
    with replacing(Path(out).absolute()) as folder:
        folder.mkdir()
        for part, first in enumerate(range(0, total, _BLOCK)):
            index = np.arange(first, min(first + _BLOCK, total))
            number, place = np.divmod(index, len(start_A))
            nodes = jnp.asarray(start_A[place]), jnp.asarray(number, jnp.int32)
            made_LW = walk(on_device, *nodes, config.length, key, p=config.p, q=config.q)
            made_WL = np.asarray(made_LW).T
            # A walk that cannot go on is shorter; every start has a way on.
            row = pl.Series(name[made_WL[made_WL >= 0]])
            ends = np.cumsum((made_WL >= 0).sum(axis=1))
            frame = pl.DataFrame(
                {"walk": np.repeat(np.arange(len(ends)), np.diff(ends, prepend=0))}
            )
            frame = frame.with_columns(item=row).group_by("walk", maintain_order=True).agg("item")
            frame.select(walk="item").write_parquet(folder / f"part-{part:05d}.parquet")
    return total
