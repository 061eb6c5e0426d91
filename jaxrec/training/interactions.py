"""Builds the task of a run on interactions, which are in memory or partitioned on disk."""

from pathlib import Path
from typing import Any

from jaxrec.config import Config
from jaxrec.data.dataset import Dataset
from jaxrec.data.formats import resolve
from jaxrec.data.itemgraph import ItemGraph
from jaxrec.errors import InputError
from jaxrec.evaluation.user_runs import load_data
from jaxrec.parted.layout import is_parted
from jaxrec.training.filters import FilterTask
from jaxrec.training.placement.partitioned import PartedTask
from jaxrec.training.task import UserTask


def task(config: Config, data: Any, run: Path | None = None) -> UserTask:
    """Build the task of a configuration; if ``run`` is given, use the split of that run.

    Raises:
      InputError: the data is an item graph, or cannot be used.
    """
    if isinstance(data, ItemGraph):
        raise InputError(f"{config.model.name} recommends to users: give it a Dataset")
    if not isinstance(data, Dataset) and is_parted(data or config.data):
        if config.model.kind.fitted:
            raise InputError(f"{config.model.name} needs all pairs in memory, not partitioned data")
        return PartedTask.open(config, data or config.data, run)
    kind = FilterTask if config.model.kind.fitted else UserTask
    if run is not None:
        return kind.of(config, load_data(run, config, data), run)
    return kind.of(config, data if isinstance(data, Dataset) else resolve(str(data)))
