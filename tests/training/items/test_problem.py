"""Properties that every item model must have, tested by real runs on planted data."""

import contextlib
import signal
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from processes import KILLER, process
from processes import jaxrec as command

import jaxrec
from jaxrec import presets
from jaxrec.config import Config
from jaxrec.data import synthetic_items
from jaxrec.diagnosis.diagnose import diagnose
from jaxrec.errors import InputError
from jaxrec.runfolder import read_lines
from jaxrec.training.items.cold_items import cold_vectors

PLANTED = {"communities": 6, "seed": 2}
GRAPH = synthetic_items.make(150, 900, missing=0.2, **PLANTED)
MODELS = ("skipgram", "skipgram-side", "node2vec", "mf-pairs", "mf-bias-pairs", "mf-sequences")
REPORTED = ("skipgram", "mf-bias-pairs")
pytestmark = pytest.mark.long_but("skipgram-side")


def config(preset: str) -> Config:
    base = presets.get(preset)
    edges = base.train.positives == "edges"
    return replace(
        base,
        model=replace(base.model, dim=16),
        negatives=replace(base.negatives, groups=4),
        optim=replace(base.optim, learning_rate=0.2),
        train=replace(
            base.train, epochs=60 if edges else 12, batch_size=64, refit=preset == "skipgram"
        ),
        eval=replace(base.eval, every=6, k=(10, 20)),
    )


@pytest.fixture(scope="module", params=MODELS)
def trained(request, reports, tmp_path_factory):
    folder = tmp_path_factory.mktemp("items") / "run"
    with reports() if request.param in REPORTED else contextlib.nullcontext():
        return jaxrec.train(config(request.param), data=GRAPH, run=folder, quiet=True)


def test_it_separates_held_out_pairs_from_random_pairs(trained):
    popularity = trained.evaluation["baselines"]["popularity"]
    assert trained.metrics["auc"] > 0.7
    assert trained.metrics["recall@10"] > 1.3 * popularity["recall@10"]
    records = read_lines(trained.folder / "metrics.jsonl")
    losses = [r["loss"] for r in records if r["split"] == "train" and r["phase"] == "search"]
    assert losses[-1] < losses[0]
    reported = trained.config.preset in REPORTED
    assert (trained.folder / "report.html").exists() == reported


def test_its_stored_vectors_give_the_reported_metrics(trained, tmp_path):
    GRAPH.save(tmp_path / "graph")
    again = jaxrec.evaluate(trained.folder, "test", (10, 20), data=tmp_path / "graph")
    for name in ("auc", "average_precision", "recall@20"):
        assert again["metrics"][name] == pytest.approx(trained.metrics[name], abs=1e-6)
    with np.load(trained.folder / "curves.npz") as curves:
        assert curves["roc_tpr"][-1] == 1


def test_nearest_items_are_of_the_same_community(trained):
    like = jaxrec.Recommender.load(trained.folder).similar_items(
        [str(item) for item in GRAPH.item_ids[:30]], k=3
    )
    row_of = {str(item): row for row, item in enumerate(GRAPH.item_ids)}
    community = synthetic_items.planted(150, **PLANTED).item_community
    ends = [community[[row_of[item] for item in like[name]]] for name in ("item", "similar")]
    assert np.mean(np.equal(*ends)) > 2 / 6


def test_the_doctor_measures_it(trained):
    """The doctor measures vectors and pairs at the start, at every evaluation and at the end.

    Sixty epochs over 900 pairs overfit matrix factorisation: only this finding is allowed.
    """
    records = read_lines(trained.folder / "metrics.jsonl")
    lines = [r for r in records if r["split"] == "doctor" and r["phase"] == "search"]
    judged = [r["step"] for r in records if r["split"] == "validation"]
    assert [r["step"] for r in lines] == [0, *judged]
    assert lines[0]["moved"] == 0 < lines[-1]["moved"]
    assert lines[0]["train_auc"] < 0.65 < 0.8 < lines[-1]["train_auc"]
    told = {finding.name for finding in diagnose(trained.folder).findings}
    assert told <= ({"overfitting"} if trained.config.train.positives == "edges" else set())
    assert {"item_cosine", "item_rank", "item_norm", "validation_auc"} <= lines[-1].keys()


