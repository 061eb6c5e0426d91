"""Test that training on data in parts equals training in memory to the last bit."""

import dataclasses
import json
import shutil

import jax
import numpy as np
import polars as pl
import pytest

import jaxrec
from jaxrec.config import (
    Config,
    EvalConfig,
    FilterConfig,
    LossConfig,
    MeshConfig,
    ModelConfig,
    NegativesConfig,
    OptimConfig,
    SplitConfig,
    TrainConfig,
)
from jaxrec.errors import InputError
from jaxrec.evaluation.run import evaluate
from jaxrec.graph.halo import make_mesh
from jaxrec.parted.stored import Parted
from jaxrec.parted.write import partition_data
from jaxrec.recommend import Recommender
from jaxrec.runfolder import read_metrics
from jaxrec.training import problem as problems
from jaxrec.training import results
from jaxrec.training.placement import partitioned as parted_problems
from jaxrec.training.placement.partitioned import PartedTask, own_parts
from jaxrec.training.task import UserTask

SEED = 5
SAMPLED = 20
WEIGHTS = {"view": 1.0, "buy": 2.5}
CONFIG = Config(
    preset="parts",
    seed=SEED,
    split=SplitConfig("hashed"),
    model=ModelConfig(dim=4, layers=2),
    optim=OptimConfig(learning_rate=0.02),
    train=TrainConfig(epochs=2, batch_size=32),
    eval=EvalConfig(k=(5, 20), every=1),
    mesh=MeshConfig(data=2, table=3, order="data"),
)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("source")
    rng = np.random.default_rng(2)
    user, item = rng.integers(0, 50, 700), (rng.pareto(1.0, 700) * 6).astype(int) % 41
    # Add items with a single pair, which may be held out.
    user, item = np.append(user, rng.integers(0, 50, 40)), np.append(item, np.arange(41, 81))
    event = rng.choice(list(WEIGHTS), 740)
    frame = pl.DataFrame({"user": user, "item": item, "event": event})
    frame.write_parquet(folder / "pairs.parquet")
    return folder


@pytest.fixture(scope="module")
def parted(source):
    for weighted in (False, True):
        out, split = source / f"parts-{weighted}", CONFIG.split
        weights = WEIGHTS if weighted else None
        src = source / "pairs.parquet"
        partition_data(src, out, 3, split=split, seed=SEED, event_weights=weights)
    return source / "parts-True"


def run_of(folder):
    """Return all arrays that a run writes."""
    found = {}
    for name in ("embeddings", "parameters", "seen"):
        with np.load(folder / f"{name}.npz") as arrays:
            found |= {f"{name}/{key}": arrays[key] for key in arrays.files}
    return found


CHANGES = {
    "in-batch": {
        "model": ModelConfig(dim=4, layers=1, score="cosine", kernel="buckets"),
        "negatives": NegativesConfig("in-batch"),
        "loss": LossConfig("softmax", temperature=0.2),
        "train": TrainConfig(epochs=2, batch_size=32, positives="users"),
    },
    "mf": {
        "model": ModelConfig("mf", dim=4, layers=0),
        "optim": OptimConfig("adam", 0.02, sparse=True),
        "negatives": NegativesConfig("uniform", 2, popularity=0.5, reject_known=True),
        "eval": EvalConfig(k=(5, 20), every=1, cold="drop"),
    },
}


def assert_same_cold(found: dict, expected: dict) -> None:
    """Check that both results report the same users and items without a train pair."""
    assert found.keys() == expected.keys()
    assert found["items"] > 0
    for key, value in expected.items():
        same = pytest.approx(value, abs=1e-6) if isinstance(value, dict) else value
        assert found[key] == same


