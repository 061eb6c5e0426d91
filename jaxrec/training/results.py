"""Writes the results of a finished run: embeddings, seen items, eval.json and slices."""

import importlib.util
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxrec import processes
from jaxrec.config import Config, shown_cutoff
from jaxrec.data.dataset import Dataset
from jaxrec.evaluation import per_user
from jaxrec.evaluation.against_baselines import measure
from jaxrec.evaluation.run import protocol
from jaxrec.evaluation.slices import slices
from jaxrec.evaluation.user_runs import always
from jaxrec.files import write_json, write_npz
from jaxrec.parted.stored import Parted
from jaxrec.training.loop import Outcome
from jaxrec.training.problem import Problem
from jaxrec.training.signals import SignalWatch

_SAMPLED_BATCHES = 16


def write_arrays(run: Path, problem: Problem, outcome: Outcome, dataset: Dataset | Parted) -> None:
    """Write embeddings.npz and parameters.npz of the selected state, seen.npz and features.json.

    Args:
      dataset: the run's data, before filters and split.
    """
    train = problem.splits.train
    ids = {"user_ids": train.user_ids, "item_ids": train.item_ids}
    embeddings = {name: np.asarray(array).astype(str) for name, array in ids.items()}
    learned = jax.device_get(problem.learned(outcome.state))
    embeddings |= {name: np.asarray(array, np.float32) for name, array in learned.items()}
    parameters = problem.parameters(outcome.state)
    problem.write_seen(run, dataset)
    if not processes.first():
        return
    write_npz(run / "parameters.npz", parameters)
    write_json(run / "features.json", problem.takes.to_dict())
    write_npz(run / "embeddings.npz", embeddings)


def final_evaluation(
    problem: Problem, outcome: Outcome, watch: SignalWatch
) -> dict[str, Any] | None:
    """Return the content of eval.json, with the metrics of every split; None if a signal came."""
    config, splits = problem.config, problem.splits
    model, others = problem.scorer(outcome.state), always(splits.train, config.seed)
    results: dict[str, dict[str, Any]] = {}
    for split in ("validation", "test", "train"):
        evaluator = problem.evaluator(split)
        if evaluator is None:
            continue
        baselines = {} if split == "train" else others
        cold = None if split == "train" else problem.cold(split)
        known = problem.baselines(split)
        measured = measure(model, baselines, evaluator, watch, problem.ratings(split), cold, known)
        if measured is None:
            return None
        results[split] = measured
    content = reported(config, results, {"metrics": {}, "baselines": {}, "users": 0})
    content["train"] = {name: results["train"][name] for name in ("metrics", "users")}
    if config.objective.negatives and not config.model.kind.fitted:
        content["false_negative_rate"] = false_negative_rate(problem)
    content["steps"] = outcome.steps
    content["best_step"] = outcome.step
    return content


def reported(
    config: Config, results: dict[str, dict[str, Any]], nothing: dict[str, Any]
) -> dict[str, Any]:
    """Return the first fields of eval.json: the reported split, its result and the protocol.

    The reported split is test, or validation if test has no result.

    Args:
      results: the result of ``measure`` for each split that is not empty.
      nothing: the result to use if neither test nor validation has one.
    """
    split = "test" if "test" in results else "validation"
    content: dict[str, Any] = {"split": split} | results.get(split, nothing)
    content |= {"protocol": protocol(config), "selected_on": config.eval.select_on}
    if split == "test" and "validation" in results:
        content["validation"] = results["validation"]
    return content


def false_negative_rate(problem: Problem) -> dict[str, float]:
    """Return the shares of negatives that are the user's positives in train and in validation.

    The shares are measured in the batches of evenly spaced steps, over unmasked negatives (for
    dynamic negatives, over all candidates). The share in validation estimates how many negatives
    are positives that training does not know.
    """

    def counted(step: int) -> np.ndarray:
        batch = problem.draw(problem.data, problem.number(step))
        return problem.count_known(jax.device_get(batch))

    last = max(problem.cadence.total, 1) - 1
    steps = np.unique(np.linspace(0, last, _SAMPLED_BATCHES).astype(int))
    sums = np.sum([counted(int(step)) for step in steps], axis=0)
    in_train, in_validation = sums[:2] / max(int(sums[2]), 1)
    return {"train": float(in_train), "validation": float(in_validation)}


def write_slices(run: Path, problem: Problem, outcome: Outcome, watch: SignalWatch) -> None:
    """Write slices.json and per_user.parquet of the reported split.

    slices.json has the recall by item popularity and by user activity; per_user.parquet has the
    metrics of each user.
    """
    split = "test" if problem.evaluator("test") else "validation"
    evaluator = problem.evaluator(split)
    if evaluator is None:
        return
    k = shown_cutoff(problem.config.eval.k)
    lists = evaluator.lists(problem.scorer(outcome.state), watch)
    if lists is None or not processes.first():
        return
    train, detail = problem.splits.train, evaluator.broken_down(lists, k)
    per_user.write(run, split, lists, train.user_ids, evaluator.ks)
    content = slices(
        train.user_counts()[detail.user_n],
        detail.recall_n,
        train.item_counts(),
        detail.hits_I,
        detail.relevant_I,
        k,
    )
    write_json(run / "slices.json", {"split": split} | content)


def can_report() -> bool:
    """Return whether the packages of the extra ``report`` are installed."""
    return importlib.util.find_spec("matplotlib") is not None
