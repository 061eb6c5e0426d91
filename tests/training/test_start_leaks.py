"""Test that a warm-started run does not test on pairs its start has seen, or says so."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

import jaxrec
from jaxrec import presets
from jaxrec.cli.doctor import doctor, words
from jaxrec.config import (
    IN_MEMORY,
    Config,
    EvalConfig,
    FilterConfig,
    LogConfig,
    MeshConfig,
    ModelConfig,
    OptimConfig,
    SplitConfig,
    TrainConfig,
    to_dict,
)
from jaxrec.data import synthetic, synthetic_items
from jaxrec.data.dataset import TRAIN, Dataset
from jaxrec.data.saved_split import NAME, hashes, load
from jaxrec.data.split import repeats
from jaxrec.diagnosis.diagnose import diagnose
from jaxrec.errors import InputError
from jaxrec.evaluation.run import evaluate
from jaxrec.evaluation.user_runs import splits_of
from jaxrec.reporting.run_records import read_runs
from jaxrec.reporting.sections import notices
from jaxrec.runfolder import read_json
from jaxrec.training.items.task import ItemTask
from jaxrec.training.task import UserTask

DATA = synthetic.make(150, 80, 3000, communities=4, seed=3)
BASE = Config(
    model=ModelConfig("mf", dim=8, layers=0),
    optim=OptimConfig(learning_rate=0.03),
    train=TrainConfig(epochs=12, batch_size=256),
    eval=EvalConfig(k=(20,), every=0),
    log=LogConfig(doctor=False),
)


def short(config: Config, **changes) -> Config:
    return replace(config, train=replace(config.train, epochs=1), **changes)


def pairs(data: Dataset) -> set[tuple[str, str]]:
    ids = data.user_ids[data.user].tolist(), data.item_ids[data.item].tolist()
    return set(zip(*ids, strict=True))


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return jaxrec.train(BASE, data=DATA, run=tmp_path_factory.mktemp("base") / "r1", quiet=True)


def begun(base, data=DATA, **changes) -> UserTask:
    """Return the task of a run that starts from ``base``, before it is trained."""
    changes = {"warm_start": str(base.folder), "seed": 1} | changes
    return UserTask.of(short(base.config, **changes), data)


def fact(task: UserTask) -> dict:
    (start,) = task.splitting.start
    return start


def grown(extra: int = 600) -> Dataset:
    """Return all pairs of DATA and more pairs of its users, of new users and of new items."""
    more = synthetic.make(190, 95, 3000 + extra, communities=4, seed=9)
    key = more.user.astype(np.int64) * 1000 + more.item
    old = DATA.user.astype(np.int64) * 1000 + DATA.item
    there = np.unique(np.concatenate([old, key[:extra]]))
    user, item = np.divmod(there, 1000)
    return Dataset(user.astype("i4"), item.astype("i4"), more.user_ids, more.item_ids)


@pytest.mark.long
def test_a_warm_start_goes_on_with_the_split_whatever_its_seed(base, tmp_path, capsys):
    config = short(BASE, warm_start=str(base.folder), seed=1)
    run = jaxrec.train(config, data=DATA, run=tmp_path / "r2")
    old = splits_of(base.config, DATA, base.folder)
    new = splits_of(run.config, DATA, run.folder)
    assert [pairs(part) for part in new] == [pairs(part) for part in old]
    (start,) = run.evaluation["start"]
    assert start["trained"] == {
        "validation": [0, new.validation.n_edges],
        "test": [0, new.test.n_edges],
    }
    assert (start["split"], start["users"]["kept"], start["items"]["new"]) == ("kept", 150, 0)
    said = capsys.readouterr().out
    assert f"0 of {new.test.n_edges:,} test pairs were in the training data of r1" in said
    assert "of r1: 150 of 150 users and 80 of 80 items are in this data; 0 users" in said
    again = jaxrec.train(run.config, data=DATA, run=tmp_path / "again", quiet=True)
    assert again.metrics == run.metrics
    (run.folder / "config.json").write_text(
        json.dumps(to_dict(replace(run.config, warm_start=str(tmp_path / "gone"))))
    )
    # A second evaluation uses the same test part, and gives the same warning.
    again = evaluate(run.folder, "test", (20,), data=DATA)
    assert again["metrics"] == pytest.approx(run.metrics)
    assert again["start"] == run.evaluation["start"]


def test_new_pairs_are_split_by_the_rule_and_old_ones_stay(base):
    data = grown()
    task = begun(base, data)
    for one, other in zip(splits_of(base.config, DATA, base.folder), task.splits, strict=True):
        assert pairs(one) <= pairs(other)
    assert task.splits.test.n_edges == pytest.approx(0.2 * data.n_edges, rel=0.1)
    assert fact(task)["trained"]["test"][0] == 0
    assert (fact(task)["users"]["new"], fact(task)["items"]["new"]) == (40, 15)


@pytest.mark.long
def test_a_chain_remembers_what_the_first_run_was_trained_on(base, tmp_path):
    middle = DATA.take(DATA.user < 40)  # lacks most pairs of the first
    config = short(BASE, warm_start=str(base.folder), seed=1)
    second = jaxrec.train(config, data=middle, run=tmp_path / "r2", quiet=True)
    third = begun(second, grown(), seed=2)
    old = splits_of(base.config, DATA, base.folder)
    assert pairs(old.train) <= pairs(third.splits.train)
    assert pairs(old.test) <= pairs(third.splits.test)
    assert fact(third)["trained"]["test"][0] == 0
    other = begun(second, split=SplitConfig(test=0.4), seed=2)
    truth = len(pairs(old.train) & pairs(other.splits.test))
    assert fact(other)["trained"]["test"] == [truth, other.splits.test.n_edges]


def test_another_protocol_counts_what_its_test_shares_with_training(base, tmp_path, capsys):
    config = short(BASE, warm_start=str(base.folder), split=SplitConfig(test=0.3), seed=1)
    run = jaxrec.train(config, data=DATA, run=tmp_path / "r2")
    old, new = splits_of(base.config, DATA, base.folder), splits_of(run.config, DATA, run.folder)
    truth = len(pairs(old.train) & pairs(new.test))
    (start,) = read_json(run.folder / "eval.json")["start"]
    assert start["trained"]["test"] == [truth, new.test.n_edges]
    assert truth > 0.5 * new.test.n_edges
    line = f"{truth:,} of {new.test.n_edges:,} test pairs were in the training data of r1"
    said = capsys.readouterr().out
    assert line in said
    assert "the data is split anew (split.test was 0.2 in that run, and is 0.3 now)" in said
    assert "WARNING: the test metrics count pairs on which r1 was trained" in said
    found = diagnose(run.folder)
    assert found.findings[0].name == "trained-on-test"
    assert any(line in told for told in words(found))
    assert doctor([str(run.folder)]) == 3
    (records,) = read_runs([run.folder])
    assert line in notices(records)


def test_a_split_that_the_data_gives_binds_and_is_counted(base):
    label = np.random.default_rng(0).choice([0, 2], DATA.n_edges, p=[0.8, 0.2]).astype(np.uint8)
    task = begun(base, replace(DATA, split=label))
    truth = pairs(splits_of(base.config, DATA, base.folder).train) & pairs(DATA.take(label == 2))
    assert pairs(task.splits.test) == pairs(DATA.take(label == 2))
    assert fact(task)["trained"]["test"] == [len(truth), int((label == 2).sum())]
    assert fact(task)["reason"] == "split.name was random in that run, and is given now"


def test_what_a_refit_trained_on_is_counted_among_validation(tmp_path):
    refit = replace(BASE, train=replace(BASE.train, refit=True, epochs=1))
    first = jaxrec.train(refit, data=DATA, run=tmp_path / "r1", quiet=True)
    task = begun(first)
    n = task.splits.validation.n_edges
    assert fact(task)["trained"] == {"validation": [n, n], "test": [0, task.splits.test.n_edges]}
    assert any(
        "WARNING: the validation part, which may select the parameters, has" in line
        for line in task.describe()
    )


def copied(base, tmp_path):
    """Copy the base run without its split, as earlier versions wrote it."""
    folder = tmp_path / "old"
    shutil.copytree(base.folder, folder, ignore=shutil.ignore_patterns("checkpoints", NAME))
    return replace(base, folder=folder)


@pytest.mark.parametrize("gone", [True, False])
def test_a_run_that_keeps_no_split_counts_what_recommendations_leave_out(gone, base, tmp_path):
    old = copied(base, tmp_path)
    if gone:  # this run started from another one, which no longer exists
        config = replace(old.config, warm_start=str(tmp_path / "gone"))
        (old.folder / "config.json").write_text(json.dumps(to_dict(config)))
    was = splits_of(base.config, DATA, base.folder)
    task = begun(old, seed=5)
    test, known = pairs(task.splits.test), pairs(was.train) | pairs(was.validation)
    found = fact(task)
    assert found["trained"]["test"] == [len(test & known), len(test)]
    assert len(test & known) > 0.5 * len(test)
    assert (found["whole"], found["sure"], found["split"]) == (not gone, False, "drawn anew")
    least = "at least " if gone else ""
    said = [line for line in task.describe() if "were in the training or validation data" in line]
    assert said[0].startswith(
        "the data is split anew (it has no stored split: it is an old run, or a run on data in "
        f"parts): {least}"
    )


def test_filters_leave_pairs_where_they_were(base):
    changes = {"filter": FilterConfig(k_core=22)}
    data = grown(1500)
    task, old = begun(base, data, **changes), splits_of(base.config, DATA, base.folder)
    assert task.splits.train.n_users < data.n_users
    every = set().union(*map(pairs, task.splits))
    for one, other in zip(old, task.splits, strict=True):
        assert pairs(one) & every <= pairs(other)
    assert fact(task)["trained"]["test"][0] == 0


def test_frozen_items_of_a_run_bring_its_split_and_those_of_a_file_are_not_known(base, tmp_path):
    model = ModelConfig("mf", dim=8, layers=0, frozen_items=str(base.folder))
    task = begun(base, model=model, warm_start=None)
    old = splits_of(base.config, DATA, base.folder)
    assert pairs(old.test) == pairs(task.splits.test)
    assert (fact(task)["as"], fact(task)["split"]) == ("frozen_items", "kept")
    assert "users" not in fact(task)
    with np.load(base.folder / "embeddings.npz") as stored:
        np.savez(tmp_path / "items.npz", item=stored["item"], item_ids=stored["item_ids"])
    model = replace(model, frozen_items=str(tmp_path / "items.npz"))
    other = begun(base, model=model, warm_start=None)
    assert "trained" not in fact(other)
    line = "it is unknown whether items.npz was trained on test pairs "
    line += "(it is not a run folder)"
    assert line in other.describe()


def test_data_with_nearly_none_of_the_old_ids_is_warned_of(base):
    padded = replace(DATA, user_ids=np.array([f"x{name}" for name in DATA.user_ids]))
    lines = begun(base, padded).describe()
    assert (
        "of r1: 0 of 150 users and 80 of 80 items are in this data; 150 users and 0 items are new"
    ) in lines
    (warning,) = [line for line in lines if line.startswith("WARNING")]
    assert "hardly any of the users of r1 are in this data" in warning
    assert f"(`{DATA.user_ids[0]}` in r1, `x{DATA.user_ids[0]}` in this data)" in warning


def test_a_killed_run_goes_on_with_its_split_where_the_start_has_changed(base, tmp_path):
    config = short(BASE, warm_start=str(base.folder), seed=1)
    task = UserTask.of(config, DATA)
    task.record(tmp_path, custom_tx=False)
    kept = load(tmp_path)
    assert kept is not None
    other = replace(config, warm_start=str(tmp_path / "gone"))
    again = UserTask.of(other, DATA, tmp_path)
    assert [pairs(part) for part in again.splits] == [pairs(part) for part in task.splits]
    assert list(again.splitting.start) == list(task.splitting.start)
    assert (kept.parts(hashes(task.splits.train)) == TRAIN).all()


def test_a_run_of_before_is_evaluated_on_the_split_of_those_days(base, tmp_path):
    time = np.random.default_rng(1).integers(0, 4, DATA.n_edges).astype(np.float64)
    data = replace(DATA, time=time)
    config = short(BASE, split=SplitConfig("leave-last-out"))
    now = UserTask.of(config, data)
    now.record(tmp_path, custom_tx=False)
    assert pairs(splits_of(config, data, tmp_path).test) == pairs(now.splits.test)
    (tmp_path / NAME).unlink()
    before = splits_of(config, data, tmp_path)
    assert pairs(before.test) != pairs(now.splits.test)
    last = {}
    for row in np.lexsort((data.item, time, data.user)).tolist():
        last[int(data.user[row])] = int(data.item[row])
    assert dict(zip(before.test.user.tolist(), before.test.item.tolist(), strict=True)) == last


@pytest.mark.long
def test_pairs_of_items_go_on_too(tmp_path):
    graph = synthetic_items.make(100, 600, seed=1)
    made = presets.get("mf-pairs")
    config = replace(
        made,
        data=IN_MEMORY,
        model=replace(made.model, dim=8),
        train=replace(made.train, epochs=1, refit=False, batch_size=64),
        eval=replace(made.eval, every=0),
    )
    first = jaxrec.train(config, data=graph, run=tmp_path / "r1", quiet=True)
    again = replace(config, warm_start=str(first.folder), seed=3)
    task = ItemTask.of(again, graph)
    was = ItemTask.of(config, graph)
    assert task.part_P is not None
    np.testing.assert_array_equal(task.part_P, was.part_P)
    (start,) = task.splitting.start
    assert (start["split"], start["trained"]["test"][0]) == ("kept", 0)
    assert "of r1: 100 of 100 items are in this data; 0 items are new" in task.describe()
    second = jaxrec.train(again, data=graph, run=tmp_path / "r2", quiet=True)
    assert second.evaluation["start"] == [start]
    ks = config.eval.k
    assert evaluate(second.folder, "test", ks, data=graph)["metrics"] == pytest.approx(
        second.metrics
    )
    other = replace(again, pairs=replace(config.pairs, test=0.5))
    (start,) = ItemTask.of(other, graph).splitting.start
    assert start["reason"] == "pairs.test was 0.33 in that run, and is 0.5 now"
    assert start["trained"]["test"][0] > 0
    (first.folder / NAME).unlink()
    (line,) = [line for line in ItemTask.of(again, graph).describe() if "unknown" in line]
    assert line.startswith("it is unknown whether r1 was trained on test pairs")


def test_a_mesh_keeps_its_split_too(tmp_path):
    UserTask.of(short(BASE, mesh=MeshConfig(table=2)), DATA).record(tmp_path, custom_tx=False)
    kept = load(tmp_path)
    assert kept is not None
    assert (kept.parts(hashes(DATA)) >= 0).all()


def _bought_again(kept: bool) -> Dataset:
    """Give every user six items in train; if ``kept``, half of them occur in test again."""
    users, items = 30, 60
    rng = np.random.default_rng(0)
    own = np.stack([rng.permutation(items)[:7] for _ in range(users)])
    pairs = [(u, i, 0) for u in range(users) for i in own[u, :6]]
    pairs += [(u, i, 2) for u in range(users) for i in own[u, 3:7]]
    user, item, label = np.array(sorted(pairs), np.int32).T
    ids = np.arange(users), np.arange(items)
    data = Dataset(user.copy(), item.copy(), *ids, split=label.astype(np.uint8))
    return data if kept else data.take(~repeats(data))


@pytest.mark.long
def test_what_people_have_again_is_ranked_where_it_is_asked_for(tmp_path):
    data = _bought_again(True)
    config = replace(
        BASE,
        split=SplitConfig(validation=0.0, repeats="keep"),
        eval=EvalConfig(k=(10,), every=0, select_on="none", repeatable=True),
        train=replace(BASE.train, epochs=40, batch_size=64),
    )
    run = jaxrec.train(config, data=data, run=tmp_path / "run", quiet=True)
    assert run.metrics["recall@10"] > 0.5  # users had three of four test items before
    assert "known items ranked too (repeatable)" in run.evaluation["protocol"]
    assert evaluate(run.folder, "test", (10,), data=data)["metrics"] == pytest.approx(run.metrics)
    kept = UserTask.of(replace(config, eval=replace(config.eval, repeatable=False)), data)
    assert kept.splits.test.n_edges == 120
    (line,) = [line for line in kept.describe() if "an earlier part" in line]
    assert line.endswith("and masked unless eval.repeatable is set): 90")
    dropped = UserTask.of(replace(config, split=SplitConfig(validation=0.0)), data)
    assert pairs(dropped.splits.test) == pairs(
        _bought_again(False).take(_bought_again(False).split == 2)
    )
    (line,) = [line for line in dropped.describe() if "an earlier part" in line]
    assert line.endswith("left out (split.repeats): 90")
    items = presets.get("skipgram")
    with pytest.raises(InputError, match=r"eval\.repeatable needs users"):
        replace(items, eval=replace(items.eval, repeatable=True))


@pytest.mark.parametrize(
    "start",
    [
        5,
        [5],
        [{}],
        [{"run": 1, "as": "", "split": ""}],
        [{"run": "r", "as": "", "split": "x", "users": {}}],
    ],
)
def test_records_of_a_start_that_are_damaged_are_refused_by_name(start, base, tmp_path):
    folder = copied(base, tmp_path).folder
    env = read_json(folder / "env.json") | {"start": start}
    (folder / "env.json").write_text(json.dumps(env))
    with pytest.raises(InputError, match=r"env\.json: `start` is invalid"):
        diagnose(folder)
