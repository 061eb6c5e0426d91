"""Test the loss of a constant prediction against the step's loss with all scores 0."""

from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrec import losses
from jaxrec.config import Config, LossConfig, ModelConfig, NegativesConfig, TrainConfig
from jaxrec.data import synthetic, synthetic_items
from jaxrec.data.dataset import Dataset, Exposed
from jaxrec.data.split import Splits
from jaxrec.training import objectives
from jaxrec.training.batch import Batch
from jaxrec.training.items.objective import constant as constant_of_items
from jaxrec.training.problem import Problem

DATA = synthetic.make(90, 70, 1500, communities=4, seed=1, features=True)
SHOWN = replace(DATA, exposed=Exposed(DATA.user, (DATA.item + 1) % 70))
RATED = synthetic.rated(DATA, synthetic.truth(90, 70, communities=4, seed=1))

NEGATIVES: dict[str, dict[str, Any]] = {
    "uniform": {"count": 3},
    "candidates": {"candidates": 4},
    "popular": {"count": 5, "popularity": 0.5},
    "popular, corrected": {"count": 50, "popularity": 0.5, "log_q": True},
    "shared": {"name": "shared", "count": 16},
    "shared, unknown": {"name": "shared", "count": 64, "reject_known": True},
    "shared, popular": {"name": "shared", "count": 64, "popularity": 0.75},
    "shared, popular, unknown": {"name": "shared", "count": 64, "popularity": 1.0}
    | {"reject_known": True},
    "shared, popular, corrected": {"name": "shared", "count": 64, "popularity": 0.5, "log_q": True},
    "shared, the hardest": {"name": "shared", "count": 16, "pick": "hardest"},
    "in-batch": {"name": "in-batch"},
    "in-batch, not corrected": {"name": "in-batch", "log_q": False},
    "in-batch, unknown": {"name": "in-batch", "log_q": False, "reject_known": True},
    "in-batch, semi-hard": {"name": "in-batch", "pick": "semi-hard", "log_q": False},
    "all": {"name": "all"},
    "all, unknown": {"name": "all", "reject_known": True},
    "all, the hardest": {"name": "all", "pick": "hardest"},
    "all, by features": {"name": "all", "pick": "same-features"},
    "exposed": {"name": "exposed", "count": 2},
    "hard": {"hard": 4, "hard_ranks": (5, 15), "hard_schedule": (2, 4)},
    "shared and hard": {"name": "shared", "count": 8, "hard": 2, "hard_ranks": (5, 15)},
}


def _config(loss: str, negatives: dict[str, Any], positives: Any = "edges") -> Config:
    margin = {"margin": 0.3} if loss == "hinge" else {}
    return Config(
        model=ModelConfig("mf", dim=2, layers=0),
        loss=LossConfig(loss, **margin),  # type: ignore[arg-type]
        negatives=NegativesConfig(**negatives),
        train=TrainConfig(batch_size=256, l2=0.0, positives=positives),
    )


def _batches(config: Config, first: int = 0) -> list[Batch]:
    """Return the batches of an epoch."""
    none = SHOWN.take(np.arange(1))
    problem = Problem.build(config, Splits(SHOWN, none, none))
    drawn = jax.jit(problem.stepper.batch)
    return [drawn(problem.data, jnp.int32(first + i)) for i in range(problem.cadence.per_epoch)]


def _scoreless(config: Config, batches: list[Batch]) -> float:
    """Return the mean loss of the batches for a model that gives all items the same score."""
    loss = losses.LOSSES[config.loss.name]
    if config.loss.name == "hinge":
        loss = partial(losses.hinge, margin=config.loss.margin)
    found = []
    for batch in batches:
        weight_B, (neg_BN, valid_BN) = batch.positives.weight_B, batch.negatives()
        pos_B, score_BN = jnp.zeros(len(weight_B)), jnp.zeros(neg_BN.shape)
        if batch.log_q is not None:
            pos_B, score_BN = pos_B - batch.log_q.pos_B, score_BN - batch.log_q.neg
        if config.negatives.picks is not None:  # as many of the candidates as are picked
            n = config.negatives.count if config.negatives.private else 1
            valid_BN = jnp.broadcast_to(jnp.any(valid_BN, axis=1, keepdims=True), (len(pos_B), n))
            score_BN = score_BN[:, :n]
        cost_B = loss(pos_B, score_BN, valid_BN)
        found.append(float(jnp.sum(weight_B * cost_B) / jnp.sum(weight_B)))
    return float(np.mean(found))


