"""Graph filters, fitted in seconds, and the search over all models that begins with them."""

from collections.abc import Callable
from dataclasses import replace

from jaxrec.config import Config, EvalConfig, ModelConfig, SplitConfig, TrainConfig


def filter_() -> Config:
    """A graph filter (ChebyCF) for any data: fitted in seconds, without training.

    `jaxrec train filter --data PATH`. Users are scored from their own items, so that new
    interactions and new users count at once; `--model.filter gf-cf`, `turbo-cf` and `ease` are the
    other kinds. After it was judged on validation it is fitted once more on train and validation.
    """
    return Config(
        preset="filter",
        model=ModelConfig("filter", dim=512, layers=0),
        train=TrainConfig(refit=True),
    )


def gowalla_filter() -> Config:
    """The same on the Gowalla split, fitted on the whole of train.

    `jaxrec train gowalla-filter --data gowalla` with LightGCN's train.txt and test.txt: test
    recall@20 0.1929, ndcg@20 0.1610 after 78 s of processor time for fitting and one ranking. Its
    numbers were chosen on a validation slice; test was read once.
    """
    return replace(
        filter_(),
        preset="gowalla-filter",
        split=SplitConfig("given", validation=0.0),
        train=TrainConfig(),
        eval=EvalConfig(k=(20,), every=0, select_on="none"),
    )


def auto() -> Config:
    """The best of all models for data that it has not seen, within a budget of time.

    `jaxrec train auto --data PATH --minutes 10` tries filters, matrix factorisation, LightGCN and,
    where there are features, two towers on validation, and their neighbours as long as there is
    time; then it trains the best one on train and validation, and reads test once.
    """
    return Config(preset="auto", minutes=10.0)


PRESETS: dict[str, Callable[[], Config]] = {
    "filter": filter_,
    "gowalla-filter": gowalla_filter,
    "auto": auto,
}
