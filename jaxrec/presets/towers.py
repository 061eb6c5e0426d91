"""Towers of features, for implicit feedback."""

from collections.abc import Callable

from jaxrec.config import (
    Config,
    EvalConfig,
    LossConfig,
    ModelConfig,
    NegativesConfig,
    OptimConfig,
    TrainConfig,
)


def two_tower() -> Config:
    """Two towers of ids and features, softmax over the batch's items corrected for popularity.

    `jaxrec train two-tower --data PATH`
    """
    return Config(
        preset="two-tower",
        data="synthetic-features",
        model=ModelConfig("two-tower", dim=64, layers=0, id_dropout=0.1),
        loss=LossConfig("softmax"),
        negatives=NegativesConfig("in-batch"),
        optim=OptimConfig("adam", learning_rate=5e-3),
        train=TrainConfig(epochs=100, batch_size=2048, l2=1e-3, patience=5),
        eval=EvalConfig(every=2),
    )


def triplet() -> Config:
    """A triplet network on features alone: an anchor's tower, and one for positive and negative.

    Of the candidates drawn for each pair, the negative is the highest that scores below the
    positive (semi-hard).

    `jaxrec train triplet --data PATH`
    """
    return Config(
        preset="triplet",
        data="synthetic-features",
        model=ModelConfig("two-tower", dim=64, layers=0, ids=False, tower_dims=(128,)),
        loss=LossConfig("bpr"),
        negatives=NegativesConfig("uniform", candidates=8, pick="semi-hard"),
        optim=OptimConfig("adam", learning_rate=1e-3),
        train=TrainConfig(epochs=100, batch_size=2048, l2=0.0, patience=5),
        eval=EvalConfig(every=2),
    )


PRESETS: dict[str, Callable[[], Config]] = {
    "two-tower": two_tower,
    "triplet": triplet,
}
