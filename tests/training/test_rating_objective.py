"""Test training on ratings: the loss, planted structure, refusals and files of a run."""

import dataclasses
import json
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from processes import KILLER, contents, process
from processes import jaxrec as command

import jaxrec
import oracle
from jaxrec.config import (
    Config,
    EvalConfig,
    LossConfig,
    ModelConfig,
    NegativesConfig,
    OptimConfig,
    SplitConfig,
    TrainConfig,
)
from jaxrec.data import synthetic
from jaxrec.data.dataset import Dataset
from jaxrec.data.split import split
from jaxrec.errors import InputError
from jaxrec.training.problem import Problem
from jaxrec.training.step import Feed

MF = ModelConfig("mf", dim=4, layers=0, biases=True)
BASE = Config(
    model=MF,
    loss=LossConfig("mse"),
    optim=OptimConfig(learning_rate=0.02),
    train=TrainConfig(epochs=4, batch_size=64, l2=0.01),
    eval=EvalConfig(k=(5,)),
)
NOISE = 0.2


def planted(users: int = 120, items: int = 80, pairs: int = 2400, *, whole: bool = False):
    """Return ratings 3.5 + b_u + b_i + u · v + noise of 0.2; if ``whole``, rounded to 1 to 5."""
    data = synthetic.make(users, items, pairs, communities=4, seed=5)
    rng = np.random.default_rng(6)
    user_UD, item_ID = rng.normal(size=(users, 2)), rng.normal(size=(items, 2))
    rating = 3.5 + 0.4 * rng.normal(size=users)[data.user] + 0.6 * rng.normal(size=items)[data.item]
    rating += 0.5 * (user_UD[data.user] * item_ID[data.item]).sum(1)
    rating += NOISE * rng.normal(size=pairs)
    rating = np.clip(np.round(rating), 1, 5) if whole else rating
    return dataclasses.replace(data, rating=rating.astype(np.float32))


def problem(data: Dataset, **parts) -> Problem:
    config = dataclasses.replace(BASE, **parts)
    return Problem.build(config, split(data, config.split, 0))


def by_hand(p: Problem, params: dict, batch) -> float:
    """Compute the loss of a batch from its definition."""
    user, item, weight, target = (np.asarray(x) for x in batch.positives)
    n_users = p.stepper.n_users
    table = np.asarray(p.data.graph.in_data_order(params["embedding"][...]), np.float64)
    u, v = table[user], table[item + n_users]
    square = (u**2).sum(1) + (v**2).sum(1)
    if p.config.loss.name == "levels":
        weights = [np.asarray(params["decoder"][n][...], np.float64) for n in ("basis", "share")]
        value = np.array(
            [
                -np.log(oracle.level_probabilities(*pair, *weights)[r])
                for *pair, r in zip(u, v, target, strict=True)
            ]
        )
    else:
        train = p.splits.train
        assert train.rating is not None
        rating = {
            (int(a), int(b)): float(r)
            for a, b, r in zip(train.user, train.item, train.rating, strict=True)
        }
        wanted = np.array([rating[int(a), int(b)] for a, b in zip(user, item, strict=True)])
        score = (u * v).sum(1)
        if p.config.model.biases:
            bias = np.asarray(params["bias"][...], np.float64)
            score += bias[user] + bias[item + n_users]
            square += bias[user] ** 2 + bias[item + n_users] ** 2
        mean = np.mean(train.rating.astype(np.float64)) if p.config.loss.center else 0
        value = (wanted - mean - score / p.config.loss.temperature) ** 2
    share = weight / weight.sum()
    return float((share * (value + p.config.train.l2 / 2 * square)).sum())


VARIANTS = {
    "biases": {},
    "no biases": {"model": ModelConfig("mf", dim=4, layers=0)},
    "temperature": {"loss": LossConfig("mse", temperature=0.5)},
    "raw ratings": {"loss": LossConfig("mse", center=False)},
    "levels": {"model": ModelConfig("mf", dim=4, layers=0, bases=3), "loss": LossConfig("levels")},
}


@pytest.mark.parametrize("name", VARIANTS)
def test_the_loss_of_a_batch_equals_its_definition(name):
    p = problem(planted(whole=name == "levels"), **VARIANTS[name])
    rng = np.random.default_rng(0)
    # Biases begin at 0, which could hide faults, so noise is added.
    params = jax.tree.map(
        lambda x: 3 * x + jnp.asarray(0.3 * rng.normal(size=x.shape), x.dtype),
        p.initial_state().params,
    )
    draw, loss = jax.jit(p.stepper.batch), jax.jit(p.stepper.loss)
    for step in (0, p.cadence.per_epoch - 1):
        batch = draw(p.data, jnp.int32(step))
        assert batch.neg.size == 0
        ours, _ = loss(params, p.data.graph, Feed(batch, None, None))
        assert float(ours) == pytest.approx(by_hand(p, params, batch), rel=1e-4)


