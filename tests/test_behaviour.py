"""Test what every model must do: learn planted structure, repeat, resume, rank, export."""

import contextlib
import signal

import numpy as np
import pytest
from processes import KILLER, contents, process
from processes import jaxrec as command

import jaxrec
from jaxrec.config import Config, from_dict
from jaxrec.data import synthetic

# The options are those of the command line; each model trains for a few seconds.
MODELS = {
    "mf": {"model": {"name": "mf", "layers": 0}},
    "mf with biases": {"model": {"name": "mf", "layers": 0, "biases": True}},
    "lightgcn": {"model": {"layers": 2}},
    "lightgcn, learned weights, dropped edges": {
        "model": {"layers": 2, "layer_weights": "learned", "edge_dropout": 0.2}
    },
    "ngcf": {"model": {"name": "ngcf", "layers": 2, "node_dropout": 0.1, "message_dropout": 0.1}},
    "ngcf of the lecture": {"model": {"name": "ngcf", "layers": 1, "form": "lecture"}},
    "gcmc": {"model": {"name": "gcmc", "layers": 1, "node_dropout": 0.1}},
    "gcmc of features alone": {
        "model": {"name": "gcmc", "layers": 1, "ids": False, "hidden_dim": 32}
    },
    "pinsage": {"model": {"name": "pinsage", "layers": 1, "hidden_dim": 32}},
    "pinsage, uniform, sparse": {
        "model": {"name": "pinsage", "layers": 1, "neighbors": "uniform", "fan_outs": (8,)},
        "optim": {"sparse": True},
    },
    "two towers": {
        "model": {"name": "two-tower", "layers": 0, "tower_dims": (32,), "id_dropout": 0.2},
        "loss": {"name": "softmax"},
        "negatives": {"name": "in-batch"},
    },
    "two towers of ids, sparse": {
        "model": {"name": "two-tower", "layers": 0},
        "optim": {"sparse": True},
    },
    "triplet": {
        "model": {"name": "two-tower", "layers": 0, "tower_dims": (32,), "ids": False},
        "loss": {"name": "triplet"},
        "negatives": {"count": 4},
    },
    "learned score": {"model": {"name": "mf", "layers": 0, "score": "mlp", "score_width": 8}},
    "in-batch softmax": {
        "model": {"layers": 1},
        "loss": {"name": "softmax"},
        "negatives": {"name": "in-batch"},
    },
    "dynamic negatives": {"model": {"layers": 1}, "negatives": {"candidates": 4}},
    "hard negatives": {
        "model": {"layers": 1},
        "negatives": {"hard": 2, "hard_ranks": (5, 40)},
    },
    "popular negatives": {"model": {"layers": 1}, "negatives": {"count": 4, "popularity": 0.75}},
}
REPORTED = ("lightgcn, learned weights, dropped edges", "two towers", "learned score")
KILLED = ("ngcf", "hard negatives", "pinsage, uniform, sparse", "two towers")
# These models use features if the data has any, so their data has some.
FEATURED = ("gcmc of features alone", "pinsage", "two towers", "triplet")
pytestmark = pytest.mark.long_but("mf", "lightgcn", "two towers of ids, sparse")


def config(name: str) -> Config:
    base = {
        "model": {"dim": 16},
        "optim": {"learning_rate": 0.02},
        "train": {"epochs": 20, "batch_size": 128},
        "eval": {"k": (10, 20), "every": 10},
    }
    parts = MODELS[name]
    return from_dict({key: base.get(key, {}) | parts.get(key, {}) for key in {*base, *parts}})


@pytest.fixture(scope="module", params=MODELS)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def data(name):
    return synthetic.make(150, 120, 3000, communities=6, seed=2, features=name in FEATURED)


@pytest.fixture(scope="module")
def trained(name, data, reports, tmp_path_factory):
    folder = tmp_path_factory.mktemp("behaviour") / "run"
    with reports() if name in REPORTED else contextlib.nullcontext():
        return jaxrec.train(config(name), data=data, run=folder, quiet=True)


def test_it_finds_what_was_planted_and_not_the_popular_alone(trained, name):
    popularity = trained.evaluation["baselines"]["popularity"]["recall@10"]
    assert trained.metrics["recall@10"] > 1.5 * popularity
    assert (trained.folder / "report.html").exists() == (name in REPORTED)


def test_its_stored_embeddings_rank_as_was_reported(trained, data, tmp_path):
    data.save(tmp_path / "prepared")
    again = jaxrec.evaluate(trained.folder, "test", (10, 20), data=tmp_path / "prepared")
    for name in ("recall@20", "ndcg@20"):
        assert again["metrics"][name] == pytest.approx(trained.metrics[name], abs=1e-6)


def test_it_recommends_and_finds_alike_what_is_of_one_community(trained, data):
    recommender = jaxrec.Recommender.load(trained.folder)
    planted = synthetic.truth(150, 120, communities=6, seed=2)
    users = np.arange(0, 150, 10)
    lists = recommender.recommend([str(data.user_ids[user]) for user in users], k=5)
    row_of = {item: row for row, item in enumerate(data.item_ids)}
    community = planted.item_community[[row_of[item] for item in lists["item"]]]
    theirs = np.repeat(planted.user_community[users], 5)
    assert np.mean(community == theirs) > 2 / 6  # one community in six is theirs
    like = recommender.similar_items([str(item) for item in data.item_ids[:20]], k=3)
    pairs = [[row_of[item] for item in like[name]] for name in ("item", "similar")]
    same = np.equal(*(planted.item_community[rows] for rows in pairs))
    assert np.mean(same) > 2 / 6


def test_its_embeddings_are_exported(trained, tmp_path):
    jaxrec.export(trained.folder, "npz", tmp_path / "out.npz")
    with np.load(tmp_path / "out.npz") as stored:
        assert len(stored["user"]) == 150
        assert stored["user"].shape[1] == stored["item"].shape[1]


@pytest.mark.long
@pytest.mark.parametrize("name", KILLED)
def test_a_killed_run_resumes_to_the_same_bits(name, tmp_path):
    synthetic.make(80, 60, 1000, seed=1, features=True).save(tmp_path / "data")
    options = ["--data", tmp_path / "data", "--train.epochs", 4, "--train.batch-size", 64]
    options += ["--eval.k", 20, "--checkpoint.every", 1, "--model.dim", 8]
    for section, fields in MODELS[name].items():
        for field, value in fields.items():
            values = value if isinstance(value, tuple) else (value,)
            options += [f"--{section}.{field.replace('_', '-')}", *values]
    whole, run = tmp_path / "whole", tmp_path / "run"
    done = command("train", "lightgcn", *options, "--run", whole, quick=True)
    assert done.returncode == 0, done.stderr
    moment = ("jaxrec.training.checkpoint:Checkpoints._seal", 2)
    train = ("train", "lightgcn", *options, "--run", run)
    killed = process(KILLER, "SIGKILL", *moment, *train, quick=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    resumed = command("resume", run, quick=True)
    assert resumed.returncode == 0, resumed.stderr
    assert contents(run) == contents(whole)
