"""Evaluation of a finished run: its embeddings against baselines, ranked by the same code."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from jaxrec import config as configs
from jaxrec import forks
from jaxrec.config import Config
from jaxrec.data import kept, sound
from jaxrec.data.dataset import Counted, Dataset, ItemsByUser
from jaxrec.data.formats import memory, resolve
from jaxrec.data.itemgraph import ItemGraph
from jaxrec.data.split import Splits, apply_filter, draw, merged, resolved, settled, taken
from jaxrec.errors import InputError
from jaxrec.evaluation import item_runs
from jaxrec.evaluation.cold import Cold, Met, View, refuse_nothing
from jaxrec.evaluation.filter_scorer import run_scorer
from jaxrec.evaluation.item_pairs import PairEvaluator
from jaxrec.evaluation.ranking import (
    Evaluator,
    Scorer,
    empty_csr,
    popularity_scorer,
    random_scorer,
    union,
)
from jaxrec.evaluation.ratings import RatingEvaluator
from jaxrec.evaluation.scorers import table_scorer
from jaxrec.files import write_json, write_npz
from jaxrec.parted.layout import SPLITS, is_parted
from jaxrec.parted.stored import Parted
from jaxrec.runfolder import (
    Embeddings,
    check_data,
    check_run,
    read_embeddings,
    read_json,
    read_start,
)


def protocol(config: Config) -> str:
    """One line that says how the numbers came about."""
    chosen = {
        "validation": f"parameters chosen by {config.metric} on validation",
        "test": f"parameters chosen by {config.metric} ON TEST (as the papers do)",
        "none": "last parameters, no selection",
    }[config.eval.select_on]
    refit = "; length chosen on validation, then trained on train and validation"
    ranked = "over all items"
    if config.split.name == "cold-items":
        ranked = "of the held-out items, which training has not seen, among themselves"
    known = "known items masked (train; for test, validation too)"
    if config.eval.repeatable:
        known = "known items ranked too (repeatable)"
    how = f"full ranking {ranked}; {known}; ties to the lower item"
    if config.eval.cold == "drop":
        how += "; users and items without a train pair left out"
    if config.model.over_items:
        how = item_runs.protocol(config)
    return f"{how}; {chosen}{refit if config.train.refit else ''}"


def allowed_items(config: Config, held_out: Counted) -> np.ndarray | None:
    """Which items are ranked for a held-out part, [I] bool: all, which is None, or where whole
    items are held out those of the part."""
    return held_out.item_counts() > 0 if config.split.name == "cold-items" else None


def always(train: Counted, seed: int) -> dict[str, Scorer]:
    """The baselines that stand in every result."""
    return {
        "popularity": popularity_scorer(train.item_counts()),
        "random": random_scorer(seed, train.n_items),
    }


def measure(
    model: Scorer,
    baselines: dict[str, Scorer],
    evaluator: Evaluator | PairEvaluator,
    should_stop: Callable[[], bool] | None = None,
    ratings: RatingEvaluator | None = None,
    cold: Cold | None = None,
) -> dict[str, Any] | None:
    """Metrics of the model and of each baseline: a part of eval.json; None if stopped.

    With ``ratings`` the errors of the model besides, and of baselines of their own; with ``cold``
    how many users and items training has not met, and the model's metrics with or without them. The
    users of an item model are the items whose neighbours are ranked.
    """
    measured = {}
    for name, scorer in {"model": model, **baselines}.items():
        measured[name] = evaluator(scorer, should_stop)
        if measured[name] is None:
            return None
    if ratings is not None:
        measured["model"] |= ratings(model)
        measured |= ratings.baselines if baselines else {}
    found = {"metrics": measured.pop("model"), "baselines": measured, "users": evaluator.users}
    if isinstance(evaluator, PairEvaluator):
        return found | {"pairs": evaluator.pairs, "cold": evaluator.cold}
    if cold is None:
        return found
    told: dict[str, Any] = {**cold.counts, "left_out": cold.left_out}
    found["cold"] = told
    if cold.other is not None:
        other = cold.other(model, should_stop)
        if other is None:
            return None
        other |= {} if cold.ratings is None else cold.ratings(model)
        told["with" if cold.left_out else "without"] = other
    return found


def load_data(run: Path, config: Config, data: Dataset | str | Path | None) -> Dataset:
    """The data that a run began with; ``data`` says where it moved to.

    Raises:
      InputError: it is not the same data, or was never in a file.
    """
    if data is None and config.data == configs.IN_MEMORY:
        raise InputError(f"{run}: was trained on a Dataset in memory; give that data again")
    dataset = data if isinstance(data, Dataset) else resolve(str(data or config.data))
    check_data(run, dataset)
    return dataset


def parts(config: Config, dataset: Dataset, run: Path | None = None) -> Splits:
    """Train, validation and test of a data set, filtered and split as configured.

    Args:
      run: what has begun with this data, where something has: its split is the one that it keeps,
        or where it keeps none, as before runs did, that of those days.

    Raises:
      InputError: as :func:`jaxrec.data.split.draw`, or a split that is kept does not fit.
    """
    data = apply_filter(dataset, config.filter)
    how = resolved(data, config.split)
    data, _ = settled(data, how)
    label = None if run is None else kept.labels(run, data)
    if label is None:
        label = draw(data, how, config.split_seed, plain=run is not None).label
    return taken(data, label, how)


def evaluate(
    run: str | Path,
    split: str = "test",
    ks: Sequence[int] | None = None,
    *,
    baselines: Sequence[str] = (),
    data: Any = None,
    cold: Literal["keep", "drop"] | None = None,
) -> dict[str, Any]:
    """Rank all items for the users of a held-out part, and write the result into RUN/eval.json.

    What stands there already stays: the results on other parts, and those on this one at other
    cut-offs and of other baselines where they came about by the same protocol. A run of an item
    model is judged by its held-out pairs, whose curves go to RUN/curves.npz.

    Args:
      split: "test" or "validation".
      ks: cut-offs K; the run's own where None.
      baselines: of "item-knn" and "ease", besides popularity and random.
      data: where the data is now, if it moved.
      cold: whether users and items without a train pair count; as the run has it where None.

    Returns:
      The content of eval.json.

    Raises:
      InputError: no finished run, data that differs, or no such held-out pairs.
    """
    forks.check()
    if ks is not None:
        configs.check_cutoffs(ks)
    data = memory.taken(data)
    sound.refuse_foreign(data, Dataset, ItemGraph)
    run = check_run(run)
    config = configs.load(run / "config.json")
    if cold is not None:
        config = replace(config, eval=replace(config.eval, cold=cold))
    ks = config.eval.k if ks is None else tuple(ks)
    before = read_json(run / "eval.json")
    table = read_embeddings(run)
    if ks != config.eval.k:
        configs.check_cutoffs(ks, len(table.item_ids), "--k")
    if split == "validation" and config.train.refit:
        raise InputError(f"{run}: the refit trained on validation; evaluate --split test")
    if config.model.over_items:
        if baselines:
            raise InputError(f"{run}: {baselines[0]} is a baseline of users, and the run has none")
        model, others, pairs = item_runs.judged(run, config, table, split, ks, _graph(data))
        measured = measure(model, others, pairs)
        write_npz(run / "curves.npz", pairs.judge(model).curves())
    else:
        asked = run, config, table, split, ks, baselines, data
        model, others, ranking, ratings, unmet = _ranked(*asked)
        measured = measure(model, others, ranking, None, ratings, unmet)
    assert measured is not None
    now: dict[str, Any] = {"protocol": protocol(config), "selected_on": config.eval.select_on}
    if start := read_start(run):
        now["start"] = start
    content = updated(before, split, measured, now)
    write_json(run / "eval.json", content)
    return content


_ON_A_SPLIT = ("metrics", "baselines", "users", "pairs", "cold")
"""What eval.json says of the split that it is of, and under the name of each other split."""


def updated(
    before: dict[str, Any], split: str, measured: dict[str, Any], now: dict[str, Any]
) -> dict[str, Any]:
    """The content of eval.json with a new result on a split, and what stood there before.

    Args:
      before: the content so far; empty where there is none.
      split: "test" or "validation", which the content is of from now on.
      measured: the result on it, as :func:`measure` gives it.
      now: what belongs to the run: "protocol", "selected_on", and "start" where it has one.
    """
    names = {*_ON_A_SPLIT, *measured}
    parts = {name: before[name] for name in ("test", "validation") if before.get(name)}
    if before.get("metrics"):
        parts[str(before.get("split"))] = {name: before[name] for name in before if name in names}
    old = parts.pop(split, {})
    others = {k: v for k, v in before.items() if k not in names | {"split", "test", "validation"}}
    alike = before.get("protocol") == now["protocol"] and isinstance(old, dict)
    if alike and all(old.get(name) == measured.get(name) for name in ("users", "pairs")):
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


def _graph(data: Dataset | ItemGraph | str | Path | None) -> item_runs.Graph:
    if isinstance(data, Dataset):
        raise InputError("the run is of an item model: an ItemGraph is needed, not a Dataset")
    return data


def _ranked(
    run: Path,
    config: Config,
    table: Embeddings,
    split: str,
    ks: Sequence[int],
    baselines: Sequence[str],
    data: Dataset | ItemGraph | str | Path | None,
) -> tuple[Scorer, dict[str, Scorer], Evaluator, RatingEvaluator | None, Cold]:
    """The model, its baselines, and what judges them by a split."""
    if isinstance(data, ItemGraph):
        raise InputError("the run recommends to users: a Dataset is needed, not an ItemGraph")
    if not isinstance(data, Dataset) and is_parted(data or config.data):
        return _ranked_in_parts(run, config, table, split, ks, baselines, data or config.data)
    found = parts(config, load_data(run, config, data), run)
    if config.train.refit:
        found = merged(found)
    held_out = found.test if split == "test" else found.validation
    if held_out.n_edges == 0:
        raise _no_pairs(run, split)
    train, seen = found.train, found.train.csr()
    if config.eval.repeatable:
        seen = empty_csr(train.n_users)
    elif split == "test":
        seen = union(seen, found.validation.csr())
    others = always(train, config.seed)
    for name in baselines:
        from jaxrec.evaluation.baselines import ON_REQUEST

        others[name] = ON_REQUEST[name](train.csr(), train.n_items)
    rated: list[RatingEvaluator | None] = []
    if config.loss.rates:
        both = held_out, Met.of(train).pairs(held_out)
        rated = [RatingEvaluator(of, train) if of.n_edges else None for of in both]
    view = View(held_out.csr(), allowed_items(config, held_out))
    return run_scorer(run, table), others, *_judges(config, split, train, view, seen, ks, rated)


def _judges(
    config: Config,
    split: str,
    train: Counted,
    view: View,
    seen: ItemsByUser,
    ks: Sequence[int],
    rated: Sequence[RatingEvaluator | None] = (),
) -> tuple[Evaluator, RatingEvaluator | None, Cold]:
    """What judges as configured, and what judges cold users and items the other way.

    Args:
      rated: errors of ratings, of all pairs and of those that are not cold.
    """
    met, left_out = Met.of(train), config.eval.cold == "drop"
    counts = met.counts(view.relevant)
    cold = counts["users"] + counts["items"] > 0
    views = [view, view.without(met)] if cold or left_out else [view]
    ratings = [*rated, None, None][:2]
    if left_out:
        views.reverse()
        ratings = [ratings[1], ratings[0]]
    refuse_nothing(config, split, views[0])

    def judge(of: View) -> Evaluator:
        return Evaluator(of.relevant, seen, ks, train.n_items, allowed=of.allowed)

    other = judge(views[1]) if cold and views[1].relevant.degree.any() else None
    return judge(views[0]), ratings[0], Cold(counts, left_out, other, ratings[1])


def _no_pairs(run: Path, split: str) -> InputError:
    return InputError(f"{run}: the run's split holds no {split} pairs")


def _ranked_in_parts(
    run: Path,
    config: Config,
    table: Embeddings,
    split: str,
    ks: Sequence[int],
    baselines: Sequence[str],
    data: str | Path,
) -> tuple[Scorer, dict[str, Scorer], Evaluator, RatingEvaluator | None, Cold]:
    """:func:`_ranked` on a data set in parts, read by blocks of users."""
    if baselines:
        raise InputError(
            f"{run}: {baselines[0]} needs all pairs in memory, and the run's data lies in parts"
        )
    parted = Parted.open(data)
    check_data(run, parted)
    parted.check()
    train, held_out = parted.of("train"), parted.of(split)
    if held_out.n_edges == 0:
        raise _no_pairs(run, split)
    known = () if config.eval.repeatable else SPLITS[: SPLITS.index(split)]
    seen = parted.rows(*known)
    judges = _judges(config, split, train, View(parted.rows(split), None), seen, ks)
    return table_scorer(table), always(train, config.seed), *judges