@pytest.mark.parametrize("name", ["sgd", "adagrad", "adam"])
def test_row_sparse_updates_with_biases_equal_dense_ones(name):
    made = []
    for sparse in (False, True):
        p = problem(planted(), optim=OptimConfig(name, learning_rate=0.05, sparse=sparse))
        state = jax.jit(p.stepper.dispatch)(p.initial_state(), p.data, jnp.int32(40))[0]
        made.append(p.learned(state))
    for part in ("user", "item", "user_bias", "item_bias"):
        np.testing.assert_allclose(made[0][part], made[1][part], rtol=1e-3, atol=1e-5)


FOUND = {
    "biased mf": (MF, LossConfig("mse"), 0.05),
    "two towers": (ModelConfig("two-tower", dim=4, layers=0, biases=True), LossConfig("mse"), 0.05),
    "mf of an mlp": (dataclasses.replace(MF, score="mlp"), LossConfig("mse"), 0.05),
    "levels": (ModelConfig("mf", dim=4, layers=0), LossConfig("levels"), 0.02),
}


@pytest.mark.long
@pytest.mark.parametrize("name", FOUND)
def test_planted_ratings_are_found(name, tmp_path):
    model, loss, l2 = FOUND[name]
    data = planted(200, 100, 5000, whole=name == "levels")
    config = dataclasses.replace(
        BASE,
        model=model,
        loss=loss,
        optim=OptimConfig(learning_rate=0.02, schedule="linear"),
        train=TrainConfig(epochs=40, batch_size=256, l2=l2),
        eval=EvalConfig(k=(5,), every=20),
    )
    run = jaxrec.train(config, data=data, run=tmp_path / "run", quiet=True)
    # Rounding adds a uniform error of up to 1/2, whose root mean square is 1/√12.
    noise = np.hypot(NOISE, 12**-0.5) if name == "levels" else NOISE
    assert noise < run.metrics["rmse"] < 2 * noise
    assert run.metrics["rmse"] < 0.85 * run.evaluation["baselines"]["biases"]["rmse"]
    assert run.metrics["mae"] < run.metrics["rmse"]


@pytest.fixture(scope="module", params=["mse", "levels"])
def trained(request, reports, tmp_path_factory):
    loss = LossConfig(request.param)
    model = dataclasses.replace(MF, biases=request.param == "mse")
    config = dataclasses.replace(BASE, model=model, loss=loss)
    folder = tmp_path_factory.mktemp("rated") / "run"
    with reports():
        return jaxrec.train(config, data=planted(whole=True), run=folder, quiet=True)


def test_errors_stand_beside_the_ranking_wherever_a_run_is_judged(trained, capsys):
    lines = [json.loads(x) for x in (trained.folder / "metrics.jsonl").read_text().splitlines()]
    evaluated = [x for x in lines if x["split"] == "validation"]
    assert len(evaluated) == 4
    assert all({"rmse", "mae", "recall@5"} <= x.keys() for x in evaluated)
    baselines = trained.evaluation["baselines"]
    assert list(baselines) == ["popularity", "random", "mean", "biases"]
    assert baselines["biases"].keys() == {"rmse", "mae"}
    assert "false_negative_rate" not in trained.evaluation
    assert "rmse" in (trained.folder / "report.html").read_text()
    again = jaxrec.evaluate(trained.folder, "test", (5,), data=planted(whole=True))
    assert again["metrics"] == pytest.approx(trained.metrics, abs=1e-6)
    assert again["baselines"]["biases"] == baselines["biases"]


def test_the_lowest_rmse_selects(trained):
    lines = [json.loads(x) for x in (trained.folder / "metrics.jsonl").read_text().splitlines()]
    rmse = {x["step"]: x["rmse"] for x in lines if x["split"] == "validation"}
    assert trained.evaluation["best_step"] == min(rmse, key=lambda step: rmse[step])
    assert trained.evaluation["validation"]["metrics"]["rmse"] == pytest.approx(min(rmse.values()))


def test_recommended_scores_are_the_ratings_that_are_predicted(trained, tmp_path):
    data = planted(whole=True)
    recommender = jaxrec.Recommender.load(trained.folder)
    lists = recommender.recommend([str(data.user_ids[3])], k=80, include_seen=True)
    with np.load(trained.folder / "embeddings.npz") as stored:
        arrays = dict(stored)
    low, high = arrays["rating_range"]
    u = arrays["user"][3].astype(np.float64)
    if "decoder_level_R" in arrays:
        weights = arrays["decoder_basis_SDD"], arrays["decoder_share_RS"]
        chances = np.array([oracle.level_probabilities(u, v, *weights) for v in arrays["item"]])
        expected = chances @ arrays["decoder_level_R"]
    else:
        score = arrays["item"] @ u + arrays["user_bias"][3] + arrays["item_bias"]
        expected = arrays["rating_mean"] + arrays["rating_scale"] * score
    expected = np.sort(expected.clip(low, high))[::-1]
    np.testing.assert_allclose(lists["score"], expected, rtol=1e-4)
    assert len(recommender.similar_items([str(data.item_ids[0])], k=3)) == 3
    assert len(recommender.recommend_history([str(data.item_ids[0])], k=3)) == 3
    for format in ("npz", "parquet", "safetensors"):
        jaxrec.export(trained.folder, format, tmp_path / format)


