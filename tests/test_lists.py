"""Test lists of ids in various forms, and what happens to unknown ids."""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from made_run import write_embeddings

from jaxrec.cli import run_outputs
from jaxrec.cli.recommend import recommend
from jaxrec.errors import InputError
from jaxrec.list_files import read_history, read_ids, read_pairs

ITEM = np.array([[1, 0], [2, 0], [0, 1], [0.5, 0.5], [0, 0]])
USER = np.array([[1, 0], [0, 1], [1, 1]])


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("plain.txt", "u0\nu1\n"),
        ("windows.txt", "\ufeffu0\r\nu1\r\n"),
        ("blank.txt", "\n\nu0\n\n u1 \n"),
        ("header.csv", "user_id\nu0\nu1\n"),
        ("capitals.csv", "User ID\nu0\nu1\n"),
        ("quoted.csv", '"user"\n"u0"\n"u1"\n'),
        ("unheaded.csv", '"u0"\n"u1"\n'),
        ("semicolon.csv", "user;segment\nu0;a\nu1;b\n"),
        ("semicolon.txt", "segment;customer_id\na;u0\nb;u1\n"),
        ("tab.tsv", "segment\tvisitorid\na\tu0\nb\tu1\n"),
        ("bar.csv", "uid|segment\nu0|a\nu1|b\n"),
        ("quoted-cells.csv", 'segment,"userId"\n"a, b",u0\nc,"u1"\n'),
        ("gaps.csv", "user,segment\nu0,a\n,b\nu1,\n"),
    ],
)
def test_a_list_of_users_in_any_usual_shape(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8", newline="")
    assert read_ids(tmp_path / name, "user") == ["u0", "u1"]


def test_ids_may_hold_what_separates_others(tmp_path: Path) -> None:
    path = tmp_path / "ids.txt"
    path.write_text("red shirt\na;b\nc|d\n")
    assert read_ids(path, "item") == ["red shirt", "a;b", "c|d"]


def test_lists_in_parquet_whatever_the_type_of_the_ids(tmp_path: Path) -> None:
    path = tmp_path / "ids.parquet"
    pl.DataFrame({"customer_id": [7.0, None, 9.0], "x": [1, 2, 3]}).write_parquet(path)
    assert read_ids(path, "user") == ["7", "9"]
    pl.DataFrame({"anything": [7, 8]}).write_parquet(path)
    assert read_ids(path, "user") == ["7", "8"]


@pytest.mark.parametrize("cells", [[["u0", "u1"]], [{"id": "u0"}], [b"\xff"]])
def test_cells_that_are_no_ids_are_refused_by_their_column(tmp_path: Path, cells: list) -> None:
    path = tmp_path / "ids.parquet"
    pl.DataFrame({"user": cells, "item": ["i0"]}).write_parquet(path)
    with pytest.raises(InputError, match=r"column user are .*; give one id per cell"):
        read_pairs(path)


@pytest.mark.parametrize("text", ["", "\n", "\ufeff", "item_id\n", "item,price\n"])
def test_only_a_list_that_may_be_empty_is(tmp_path: Path, text: str) -> None:
    path = tmp_path / "none.csv"
    path.write_text(text, encoding="utf-8")
    assert read_ids(path, "item", may_be_empty=True) == []
    with pytest.raises(InputError, match=r"none\.csv: holds no ids; give one id per line"):
        read_ids(path, "item")


def test_columns_that_nobody_knows_are_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "odd.csv"
    path.write_text("kunde;segment\nu0;a\n")
    with pytest.raises(
        InputError, match="none of the columns `kunde`, `segment` is recognised as the user"
    ):
        read_ids(path, "user")
    with pytest.raises(
        InputError, match=r"is recognised as the user; rename the right one to `user`$"
    ):
        read_pairs(path)


def test_histories_and_pairs_know_the_names_of_the_data(tmp_path: Path) -> None:
    path = tmp_path / "h.csv"
    path.write_text("user_id;item_id;stars\nx;i5;4\nx;i6;5\n")
    assert read_history(path).rows() == [("i5", "x"), ("i6", "x")]
    assert read_pairs(path, "rating").rows() == [("x", "i5", "4"), ("x", "i6", "5")]
    path.write_text("sku\ni5\n")
    assert read_history(path).to_dict(as_series=False) == {"item": ["i5"]}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_embeddings(tmp_path / "run", USER, ITEM, [[1], [], [0, 2]])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(run_outputs, "own_process", lambda: None)
    return tmp_path


def status_of(command: Callable[[list[str]], None], *args: str) -> int:
    """Return the exit status of a command, with its error on stderr."""
    try:
        command(list(args))
    except InputError as e:
        print(e, file=sys.stderr)
        return e.exit_status
    return 0


def recommended(*options: str) -> tuple[int, list[tuple]]:
    """Run `jaxrec recommend`; return its exit status, and the users and items that it wrote."""
    status = status_of(recommend, "run", "--out", "o.csv", *options)
    if not Path("o.csv").exists():
        return status, []
    return status, pl.read_csv("o.csv").select("user", "item").rows()


def test_a_nightly_job_skips_who_is_not_there_yet_and_what_was_never_sold(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("users.txt").write_text("u0\nu2\nu99\n")
    Path("deny.txt").write_text("i0\n777\n")
    Path("empty.txt").write_text("")
    status, rows = recommended("--users", "users.txt", "--deny", "deny.txt", "-k", "2")
    assert (status, rows) == (0, [("u0", "i3"), ("u0", "i2"), ("u2", "i1"), ("u2", "i3")])
    said, err = capsys.readouterr()
    assert "2 users" in said
    assert "skipped 1 of 3 users" in err
    assert "'u99'" in err
    assert "skipped 1 of 2 items to deny" in err
    status, rows = recommended("--users", "users.txt", "--deny", "empty.txt", "-k", "1")
    assert (status, rows) == (0, [("u0", "i0"), ("u2", "i1")])


def test_what_is_not_there_is_refused_where_that_is_asked_for(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("users.txt").write_text("u0\nu99\n")
    Path("none.txt").write_text("u98\nu99\n")
    Path("items.txt").write_text("gone\n")
    Path("empty.txt").write_text("")
    for options in (
        ["--users", "users.txt", "--unknown", "fail"],
        ["--deny", "items.txt", "--unknown", "fail"],
        ["--users", "none.txt"],
        ["--allow", "items.txt"],
        ["--allow", "empty.txt"],
        ["--users", "empty.txt"],
        ["--history", "items.txt"],
    ):
        assert recommended(*options) == (2, []), options
        assert len(capsys.readouterr().err.splitlines()) == 1
    assert status_of(run_outputs.similar, "run", "--items", "gone", "i0", "-k", "1") == 0
    assert "i0\ti1\t1" in capsys.readouterr().out
    assert status_of(run_outputs.similar, "run", "--items", "gone", "i0", "--unknown", "fail") == 2
    assert status_of(run_outputs.similar, "run", "--items", "gone") == 2


def test_new_users_without_a_known_item_are_skipped(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("h.csv").write_text("user_id,item_id\nann,gone\nbob,i1\nbob,gone\n")
    status, rows = recommended("--history", "h.csv", "-k", "1")
    assert status == 0
    assert {user for user, _ in rows} == {"bob"}
    err = capsys.readouterr().err
    assert "skipped users without an item" in err
    assert "'ann'" in err
    assert "skipped items that are not" in err
    assert recommended("--history", "h.csv", "--unknown", "fail")[0] == 2
