import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_run import write_embeddings, write_item_run, write_seen
from processes import environment

from jaxrec import recommend as module
from jaxrec.data import synthetic_items
from jaxrec.errors import InputError
from jaxrec.list_files import write
from jaxrec.recommend import Recommender

# Each axis is a taste: i0 and i1 have the first, i2 the second, and i3 half of both.
ITEM = np.array([[1, 0], [2, 0], [0, 1], [0.5, 0.5], [0, 0]])
USER = np.array([[1, 0], [0, 1], [1, 1]])
SEEN = [[1], [], [0, 2]]


@pytest.fixture
def rec(tmp_path: Path) -> Recommender:
    return Recommender.load(write_embeddings(tmp_path / "run", USER, ITEM, SEEN))


def items(frame: pl.DataFrame, column: str = "item") -> list[str]:
    return frame[column].to_list()


def test_planted_lists_hide_what_was_seen(rec: Recommender) -> None:
    frame = rec.recommend(["u2", "u0"], k=2)
    assert frame.to_dict(as_series=False) == {
        "user": ["u2", "u2", "u0", "u0"],
        "item": ["i1", "i3", "i0", "i3"],
        "rank": [1, 2, 1, 2],
        "score": [2.0, 1.0, 1.0, 0.5],
    }


def test_include_seen(rec: Recommender) -> None:
    assert items(rec.recommend(["u0"], k=2, include_seen=True)) == ["i1", "i0"]


NUMBERED = np.array(["7", "8", "-9"])
ONE = {
    "int64": np.int64(8),
    "uint8": np.uint8(8),
    "array of one number": np.array(8),
    "numpy text": np.str_("8"),
    "bytes": b"8",
    "whole float": 8.0,
    "text with a point": "8.0",
}
SEVERAL = {
    "array": np.array([8, -9]),
    "array of objects": np.array([np.int32(8), "-9"], object),
    "array of texts": np.array(["8", "-9"]),
    "floats": np.array([8.0, -9.0]),
    "generator": (name for name in (8, -9)),
    "polars": pl.Series([8, -9]),
    "texts with a point": ["8.0", "-9.00"],
}


def named(run: Path) -> Recommender:
    """Return a run in which the ids of users and items are numbers."""
    ids = {"user_ids": NUMBERED, "item_ids": NUMBERED}
    return Recommender.load(write_embeddings(run, USER, ITEM[:3], [[0], [1], [2]], **ids))


@pytest.mark.parametrize("name", [*ONE, *SEVERAL])
def test_ids_of_any_type_are_taken_wherever_ids_go_in(tmp_path: Path, name: str) -> None:
    rec, given = named(tmp_path / "run"), (ONE | SEVERAL)[name]
    if name == "generator":
        given = [8, -9]
    expected = ["8"] if name in ONE else ["8", "-9"]
    frame = rec.recommend(given, k=1)
    assert frame["user"].to_list() == expected
    only = rec.recommend("7", allow=given, include_seen=True)
    assert set(items(only)) == set(expected)
    without = rec.recommend("7", deny=given, include_seen=True)
    assert not set(items(without)) & set(expected)
    near = rec.similar_items(given, k=1)
    assert near["item"].to_list() == expected
    assert rec.similar_users(given, k=1)["user"].to_list() == expected
    assert len(rec.user_embedding(given)) == len(expected)
    assert len(rec.item_embedding(given)) == len(expected)
    history = rec.recommend_history(given, k=3)
    assert not set(items(history)) & set(expected)


def test_a_history_of_floats_is_one_of_whole_numbers(tmp_path: Path) -> None:
    frame = pl.DataFrame({"user": [1.0, 1.0], "item": [8.0, -9.0]})
    assert items(named(tmp_path / "run").recommend_history(frame)) == ["7"]


@pytest.mark.parametrize(
    ("ids", "said"),
    [
        ([None], "the id at index 0 is missing"),
        ([True], "is a bool, neither"),
        (2.5, "not a whole number|is a float, neither"),
        (np.eye(2), "one axis, but has 2"),
        (pl.DataFrame({"user": ["7"]}), "a polars.DataFrame is not a list of ids"),
    ],
)
def test_what_is_no_id_is_refused(tmp_path: Path, ids: Any, said: str) -> None:
    rec = named(tmp_path / "run")
    with pytest.raises(InputError, match=said):
        rec.recommend(ids)


