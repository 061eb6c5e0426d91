"""A run of a model of items: its graph, its parts, and what it leaves behind."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax

from jaxrec.config import Config, shown_cutoff
from jaxrec.data.itemgraph import ItemGraph, PairSplits
from jaxrec.errors import InputError
from jaxrec.evaluate import items as judging
from jaxrec.evaluate.pairs import baselines
from jaxrec.evaluate.run import measure
from jaxrec.files import write_json, write_npz
from jaxrec.train import environment
from jaxrec.train.items.problem import ItemProblem, schema_of
from jaxrec.train.loop import Outcome
from jaxrec.train.prepare import Inputs
from jaxrec.train.results import reported
from jaxrec.train.signals import SignalWatch
from jaxrec.train.task import Table, needs_pairs
from jaxrec.train.unread import noted


@dataclass(frozen=True)
class ItemTask:
    """Items for items, from weighted pairs."""

    config: Config
    graph: ItemGraph
    splits: PairSplits

    @classmethod
    def of(cls, config: Config, graph: ItemGraph) -> "ItemTask":
        """Split the pairs. Raises InputError where the data lacks what the configuration needs."""
        splits = judging.parts(config, graph)
        held_out = {"validation": splits.validation.n_pairs, "test": splits.test.n_pairs}
        needs_pairs(config, held_out, "pairs.validation")
        return cls(config, graph, splits)

    def check(self) -> None:
        """Raise InputError for what the data lacks, before there is a folder."""
        schema_of(self.config, self.splits.train)

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
        ]

    def record(self, folder: Path, custom_tx: bool) -> None:
        sizes = {"users": 0, "items": self.graph.n_items, "train": self.splits.train.n_pairs}
        for name in ("validation", "test"):
            sizes[name] = int(getattr(self.splits, name).label_P.sum())
        environment.write(folder, self.graph, sizes, custom_tx)

    def problem(
        self, phase: str, total: int | None, tx: optax.GradientTransformation | None
    ) -> ItemProblem:
        if tx is not None:
            raise InputError("models of items update rows of tables: optim.*, not an optax chain")
        splits = self.splits
        if phase == "refit":
            splits = judging.merged(self.config, self.graph)
        return ItemProblem.build(self.config, splits, phase=phase, total=total)

    def evaluate(
        self, problem: ItemProblem, outcome: Outcome, watch: SignalWatch
    ) -> dict[str, Any] | None:
        config, train = self.config, problem.splits.train
        scorer = problem.scorer(outcome.state)
        others = baselines(train, problem.scored_I, config.seed)
        found: dict[str, dict[str, Any]] = {}
        for split in ("validation", "test"):
            evaluator = problem.evaluator(split)
            if evaluator is None:
                continue
            measured = measure(scorer, others, evaluator, watch)
            if measured is None:
                return None
            found[split] = measured
        nothing = {"metrics": {}, "baselines": {}, "users": 0, "pairs": 0}
        content = reported(config, found, nothing)
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

    def tables(self) -> list[Table]:
        found = []
        if self.config.pairs.ranked:
            k = shown_cutoff(self.config.eval.k)
            ranking = [f"recall@{k}", f"ndcg@{k}"]
            title = "Held-out neighbours among all items"
            found = [Table(title, ranking, ("random", "popularity"))]
        areas = ["auc", "auc_seen", "average_precision"]
        return [*found, Table("Labelled pairs", areas, ("random", "popularity"))]
