"""Three faulty recommenders that users have asked about, and a corrected version of each.

``python -m bench cases`` trains all six, and measures the corrections one at a time.
"""

from collections.abc import Callable
from dataclasses import replace

from jaxrec.config import (
    CheckpointConfig,
    Config,
    EvalConfig,
    LossConfig,
    ModelConfig,
    NegativesConfig,
    OptimConfig,
    SplitConfig,
    TrainConfig,
)

_LAST = EvalConfig(every=5, select_on="none")  # keep the last epoch's parameters
_FEW = CheckpointConfig(every=0)


def case_collapse_broken() -> Config:
    """ "Feature embeddings for each user and item are identical": a small GC-MC with BPR.

    Faults kept on purpose: gradients are never cleared, and the scores of all pairs are summed
    inside one log-sigmoid. Run `jaxrec train case-collapse-broken`, and then `jaxrec doctor RUN`.
    """
    return Config(
        preset="case-collapse-broken",
        model=ModelConfig("gcmc", dim=32, layers=1, hidden_dim=32, features=False, levels=False),
        loss=LossConfig("bpr"),
        negatives=NegativesConfig("uniform", 1),
        optim=OptimConfig("adam", learning_rate=1e-2),
        train=TrainConfig(epochs=30, batch_size=4096, l2=0.0),
        eval=_LAST,
        checkpoint=_FEW,
        mistakes=("accumulated-gradients", "sum-in-sigmoid"),
    )


def case_collapse_fixed() -> Config:
    """case-collapse-broken, corrected: cleared gradients, a mean over pairs, sampled softmax.

    `jaxrec train case-collapse-fixed` trains it.
    """
    broken = case_collapse_broken()
    return replace(
        broken,
        preset="case-collapse-fixed",
        loss=LossConfig("softmax"),
        negatives=NegativesConfig("shared", 512),
        train=replace(broken.train, l2=1e-2),
        mistakes=(),
    )


def case_cosine_broken() -> Config:
    """ "Why are similarities all close to 1 in my two tower recommender?": two towers on ratings.

    Faults kept on purpose: the dot product of rectified outputs is fitted to raw ratings, without
    mean or biases, and L2 covers whole tables. Id vectors have width 8, and towers have width 32,
    as in the faulty system. Run `jaxrec train case-cosine-broken --data ml-latest-small
    --model.columns genres`.
    """
    return Config(
        preset="case-cosine-broken",
        data="synthetic-ratings",
        split=SplitConfig("random", test=0.2, validation=0.0),
        model=ModelConfig("two-tower", dim=32, layers=0, id_dim=8, final="relu", bags="sum"),
        loss=LossConfig("mse", center=False),
        optim=OptimConfig("sgd", learning_rate=1e-2),
        train=TrainConfig(epochs=15, batch_size=512, l2=0.1, l2_over="tables"),
        eval=replace(_LAST, every=3),
        checkpoint=_FEW,
    )


def case_cosine_fixed() -> Config:
    """case-cosine-broken, corrected: mean and biases, linear outputs, L2 on the scored rows.

    Run `jaxrec train case-cosine-fixed --data ml-latest-small --model.columns genres`.
    """
    broken = case_cosine_broken()
    return replace(
        broken,
        preset="case-cosine-fixed",
        model=replace(broken.model, final="linear", biases=True, init_std=0.05),
        loss=LossConfig("mse"),
        optim=OptimConfig("adam", learning_rate=5e-3, schedule="linear"),
        train=TrainConfig(epochs=30, batch_size=1024, l2=0.25, l2_over="embeddings"),
    )


def case_triplet_broken() -> Config:
    """ "BPR triplet loss recommender: the loss never goes down", on features alone.

    Faults kept on purpose: the embeddings are softmax outputs, the scores are a batch x batch
    product, and the negative is the item most similar to the positive by raw features. Run `jaxrec
    train case-triplet-broken --data ml-100k/u1.base --model.columns age gender occupation genres`.
    """
    return Config(
        preset="case-triplet-broken",
        data="synthetic-features",
        split=SplitConfig(validation=0.0),
        model=ModelConfig(
            "two-tower", dim=32, layers=0, ids=False, tower_dims=(64,), final="softmax"
        ),
        loss=LossConfig("triplet"),
        negatives=NegativesConfig("all", pick="same-features", reject_known=False),
        optim=OptimConfig("adam", learning_rate=1e-3),
        train=TrainConfig(epochs=10, batch_size=256, l2=0.0),
        eval=_LAST,
        checkpoint=_FEW,
        mistakes=("batch-scores",),
    )


def case_triplet_fixed() -> Config:
    """case-triplet-broken, corrected: linear outputs, row-wise scores, uniform negatives, BPR, ids.

    Run `jaxrec train case-triplet-fixed --data ml-100k/u1.base --model.columns age gender
    occupation genres`.
    """
    broken = case_triplet_broken()
    return replace(
        broken,
        preset="case-triplet-fixed",
        model=replace(broken.model, final="linear", ids=True),
        loss=LossConfig("bpr"),
        negatives=NegativesConfig("uniform"),
        train=replace(broken.train, l2=1e-3),
        mistakes=(),
    )


PRESETS: dict[str, Callable[[], Config]] = {
    "case-collapse-broken": case_collapse_broken,
    "case-collapse-fixed": case_collapse_fixed,
    "case-cosine-broken": case_cosine_broken,
    "case-cosine-fixed": case_cosine_fixed,
    "case-triplet-broken": case_triplet_broken,
    "case-triplet-fixed": case_triplet_fixed,
}
