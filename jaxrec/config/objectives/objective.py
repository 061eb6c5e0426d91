"""What the configuration knows of an objective: its losses, its metrics, its rules, its homes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple


class Table(NamedTuple):
    """What is shown at the end: some metrics of the model and of some baselines."""

    title: str
    metrics: list[str]
    baselines: tuple[str, ...]


@dataclass(frozen=True)
class Objective:
    """What a run is trained towards and judged by. Its rules stand in one file with the entry.

    Attributes:
      name: short and stable.
      of: what messages call the models that it is for.
      losses: names of jaxrec's own losses; that of a user is a ranking's.
      default_metric: what selects where nobody says; ``{k}`` stands for the cut-off that is shown.
      check: raises InputError where a configuration does not go together.
      tables: what is shown at the end; the first metric of the last table is compared with its
        last baseline.
      batch_numbers: (config, items) to the least count of numbers that a batch holds at once.
      trains: module of training that makes batches, targets and losses; where there are users, by
        its ``OBJECTIVE``, a ``jaxrec.training.objectives.objective.UserObjective``.
      task: module of training whose ``task`` makes a run's task.
      judges: module of evaluation whose ``judged`` and ``protocol`` judge a finished run.
      errors: module of evaluation whose ``evaluator`` compares predictions with held-out pairs,
        besides the ranking; None where the ranking is all.
      metrics: metrics of its own, without cut-offs; rankings are judged in every objective.
      lower_is_better: whether these metrics are errors.
      options: options that no other objective has: a section's fields, or all where none is named.
      values: (section, field, value) that no other objective has.
      users: whether the data has users, or items alone.
      negatives: whether something stands against each pair.
      reads: columns of interactions that are needed.
      mesh, host_tables: where it trains besides one device: on a mesh, with tables of the host.
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