def assert_same_runs(cut: jaxrec.Run, whole: jaxrec.Run) -> None:
    ours, theirs = run_of(cut.folder), run_of(whole.folder)
    assert ours.keys() == theirs.keys()
    for key, array in theirs.items():
        assert ours[key].dtype == array.dtype
        np.testing.assert_array_equal(ours[key], array, err_msg=key)
    # Both rank the same lists, but two programs sum the metrics of a block in float32.
    records = [read_metrics(folder / "metrics.jsonl") for folder in (cut.folder, whole.folder)]
    for found, expected in zip(*records, strict=True):
        assert found == pytest.approx(expected, abs=1e-6)
    assert json.loads((cut.folder / "slices.json").read_text()) == json.loads(
        (whole.folder / "slices.json").read_text()
    )
    found, expected = cut.evaluation, whole.evaluation
    assert found["metrics"] == pytest.approx(expected["metrics"], abs=1e-6)
    for baseline, metrics in expected["baselines"].items():
        assert found["baselines"][baseline] == pytest.approx(metrics, abs=1e-6)
    assert_same_cold(found["cold"], expected["cold"])
    assert found["train"]["metrics"] == pytest.approx(expected["train"]["metrics"], abs=1e-6)
    assert found["train"]["users"] == expected["train"]["users"] == SAMPLED
    assert found["false_negative_rate"] == expected["false_negative_rate"]


@pytest.fixture(autouse=True, scope="module")
def _some_train_users():
    with pytest.MonkeyPatch.context() as patched:
        for module in (problems, parted_problems):
            patched.setattr(module, "TRAIN_USERS", SAMPLED)
        yield


@pytest.mark.long
@pytest.mark.parametrize("name", list(CHANGES))
def test_a_run_is_to_the_bit_that_of_the_data_in_memory(source, parted, tmp_path, name):
    config = dataclasses.replace(CONFIG, **CHANGES[name])
    data = jaxrec.read(source / "pairs.parquet")
    whole = jaxrec.train(config, data=data, run=tmp_path / "whole", quiet=True)
    cut = jaxrec.train(config, data=source / "parts-False", run=tmp_path / "cut", quiet=True)
    assert_same_runs(cut, whole)


@pytest.fixture(scope="module")
def finished(parted, tmp_path_factory):
    """Return a run that was stopped before its end and then resumed."""
    run = tmp_path_factory.mktemp("runs") / "run"
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(results, "write_arrays", _stop)
        with pytest.raises(KeyboardInterrupt):
            jaxrec.train(CONFIG, data=parted, run=run, quiet=True)
    return jaxrec.resume(run, quiet=True)


def _stop(*_) -> None:
    raise KeyboardInterrupt


@pytest.mark.long
def test_a_run_that_went_on_is_that_of_weighted_data_in_memory(source, finished, tmp_path):
    data = jaxrec.read(source / "pairs.parquet", event_weights=WEIGHTS)
    assert_same_runs(finished, jaxrec.train(CONFIG, data=data, run=tmp_path / "run", quiet=True))


def test_a_run_serves_what_its_users_have_not_seen(source, parted, finished):
    serving = Recommender.load(finished.folder)
    lists = serving.recommend(serving.user_ids[:3], 4)
    assert lists.height == 12
    frame = pl.read_parquet(source / "pairs.parquet")
    known = set(frame.select(pl.format("{} {}", "user", "item")).to_series())
    test = Parted.open(parted).rows("test").take(np.arange(3))
    held = {
        f"{serving.user_ids[user]} {serving.item_ids[item]}"
        for user in range(3)
        for item in test.indices[test.indptr[user] : test.indptr[user + 1]]
    }
    given = set(lists.select(pl.format("{} {}", "user", "item")).to_series())
    assert not given & known
    kept = serving.recommend(serving.user_ids[:3], 81, held_out="keep")
    given = set(kept.select(pl.format("{} {}", "user", "item")).to_series())
    assert given & held
    assert not given & (known - held)


def test_a_run_on_parts_is_a_start_whose_training_pairs_are_counted(finished, source):
    config = dataclasses.replace(
        finished.config,
        mesh=MeshConfig(),
        split=SplitConfig("random"),
        data=str(source / "pairs.parquet"),
        warm_start=str(finished.folder),
    )
    data = jaxrec.read(source / "pairs.parquet", event_weights=WEIGHTS)
    task = UserTask.of(config, data)
    (start,) = task.splitting.start
    known, test = Parted.open(source / "parts-True").rows("train", "validation"), task.splits.test
    ids = Recommender.load(finished.folder).user_ids
    assert test.user_ids.astype(str).tolist() == list(ids)
    of = [known.take(np.array([user])).indices for user in test.user]
    had = [item in items for item, items in zip(test.item, of, strict=True)]
    assert start["trained"]["test"] == [sum(had), len(had)]
    assert 0 < sum(had) < len(had)
    assert (start["split"], start["sure"], start["whole"]) == ("drawn anew", False, True)
    assert "a run on data in parts" in start["reason"]