def _constant(config: Config, train: Dataset, hard: int = 0) -> float:
    return objectives.of(config).constant(config, train, hard)


@pytest.mark.parametrize("negatives", NEGATIVES)
def test_the_constant_is_what_each_loss_costs_where_all_scores_are_alike(negatives):
    batches: list[Batch] = []
    for loss in ("softmax", *losses.LOSSES):
        asked = dict(NEGATIVES[negatives])
        if loss != "softmax":
            asked.pop("log_q", None)
        config = _config(loss, asked)
        batches = batches or _batches(config)
        drawn = [b if loss == "softmax" else b._replace(log_q=None) for b in batches]
        found = _constant(config, SHOWN, config.negatives.hard_in(0))
        assert found == pytest.approx(_scoreless(config, drawn), rel=0.02), loss


@pytest.mark.parametrize("log_q", [True, False])
def test_positives_by_user_have_other_negatives_in_their_batch(log_q):
    config = _config("softmax", {"name": "in-batch", "log_q": log_q}, "users")
    assert _constant(config, SHOWN) == pytest.approx(_scoreless(config, _batches(config)), rel=0.02)


def test_hard_negatives_count_as_the_curriculum_has_them():
    config = _config("softmax", NEGATIVES["hard"])
    per_epoch = -(-SHOWN.n_edges // config.train.batch_size)
    for epoch, hard in ((0, 2), (1, 4)):
        measured = _scoreless(config, _batches(config, epoch * per_epoch))
        assert _constant(config, SHOWN, hard) == pytest.approx(measured, rel=1e-5)


def test_a_catalogue_of_all_items_costs_the_logarithm_of_its_size():
    found = _constant(_config("softmax", {"name": "all"}), DATA)
    assert found == pytest.approx(np.log(DATA.n_items))


def test_squared_error_is_the_ratings_variance():
    config = replace(_config("bpr", {}), loss=LossConfig("mse"))
    found = _constant(config, RATED)
    assert RATED.rating is not None
    mean_E = jnp.full(RATED.n_edges, RATED.rating.mean())
    cost_E = losses.squared_error(mean_E, jnp.asarray(RATED.rating))
    assert found == pytest.approx(float(cost_E.mean()), rel=1e-4)
    raw = replace(config, loss=LossConfig("mse", center=False))
    assert _constant(raw, RATED) == pytest.approx(found)


def test_levels_cost_their_entropy():
    config = replace(_config("bpr", {}), loss=LossConfig("levels"))
    assert RATED.rating is not None
    level_E = np.unique(RATED.rating, return_inverse=True)[1]
    share_R = np.bincount(level_E) / len(level_E)
    logit_ER = jnp.broadcast_to(jnp.log(share_R), (len(level_E), len(share_R)))
    best = float(jnp.mean(losses.level_loss(logit_ER, jnp.asarray(level_E, jnp.int32))))
    assert _constant(config, RATED) == pytest.approx(best, rel=1e-4)


@pytest.mark.parametrize(("loss", "positives"), [("sgns", "walks"), ("weights", "edges")])
def test_pairs_of_items_cost_what_the_best_constant_score_does(loss, positives):
    graph = synthetic_items.make(60, 150, communities=3)
    config = Config(
        model=ModelConfig("item-mf", layers=0),
        loss=LossConfig(loss),
        negatives=NegativesConfig("shared", 8, per_pair=3.0),
        train=TrainConfig(positives=positives),
    )
    target = jnp.ones(1) if positives == "walks" else jnp.asarray(graph.weight)

    def at(score: float) -> float:
        alike = jnp.full(target.shape, score)
        ones = jnp.ones(target.shape)
        scored = losses.Scored(alike, ones, target, alike, 3.0 * ones)
        return float(losses.PAIR_LOSSES[loss](scored)) / target.size

    best = min(at(score) for score in np.linspace(-3, 3, 601))
    assert constant_of_items(config, graph) == pytest.approx(best, rel=1e-3)
