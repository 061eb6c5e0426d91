"""Evaluates a finished run against baselines, and updates its eval.json."""

import importlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from jaxrec import config as configs
from jaxrec import fork_check
from jaxrec.config import Config
from jaxrec.data import array_checks
from jaxrec.data.dataset import Dataset
from jaxrec.data.formats import in_memory
from jaxrec.data.itemgraph import ItemGraph
from jaxrec.errors import InputError
from jaxrec.evaluation import beyond_accuracy, sampled
from jaxrec.evaluation import per_user as users
from jaxrec.evaluation.against_baselines import Judged
from jaxrec.evaluation.item_pairs import PairEvaluator
from jaxrec.evaluation.ranking import Evaluator, Lists
from jaxrec.files import write_json, write_npz
from jaxrec.runfolder import check_run, read_embeddings, read_json, read_start


def _judges(config: Config) -> Any:
    """Return the module that evaluates finished runs of the configured objective."""
    return importlib.import_module(config.objective.judges)


def protocol(config: Config) -> str:
    """Describe the evaluation protocol in one line, for eval.json."""
    chosen = {
        "validation": f"parameters chosen by {config.metric} on validation",
        "test": f"parameters chosen by {config.metric} ON TEST (as the papers do)",
        "none": "last parameters, no selection",
    }[config.eval.select_on]
    refit = "; length chosen on validation, then trained on train and validation"
    if config.model.kind.fitted:
        refit = "; then fitted on train and validation"
    how = _judges(config).protocol(config)
    return f"{how}; {chosen}{refit if config.train.refit else ''}"


def evaluate(
    run: str | Path,
    split: str = "test",
    ks: Sequence[int] | None = None,
    *,
    baselines: Sequence[str] = (),
    data: Any = None,
    cold: Literal["keep", "drop"] | None = None,
    per_user: bool = False,
    metrics: Sequence[str] = (),
) -> dict[str, Any]:
    """Evaluate a run by full ranking on a held-out split, and update RUN/eval.json.

    Existing results on the other split are kept. If the protocol is the same, existing results on
    this split for other cut-offs and baselines are kept too. Item models are evaluated on held-out
    pairs, with curves in RUN/curves.npz.

    Args:
      split: "test" or "validation".
      ks: cut-offs K; default: the run's.
      baselines: any of "item-knn" and "ease", in addition to popularity and random.
      data: the run's data, if it has moved or was given in memory: a path, a Dataset, an ItemGraph,
        or a table of another library.
      cold: whether to "keep" or to "drop" users and items without train pairs; default: the run's
        setting.
      per_user: also write each user's metrics to RUN/per_user.parquet.
      metrics: further metrics, from :data:`jaxrec.evaluation.beyond_accuracy.NAMES`, or "all";
        "uni100" is stored under "sampled" and marked as biased.

    Returns:
      The content of eval.json.

    Raises:
      InputError: the run has not finished, the data differs, or the split is empty.

    After ``jaxrec train --run runs/quickstart-1``:

    >>> import jaxrec
    >>> found = jaxrec.evaluate("runs/quickstart-1", "validation", [5])
    >>> found["split"], "recall@5" in found["metrics"], sorted(found["baselines"])
    ('validation', True, ['popularity', 'random'])
    """
    fork_check.check()
    if ks is not None:
        configs.check_cutoffs(ks)
    data = in_memory.taken(data)
    array_checks.refuse_foreign(data, Dataset, ItemGraph)
    run = check_run(run)
    beyond_accuracy.check(metrics)
    config = configs.load(run / "config.json")
    if cold is not None:
        config = replace(config, eval=replace(config.eval, cold=cold))
    ks = config.eval.k if ks is None else tuple(ks)
    before = read_json(run / "eval.json")
    table = read_embeddings(run)
    if ks != config.eval.k:
        configs.check_cutoffs(ks, len(table.item_ids), "--k")
    if split == "validation" and config.train.refit:
        raise InputError(
            f"{run}: the refit was trained on validation, so only test is held out; "
            "give --split test"
        )
    judged = _judges(config).judged(run, config, table, split, ks, baselines, data)
    if (per_user or metrics) and not isinstance(judged.evaluator, Evaluator):
        raise InputError(f"{run}: its item model has no users; leave out --per-user and --metrics")
    if metrics and judged.known is None:
        raise InputError(
            f"{run}: --metrics needs all pairs in memory, and the run's data is in parts; leave "
            "--metrics out"
        )
    measured = judged.measure()
    assert measured is not None
    if isinstance(judged.evaluator, Evaluator) and (per_user or metrics):
        lists = judged.evaluator.lists(judged.model)
        assert lists is not None
        if per_user:
            users.write(run, split, lists, table.user_ids, ks)
        _add_beyond(measured, judged, lists, metrics, ks, config.seed)
    if isinstance(judged.evaluator, PairEvaluator):
        write_npz(run / "curves.npz", judged.evaluator.judge(judged.model).curves())
    now: dict[str, Any] = {"protocol": protocol(config), "selected_on": config.eval.select_on}
    if start := read_start(run):
        now["start"] = start
    content = updated(before, split, measured, now)
    write_json(run / "eval.json", content)
    return content


