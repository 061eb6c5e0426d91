"""Test ``jaxrec evaluate`` of item models, which needs only their embeddings and graph."""

import json
from pathlib import Path

import numpy as np
import pytest
from made_run import write_item_run

from jaxrec.config import PairsConfig, load
from jaxrec.data import synthetic, synthetic_items
from jaxrec.data.itemgraph import ItemGraph
from jaxrec.data.pair_split import split_pairs
from jaxrec.errors import InputError
from jaxrec.evaluation import item_runs
from jaxrec.evaluation.run import evaluate

KS = (5,)


@pytest.fixture(scope="module")
def graph() -> ItemGraph:
    return synthetic_items.make(300, 1500, communities=6, seed=4)


@pytest.fixture(scope="module")
def vectors(graph: ItemGraph) -> np.ndarray:
    """Return vectors of each item's true community, with zeros for items without a train pair."""
    planted = synthetic_items.planted(300, communities=6, seed=4)
    item = np.eye(6, dtype=np.float32)[planted.item_community]
    item[split_pairs(graph, PairsConfig(), 0).train.degree() == 0] = 0
    return item


@pytest.fixture
def run(tmp_path: Path, graph: ItemGraph, vectors: np.ndarray) -> Path:
    return write_item_run(tmp_path / "run", graph, vectors)


def test_the_result_is_that_of_the_split_which_the_run_had(run, graph, vectors):
    content = evaluate(run, ks=KS)
    config = load(run / "config.json")
    splits = item_runs.splits_of(config, graph)
    judge = item_runs.evaluator(config, splits, "test", item_runs.scored_items(vectors), KS)
    assert judge is not None
    scorer = item_runs.item_scorer({"item": vectors}, judge.scored_I)
    assert content["metrics"] == judge(scorer)
    assert (content["pairs"], content["users"]) == (splits.test.n_pairs, judge.users)
    assert content["metrics"]["auc"] > content["baselines"]["popularity"]["auc"] > 0.55
    assert set(content["baselines"]) == {"popularity", "random"}
    assert "33 % of the pairs" in content["protocol"]
    assert json.loads((run / "eval.json").read_text()) == content
    with np.load(run / "curves.npz") as curves:
        area = np.trapezoid(curves["roc_tpr"], curves["roc_fpr"])
    assert area == pytest.approx(content["metrics"]["auc"], abs=1e-6)


def test_validation_and_test_are_two_splits_and_validation_is_masked_in_test(run, graph):
    content = evaluate(run, "validation", KS)
    config = load(run / "config.json")
    splits = item_runs.splits_of(config, graph)
    whole = item_runs.refit_splits(config, graph)
    assert [x.tobytes() for x in whole.test] == [x.tobytes() for x in splits.test]
    assert whole.train.n_pairs == splits.train.n_pairs + splits.validation.n_pairs // 2
    assert whole.validation.n_pairs == 0
    assert content["split"] == "validation"
    assert content["pairs"] == splits.validation.n_pairs
    assert item_runs.evaluator(config, whole, "validation", np.ones(300, bool)) is None


def test_the_data_may_have_moved_but_not_changed(run, graph):
    moved = run.with_name("elsewhere")
    run.with_name("graph").rename(moved)
    with pytest.raises(InputError, match="no such file or folder"):
        evaluate(run)
    assert evaluate(run, ks=KS, data=moved) == evaluate(run, ks=KS, data=graph)
    with pytest.raises(InputError, match="by its fingerprint"):
        evaluate(run, data=graph.take(np.arange(1000)))
    with pytest.raises(InputError, match="give an ItemGraph"):
        evaluate(run, data=synthetic.make(30, 20, 60, communities=2))


def test_what_is_of_users_is_refused(run):
    with pytest.raises(InputError, match="ease is a baseline for users"):
        evaluate(run, baselines=["ease"])


def test_dot_scores_take_both_tables_and_cosine_the_centres(run, tmp_path, graph, vectors):
    context = np.roll(vectors, 1, axis=1)
    two = write_item_run(tmp_path / "two", graph, vectors, item_context=context)
    own = evaluate(run, ks=KS)["metrics"]
    assert evaluate(two, ks=KS)["metrics"] == own
    path = two / "config.json"
    values = json.loads(path.read_text())
    values["model"]["score"] = "dot"
    path.write_text(json.dumps(values))
    assert evaluate(two, ks=KS)["metrics"]["auc"] < own["auc"] - 0.2


def test_recall_is_told_by_the_popularity_of_those_who_ask_and_of_what_is_found(
    run, graph, vectors
):
    config = load(run / "config.json")
    splits = item_runs.splits_of(config, graph)
    judge = item_runs.evaluator(config, splits, "test", item_runs.scored_items(vectors), KS)
    assert judge is not None
    scorer = item_runs.item_scorer({"item": vectors}, judge.scored_I)
    told, metrics = item_runs.served(judge, scorer, splits.train, KS), judge(scorer)
    assert told is not None
    assert metrics is not None
    assert told["k"] == 5
    asked = sum(row["users"] for row in told["users"])
    assert asked == judge.users
    mean = sum(row["users"] * row["recall"] for row in told["users"]) / asked
    assert mean == pytest.approx(metrics["recall@5"], abs=1e-6)
    assert sum(row["relevant"] for row in told["items"]) == splits.test.n_pairs
    assert [row["from"] for row in told["items"]] == sorted(row["from"] for row in told["items"])
