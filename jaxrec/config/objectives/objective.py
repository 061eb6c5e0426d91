"""The entry of an objective: its losses, metrics, checks and modules."""

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
      of: name in messages for the models that have this objective.
      losses: names of built-in losses; registered losses are for ranking.
      default_metric: default selection metric; ``{k}`` is replaced by the shown cut-off.
      check: raises InputError for contradictory options.
      tables: maps the configuration to the tables to show at the end; the first metric of the last
        table is compared with the last baseline of that table.
      batch_numbers: maps (config, items) to a lower bound of the numbers in a batch's arrays.
      trains: module of training that builds batches, targets and losses. For data with users, its
        ``OBJECTIVE`` is a ``jaxrec.training.objectives.objective.UserObjective``.
      task: module of training whose ``task`` builds a run's task.
      judges: module of evaluation whose ``judged`` and ``protocol`` evaluate a finished run.
      errors: module of evaluation whose ``evaluator`` compares predictions with held-out pairs;
        None if only rankings are evaluated.
      metrics: metrics without cut-offs; every objective also has the ranking metrics.
      lower_is_better: whether these metrics are errors.
      options: fields that only this objective has, by section; an empty tuple means all fields of
        the section.
      values: values that only this objective supports, as (section, field, value).
      users: whether the data has users.
      negatives: whether pairs have negatives.
      reads: required columns of interactions.
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
