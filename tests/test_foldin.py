"""Test folding in new users by their items: the regression, and its use by commands."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from made_run import ids, write_embeddings
from processes import jaxrec as command

import jaxrec
from jaxrec import foldin
from jaxrec.config import from_dict
from jaxrec.data import synthetic
from jaxrec.data.dataset import Csr
from jaxrec.list_files import read_history
from jaxrec.recommend import Recommender


def csr(lists) -> Csr:
    indptr = np.cumsum([0, *map(len, lists)]).astype(np.int32)
    return Csr(indptr, np.array([i for row in lists for i in sorted(row)], np.int32))


def features_by_hand(lists, item_ID) -> np.ndarray:
    rows = []
    for row in lists:
        total = sum((item_ID[i].astype(np.float64) for i in row), np.zeros(item_ID.shape[1]))
        m = max(len(row), 1)
        rows.append([*(total / m**0.5), *(total / m)])
    return np.array(rows)


@pytest.fixture
def made():
    """Return random items, and users who have 0 to 12 of them."""
    rng = np.random.default_rng(5)
    item_ID = rng.normal(size=(40, 4)).astype(np.float32)
    lists = [rng.permutation(40)[: rng.integers(0, 13)].tolist() for _ in range(300)]
    return item_ID, lists


def test_features_are_those_of_a_loop(made):
    item_ID, lists = made
    found = foldin.features(csr(lists), item_ID)
    np.testing.assert_allclose(found, features_by_hand(lists, item_ID), rtol=1e-5, atol=1e-6)


def test_users_linear_in_their_histories_are_recovered(made, monkeypatch):
    monkeypatch.setattr(foldin, "_USERS_AT_ONCE", 64)
    item_ID, lists = made
    truth_FD = np.random.default_rng(6).normal(size=(8, 4))
    user_UD = (features_by_hand(lists, item_ID) @ truth_FD).astype(np.float32)
    weight_FD = foldin.fit(user_UD[:200], item_ID, csr(lists[:200]), ridge=0.0)
    found = foldin.vectors(csr(lists[200:]), item_ID, weight_FD)
    np.testing.assert_allclose(found, user_UD[200:], atol=1e-4)


def test_the_fit_is_the_ridge_solution_at_its_best_length(made):
    item_ID, lists = made
    user_UD = np.random.default_rng(7).normal(size=(300, 4)).astype(np.float32)
    phi_UF = features_by_hand(lists, item_ID)
    penalty = 0.3 * np.trace(phi_UF.T @ phi_UF) / 8
    # Ordinary least squares has the same minimum if the penalty is added as eight rows.
    tall = np.vstack([phi_UF, np.sqrt(penalty) * np.eye(8)])
    ridge_FD = np.linalg.lstsq(tall, np.vstack([user_UD, np.zeros((8, 4))]), rcond=None)[0]
    near_UD = phi_UF @ ridge_FD
    ridge_FD *= (near_UD * user_UD).sum() / (near_UD**2).sum()
    found = foldin.fit(user_UD, item_ID, csr(lists))
    np.testing.assert_allclose(found, ridge_FD, rtol=1e-4, atol=1e-6)


def test_items_that_are_all_zeros_give_zeros():
    weight_FD = foldin.fit(
        np.ones((2, 3), np.float32), np.zeros((4, 3), np.float32), csr([[1], []])
    )
    np.testing.assert_array_equal(weight_FD, 0)


def small(tmp_path: Path, score: str = "dot", **more: np.ndarray) -> Recommender:
    rng = np.random.default_rng(8)
    item_ID, user_UD = rng.normal(size=(30, 4)), rng.normal(size=(50, 4))
    if score == "cosine":
        item_ID, user_UD = (
            x / np.linalg.norm(x, axis=1, keepdims=True) for x in (item_ID, user_UD)
        )
    seen = [rng.permutation(30)[: 3 + u % 5].tolist() for u in range(50)]
    run = write_embeddings(tmp_path / "run", user_UD, item_ID, seen, **more)
    config = json.loads((run / "config.json").read_text())
    config["model"]["score"] = score
    (run / "config.json").write_text(json.dumps(config))
    return Recommender.load(run)


def test_scores_are_products_with_the_vector_and_biases(tmp_path):
    biases = {
        "user_bias": np.linspace(1, 3, 50, dtype=np.float32),
        "item_bias": np.linspace(0, 9, 30, dtype=np.float32),
    }
    rec = small(tmp_path, "dot", **biases)
    frame = rec.recommend_history(["i3", "i7"], k=30)
    (vector_D,) = rec.fold_in(["i3", "i7"])
    score_I = rec.item_embedding(rec.item_ids) @ vector_D + biases["item_bias"] + 2
    order = [i for i in np.argsort(-score_I) if i not in (3, 7)]
    assert frame["item"].to_list() == [f"i{i}" for i in order]
    np.testing.assert_allclose(frame["score"], score_I[order], rtol=1e-5)
    assert frame.columns == ["user", "item", "rank", "score"]
    assert set(frame["user"]) == {"history"}


def test_where_the_run_scores_by_cosine_so_do_new_users(tmp_path):
    rec = small(tmp_path, "cosine")
    table = pl.DataFrame({"user": ["a", "a", "b"], "item": ["i1", "i2", "i9"]})
    np.testing.assert_allclose(np.linalg.norm(rec.fold_in(table), axis=1), 1, rtol=1e-5)
    score = rec.recommend_history(table, k=30)["score"].to_numpy()
    assert np.abs(score).max() <= 1 + 1e-5


def test_items_of_the_history_come_back_only_when_asked_for(tmp_path):
    rec = small(tmp_path)
    history = [f"i{i}" for i in range(12)]
    assert not set(history) & set(rec.recommend_history(history, k=30)["item"])
    again = rec.recommend_history(history, k=30, include_seen=True)
    assert set(again["item"]) == set(rec.item_ids)
    some = rec.recommend_history(history, allow=["i2", "i20", "i21"], deny=["i21"])
    assert some["item"].to_list() == ["i20"]


def test_neither_repeats_nor_the_order_of_lines_matter(tmp_path):
    rec = small(tmp_path)
    rng = np.random.default_rng(9)
    table = pl.DataFrame(
        {
            "user": [f"n{u}" for u in rng.integers(0, 9, 80)],
            "item": ids("i", 30)[rng.integers(0, 30, 80)],
        }
    )
    whole = rec.recommend_history(table, k=5).sort("user", "rank")
    mixed = table.vstack(table).sample(fraction=1, shuffle=True, seed=1)
    assert rec.recommend_history(mixed, k=5).sort("user", "rank").equals(whole)
    first = table["user"].unique(maintain_order=True)
    assert rec.recommend_history(table, k=5)["user"].unique(maintain_order=True).equals(first)


def test_many_users_get_what_each_gets_alone(tmp_path):
    rec = small(tmp_path)
    lists = {"x": ["i1", "i2"], "y": ["i5"], "7": ["i2", "i8", "i9"]}
    table = pl.DataFrame([{"user": u, "item": i} for u, row in lists.items() for i in row])
    frame = rec.recommend_history(table, k=4)
    for user, row in lists.items():
        alone = rec.recommend_history(row, k=4)
        assert frame.filter(user=user)["item"].equals(alone["item"])
    none = rec.recommend_history(table.clear(), k=4)
    assert (none.height, none.columns) == (0, frame.columns)


def test_unknown_items_are_skipped_and_counted_once(tmp_path, capsys):
    rec = small(tmp_path)
    capsys.readouterr()
    frame = rec.recommend_history(["i3", "new", "i7", "newer", "new"])
    assert frame.equals(rec.recommend_history(["i3", "i7"]))
    said = capsys.readouterr().err
    words = "the history: skipped items that are not among the 30 items of"
    assert said == f"jaxrec: {words} {tmp_path / 'run'}: 2, the first 'new'\n"


def test_a_user_without_a_known_item_is_named(tmp_path):
    rec = small(tmp_path)
    for history in ([], "nothing", ["x", "y"]):
        with pytest.raises(jaxrec.InputError, match=r"^f.csv: none of its items is among the 30"):
            rec.recommend_history(history, source="f.csv")
    table = pl.DataFrame({"user": ["a", "b", "c"], "item": ["i1", "x", "y"]})
    with pytest.raises(jaxrec.InputError, match=r"^the history: user 'b' and 1 more have no item"):
        rec.fold_in(table)
    with pytest.raises(jaxrec.InputError, match="has no column 'item'; rename its item column"):
        rec.fold_in(pl.DataFrame({"user": ["a"], "thing": ["i1"]}))


def test_a_run_whose_users_have_no_items_cannot_fold_in(tmp_path):
    run = write_embeddings(tmp_path / "run", np.ones((2, 2)), np.ones((3, 2)))
    with pytest.raises(jaxrec.InputError, match="run: no user has an item with a trained vector"):
        Recommender.load(run).fold_in("i1")


@pytest.mark.parametrize(
    ("name", "text", "columns"),
    [
        ("list.txt", "i1\ni2\n", {"item": ["i1", "i2"]}),
        ("list.csv", "item\ni1\n\n i2 \n", {"item": ["i1", "i2"]}),
        ("some.csv", "time,item\n1,i1\n2,i2\n", {"item": ["i1", "i2"]}),
        ("many.tsv", "item\tuser\ni1\ta\ni2\t\n", {"item": ["i1"], "user": ["a"]}),
    ],
)
def test_files_of_histories(tmp_path, name, text, columns):
    (tmp_path / name).write_text(text)
    assert read_history(tmp_path / name).to_dict(as_series=False) == columns


def test_histories_in_parquet(tmp_path):
    pl.DataFrame({"user": [1, 2], "item": [30, 40]}).write_parquet(tmp_path / "h.parquet")
    found = read_history(tmp_path / "h.parquet").to_dict(as_series=False)
    assert found == {"item": ["30", "40"], "user": ["1", "2"]}


@pytest.mark.long
@pytest.mark.parametrize("model", ["mf", "lightgcn"])
def test_users_left_out_of_training_get_their_community(model, tmp_path):
    data = synthetic.make(300, 120, 6000, communities=6, seed=2)
    planted = synthetic.truth(300, 120, communities=6, seed=2)
    config = from_dict(
        {
            "model": {"name": model, "dim": 16, "layers": 2 if model == "lightgcn" else 0},
            "optim": {"learning_rate": 0.02},
            "train": {"epochs": 20, "batch_size": 128},
            "split": {"test": 0.0},
            "eval": {"every": 10},
        }
    )
    new = data.user % 4 == 0
    run = jaxrec.train(config, data=data.take(~new), run=tmp_path / "run", quiet=True)
    rec = Recommender.load(run.folder)
    pairs = {"user": data.user[new].astype(str), "item": data.item_ids[data.item[new]]}
    lists = rec.recommend_history(pl.DataFrame(pairs), k=5)
    row_of = {item: row for row, item in enumerate(rec.item_ids)}
    community = planted.item_community[[row_of[item] for item in lists["item"]]]
    theirs = planted.user_community[lists["user"].cast(pl.Int32).to_numpy()]
    assert np.mean(community == theirs) > 2 / 6  # one community in six is theirs


def test_the_command_line(tmp_path):
    rec = small(tmp_path)
    (tmp_path / "one.csv").write_text("item\ni3\ni7\nlost\n")
    (tmp_path / "many.csv").write_text("user,item\na,i3\nb,i1\na,i7\n")
    run, one, many = (tmp_path / name for name in ("run", "one.csv", "many.csv"))
    done = command("recommend", run, "--history", one, "--out", tmp_path / "out.parquet", "-k", 4)
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith(f"jaxrec: {one}: skipped items")
    assert len(done.stderr.splitlines()) == 1
    assert done.stdout == f"{tmp_path / 'out.parquet'}: 1 users\n"
    found = pl.read_parquet(tmp_path / "out.parquet")
    assert found["item"].equals(rec.recommend_history(["i3", "i7"], k=4)["item"])
    done = command("recommend", run, "--history", many, "--out", tmp_path / "out.csv", "-k", 4)
    assert (done.returncode, done.stderr) == (0, "")
    assert pl.read_csv(tmp_path / "out.csv")["user"].to_list() == ["a"] * 4 + ["b"] * 4


@pytest.mark.parametrize(
    ("text", "options", "words"),
    [
        (
            "i3\n",
            ["--users", "u.csv"],
            "--users is for users of the run, and --history is for new users",
        ),
        ("x\ny\n", [], "h.csv: none of its items is among the 30 items of"),
        ("x\ni1\n", ["--unknown", "fail"], "h.csv: item 'x' is not among the 30 items of"),
        (
            "user,thing\nann,x\n",
            [],
            "h.csv: none of the columns `user`, `thing` is recognised as the item",
        ),
        ("\n", [], "h.csv: "),
    ],
)
def test_what_is_refused_is_refused_in_one_line(tmp_path, text, options, words):
    small(tmp_path)
    (tmp_path / "h.csv").write_text(text)
    out = tmp_path / "out.csv"
    run, history = tmp_path / "run", tmp_path / "h.csv"
    done = command("recommend", run, "--history", history, "--out", out, *options)
    assert done.returncode == 2
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not out.exists()