@pytest.mark.parametrize("loss", ["mse", "levels"])
def test_who_has_no_train_ratings_is_predicted_as_the_mean_of_the_others(loss):
    data = planted(whole=True)
    kept = (data.user != 7) & (data.item != 11)
    data = dataclasses.replace(data, split=np.where(kept, 0, 2).astype(np.uint8))
    p = problem(
        data,
        model=dataclasses.replace(MF, biases=loss == "mse", init_std=2.0),
        loss=LossConfig(loss),
        split=SplitConfig("given", validation=0.0),
        eval=EvalConfig(k=(5,), select_on="none"),
    )
    state = jax.jit(p.stepper.dispatch)(p.initial_state(), p.data, jnp.int32(100))[0]
    learned = {name: np.asarray(x) for name, x in p.learned(state).items()}
    for side, row in (("user", 7), ("item", 11)):
        for name in [side, f"{side}_bias"] if loss == "mse" else [side]:
            others = np.delete(learned[name], row, axis=0).mean(axis=0)
            np.testing.assert_allclose(learned[name][row], others, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({"negatives": NegativesConfig(count=4)}, ["negatives.count", "loss.name mse"]),
        ({"negatives": NegativesConfig("shared")}, ["negatives.name", "loss.name mse"]),
        (
            {"loss": LossConfig("bpr"), "eval": EvalConfig(metric="rmse")},
            ["eval.metric rmse", "mse or levels", "bpr"],
        ),
        ({"loss": LossConfig("levels")}, ["model.biases", "levels"]),
        (
            {"loss": LossConfig("levels"), "model": ModelConfig(score="mlp")},
            ["model.score mlp", "levels"],
        ),
        ({"model": ModelConfig(bases=3)}, ["model.bases", "levels"]),
        (
            {"loss": LossConfig("bpr"), "model": dataclasses.replace(MF, score="mlp")},
            ["model.biases", "model.score mlp"],
        ),
    ],
)
def test_options_that_do_not_go_together_are_refused_by_name(parts, words):
    with pytest.raises(InputError) as caught:
        dataclasses.replace(BASE, **parts)
    assert all(word in str(caught.value) for word in words), caught.value


@pytest.mark.parametrize("loss", ["mse", "levels"])
def test_data_without_ratings_is_refused(loss):
    data = dataclasses.replace(planted(), rating=None)
    with pytest.raises(InputError, match=r"loss\.name mse and levels need ratings"):
        problem(data, model=ModelConfig("mf", layers=0), loss=LossConfig(loss))


def test_more_ratings_than_levels_can_be_is_refused():
    with pytest.raises(InputError, match=r"levels allows 20 at most; set loss\.name mse"):
        problem(planted(), model=ModelConfig("mf", layers=0), loss=LossConfig("levels"))


@pytest.mark.long
def test_a_preset_of_rankings_trains_on_ratings_where_the_loss_is_of_ratings(tmp_path):
    planted(80, 60, 1000, whole=True).save(tmp_path / "data")
    options = ["--data", tmp_path / "data", "--loss.name", "levels", "--train.epochs", 1]
    done = command("train", "gcmc", *options, "--run", tmp_path / "run", quick=True)
    assert done.returncode == 0, done.stderr
    refused = command("train", "gcmc", *options, "--negatives.count", 4, "--run", tmp_path / "no")
    assert refused.returncode == 2
    assert "negatives." in refused.stderr
    assert "loss.name levels" in refused.stderr


@pytest.mark.long
@pytest.mark.parametrize("loss", ["mse", "levels"])
def test_a_killed_run_resumes_to_the_same_bits(loss, tmp_path):
    planted(80, 60, 1000, whole=True).save(tmp_path / "data")
    options = ["--data", tmp_path / "data", "--loss.name", loss, "--model.dim", 4]
    options += ["--train.epochs", 4, "--train.batch-size", 64, "--eval.k", 5]
    options += ["--checkpoint.every", 1, *(["--model.biases"] if loss == "mse" else [])]
    whole, run = tmp_path / "whole", tmp_path / "run"
    done = command("train", "lightgcn", *options, "--run", whole, quick=True)
    assert done.returncode == 0, done.stderr
    assert "biases" in done.stdout
    moment = ("jaxrec.training.checkpoint:Checkpoints._seal", 2)
    train = ("train", "lightgcn", *options, "--run", run)
    killed = process(KILLER, "SIGKILL", *moment, *train, quick=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    resumed = command("resume", run, quick=True)
    assert resumed.returncode == 0, resumed.stderr
    assert contents(run) == contents(whole)
