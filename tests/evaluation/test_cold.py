"""Test that users and items without train pairs are counted, and left out only on request."""

import dataclasses
import json

import numpy as np
import pytest

import jaxrec
from jaxrec.config import Config, EvalConfig, SplitConfig, from_dict
from jaxrec.data.dataset import TEST, TRAIN, VALIDATION, Csr, Dataset
from jaxrec.errors import InputError
from jaxrec.evaluation.cold import Met, View, sentence
from jaxrec.recommend import Recommender

CONFIG = from_dict(
    {
        "model": {"name": "mf", "dim": 8, "layers": 0},
        "train": {"epochs": 2, "batch_size": 32},
        "eval": {"k": [5, 20]},
        "split": {"name": "given"},
    }
)
OLD_USERS, OLD_ITEMS = 30, 25


def made(new_users: int = 6, new_items: int = 4) -> Dataset:
    """Build data in which some users and items have test pairs but no train pair."""
    rng = np.random.default_rng(3)
    users, items = OLD_USERS + new_users, OLD_ITEMS + new_items
    pairs = {(u, u % OLD_ITEMS): TRAIN for u in range(OLD_USERS)}
    for u in range(OLD_USERS):
        for i in rng.choice(OLD_ITEMS, 8, replace=False).tolist():
            pairs.setdefault((u, i), rng.choice([TRAIN, VALIDATION, TEST], p=[0.6, 0.1, 0.3]))
    for u in range(users):
        for i in rng.choice(items, 3, replace=False).tolist():
            pairs.setdefault((u, i), TEST)
    user, item = np.array(sorted(pairs), np.int32).T
    split = np.array([pairs[pair] for pair in sorted(pairs)], np.uint8)
    names = np.arange(users), np.arange(items)
    return Dataset(user.copy(), item.copy(), *names, split=split)


@pytest.fixture(scope="module")
def data() -> Dataset:
    return made()


@pytest.fixture(scope="module")
def run(data, tmp_path_factory) -> jaxrec.Run:
    return jaxrec.train(CONFIG, data=data, run=tmp_path_factory.mktemp("cold") / "run", quiet=True)


def recall(run: jaxrec.Run, data: Dataset, k: int, met_only: bool) -> float:
    """Compute recall@k on test by a loop over users."""
    with np.load(run.folder / "embeddings.npz") as table:
        score_UI = table["user"] @ table["item"].T
    part = {name: set() for name in (TRAIN, VALIDATION, TEST)}
    assert data.split is not None
    for u, i, split in np.stack([data.user, data.item, data.split], axis=1).tolist():
        part[split].add((u, i))
    users, items = ({pair[side] for pair in part[TRAIN]} for side in (0, 1))
    found = []
    for u in range(data.n_users):
        relevant = {i for v, i in part[TEST] if v == u and (not met_only or i in items)}
        if not relevant or (met_only and u not in users):
            continue
        hidden = {i for v, i in part[TRAIN] | part[VALIDATION] if v == u}
        ranked = [i for i in range(data.n_items) if not met_only or i in items]
        ranked = sorted((i for i in ranked if i not in hidden), key=lambda i: (-score_UI[u, i], i))
        found.append(len(relevant & set(ranked[:k])) / len(relevant))
    return float(np.mean(found))


def test_every_result_counts_them_and_has_the_metrics_without_them(run, data):
    cold, test = run.evaluation["cold"], data.split == TEST
    train = data.split == TRAIN
    of = {"users": (data.user, set(data.user[train])), "items": (data.item, set(data.item[train]))}
    for kind, (column, met) in of.items():
        held = set(column[test])
        assert cold[f"of_{kind}"] == len(held)
        assert cold[kind] == len(held - met) > 0
    assert cold["left_out"] is False
    assert run.metrics["recall@5"] == pytest.approx(recall(run, data, 5, False), abs=1e-6)
    assert cold["without"]["recall@5"] == pytest.approx(recall(run, data, 5, True), abs=1e-6)
    assert run.evaluation["validation"]["cold"]["users"] == 0
    assert "without" not in run.evaluation["validation"]["cold"]
    stored = json.loads((run.folder / "eval.json").read_text())
    assert stored["cold"] == cold


def test_they_are_left_out_on_request(run, data, tmp_path):
    kept, without = run.metrics, run.evaluation["cold"]["without"]
    eval_json = (run.folder / "eval.json").read_bytes()
    again = jaxrec.evaluate(run.folder, ks=(5, 20), data=data, cold="drop")
    (run.folder / "eval.json").write_bytes(eval_json)
    assert again["metrics"] == without
    assert again["cold"]["with"] == kept
    assert again["cold"]["left_out"] is True
    assert again["protocol"].count("users and items without a train pair left out") == 1
    config = dataclasses.replace(CONFIG, eval=dataclasses.replace(CONFIG.eval, cold="drop"))
    dropped = jaxrec.train(config, data=data, run=tmp_path / "run", quiet=True)
    assert dropped.metrics == without
    assert dropped.evaluation["cold"]["with"] == kept
    assert (dropped.folder / "metrics.jsonl").read_text().count("\n") > 2


