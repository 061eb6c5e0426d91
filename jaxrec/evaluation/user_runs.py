"""Evaluates finished runs of models that have users: loads the data, and builds the evaluators."""

import importlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from jaxrec import config as configs
from jaxrec.config import Config
from jaxrec.data import saved_split
from jaxrec.data.dataset import Counted, Csr, Dataset, ItemsByUser
from jaxrec.data.formats import resolve
from jaxrec.data.itemgraph import ItemGraph
from jaxrec.data.split import Splits, apply_filter, draw, refit_splits, resolved, settled, taken
from jaxrec.errors import InputError
from jaxrec.evaluation.against_baselines import Judged, Known
from jaxrec.evaluation.cold import Cold, Met, View, refuse_nothing
from jaxrec.evaluation.filter_scorer import run_scorer
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
from jaxrec.parted.layout import SPLITS, is_parted
from jaxrec.parted.stored import Parted
from jaxrec.runfolder import Embeddings, check_data


def protocol(config: Config) -> str:
    """Describe the evaluation protocol in one line, for eval.json."""
    ranked = "over all items"
    if config.split.name == "cold-items":
        ranked = "of the held-out items, which training has not seen, among themselves"
    known = "known items masked (train; for test, validation too)"
    if config.eval.repeatable:
        known = "known items ranked too (repeatable)"
    how = f"full ranking {ranked}; {known}; ties to the lower item"
    if config.eval.cold == "drop":
        how += "; users and items without a train pair left out"
    return how


def allowed_items(config: Config, held_out: Counted) -> np.ndarray | None:
    """Return which items are ranked, [I] bool; None for all.

    If the split holds out whole items, only the items of ``held_out`` are ranked.
    """
    return held_out.item_counts() > 0 if config.split.name == "cold-items" else None


def always(train: Counted, seed: int) -> dict[str, Scorer]:
    """Return the two baselines that are in every result: popularity and random."""
    return {
        "popularity": popularity_scorer(train.item_counts()),
        "random": random_scorer(seed, train.n_items),
    }


def errors_of(config: Config) -> Callable[[Dataset, Dataset], RatingEvaluator] | None:
    """Return the function that makes an evaluator of rating errors from (held_out, train).

    Returns None if only rankings are evaluated.
    """
    home = config.objective.errors
    return None if home is None else importlib.import_module(home).evaluator


def load_data(run: Path, config: Config, data: Dataset | str | Path | None) -> Dataset:
    """Load the data of a run, from ``data`` if that is given.

    Raises:
      InputError: the data differs, or ``data`` is missing for a run on data in memory.
    """
    if data is None and config.data == configs.IN_MEMORY:
        raise InputError(
            f"{run}: was trained on a Dataset in memory; give that data again as data="
        )
    dataset = data if isinstance(data, Dataset) else resolve(str(data or config.data))
    check_data(run, dataset)
    return dataset


def splits_of(config: Config, dataset: Dataset, run: Path | None = None) -> Splits:
    """Filter and split a data set as configured.

    Args:
      run: a run on this data; its stored split is used. If an old version wrote the run and stored
        no split, the split is drawn as in that version.

    Raises:
      InputError: the data cannot be split as configured, or the stored split does not match it.
    """
    data = apply_filter(dataset, config.filter)
    how = resolved(data, config.split)
    data, _ = settled(data, how)
    label = None if run is None else saved_split.labels(run, data)
    if label is None:
        label = draw(data, how, config.split_seed, plain=run is not None).label
    return taken(data, label, how)


def judged(
    run: Path,
    config: Config,
    table: Embeddings,
    split: str,
    ks: Sequence[int],
    baselines: Sequence[str],
    data: Dataset | ItemGraph | str | Path | None,
) -> Judged:
    """Return the model, its baselines and their evaluator on a split."""
    if isinstance(data, ItemGraph):
        raise InputError("the run recommends to users; give a Dataset, not an ItemGraph")
    if not isinstance(data, Dataset) and is_parted(data or config.data):
        return _ranked_in_parts(run, config, table, split, ks, baselines, data or config.data)
    splits = splits_of(config, load_data(run, config, data), run)
    if config.train.refit:
        splits = refit_splits(splits)
    held_out = splits.test if split == "test" else splits.validation
    if held_out.n_edges == 0:
        raise _no_pairs(run, split)
    train, seen = splits.train, splits.train.csr()
    if config.eval.repeatable:
        seen = empty_csr(train.n_users)
    elif split == "test":
        seen = union(seen, splits.validation.csr())
    others = always(train, config.seed)
    for name in baselines:
        from jaxrec.evaluation.baselines import ON_REQUEST

        others[name] = ON_REQUEST[name](train.csr(), train.n_items)
    rated: list[RatingEvaluator | None] = []
    errors = errors_of(config)
    if errors is not None:
        both = held_out, Met.of(train).pairs(held_out)
        rated = [errors(part, train) if part.n_edges else None for part in both]
    view = View(held_out.csr(), allowed_items(config, held_out))
    judges = _judges(config, split, train, view, seen, ks, rated)
    relevant = view.without(Met.of(train)).relevant if config.eval.cold == "drop" else view.relevant
    assert isinstance(relevant, Csr)
    known = Known(train.csr(), union(train.csr(), splits.validation.csr()), relevant)
    return Judged(run_scorer(run, table), others, *judges, known)


def _judges(
    config: Config,
    split: str,
    train: Counted,
    view: View,
    seen: ItemsByUser,
    ks: Sequence[int],
    rated: Sequence[RatingEvaluator | None] = (),
) -> tuple[Evaluator, RatingEvaluator | None, Cold]:
    """Make the evaluators for the configured setting of ``eval.cold``, and for the other setting.

    Args:
      rated: evaluators of rating errors, over all pairs and over pairs without cold users and
        items.
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

    def judge(view: View) -> Evaluator:
        return Evaluator(view.relevant, seen, ks, train.n_items, allowed=view.allowed)

    other = judge(views[1]) if cold and views[1].relevant.degree.any() else None
    return judge(views[0]), ratings[0], Cold(counts, left_out, other, ratings[1])


def _no_pairs(run: Path, split: str) -> InputError:
    return InputError(f"{run}: the run's split holds no {split} pairs; evaluate another split")


def _ranked_in_parts(
    run: Path,
    config: Config,
    table: Embeddings,
    split: str,
    ks: Sequence[int],
    baselines: Sequence[str],
    data: str | Path,
) -> Judged:
    """Return the result of :func:`judged` for partitioned data, reading blocks of users."""
    if baselines:
        raise InputError(
            f"{run}: {baselines[0]} needs all pairs in memory, but the run's data is in parts; "
            "leave it out"
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
    return Judged(table_scorer(table), always(train, config.seed), *judges)
