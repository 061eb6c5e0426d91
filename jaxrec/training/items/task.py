"""The task of a run of an item model: its graph, its split and its results."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax

from jaxrec.config import Config
from jaxrec.data.dataset import Dataset
from jaxrec.data.formats.item_graphs import resolve_items
from jaxrec.data.itemgraph import ItemGraph, PairSplits
from jaxrec.data.pair_split import draw_pairs
from jaxrec.data.saved_split import KeptSplit, hashes, labels, rule
from jaxrec.errors import InputError
from jaxrec.evaluation import item_runs as judging
from jaxrec.evaluation.against_baselines import measure
from jaxrec.evaluation.item_pairs import baselines
from jaxrec.files import write_json, write_npz
from jaxrec.training import environment
from jaxrec.training.device_data import Inputs
from jaxrec.training.items.batch import slots_per_epoch
from jaxrec.training.items.problem import ItemProblem, schema_of
from jaxrec.training.loop import Outcome
from jaxrec.training.pre_run_checks import check_limits
from jaxrec.training.results import reported
from jaxrec.training.signals import SignalWatch
from jaxrec.training.start_leaks import Start, held_out_of
from jaxrec.training.task import Splitting, before, begun, needs_pairs
from jaxrec.training.unused_data import noted


@dataclass(frozen=True)
class ItemTask:
    """The task of recommending items for items, from weighted pairs."""

    config: Config
    graph: ItemGraph
    splits: PairSplits
    part_P: np.ndarray | None = None
    """The split of each pair; None in old runs, whose split is drawn from the seed again."""
    splitting: Splitting = field(default_factory=Splitting)

    @classmethod
    def of(cls, config: Config, graph: ItemGraph, run: Path | None = None) -> "ItemTask":
        """Split the pairs, or use the stored split of ``run`` if that run has started.

        Raises:
          InputError: the data lacks what the configuration needs.
        """
        if run is not None and begun(run):
            part_P, splitting = labels(run, graph), before(run)
        else:
            part_P, splitting = _split(config, graph)
        splits = judging.splits_of(config, graph, part_P)
        held_out = {"validation": splits.validation.n_pairs, "test": splits.test.n_pairs}
        part = config.eval.select_on
        share = f"pairs.{part} is {getattr(config.pairs, part, 0):g}"
        needs_pairs(config, held_out, share, f"set --pairs.{part} higher")
        return cls(config, graph, splits, part_P, splitting)

    def check(self) -> None:
        """Raise InputError if the data does not fit the configuration, before files are written."""
        train = self.splits.train
        n_starts = int((train.degree() > 0).sum())
        slots = slots_per_epoch(self.config, n_starts, train.n_pairs)
        check_limits(self.config, 0, train.n_items, slots)
        schema_of(self.config, train)

    def describe(self) -> list[str]:
        config, splits = self.config, self.splits
        held_out = f"{int(splits.validation.label_P.sum()):,} validation"
        return [
            f"{config.preset}: {config.model.name} on {splits.train.name}: "
            f"{splits.train.n_items:,} items; {splits.train.n_pairs:,} train, {held_out}, "
            f"{int(splits.test.label_P.sum()):,} test pairs; seed {config.seed}; "
            f"{jax.default_backend()}",
            *self.graph.reading,
            *noted(self.graph.notes),
            *self.splitting.lines(),
        ]

    def record(self, folder: Path, custom_tx: bool) -> None:
        sizes = {"users": 0, "items": self.graph.n_items, "train": self.splits.train.n_pairs}
        for name in ("validation", "test"):
            sizes[name] = int(getattr(self.splits, name).label_P.sum())
        self.splitting.save(folder)
        environment.write(folder, self.graph, sizes, custom_tx, start=self.splitting.start)

    def problem(
        self, phase: str, total: int | None, tx: optax.GradientTransformation | None
    ) -> ItemProblem:
        if tx is not None:
            raise InputError(
                "item models take no optax chain; leave tx out and set optim.* instead"
            )
        splits = self.splits
        if phase == "refit":
            splits = judging.refit_splits(self.config, self.graph, self.part_P)
        return ItemProblem.build(self.config, splits, phase=phase, total=total)

    def evaluate(
        self, problem: ItemProblem, outcome: Outcome, watch: SignalWatch
    ) -> dict[str, Any] | None:
        config, train = self.config, problem.splits.train
        scorer = problem.scorer(outcome.state)
        others = baselines(train, problem.scored_I, config.seed)
        measured_on: dict[str, dict[str, Any]] = {}
        for split in ("validation", "test"):
            evaluator = problem.evaluator(split)
            if evaluator is None:
                continue
            measured = measure(scorer, others, evaluator, watch)
            if measured is None:
                return None
            measured_on[split] = measured
        nothing = {"metrics": {}, "baselines": {}, "users": 0, "pairs": 0}
        content = reported(config, measured_on, nothing)
        if self.splitting.start:
            content["start"] = list(self.splitting.start)
        return content | {"steps": outcome.steps, "best_step": outcome.step}

    def write(
        self, folder: Path, problem: ItemProblem, outcome: Outcome, watch: SignalWatch
    ) -> None:
        learned = jax.device_get(problem.learned(outcome.state))
        arrays = {name: np.asarray(array, np.float32) for name, array in learned.items()}
        arrays["item_ids"] = np.asarray(problem.splits.train.item_ids).astype(str)
        arrays["user_ids"] = np.zeros(0, "U1")
        write_npz(folder / "parameters.npz", problem.parameters(outcome.state))
        write_json(folder / "features.json", Inputs(item=problem.takes).to_dict())
        nothing = np.zeros(0, np.int32)
        write_npz(folder / "seen.npz", {"indptr": np.zeros(1, np.int32), "indices": nothing})
        write_npz(folder / "embeddings.npz", arrays)
        evaluator = problem.evaluator("test") or problem.evaluator("validation")
        if evaluator is not None:
            scorer = problem.scorer(outcome.state)
            write_npz(folder / "curves.npz", evaluator.judge(scorer).curves())
            config, train = self.config, problem.splits.train
            served = judging.served(evaluator, scorer, train, config.eval.k)
            if served is not None:
                split = "test" if problem.evaluator("test") else "validation"
                write_json(folder / "slices.json", {"split": split} | served)

    def ranked_items(self) -> int:
        return self.graph.n_items


def _split(config: Config, graph: ItemGraph) -> tuple[np.ndarray, Splitting]:
    """Assign each pair of a new run to a split, reusing the warm start's split if possible."""
    protocol, start, hash_P = rule(config.pairs), Start.of(config), hashes(graph)
    inherited = start.inherited(protocol, hash_P)
    part = None if inherited is None else inherited.part
    part_P = draw_pairs(graph, config.pairs, config.seed, part)
    more = {"refit": config.train.refit, "before": start.known}
    kept = KeptSplit.of(hash_P, part_P, protocol, config.seed, **more)
    held_out = held_out_of(part_P, hash_P)
    facts = start.facts(protocol, held_out, {"items": graph.item_ids})
    return part_P, Splitting(kept, facts)


def task(config: Config, data: Any, run: Path | None = None) -> ItemTask:
    """Build the task of a configuration; if ``run`` is given, use its data and split.

    Raises:
      InputError: the data is of interactions, or cannot be used.
    """
    if isinstance(data, Dataset):
        raise InputError(
            f"{config.model.name} is trained on item pairs, not interactions; give an ItemGraph"
        )
    if run is not None:
        return ItemTask.of(config, judging.load_graph(run, config, data), run)
    graph = data if isinstance(data, ItemGraph) else resolve_items(str(data), config.pairs)
    return ItemTask.of(config, graph)