def with_new_items(n: int):
    """Return the graph with n more items without pairs, which have the first items' features."""
    assert GRAPH.item_features is not None
    rows = np.append(np.arange(150), np.arange(n))
    ids = np.append(GRAPH.item_ids, [f"new{i}" for i in range(n)])
    return replace(GRAPH, item_ids=ids, item_features=GRAPH.item_features.take(rows))


@pytest.mark.long
def test_unseen_items_are_embedded_from_side_information(tmp_path):
    run = jaxrec.train(
        config("skipgram-side"), data=with_new_items(20), run=tmp_path / "run", quiet=True
    )
    assert GRAPH.item_features is not None
    features = GRAPH.item_features.take(np.append(np.arange(20), -1))
    vectors = cold_vectors(run.folder, run.config, features)
    with np.load(run.folder / "embeddings.npz") as stored:
        item_ID = stored["item"]
    np.testing.assert_allclose(vectors[:20], item_ID[150:], atol=1e-5)
    np.testing.assert_array_equal(vectors[20], 0)  # it has no feature
    community = synthetic_items.planted(150, **PLANTED).item_community
    near = np.argmax(vectors[:20] @ item_ID[20:150].T, axis=1) + 20
    known = np.abs(vectors[:20]).sum(axis=1) > 0
    assert np.mean(community[near][known] == community[:20][known]) > 0.5
    plain = jaxrec.train(config("mf-pairs"), data=GRAPH, run=tmp_path / "plain", quiet=True)
    with pytest.raises(InputError, match="skipgram-side"):
        cold_vectors(plain.folder, plain.config, features)


@pytest.mark.long
def test_a_warm_start_extends_the_tables_by_new_items(tmp_path):
    made = config("skipgram-side")
    made = replace(made, train=replace(made.train, epochs=3))
    first = jaxrec.train(made, data=GRAPH, run=tmp_path / "first", quiet=True)
    still = replace(
        made,
        warm_start=str(first.folder),
        train=replace(made.train, epochs=0),
        eval=replace(made.eval, select_on="none"),
    )
    grown = jaxrec.train(still, data=with_new_items(5), run=tmp_path / "grown", quiet=True)
    tables = []
    for run in (first, grown):
        with np.load(run.folder / "parameters.npz") as stored:
            tables.append(dict(stored))
    for name in ("embedding", "context", "share"):
        assert len(tables[1][name]) == 155
        np.testing.assert_array_equal(tables[1][name][:150], tables[0][name])
    np.testing.assert_array_equal(tables[1]["feature"], tables[0]["feature"])


def test_missing_features_are_reported_before_a_folder_is_created(tmp_path):
    bare = replace(GRAPH, item_features=None)
    with pytest.raises(InputError, match=r"model\.side needs features"):
        jaxrec.train(config("skipgram-side"), data=bare, run=tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()


@pytest.mark.long
@pytest.mark.parametrize(("preset", "moment"), [("node2vec", 2), ("skipgram-side", 3)])
def test_a_killed_run_resumes_to_the_same_bits(preset, moment, tmp_path):
    GRAPH.save(tmp_path / "data")
    options = ["--data", tmp_path / "data", "--model.dim", 8, "--train.batch-size", 64]
    options += ["--negatives.groups", 4, "--train.epochs", 4, "--checkpoint.every", 1]
    whole, run = tmp_path / "whole", tmp_path / "run"
    done = command("train", preset, *options, "--run", whole, quick=True)
    assert done.returncode == 0, done.stderr
    at = ("jaxrec.training.checkpoint:Checkpoints._seal", moment)
    train = ("train", preset, *options, "--run", run)
    killed = process(KILLER, "SIGKILL", *at, *train, quick=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    resumed = command("resume", run, quick=True)
    assert resumed.returncode == 0, resumed.stderr
    for name in ("embeddings.npz", "parameters.npz", "curves.npz"):
        with np.load(whole / name) as a, np.load(run / name) as b:
            assert a.files == b.files
            for key in a.files:
                assert a[key].tobytes() == b[key].tobytes(), key
    for name in ("metrics.jsonl", "eval.json", "config.json"):
        assert (whole / name).read_bytes() == (run / name).read_bytes()
    assert pl.Series(np.load(run / "embeddings.npz")["item"][:, 0]).is_finite().all()