def test_ties_go_to_the_lower_row(rec: Recommender) -> None:
    frame = rec.recommend(["u2"], k=5, include_seen=True)
    assert items(frame) == ["i1", "i0", "i2", "i3", "i4"]


def test_lists_end_where_nothing_is_left(rec: Recommender) -> None:
    frame = rec.recommend(["u0", "u1"], k=50)
    assert frame.group_by("user", maintain_order=True).len()["len"].to_list() == [4, 5]
    assert np.isfinite(frame["score"].to_numpy()).all()


def test_allow_and_deny(rec: Recommender) -> None:
    assert items(rec.recommend(["u0"], allow=["i4", "i1", "i3"])) == ["i3", "i4"]
    assert items(rec.recommend(["u0"], deny=["i0"], k=2)) == ["i3", "i2"]
    assert items(rec.recommend(["u0"], allow=["i0", "i2"], deny=["i0"])) == ["i2"]
    nothing = rec.recommend(["u0"], allow=[])
    assert nothing.columns == ["user", "item", "rank", "score"]
    assert nothing.is_empty()


def test_biases_take_part(tmp_path: Path) -> None:
    biases = {
        "user_bias": np.array([10, 20, 30], np.float32),
        "item_bias": np.array([0, 0, 0, 0, 5], np.float32),
    }
    run = write_embeddings(tmp_path / "run", USER, ITEM, SEEN, **biases)
    frame = Recommender.load(run).recommend("u1", k=2)
    assert items(frame) == ["i4", "i2"]
    assert frame["score"].to_list() == [25.0, 21.0]


def test_whole_numbers_are_ids_too(tmp_path: Path) -> None:
    run = write_embeddings(
        tmp_path / "run", USER, ITEM, SEEN, user_ids=np.array(["7", "-1", "9000000000"])
    )
    rec = Recommender.load(run)
    assert set(rec.recommend([9000000000, "7"])["user"]) == {"9000000000", "7"}
    assert rec.user_ids == ["7", "-1", "9000000000"]


