"""Test objectives: every loss and metric has one, and adding one takes two files and a line."""

import dataclasses
import importlib
import json

import pytest

import jaxrec
from jaxrec import config as configs
from jaxrec import registry
from jaxrec.config import (
    KINDS,
    Config,
    EvalConfig,
    LossConfig,
    ModelConfig,
    OptimConfig,
    TrainConfig,
    objectives,
)
from jaxrec.config.objectives import LOSS_NAMES, OBJECTIVES, OWN_METRICS, of_loss
from jaxrec.data import synthetic
from jaxrec.errors import InputError
from jaxrec.training.objectives.objective import UserObjective

# A plugin that learns, by logistic regression without negatives, whether a rating is at least the
# middle of the scale.
LIGHT = """
from jaxrec.config.checks import check
from jaxrec.config.objectives.objective import Objective
from jaxrec.config.objectives.ranking import numbers_of_pairs, ranking_table


def rules(config):
    check(config.model.score == "dot", "loss.name likes needs model.score dot")


LIKES = Objective(
    "likes",
    of="models of likes",
    losses=("likes",),
    default_metric="ndcg@{k}",
    check=rules,
    tables=lambda config: [ranking_table(config, "What is liked")],
    batch_numbers=lambda config, n_items: numbers_of_pairs(config),
    trains="likes_training",
    task="jaxrec.training.interactions",
    judges="jaxrec.evaluation.user_runs",
    negatives=False,
    reads=("rating",),
)
"""
HEAVY = """
import jax
import jax.numpy as jnp
import numpy as np

from jaxrec.training.batch import Batch
from jaxrec.training.objectives.objective import UserObjective


class Likes(UserObjective):
    def against(self, config, n_items, data, pairs, step):
        return Batch(pairs, jnp.zeros(0, jnp.int32), None)

    def targets(self, config, train):
        return (train.rating >= np.median(train.rating)).astype(np.float32)

    def loss(self, config, model, rows, batch, share_B):
        score_B = jnp.einsum("bd,bd->b", rows.user_BD, rows.pos_BD)
        sign_B = 2 * batch.positives.target_B - 1
        return jnp.sum(share_B * jax.nn.softplus(-sign_B * score_B))

    def constant(self, config, train, hard=0):
        share = float(self.targets(config, train).mean())
        return -share * np.log(share) - (1 - share) * np.log1p(-share)

    def temperature(self, config):
        return 1.0


OBJECTIVE = Likes()
"""


@pytest.fixture
def likes(tmp_path, monkeypatch):
    """Add the two files, and the line of the registry."""
    (tmp_path / "likes_config.py").write_text(LIGHT)
    (tmp_path / "likes_training.py").write_text(HEAVY)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(OBJECTIVES, "likes", importlib.import_module("likes_config").LIKES)
    monkeypatch.setattr(registry.LOSSES, "builtin", (*LOSS_NAMES, "likes"))
    yield
    importlib.invalidate_caches()


@pytest.mark.long
def test_a_new_objective_is_two_files_and_its_line(likes, tmp_path):
    data = synthetic.make(60, 40, 600, communities=4, seed=1)
    data = synthetic.rated(data, synthetic.truth(60, 40, communities=4, seed=1))
    config = Config(
        model=ModelConfig("mf", dim=8, layers=0),
        loss=LossConfig("likes"),
        optim=OptimConfig(learning_rate=0.05),
        train=TrainConfig(epochs=10, batch_size=64),
        eval=EvalConfig(k=(5,)),
    )
    run = jaxrec.train(config, data=data, run=tmp_path / "run", quiet=True)
    assert config.metric == "ndcg@5"
    lines = [json.loads(x) for x in (run.folder / "metrics.jsonl").read_text().splitlines()]
    trained = [r["loss"] - r["l2"] for r in lines if r["split"] == "train"]
    (constant,) = {r["constant_loss"] for r in lines if r["split"] == "doctor"}
    assert 0 < trained[-1] < constant < 0.7
    (run.folder / "eval.json").unlink()
    assert jaxrec.evaluate(run.folder, data=data)["metrics"] == run.evaluation["metrics"]
    with pytest.raises(InputError, match=r"likes needs model\.score dot"):
        dataclasses.replace(config, model=ModelConfig("mf", layers=0, score="cosine"))


def test_every_loss_and_metric_has_one_objective():
    assert len(set(LOSS_NAMES)) == len(LOSS_NAMES)
    for name, of in OBJECTIVES.items():
        assert of.name == name
        assert all(of_loss(loss) is of for loss in of.losses)
        assert all(OWN_METRICS[metric] is of for metric in of.metrics)
        assert any(kind.users == of.users for kind in KINDS.values())
    assert of_loss("one-of-a-user") is OBJECTIVES["ranking"]
    assert configs.lower_is_better("rmse")
    assert not any(map(configs.lower_is_better, ("auc", "recall@20", "first_hit@5")))


@pytest.mark.parametrize("name", OBJECTIVES)
def test_an_objective_names_modules_that_are_there(name):
    of = objectives.OBJECTIVES[name]
    assert callable(importlib.import_module(of.task).task)
    judges = importlib.import_module(of.judges)
    assert callable(judges.judged)
    assert callable(judges.protocol)
    trains = importlib.import_module(of.trains)
    assert not of.users or isinstance(trains.OBJECTIVE, UserObjective)
    assert of.errors is None or callable(importlib.import_module(of.errors).evaluator)
