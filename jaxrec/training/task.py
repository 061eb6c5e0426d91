"""The task of a run whose model recommends items to users."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import jax
import optax
from flax import nnx

from jaxrec.config import Config
from jaxrec.data.dataset import Dataset
from jaxrec.data.saved_split import KeptSplit, hashes, rule, told
from jaxrec.data.split import (
    Splits,
    apply_filter,
    draw,
    refit_splits,
    repeats,
    resolved,
    settled,
    taken,
)
from jaxrec.errors import InputError
from jaxrec.evaluation.cold import Met, View, refuse_nothing
from jaxrec.evaluation.user_runs import allowed_items, splits_of
from jaxrec.graph.halo import make_mesh
from jaxrec.parted.stored import Parted
from jaxrec.runfolder import read_start
from jaxrec.training import environment, frozen_items, results
from jaxrec.training.device_data import inputs
from jaxrec.training.loop import Outcome
from jaxrec.training.optimizers import optimizer
from jaxrec.training.placement import host_table
from jaxrec.training.placement.host_table import HostProblem
from jaxrec.training.placement.mesh import MeshProblem
from jaxrec.training.pre_run_checks import check_limits
from jaxrec.training.problem import Problem, new_model
from jaxrec.training.signals import SignalWatch
from jaxrec.training.start_leaks import Start, held_out_of
from jaxrec.training.unused_data import noted, unread


@runtime_checkable
class Task(Protocol):
    """The interface of a task: a configuration and its split data, ready for a run."""

    @property
    def config(self) -> Config: ...

    def check(self) -> None:
        """Raise InputError if the data cannot be used, before a folder is written."""
        ...

    def describe(self) -> list[str]:
        """Describe model and data in a few lines."""
        ...

    def record(self, folder: Path, custom_tx: bool) -> None:
        """Write RUN/env.json, once per run."""
        ...

    def problem(
        self, phase: str, total: int | None, tx: optax.GradientTransformation | None
    ) -> Any:
        """Build the problem of a phase, "search" or "refit"."""
        ...

    def evaluate(self, problem: Any, outcome: Outcome, watch: SignalWatch) -> dict[str, Any] | None:
        """Evaluate the outcome and return the content of eval.json; None if a signal came."""
        ...

    def write(self, folder: Path, problem: Any, outcome: Outcome, watch: SignalWatch) -> None:
        """Write the result arrays and slices."""
        ...

    def ranked_items(self) -> int:
        """Return the number of ranked items."""
        ...


def needs_pairs(config: Config, n_pairs: dict[str, int], share: str, instead: str = "") -> None:
    """Raise InputError if the selection split is empty.

    Args:
      n_pairs: number of pairs in each part of the split.
      share: the option that sets the share of the selection split, with its value, for the message.
      instead: a fix that the message suggests; may be empty.
    """
    if n_pairs.get(config.eval.select_on) == 0:
        raise InputError(
            f"eval.select_on is {config.eval.select_on}, but that part of the split is empty "
            f"({share}); {instead or 'hold out more'}, or set --eval.select-on none"
        )


def _instead(config: Config, dataset: Dataset) -> str:
    """Suggest a fix for an empty selection split."""
    split, part = resolved(dataset, config.split), config.eval.select_on
    share = getattr(split, part, 0)
    if share == 0:
        return f"set --split.{part} above 0"
    if split.name == "leave-last-out":
        return "give users with three pairs or more"
    if split.name == "cold-items":
        return f"give more items, or set --split.{part} higher"
    if split.name == "given" and part == "test":
        return "give a test part with pairs that train does not have"
    # Without per_user, this share would hold out at least one of all pairs.
    within_users = split.per_user and split.name != "windows"
    if within_users and round(share * (1 - split.test) * dataset.n_edges) >= 1:
        return "hold out over all pairs with --split.no-per-user"
    return f"set --split.{part} higher"


@dataclass(frozen=True)
class Splitting:
    """The origin of a run's split.

    Attributes:
      kept: the split to store; None if the run folder or partitioned data already stores it.
      start: for each source of initial parameters, its record for env.json.
      notes: exceptions to the rule of the split, with their counts.
    """

    kept: KeptSplit | None = None
    start: Sequence[dict[str, Any]] = ()
    notes: Mapping[str, int] = field(default_factory=dict)

    def lines(self) -> list[str]:
        """Return lines for the console about the sources and the notes."""
        return [*told(self.start), *(f"{note}: {n:,}" for note, n in self.notes.items())]

    def save(self, folder: Path) -> None:
        """Write RUN/split.npz, unless the run has already started."""
        if self.kept is not None and not begun(folder):
            self.kept.save(folder)


def begun(run: Path | None) -> bool:
    """Return whether a run has started, so that its folder stores its split."""
    return run is not None and (run / "env.json").is_file()


def before(run: Path) -> Splitting:
    """Return the Splitting of a started run, with the records of sources in its folder."""
    return Splitting(start=read_start(run))


@dataclass(frozen=True)
class UserTask:
    """The task of recommending items to users, from interactions."""

    config: Config
    dataset: Dataset | Parted
    splits: Splits
    splitting: Splitting = field(default_factory=Splitting)

    @classmethod
    def of(cls, config: Config, dataset: Dataset, run: Path | None = None) -> "UserTask":
        """Build the task: split the data, or use the stored split of a ``run`` that has started.

        Raises:
          InputError: the data lacks what the configuration needs.
        """
        if run is not None and begun(run):
            splits, splitting = splits_of(config, dataset, run), before(run)
        else:
            splits, splitting = _split(config, dataset)
        held_out = {"validation": splits.validation.n_edges, "test": splits.test.n_edges}
        part = config.eval.select_on
        share = f"split.{part} is {getattr(config.split, part, 0):g}"
        needs_pairs(config, held_out, share, _instead(config, dataset))
        for name in held_out if config.eval.cold == "drop" else ():
            pairs = getattr(splits, name)
            if pairs.n_edges:
                view = View(pairs.csr(), None).without(Met.of(splits.train))
                refuse_nothing(config, name, view)
        return cls(config, dataset, splits, splitting)

    def check(self) -> None:
        """Raise InputError if the data cannot be used, before a folder is written."""
        _ = self._frozen
        train = self.splits.train
        check_limits(self.config, train.n_users, train.n_items, train.n_edges)
        if self.config.mesh.devices > 1:
            make_mesh(self.config.mesh)
        if self.config.optim.registered:
            train = self.splits.train
            optimizer(self.config, train.n_users + train.n_items, 1)
        if self.config.warm_start is None:
            takes = inputs(self.config, self.splits.train)
            if self.config.model.registered:
                key = jax.random.key(0)
                nnx.eval_shape(lambda: new_model(self.config, self.splits.train, takes, key))

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
        if self._frozen is not None:
            lines.append(frozen_items.describe(self._frozen, config, train))
        return [*lines, *self.splitting.lines(), *self._few_select()]

    def _few_select(self) -> list[str]:
        """Report how many users have pairs in the selection split, if fewer than half do."""
        part = self.config.eval.select_on
        if part == "none":
            return []
        n_users = self.splits.train.n_users
        select = int((getattr(self.splits, part).user_counts() > 0).sum())
        if 2 * select >= n_users:
            return []
        return [f"{select:,} of {n_users:,} users have {part} pairs, which select the parameters"]

    @cached_property
    def _frozen(self) -> frozen_items.FrozenItems | None:
        return frozen_items.read(self.config, self.splits.train)

    def record(self, folder: Path, custom_tx: bool) -> None:
        sizes = {"users": self.splits.train.n_users, "items": self.splits.train.n_items}
        sizes |= {name: part.n_edges for name, part in self.splits._asdict().items()}
        self.splitting.save(folder)
        how = self.splitting
        environment.write(folder, self.dataset, sizes, custom_tx, start=how.start, notes=how.notes)

    def problem(
        self, phase: str, total: int | None, tx: optax.GradientTransformation | None
    ) -> Problem:
        splits = self.splits if phase == "search" else refit_splits(self.splits)
        kind = MeshProblem if self.config.mesh.devices > 1 else Problem
        if host_table.on_host(self.config, splits.train, tx is not None):
            kind = HostProblem
        elif kind is Problem:
            host_table.check_device(self.config, splits.train)
        return kind.build(self.config, splits, phase=phase, total=total, tx=tx)

    def evaluate(
        self, problem: Problem, outcome: Outcome, watch: SignalWatch
    ) -> dict[str, Any] | None:
        evaluation = results.final_evaluation(problem, outcome, watch)
        if evaluation is None:
            return None
        more = {"unread": unread(self.config, self.splits), "start": list(self.splitting.start)}
        return evaluation | {name: lines for name, lines in more.items() if lines}

    def write(self, folder: Path, problem: Problem, outcome: Outcome, watch: SignalWatch) -> None:
        results.write_arrays(folder, problem, outcome, self.dataset)
        results.write_slices(folder, problem, outcome, watch)

    def ranked_items(self) -> int:
        allowed_I = allowed_items(self.config, self.splits.test)
        return self.splits.train.n_items if allowed_I is None else int(allowed_I.sum())


def _split(config: Config, dataset: Dataset) -> tuple[Splits, Splitting]:
    """Split the data of a new run; if possible, continue the split of the runs it starts from."""
    data = apply_filter(dataset, config.filter)
    how = resolved(data, config.split)
    data, notes = settled(data, how)
    protocol, start, hash_E = rule(how), Start.of(config), hashes(data)
    inherited = start.inherited(protocol, hash_E)
    drawn = draw(data, how, config.split_seed, inherited)
    splits = taken(data, drawn.label, how)
    seed = config.split_seed if inherited is None else inherited.seed
    more = {"refit": config.train.refit, "before": start.known}
    first = ~repeats(data)
    kept = KeptSplit.of(hash_E[first], drawn.label[first], protocol, seed, **more)
    ids = {"users": data.user_ids, "items": data.item_ids}
    facts = start.facts(protocol, held_out_of(drawn.label, hash_E), ids)
    return splits, Splitting(kept, facts, notes | drawn.notes)
