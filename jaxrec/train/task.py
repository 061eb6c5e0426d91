"""What a run is about: users and items, or items alone. The run itself is the same code."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import optax

from jaxrec.config import RATING_METRICS, Config, shown_cutoff
from jaxrec.data.dataset import Dataset
from jaxrec.data.split import Splits, merged
from jaxrec.errors import InputError
from jaxrec.evaluate.run import parts
from jaxrec.graph.halo import make_mesh
from jaxrec.parted.stored import Parted
from jaxrec.train import environment, frozen, host_problem, results
from jaxrec.train.host_problem import HostProblem
from jaxrec.train.loop import Outcome
from jaxrec.train.mesh_problem import MeshProblem
from jaxrec.train.prepare import inputs
from jaxrec.train.problem import Problem
from jaxrec.train.signals import SignalWatch
from jaxrec.train.unread import noted, unread


class Table(NamedTuple):
    """What is shown at the end: some metrics of the model and of some baselines."""

    title: str
    metrics: list[str]
    baselines: tuple[str, ...]


@runtime_checkable
class Task(Protocol):
    """A configuration and its data, split."""

    @property
    def config(self) -> Config: ...

    def describe(self) -> list[str]:
        """What is trained on what, in a line or two."""
        ...

    def record(self, folder: Path, custom_tx: bool) -> None:
        """RUN/env.json, once."""
        ...

    def problem(
        self, phase: str, total: int | None, tx: optax.GradientTransformation | None
    ) -> Any:
        """One phase of the run, "search" or "refit", ready to be trained."""
        ...

    def evaluate(self, problem: Any, outcome: Outcome, watch: SignalWatch) -> dict[str, Any] | None:
        """The content of eval.json; None if stopped."""
        ...

    def write(self, folder: Path, problem: Any, outcome: Outcome, watch: SignalWatch) -> None:
        """The arrays and slices that a run leaves behind."""
        ...

    def tables(self) -> list[Table]:
        """What is shown; the first metric of the last table is compared with its last baseline."""
        ...


def needs_pairs(config: Config, n_pairs: dict[str, int], option: str) -> None:
    """Raise InputError where the part that selects is empty."""
    if n_pairs.get(config.eval.select_on) == 0:
        raise InputError(
            f"eval.select_on is {config.eval.select_on}, but the split holds no such pairs; "
            f"set --{option} above 0, or --eval.select-on none"
        )


@dataclass(frozen=True)
class UserTask:
    """Items for users, from interactions."""

    config: Config
    dataset: Dataset | Parted
    splits: Splits

    @classmethod
    def of(cls, config: Config, dataset: Dataset) -> "UserTask":
        """Split the data. Raises InputError where it lacks what the configuration needs."""
        splits = parts(config, dataset)
        held_out = {"validation": splits.validation.n_edges, "test": splits.test.n_edges}
        needs_pairs(config, held_out, "split.validation")
        return cls(config, dataset, splits)

    def check(self) -> None:
        """Raise InputError for what the data lacks, before there is a folder."""
        _ = self._frozen
        if self.config.mesh.devices > 1:
            make_mesh(self.config.mesh)
        if self.config.warm_start is None:
            inputs(self.config, self.splits.train)

    def describe(self) -> list[str]:
        config, splits = self.config, self.splits
        train = splits.train
        sizes = f"{train.n_edges:,} train, {splits.validation.n_edges:,} validation"
        line = (
            f"{config.preset}: {config.model.name} on {train.name}: {train.n_users:,} users, "
            f"{train.n_items:,} items; {sizes}, {splits.test.n_edges:,} test pairs; "
            f"seed {config.seed}; {jax.default_backend()}"
        )
        lines = [line, *self.dataset.reading, *noted(self.dataset.notes)]
        lines += unread(config, splits)
        if self._frozen is None:
            return lines
        return [*lines, frozen.describe(self._frozen, config, train)]

    @cached_property
    def _frozen(self) -> frozen.FrozenItems | None:
        return frozen.read(self.config, self.splits.train)

    def record(self, folder: Path, custom_tx: bool) -> None:
        sizes = {"users": self.splits.train.n_users, "items": self.splits.train.n_items}
        sizes |= {name: part.n_edges for name, part in self.splits._asdict().items()}
        environment.write(folder, self.dataset, sizes, custom_tx)

    def problem(
        self, phase: str, total: int | None, tx: optax.GradientTransformation | None
    ) -> Problem:
        splits = self.splits if phase == "search" else merged(self.splits)
        kind = MeshProblem if self.config.mesh.devices > 1 else Problem
        if host_problem.on_host(self.config, splits.train, tx is not None):
            kind = HostProblem
        elif kind is Problem:
            host_problem.check_device(self.config, splits.train)
        return kind.build(self.config, splits, phase=phase, total=total, tx=tx)

    def evaluate(
        self, problem: Problem, outcome: Outcome, watch: SignalWatch
    ) -> dict[str, Any] | None:
        found = results.final_evaluation(problem, outcome, watch)
        lines = unread(self.config, self.splits)
        return found | {"unread": lines} if found is not None and lines else found

    def write(self, folder: Path, problem: Problem, outcome: Outcome, watch: SignalWatch) -> None:
        results.write_arrays(folder, problem, outcome, self.dataset)
        results.write_slices(folder, problem, outcome, watch)

    def tables(self) -> list[Table]:
        k = shown_cutoff(self.config.eval.k)
        ranking = [f"recall@{k}", f"ndcg@{k}"]
        found = [Table("Ranking over all items", ranking, ("random", "popularity"))]
        if self.config.loss.rates:
            found.append(Table("Ratings", list(RATING_METRICS), ("mean", "biases")))
        return found