def test_everyone_in_blocks_is_everyone_at_once(
    rec: Recommender, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_USERS_AT_ONCE", 2)
    blocks = list(rec.recommend_all(k=3, deny=["i3"]))
    assert [block["user"].n_unique() for block in blocks] == [2, 1]
    assert pl.concat(blocks).equals(rec.recommend(["u0", "u1", "u2"], k=3, deny=["i3"]))


def test_similar_items_by_cosine_without_the_item(rec: Recommender) -> None:
    frame = rec.similar_items(["i0", "i4"], k=2)
    half = float(np.float32(0.5) / np.linalg.norm(np.float32([0.5, 0.5])))
    assert frame.drop("score").to_dict(as_series=False) == {
        "item": ["i0", "i0", "i4", "i4"],
        "similar": ["i1", "i3", "i0", "i1"],
        "rank": [1, 2, 1, 2],
    }
    np.testing.assert_allclose(frame["score"].to_numpy(), [1, half, 0, 0], rtol=1e-6)
    assert "i0" not in items(rec.similar_items(["i0"], k=99), "similar")


def test_similar_users(rec: Recommender) -> None:
    frame = rec.similar_users("u0", k=1)
    assert frame.columns == ["user", "similar", "rank", "score"]
    assert frame.row(0)[:3] == ("u0", "u2", 1)


HELD = [[3], [0], []]


@pytest.fixture
def split_rec(tmp_path: Path) -> Recommender:
    """Return ``rec`` with test pairs, and one user and one item that training did not learn."""
    user, item = np.vstack([USER, [[9, 9]]]), np.vstack([ITEM, [[9, 9]]])
    run = write_embeddings(tmp_path / "split", user, item, [*SEEN, []])
    return Recommender.load(
        write_seen(run, [*SEEN, []], [*HELD, [1]], [True] * 3 + [False], [True] * 5 + [False])
    )


def test_what_was_held_out_is_left_out_unless_it_is_kept(
    split_rec: Recommender, capsys: pytest.CaptureFixture[str]
) -> None:
    assert items(split_rec.recommend("u0")) == ["i0", "i2", "i4"]
    assert "test part" not in capsys.readouterr().err
    assert items(split_rec.recommend("u0", held_out="keep")) == ["i0", "i3", "i2", "i4"]
    assert "that they have in the test part (3 pairs)" in capsys.readouterr().err
    assert items(split_rec.recommend("u0", include_seen=True))[:2] == ["i1", "i0"]
    whole = pl.concat(split_rec.recommend_all(held_out="keep"))
    assert whole.equals(split_rec.recommend(split_rec.user_ids, held_out="keep"))


def test_what_training_has_not_learnt_is_neither_served_nor_recommended(
    split_rec: Recommender, capsys: pytest.CaptureFixture[str]
) -> None:
    frame = split_rec.recommend(["u3", "u1"])
    assert frame.filter(user="u3").rows() == [
        ("u3", "i0", 1, 1.0),
        ("u3", "i2", 2, 1.0),
        ("u3", "i3", 3, 0.0),
        ("u3", "i4", 4, 0.0),
    ]  # counted by users with the item; i1 was held out
    assert frame.filter(user="u1").equals(split_rec.recommend("u1"))
    said = capsys.readouterr().err
    assert "1 of 6 items have no train pair" in said
    assert "1 of 2 users have no train pair and no trained vector (the first is 'u3')" in said
    assert "i5" not in items(pl.concat(split_rec.recommend_all(include_seen=True)))
    assert "i5" not in items(split_rec.similar_items("i0", k=9), "similar")
    assert "u3" not in items(split_rec.similar_users("u0", k=9), "similar")
    assert "i5" not in items(split_rec.recommend_history(["i0"], k=9))
    with pytest.raises(InputError, match="item 'i5' has no train pair"):
        split_rec.similar_items("i5")
    with pytest.raises(InputError, match="none of its items is among the 5 items"):
        split_rec.recommend_history(["i5"])


def test_a_run_of_an_old_version_says_that_it_lacks_what_was_held_out(
    rec: Recommender, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "run" / "seen.npz"
    with np.load(path) as stored:
        np.savez(path, indptr=stored["indptr"], indices=stored["indices"])
    old = Recommender.load(tmp_path / "run")
    assert items(old.recommend("u0")) == ["i0", "i2"]  # no user has i3 or i4
    old.recommend("u0")
    said = capsys.readouterr().err
    assert said.count("an older version wrote this file without the test items") == 1
    assert said.count("2 of 5 items have no train pair") == 1


def test_embeddings_by_id(rec: Recommender) -> None:
    np.testing.assert_array_equal(rec.item_embedding(["i3", "i0"]), ITEM[[3, 0]])
    np.testing.assert_array_equal(rec.user_embedding("u1"), USER[[1]])


@settings(max_examples=15)
@given(st.integers(0, 2**31), st.booleans(), st.sampled_from([1, 4, 9]))
def test_equals_a_stable_sort(seed: int, include_seen: bool, k: int) -> None:
    rng = np.random.default_rng(seed)
    user, item = rng.integers(-2, 3, (5, 3)), rng.integers(-2, 3, (9, 3))
    seen = [rng.choice(9, rng.integers(0, 9), replace=False).tolist() for _ in user]
    with tempfile.TemporaryDirectory() as folder:
        rec = Recommender.load(write_embeddings(Path(folder, "run"), user, item, seen))
    got = rec.recommend(rec.user_ids, k=k, include_seen=include_seen)
    expected = []
    for u in range(5):
        hidden = set() if include_seen else set(seen[u])
        ranked = sorted(range(9), key=lambda i, u=u: (-(user[u] @ item[i]), i))
        kept = [i for i in ranked if i not in hidden][:k]
        expected += [(f"u{u}", f"i{i}", r, user[u] @ item[i]) for r, i in enumerate(kept, 1)]
    assert got.rows() == expected


def test_unknown_ids_are_named_with_the_nearest(rec: Recommender) -> None:
    with pytest.raises(InputError, match=r"item 'i33' is not among the 5 items.*mean 'i3'\?"):
        rec.recommend(["u0"], deny=["i33"], unknown="fail")
    with pytest.raises(
        InputError, match=r"user 'nobody' is .*run; 1 more of the given users .*too$"
    ):
        rec.recommend(["u0", "nobody", "xxxxx"], unknown="fail")
    with pytest.raises(InputError, match="k must be at least 1, not 0"):
        rec.recommend("u0", k=0)


def test_unknown_ids_are_skipped_and_counted(
    rec: Recommender, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = rec.recommend(["u2", "u0"], deny=["i0"])
    assert capsys.readouterr().err == ""
    assert rec.recommend(["u2", "nobody", "u0"], deny=["gone", "i0"]).equals(plain)
    users, items_ = sorted(capsys.readouterr().err.splitlines(), reverse=True)
    assert "skipped 1 of 3 users" in users
    assert "'nobody'" in users
    assert "skipped 1 of 2 items to deny" in items_
    assert "'gone'" in items_
    assert rec.recommend(["u0"], deny=["gone"]).equals(rec.recommend(["u0"]))
    assert items(rec.recommend("u0", allow=["gone", "i3"])) == ["i3"]
    near = rec.similar_items(["gone", "i0"], k=1)
    assert near.row(0)[:2] == ("i0", "i1")
    for ask in (
        lambda: rec.recommend(["nobody", "noone"]),
        lambda: rec.recommend("u0", allow=["gone"]),
        lambda: rec.similar_items("gone"),
        lambda: rec.similar_items(["i0", "gone"], unknown="fail"),
        lambda: list(rec.recommend_all(deny=["gone"], unknown="fail")),
        lambda: rec.recommend_history(["i0", "gone"], unknown="fail"),
    ):
        with pytest.raises(InputError, match=r"(?:'gone'|'nobody') is not among the"):
            ask()


def test_hints_in_a_large_table(rec: Recommender, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_IDS_COMPARED", 3)
    with pytest.raises(InputError, match=r"mean 'i1'\?"):
        rec.similar_items("i11")


def test_what_is_no_finished_run(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none: not a run folder \(config.json is missing\)"):
        Recommender.load(tmp_path / "none")
    for name in ("embeddings.npz", "seen.npz"):
        run = write_embeddings(tmp_path / name, USER, ITEM, SEEN)
        (run / name).unlink()
        with pytest.raises(
            InputError, match=rf"not finished \({name} is missing\); `jaxrec resume"
        ):
            Recommender.load(run)


def test_damage_is_named(tmp_path: Path) -> None:
    run = write_embeddings(tmp_path / "run", USER, ITEM, SEEN)
    whole = (run / "embeddings.npz").read_bytes()
    flipped = bytearray(whole)
    flipped[whole.index(b"\x93NUMPY") + 140] ^= 1
    for damaged in (whole[: len(whole) // 2], bytes(flipped), b""):
        (run / "embeddings.npz").write_bytes(damaged)
        with pytest.raises(InputError, match=r"embeddings.npz: damaged"):
            Recommender.load(run)
    write_embeddings(run, USER, ITEM, SEEN, user_bias=np.zeros(2, np.float32))
    with pytest.raises(InputError, match=r"user_bias has shape \(2,\), not \(3,\)"):
        Recommender.load(run)
    write_embeddings(run, USER, ITEM, SEEN, user_ids=np.zeros(3))
    with pytest.raises(InputError, match="user_ids has 1 axes of type float64"):
        Recommender.load(run)
    write_embeddings(run, USER, ITEM[..., None], SEEN)
    with pytest.raises(InputError, match="item has 3 axes of type float32"):
        Recommender.load(run)
    write_embeddings(run, USER, ITEM, [[5], [], []])
    with pytest.raises(InputError, match=r"seen.npz: does not fit embeddings.npz"):
        Recommender.load(run)
    for indptr, indices in (([0, 0, 0, 1], 1.0), ([0, 2, 1, 1], [0]), ([1, 1, 1, 1], [0])):
        np.savez(run / "seen.npz", indptr=np.array(indptr), indices=np.array(indices))
        with pytest.raises(InputError, match=r"seen.npz: does not fit embeddings.npz"):
            Recommender.load(run)


@pytest.mark.parametrize("suffix", ["parquet", "csv", "tsv", "jsonl"])
def test_write_in_blocks_reads_back(
    rec: Recommender, tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_USERS_AT_ONCE", 1)
    path = tmp_path / "new" / f"out.{suffix}"
    write(rec.recommend_all(k=2), path)
    if suffix == "parquet":
        back = pl.read_parquet(path)
    elif suffix == "jsonl":
        back = pl.DataFrame([json.loads(line) for line in path.read_text().splitlines()])
    else:
        back = pl.read_csv(path, separator="," if suffix == "csv" else "\t")
    assert back.rows() == rec.recommend(rec.user_ids, k=2).rows()
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_a_failure_while_writing_leaves_the_old_file(rec: Recommender, tmp_path: Path) -> None:
    def frames():
        yield rec.recommend("u0")
        raise InputError("stop")

    for name in ("out.csv", "out.parquet"):
        (tmp_path / name).write_text("old")
        with pytest.raises(InputError, match="stop"):
            write(frames(), tmp_path / name)
        assert (tmp_path / name).read_text() == "old"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out.csv", "out.parquet", "run"]


def test_unknown_suffix_and_bad_places(rec: Recommender, tmp_path: Path) -> None:
    frame = rec.recommend("u0")
    with pytest.raises(InputError, match=r"out.xlsx: the name must end in .parquet, .csv"):
        write(frame, tmp_path / "out.xlsx")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        write(frame, tmp_path / "file" / "out.csv")


@pytest.mark.long
def test_loading_brings_neither_jax_nor_training(tmp_path: Path) -> None:
    run = write_embeddings(tmp_path / "run", USER, ITEM, SEEN)
    code = (
        "import sys; from jaxrec.recommend import Recommender\n"
        f"Recommender.load({str(run)!r}).item_embedding('i1')\n"
        "assert 'jax' not in sys.modules\n"
        f"Recommender.load({str(run)!r}).recommend('u0')\n"
        "assert not [m for m in sys.modules if m.startswith('jaxrec.train')]\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_of_items_alone_neighbours_leave_out_what_has_not_been_learnt(tmp_path: Path) -> None:
    graph = synthetic_items.make(60, 150, communities=3)
    item = np.ones((60, 2), np.float32)
    item[[3, 7]] = 0
    item[5] = -1
    rec = Recommender.load(write_item_run(tmp_path / "run", graph, item))
    near = rec.similar_items("i01", k=60)
    assert len(near) == 60 - 1 - 2
    assert not {"i01", "i04", "i08"} & set(items(near, "similar"))
    assert items(near, "similar")[-1] == "i06"
    assert rec.similar_items(["i01", "i08"], k=60).equals(near)
    for ask in (
        lambda: rec.similar_items(["i01", "i08"], unknown="fail"),
        lambda: rec.similar_items(["i04", "i08"]),
    ):
        with pytest.raises(InputError, match=r"item 'i0[48]' has no train pair"):
            ask()


def test_of_items_alone_there_is_nothing_for_users(tmp_path: Path) -> None:
    graph = synthetic_items.make(60, 150, communities=3)
    run = write_item_run(tmp_path / "run", graph, np.ones((60, 2), np.float32))
    rec = Recommender.load(run)
    asked = (
        lambda: rec.recommend(["u1"]),
        lambda: list(rec.recommend_all()),
        lambda: rec.recommend_history(["i01"]),
        lambda: rec.fold_in(["i01"]),
        lambda: rec.similar_users("u1"),
        lambda: rec.user_embedding("u1"),
    )
    for ask in asked:
        with pytest.raises(InputError, match="trained on items alone and knows no users"):
            ask()
    assert rec.item_embedding("i02").shape == (1, 2)


_FORKING = """
import os, signal, sys
import jax, jax.numpy as jnp
import jaxrec

rec = jaxrec.Recommender.load(sys.argv[1])

def child(ask):
    pid = os.fork()
    if pid == 0:
        signal.alarm(60)  # a child that waits for ever is killed, and its status says so
        try:
            print(ask()["item"].to_list(), flush=True)
        except jaxrec.InputError as e:
            print(e, flush=True)
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0

child(lambda: rec.recommend("u0", k=2))
if "ranked" in sys.argv:
    rec.recommend("u0")
else:
    jnp.zeros(3).block_until_ready()  # JAX of the program's own, without a word from jaxrec
child(lambda: rec.recommend("u0", k=2))
child(lambda: rec.similar_items("i0"))
child(lambda: rec.recommend_history(["i0"]))
child(lambda: {"item": rec.fold_in(["i0"])})
print(rec.recommend("u0", k=2)["item"].to_list())
"""


@pytest.mark.long_but("other")
@pytest.mark.parametrize("begun", ["ranked", "other"])
def test_a_child_forked_after_jax_began_is_told_so(tmp_path: Path, begun: str) -> None:
    run = write_embeddings(tmp_path / "run", USER, ITEM, SEEN)
    command = [sys.executable, "-W", "ignore", "-c", _FORKING, str(run), begun]
    done = subprocess.run(command, capture_output=True, text=True, env=environment())
    assert done.returncode == 0, done.stderr
    before, *after, parent = done.stdout.splitlines()
    assert before == parent == "['i0', 'i3']"
    assert len(after) == 4
    assert all("was forked from process" in line and "spawn" in line for line in after)