@pytest.mark.long
def test_a_split_of_none_but_new_users_says_so(tmp_path, capsys, reports):
    data = made(new_items=0)
    old = (data.user < OLD_USERS) & (data.split == TEST)
    data = data.take(~old)
    with reports():
        run = jaxrec.train(CONFIG, data=data, run=tmp_path / "run")
    told = "test: 6 of 6 users have no train pair; all held-out pairs belong to them"
    assert told in capsys.readouterr().out
    assert "without" not in run.evaluation["cold"]
    if (run.folder / "report.html").exists():
        assert told.removeprefix("t") in (run.folder / "report.html").read_text()
    config = dataclasses.replace(CONFIG, eval=dataclasses.replace(CONFIG.eval, cold="drop"))
    with pytest.raises(InputError, match=r"eval.cold drop leaves no test pair"):
        jaxrec.train(config, data=data, run=tmp_path / "none")
    assert not (tmp_path / "none").exists()
    with pytest.raises(InputError, match=r"eval.cold drop leaves no test pair"):
        jaxrec.evaluate(run.folder, data=data, cold="drop")


def pairs_of(data: Dataset, *parts: int) -> set[tuple[str, str]]:
    """Return the ids of the pairs in the given parts of the split."""
    assert data.split is not None
    there = np.isin(data.split, parts)
    return set(zip(data.user[there].astype(str), data.item[there].astype(str), strict=True))


def test_a_real_run_recommends_neither_what_is_had_nor_what_is_not_learnt(run, data, capsys):
    rec = Recommender.load(run.folder)
    whole = rec.recommend(rec.user_ids, k=50)
    pairs = pairs_of(data, TRAIN, VALIDATION, TEST)
    assert not pairs & set(whole.select("user", "item").rows())
    met = set(data.item[data.split == TRAIN].astype(str))
    assert set(whole["item"]) == met
    said = capsys.readouterr().err
    assert "4 of 29 items have no train pair" in said
    assert "6 of 36 users have no train pair" in said
    had = np.bincount(data.item[data.split != TEST], minlength=data.n_items)
    new = whole.filter(user=str(OLD_USERS))
    assert new["score"].to_list() == sorted(new["score"].to_list(), reverse=True)
    assert new["score"].to_list() == had[new["item"].cast(int).to_numpy()].tolist()
    kept = rec.recommend(rec.user_ids, k=50, held_out="keep")
    again = pairs & set(kept.select("user", "item").rows())
    assert again == {pair for pair in pairs_of(data, TEST) if pair[1] in met}


@pytest.mark.long
def test_pairs_that_a_filter_left_out_are_not_recommended(tmp_path):
    rng = np.random.default_rng(0)
    key = np.unique(rng.integers(0, 30 * 20, 400))
    user, item = (side.astype(np.int32) for side in np.divmod(key, 20))
    rating = rng.integers(1, 6, len(key)).astype(np.float32)
    data = Dataset(user, item, np.arange(30), np.arange(20), rating=rating)
    config = from_dict(
        {
            "model": {"name": "mf", "dim": 4, "layers": 0},
            "train": {"epochs": 1},
            "filter": {"min_rating": 3},
            "eval": {"k": [5], "metric": "recall@5"},
        }
    )
    run = jaxrec.train(config, data=data, run=tmp_path / "run", quiet=True)
    rec = Recommender.load(run.folder)
    low = rating < 3
    disliked = set(zip(user[low].astype(str), item[low].astype(str), strict=True))
    assert disliked
    for frame in (
        rec.recommend(rec.user_ids, k=20),
        rec.recommend(rec.user_ids, k=20, held_out="keep"),
    ):
        assert not disliked & set(frame.select("user", "item").rows())


def test_what_leaves_nothing_is_refused_by_name():
    with pytest.raises(
        InputError, match=r"eval\.cold drop would leave out every pair that split.name cold"
    ):
        Config(eval=EvalConfig(cold="drop"), split=SplitConfig(name="cold-items"))
    preset = jaxrec.preset("skipgram")
    with pytest.raises(InputError, match=r"eval\.cold is not for skipgram"):
        dataclasses.replace(preset, eval=dataclasses.replace(preset.eval, cold="drop"))


def test_views_and_sentences():
    relevant = Csr(np.array([0, 2, 3, 3], np.int32), np.array([0, 2, 1], np.int32))
    met = Met(np.array([True, False, True]), np.array([True, True, False]))
    assert met.counts(relevant) == {"users": 1, "of_users": 2, "items": 1, "of_items": 3}
    view = View(relevant, None).without(met)
    assert view.relevant.take(np.arange(3)).indices.tolist() == [0]
    assert view.allowed is not None
    assert view.allowed.tolist() == [True, True, False]
    result = {"metrics": {"recall@20": 0.5}, "cold": met.counts(relevant) | {"left_out": False}}
    result["cold"]["without"] = {"recall@20": 0.75}
    told = sentence("test", result, "recall@20")
    assert told == (
        "test: 1 of 2 users and 1 of 3 items have no train pair; recall@20 is 0.5000, and 0.7500 "
        "without them"
    )
    assert sentence("test", {"metrics": {}}, "recall@20") is None
