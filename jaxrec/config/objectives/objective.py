"""The entry of an objective in ``OBJECTIVES``: its losses, metrics, checks and modules."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple


class Table(NamedTuple):
    """A table of metrics of the model and its baselines, shown at the end of a run."""

    title: str
    metrics: list[str]
    baselines: tuple[str, ...]


@dataclass(frozen=True)
class Objective:
    """What a run optimises and how it is evaluated.

    Attributes:
      name: stable identifier.
      of: what messages call the models of this objective, such as "item models".
      losses: names of built-in losses; registered losses are for ranking.
      default_metric: default selection metric; ``{k}`` is replaced by the shown cut-off.
      check: raises InputError for contradictory options.
      tables: maps the configuration to the tables that are shown at the end of a run. In the last
        table, the model's first metric is compared with that of the last baseline.
      batch_numbers: maps (config, number of items) to a lower bound of the number of elements in
        the arrays of a batch.
      trains: name of the training module that builds batches, targets and losses. For data with
        users, its ``OBJECTIVE`` is a ``jaxrec.training.objectives.objective.UserObjective``.
      task: name of the training module whose ``task`` builds a run's task.
      judges: name of the evaluation module whose ``judged`` and ``protocol`` evaluate a finished
        run.
      errors: name of the evaluation module whose ``evaluator`` compares predictions with held-out
        pairs; None if only rankings are evaluated.
      metrics: metrics without cut-offs; every objective also has the ranking metrics.
      lower_is_better: whether lower values of ``metrics`` are better, as for errors.
      options: for each section, the fields that are only for this objective; an empty tuple means
        all fields of the section.
      values: option values that are only for this objective, as (section, field, value).
      users: whether the data has users.
      negatives: whether pairs have negatives.
      reads: columns that the interactions must have.
      mesh, host_tables: whether the objective supports a mesh, and tables in host memory.
    """

    name: str
    of: str
    losses: tuple[str, ...]
    default_metric: str
    check: Callable[[Any], None]
    tables: Callable[[Any], list[Table]]
    batch_numbers: Callable[[Any, int], int]
    trains: str
    task: str
    judges: str
    errors: str | None = None
    metrics: tuple[str, ...] = ()
    lower_is_better: bool = False
    options: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    values: tuple[tuple[str, str, Any], ...] = ()
    users: bool = True
    negatives: bool = True
    reads: tuple[str, ...] = ()
    mesh: bool = False
    host_tables: bool = False