@pytest.mark.long
def test_evaluate_reads_blocks_of_users_to_the_same_metrics(finished):
    before = json.loads((finished.folder / "eval.json").read_text())
    for split in ("test", "validation"):
        found = evaluate(finished.folder, split, (5, 20))
        expected = before if split == "test" else before["validation"]
        assert found["users"] == expected["users"]
        assert found["cold"].keys() == expected["cold"].keys()
        for metrics, stored in (
            (found["metrics"], expected["metrics"]),
            *zip(found["baselines"].values(), expected["baselines"].values(), strict=True),
        ):
            assert metrics == pytest.approx(stored, abs=1e-6)
    other = evaluate(finished.folder, "test", (5, 20), cold="drop")
    for kind in ("users", "of_users", "items", "of_items"):
        assert other["cold"][kind] == before["cold"][kind]
    assert other["metrics"] == pytest.approx(before["cold"]["without"], abs=1e-6)
    assert other["cold"]["with"] == pytest.approx(before["metrics"], abs=1e-6)
    with pytest.raises(InputError, match="item-knn needs all pairs in memory"):
        evaluate(finished.folder, "test", (5,), baselines=("item-knn",))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"mesh": MeshConfig(table=2)}, "has 3 parts, but mesh.table is 2"),
        ({"mesh": MeshConfig()}, "--mesh.table 3, or `jaxrec data import` the source"),
        ({"mesh": MeshConfig(table=3, order="locality")}, "mesh.order locality"),
        ({"mesh": MeshConfig(table=3, exchange="all_gather")}, "mesh.exchange all_gather"),
        ({"split": SplitConfig("hashed", test=0.3)}, "split.name hashed with these settings"),
        ({"split": SplitConfig("random")}, "split.name random with these settings"),
        ({"filter": FilterConfig(k_core=2)}, "filter cannot be used with data in parts"),
        ({"train": TrainConfig(refit=True)}, "train.refit"),
    ],
    ids=lambda of: of if isinstance(of, str) else "",
)
def test_what_does_not_fit_is_refused_by_name(parted, tmp_path, changes, words):
    config = dataclasses.replace(CONFIG, **changes)
    with pytest.raises(InputError, match=words):
        jaxrec.train(config, data=parted, run=tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()


def test_the_split_of_the_folder_is_taken_where_none_is_asked_for(parted):
    task = PartedTask.open(dataclasses.replace(CONFIG, split=SplitConfig()), parted)
    assert "hashed" not in task.describe()[0]
    assert task.splits.test.n_edges == Parted.open(parted).manifest["pairs"]["test"]


def test_damaged_and_missing_files_are_named(parted, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(parted, copy)
    path = copy / "part-00001" / "senders.npy"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(InputError, match=r"part-00001/senders\.npy: does not fit its checksum"):
        PartedTask.open(CONFIG, copy)
    path.write_bytes(whole[:-4])
    with pytest.raises(InputError, match=r"part-00001/senders\.npy: has [\d,]+ bytes, not"):
        PartedTask.open(CONFIG, copy)
    shutil.rmtree(path.parent)
    with pytest.raises(InputError, match=r"part-00001/.*\.npy: cannot be read .*copy it again"):
        PartedTask.open(CONFIG, copy)
    (copy / "manifest.json").write_text("{}")
    with pytest.raises(InputError, match=r"manifest\.json"):
        Parted.open(copy)


def test_a_process_may_read_the_parts_of_its_devices_alone(parted, monkeypatch):
    mesh = make_mesh(CONFIG.mesh)
    assert own_parts(mesh) == (0, 1, 2)
    some = Parted.open(parted, (1,))
    assert some.array(1, "senders").ndim == 1
    with pytest.raises(ValueError, match="part 0 is not among"):
        some.array(0, "senders")
    monkeypatch.setattr(jax, "process_index", lambda: 1)
    assert own_parts(mesh) == ()
