"""Graph filters, which are fitted in seconds, and `auto`, which searches over all models."""

from collections.abc import Callable
from dataclasses import replace

from jaxrec.config import Config, EvalConfig, ModelConfig, SplitConfig, TrainConfig


def filter_() -> Config:
    """A graph filter (ChebyCF) for any data: fitted in seconds, without training.

    `jaxrec train filter --data PATH` fits it. Items are scored for a user from the user's own
    items, so new interactions and new users need no new fit. `--model.filter` selects another
    kind: `gf-cf`, `turbo-cf` or `ease`. After the evaluation on validation, the filter is fitted
    once more on train and validation together.
    """
    return Config(
        preset="filter",
        model=ModelConfig("filter", dim=512, layers=0),
        train=TrainConfig(refit=True),
    )


def gowalla_filter() -> Config:
    """The graph filter on the Gowalla split, fitted on all train pairs.

    `jaxrec train gowalla-filter --data gowalla`, with LightGCN's train.txt and test.txt, reaches
    test recall@20 0.1929 and ndcg@20 0.1610 after 78 s of processor time for fitting and one
    ranking. The filter's options were chosen on a validation slice; test was evaluated once.
    """
    return replace(
        filter_(),
        preset="gowalla-filter",
        split=SplitConfig("given", validation=0.0),
        train=TrainConfig(),
        eval=EvalConfig(k=(20,), every=0, select_on="none"),
    )


def auto() -> Config:
    """The best model for any data, found by a search over all models in a given time.

    `jaxrec train auto --data PATH --minutes 10` compares filters and trained models on
    validation. The trained models are matrix factorisation, LightGCN and, if there are features,
    two towers. While time remains, it varies the options of the best models. Finally it trains the
    best model on train and validation together, and evaluates it on test once.
    """
    return Config(preset="auto", minutes=10.0)


PRESETS: dict[str, Callable[[], Config]] = {
    "filter": filter_,
    "gowalla-filter": gowalla_filter,
    "auto": auto,
}
