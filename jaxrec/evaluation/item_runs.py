"""Evaluation of a finished run of an item model: its embeddings and the graph it began with."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from jaxrec import config as configs
from jaxrec.config import Config
from jaxrec.data import kept
from jaxrec.data.dataset import TRAIN, VALIDATION, Dataset
from jaxrec.data.formats.items import resolve_items
from jaxrec.data.itemgraph import ItemGraph, LabelledPairs, PairSplits
from jaxrec.data.pair_split import split_pairs
from jaxrec.errors import InputError
from jaxrec.evaluation.item_pairs import PairEvaluator, item_scorer
from jaxrec.evaluation.item_pairs import baselines as baselines_of
from jaxrec.evaluation.judged import Judged
from jaxrec.evaluation.scorers import Scorer
from jaxrec.evaluation.slices import slices
from jaxrec.runfolder import Embeddings, check_data

Graph = ItemGraph | str | Path | None


def protocol(config: Config) -> str:
    """How the numbers came about, in one line."""
    test, validation = (f"{100 * getattr(config.pairs, n):g} %" for n in ("test", "validation"))
    return (
        f"{test} of the pairs held out as test, {validation} of the others as validation; for each "
        "a negative pair of held-out items that are in no pair; pairs with an item that cannot be "
        "scored have the median score; full ranking of held-out neighbours over all items, known "
        "ones masked; ties to the lower item"
    )


def load_graph(run: Path, config: Config, data: Graph) -> ItemGraph:
    """The item graph that a run began with; ``data`` says where it moved to.

    Raises:
      InputError: it is not the same data, or was never in a file.
    """
    if data is None and config.data == configs.IN_MEMORY:
        raise InputError(f"{run}: was trained on an ItemGraph in memory; give that graph again")
    graph = data
    if not isinstance(graph, ItemGraph):
        graph = resolve_items(str(data or config.data), config.pairs)
    check_data(run, graph)
    return graph


def parts(config: Config, graph: ItemGraph, part: np.ndarray | None = None) -> PairSplits:
    """Train pairs and labelled pairs, split as configured.

    Args:
      part: [P] where a pair is already, as ``split_pairs`` takes it.
    """
    return split_pairs(graph, config.pairs, config.seed, part)


def merged(config: Config, graph: ItemGraph, part: np.ndarray | None = None) -> PairSplits:
    """The same test part, and all other pairs as train: what a refit trains on."""
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
    """What judges by a split, "validation" or "test"; None where it holds no pairs.

    Args:
      scored_I: [I] bool, the items that the model can score.
      ks: cut-offs; the configuration's where None.
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
    """Recall by how popular the items that ask, and those that are found, are in train.

    The content of slices.json but for its split; None where nothing is ranked.
    """
    k = configs.shown_cutoff(ks)
    detail = judge.breakdown(scorer, k)
    if detail is None:
        return None
    degree = train.degree()
    asking = degree[detail.user_n], detail.recall_n
    return slices(*asking, degree, detail.hits_I, detail.relevant_I, k)


def scored_items(item_ID: np.ndarray) -> np.ndarray:
    """The items that have been learnt, [I] bool: a row of zeros stands for one that has not."""
    return np.asarray((item_ID != 0).any(axis=1))


def table_scorer(config: Config, table: Embeddings) -> Scorer:
    """What scores items by the embeddings of a finished run."""
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
    """The model, its baselines, and what judges them by a split.

    Raises:
      InputError: data that differs or is of users, baselines of users, or no such held-out pairs.
    """
    if baselines:
        raise InputError(f"{run}: {baselines[0]} is a baseline of users, and the run has none")
    if isinstance(data, Dataset):
        raise InputError("the run is of an item model: an ItemGraph is needed, not a Dataset")
    graph = load_graph(run, config, data)
    part = kept.labels(run, graph)
    splits = (merged if config.train.refit else parts)(config, graph, part)
    found = evaluator(config, splits, split, scored_items(table.item), ks)
    if found is None:
        raise InputError(f"{run}: the run's split holds no {split} pairs")
    others = baselines_of(splits.train, found.scored_I, config.seed)
    return Judged(table_scorer(config, table), others, found)