def _add_beyond(
    measured: dict[str, Any],
    judged: Judged,
    lists: Lists,
    names: Sequence[str],
    ks: Sequence[int],
    seed: int,
) -> None:
    """Add the metrics beyond accuracy in ``names`` to the result ``measured``."""
    known = judged.known
    if known is None or not isinstance(judged.evaluator, Evaluator):
        return
    if asked := [name for name in beyond_accuracy.METRICS if name in names or "all" in names]:
        popular = judged.evaluator.lists(judged.baselines["popularity"])
        assert popular is not None
        n_items = judged.evaluator.n_items
        values = beyond_accuracy.beyond(asked, lists, popular, known.train, n_items, ks)
        measured["metrics"] |= values
    if {"uni100", "all"} & set(names):
        sample = sampled.uni100(judged.model, known.relevant, known.had, ks, seed)
        measured["sampled"] = {"protocol": sampled.PROTOCOL, "metrics": sample}


_ON_A_SPLIT = ("metrics", "baselines", "users", "pairs", "cold", "sampled")
"""Fields of a split's result in eval.json. The main split's fields are at the top level; the other
split's fields are under its name."""


def updated(
    before: dict[str, Any], split: str, measured: dict[str, Any], now: dict[str, Any]
) -> dict[str, Any]:
    """Merge a new result on a split into the content of eval.json.

    Args:
      before: existing content, or empty.
      split: "test" or "validation", the new main split.
      measured: the result of :func:`jaxrec.evaluation.against_baselines.measure` on this split.
      now: the fields "protocol", "selected_on" and optionally "start" of the run.
    """
    names = {*_ON_A_SPLIT, *measured}
    parts = {name: before[name] for name in ("test", "validation") if before.get(name)}
    if before.get("metrics"):
        parts[str(before.get("split"))] = {name: before[name] for name in before if name in names}
    old = parts.pop(split, {})
    others = {k: v for k, v in before.items() if k not in names | {"split", "test", "validation"}}
    alike = before.get("protocol") == now["protocol"] and isinstance(old, dict)
    if alike and all(old.get(name) == measured.get(name) for name in ("users", "pairs")):
        if "sampled" in old:
            measured = {"sampled": old["sampled"]} | measured
        listed = dict(old["baselines"])
        for name, metrics in measured["baselines"].items():
            listed[name] = listed.get(name, {}) | metrics
        cold = dict(measured.get("cold", {}))
        for way in ("with", "without"):
            if way in cold:
                cold[way] = old.get("cold", {}).get(way, {}) | cold[way]
        measured = measured | {"metrics": old["metrics"] | measured["metrics"]}
        measured |= {"baselines": listed} | ({"cold": cold} if cold else {})
    return {"split": split} | measured | others | now | parts
