"""Evaluates a finished run of an item model, from its embeddings and graph."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from jaxrec import config as configs
from jaxrec.config import Config
from jaxrec.data import saved_split
from jaxrec.data.dataset import TRAIN, VALIDATION, Dataset
from jaxrec.data.formats.item_graphs import resolve_items
from jaxrec.data.itemgraph import ItemGraph, LabelledPairs, PairSplits
from jaxrec.data.pair_split import split_pairs
from jaxrec.errors import InputError
from jaxrec.evaluation.against_baselines import Judged
from jaxrec.evaluation.item_pairs import PairEvaluator, item_scorer
from jaxrec.evaluation.item_pairs import baselines as baselines_of
from jaxrec.evaluation.scorers import Scorer
from jaxrec.evaluation.slices import slices
from jaxrec.runfolder import Embeddings, check_data

Graph = ItemGraph | str | Path | None


def protocol(config: Config) -> str:
    """Describe the evaluation protocol in one line, for eval.json."""
    test, validation = (f"{100 * getattr(config.pairs, n):g} %" for n in ("test", "validation"))
    return (
        f"{test} of the pairs held out as test, {validation} of the others as validation; for each "
        "a negative pair of held-out items that are in no pair; pairs with an item that cannot be "
        "scored have the median score; full ranking of held-out neighbours over all items, known "
        "ones masked; ties to the lower item"
    )


def load_graph(run: Path, config: Config, data: Graph) -> ItemGraph:
    """Load the item graph of a run, from ``data`` if that is given.

    Raises:
      InputError: the data differs, or ``data`` is missing for a run on a graph in memory.
    """
    if data is None and config.data == configs.IN_MEMORY:
        raise InputError(
            f"{run}: was trained on an ItemGraph in memory; give that graph again as data="
        )
    graph = data
    if not isinstance(graph, ItemGraph):
        graph = resolve_items(str(data or config.data), config.pairs)
    check_data(run, graph)
    return graph


def splits_of(config: Config, graph: ItemGraph, part: np.ndarray | None = None) -> PairSplits:
    """Split an item graph into train pairs and labelled held-out pairs.

    Args:
      part: [P] the label of each pair in an earlier split, or -1 for a new pair, whose label is
        drawn. None draws all labels.
    """
    return split_pairs(graph, config.pairs, config.seed, part)


def refit_splits(config: Config, graph: ItemGraph, part: np.ndarray | None = None) -> PairSplits:
    """Return the split for the refit: the same test pairs, and all other pairs for training."""
    if part is not None:
        part = np.where(part == VALIDATION, TRAIN, part)
    return split_pairs(graph, replace(config.pairs, validation=0.0), config.seed, part)


def evaluator(
    config: Config,
    splits: PairSplits,
    split: str,
    scored_I: np.ndarray,
    ks: Sequence[int] | None = None,
) -> PairEvaluator | None:
    """Make the evaluator of the split "validation" or "test"; None if the split has no pairs.

    Args:
      scored_I: [I] bool, the items that the model can score.
      ks: cut-offs; default: the configuration's.
    """
    held_out: LabelledPairs = getattr(splits, split)
    if not held_out.n_pairs:
        return None
    return PairEvaluator(
        held_out,
        splits.train,
        config.eval.k if ks is None else ks,
        masked=splits.validation if split == "test" else None,
        scored_I=scored_I,
        ranked=config.pairs.ranked,
        seed=config.seed,
        block=config.eval.block,
    )


def served(
    judge: PairEvaluator, scorer: Scorer, train: ItemGraph, ks: Sequence[int]
) -> dict[str, Any] | None:
    """Compute recall by the popularity of query items and of recommended items.

    Returns the content of slices.json, except for the name of the split; None if nothing is ranked.
    """
    k = configs.shown_cutoff(ks)
    detail = judge.breakdown(scorer, k)
    if detail is None:
        return None
    degree = train.degree()
    queries = degree[detail.user_n], detail.recall_n
    return slices(*queries, degree, detail.hits_I, detail.relevant_I, k)


def scored_items(item_ID: np.ndarray) -> np.ndarray:
    """Return which items are trained, [I] bool: items whose row is not all 0."""
    return np.asarray((item_ID != 0).any(axis=1))


def table_scorer(config: Config, table: Embeddings) -> Scorer:
    """Make the item scorer of a finished run's embeddings."""
    context = config.model.score == "dot" and table.item_context is not None
    return item_scorer(table.arrays(), scored_items(table.item), context=context)


def judged(
    run: Path,
    config: Config,
    table: Embeddings,
    split: str,
    ks: Sequence[int],
    baselines: Sequence[str],
    data: Graph | Dataset,
) -> Judged:
    """Return the model, its baselines and their evaluator on a split.

    Raises:
      InputError: the data differs or has users, a baseline needs users, or the split is empty.
    """
    if baselines:
        raise InputError(
            f"{run}: {baselines[0]} is a baseline for users, but the run has no users; leave the "
            "baseline out"
        )
    if isinstance(data, Dataset):
        raise InputError("the run is of an item model; give an ItemGraph, not a Dataset")
    graph = load_graph(run, config, data)
    part = saved_split.labels(run, graph)
    splits = (refit_splits if config.train.refit else splits_of)(config, graph, part)
    held_out = evaluator(config, splits, split, scored_items(table.item), ks)
    if held_out is None:
        raise InputError(f"{run}: the run's split holds no {split} pairs; evaluate another split")
    others = baselines_of(splits.train, held_out.scored_I, config.seed)
    return Judged(table_scorer(config, table), others, held_out)
