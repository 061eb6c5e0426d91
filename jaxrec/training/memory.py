"""The sizes of a run, from which its memory is planned, and the memory of the device."""

from typing import Any, NamedTuple

import jax
import numpy as np

from jaxrec import plan as plans
from jaxrec.config import Config
from jaxrec.data.dataset import Dataset
from jaxrec.graph.spmm import resolve
from jaxrec.parted.stored import PartedSplit
from jaxrec.platforms import platform_of_programs
from jaxrec.training.schedule import Cadence


def device_memory() -> int | None:
    """Return the memory of a device in bytes; None if the device does not report it."""
    return (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit")


class Counts(NamedTuple):
    """The numbers of users, items and train pairs."""

    n_users: int
    n_items: int
    n_edges: int


def sizes_of(
    config: Config,
    train: Dataset | PartedSplit | Counts,
    *,
    sparse: bool,
    sides: tuple[np.ndarray, np.ndarray] | None = None,
    **more: Any,
) -> plans.Sizes:
    """Return the sizes of a run for :func:`jaxrec.plan.plan`.

    Args:
      sparse: whether a step updates only the rows of its batch.
      sides: degrees of users and of items; required if ``train`` is a ``Counts``.
      more: further fields of ``Sizes``, which depend on where the data and the table are.
    """
    how = config.negatives
    private = how.count * how.candidates + how.hard if how.private else how.hard
    shared = {"shared": how.count, "in-batch": config.train.batch_size}.get(how.name, 0)
    if sides is None:
        assert not isinstance(train, Counts), "the sizes alone do not give the degrees of nodes"
        sides = train.user_counts(), train.item_counts()
    degrees = [
        (int(degree), int(nodes))
        for side in sides
        for degree, nodes in zip(*np.unique(side, return_counts=True), strict=True)
    ]
    found: dict[str, Any] = {"buckets": resolve(config.model.kernel) == "buckets"}
    found["spectral"] = config.model.init == "spectral" and config.warm_start is None
    found |= {"platform": platform_of_programs(), "model": config.model.name}
    found["steps"] = Cadence.of(config, train.n_edges).total
    found["varied"] = found["steps"]
    if config.optim.schedule == "constant":
        found["varied"] = min(config.optim.warmup_steps, found["steps"])
    if config.model.sampled:
        found |= {"fan_outs": config.model.hops, "drawn": config.model.neighbors == "uniform"}
        found["hidden"] = config.model.hidden_dim or config.model.dim
    found |= {"layer_bytes": np.dtype(config.model.dtype).itemsize, "degrees": degrees}
    return plans.Sizes(
        train.n_users,
        train.n_items,
        train.n_edges,
        dim=config.model.dim,
        layers=config.model.layers,
        batch=config.train.batch_size,
        negatives=private,
        shared=shared,
        data=config.mesh.data,
        table=config.mesh.table,
        optimizer=config.optim.name,
        sparse=sparse,
        **(found | more),
    )
