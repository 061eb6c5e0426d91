"""Test titles, filters and the command that shows them."""

import datetime
import json
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from made_run import write_embeddings

from jaxrec.catalogue import Catalogue
from jaxrec.cli.recommend import recommend
from jaxrec.errors import InputError

IDS = np.array(["i0", "i1", "i2", "i3"])
TABLE = """item_id,title,category,price,genres,score
i2,"Two, too",dvd,5,drama|comedy,9
i0,Zero,book,20,,8
i3,<b>Three</b>,dvd,,comedy,7
"""


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "items.csv"
    path.write_text(TABLE)
    return path


def test_rows_are_those_of_the_run_and_gaps_stay_gaps(table: Path) -> None:
    catalogue = Catalogue.load(table, IDS)
    assert catalogue.titles() == ["Zero", None, "Two, too", "<b>Three</b>"]
    # A table's column may not have the same name as a column of the list.
    assert catalogue.frame.columns == ["title", "category", "price", "genres", "item_score"]


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        (["category=dvd"], "0011"),
        (["category=dvd|book"], "1011"),
        (["category!=dvd"], "1100"),
        (["genres=comedy"], "0011"),
        (["genres=drama|horror"], "0010"),
        (["price<20"], "0010"),
        (["price <= 20"], "1010"),
        (["price>=5", "category=book"], "1000"),
        (["price=5"], "0010"),
        ([], "1111"),
    ],
)
def test_conditions(table: Path, conditions: list[str], expected: str) -> None:
    fits = Catalogue.load(table, IDS).where(conditions)
    assert "".join(map(str, fits.astype(int))) == expected


@pytest.mark.parametrize(
    ("condition", "said"),
    [
        ("categry=dvd", "did you mean 'category'"),
        ("category", "is not a condition"),
        ("title<3", "is not numeric"),
        ("price<cheap", "'cheap' is not a number"),
        ("price=cheap", "price is numeric"),
    ],
)
def test_conditions_that_cannot_be_met_say_why(table: Path, condition: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        Catalogue.load(table, IDS).where([condition])


def test_tables_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    twice = tmp_path / "twice.csv"
    twice.write_text("item,title\ni0,a\ni0,b\n")
    with pytest.raises(InputError, match="item 'i0' has several rows"):
        Catalogue.load(twice, IDS)
    other = tmp_path / "other.csv"
    other.write_text("item,title\nx,a\n")
    with pytest.raises(InputError, match="none of its items"):
        Catalogue.load(other, IDS)


def test_tables_of_other_formats(tmp_path: Path) -> None:
    frame = pl.DataFrame({"item": ["i1", "i0"], "name": ["one", "zero"], "tags": [["a"], ["b"]]})
    frame.write_parquet(tmp_path / "t.parquet")
    frame.write_ndjson(tmp_path / "t.jsonl")
    for name in ("t.parquet", "t.jsonl"):
        catalogue = Catalogue.load(tmp_path / name, IDS)
        assert catalogue.titles() == ["zero", "one", None, None]
        assert catalogue.where(["tags=a"]).tolist() == [False, True, False, False]


def test_any_column_can_be_written_as_json(tmp_path: Path) -> None:
    made = {
        "item": ["i0", "i1"],
        "when": [datetime.date(2020, 1, 2), None],
        "rate": [float("nan"), float("inf")],
        "half": [0.5, float("-inf")],
        "year": [1999.0, None],
        "facts": [{"a": 1}, None],
        "raw": [b"\xff", None],
        "sizes": [[1, 2], []],
        "in_stock": [True, None],
    }
    pl.DataFrame(made).write_parquet(tmp_path / "t.parquet")
    rows = Catalogue.load(tmp_path / "t.parquet", IDS).frame.to_dicts()
    assert json.loads(json.dumps(rows, allow_nan=False))[0] == {
        "when": "2020-01-02",
        "rate": None,
        "half": 0.5,
        "year": 1999,
        "facts": '{"a":1}',
        "raw": "ff",
        "sizes": [1, 2],
        "in_stock": True,
    }


@pytest.fixture
def run(tmp_path: Path) -> Path:
    item = np.array([[4, 0], [3, 0], [2, 0], [1, 0]])
    return write_embeddings(tmp_path / "run", np.array([[1, 0], [2, 0]]), item, [[0], []])


def _lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_command_with_ids_titles_and_a_filter(run: Path, table: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    asked = [str(run), "--users", "u0", "--out", str(out), "-k", "2", "--titles", str(table)]
    recommend([*asked, "--where", "category=dvd"])
    assert [(row["item"], row["title"]) for row in _lines(out)] == [
        ("i2", "Two, too"),
        ("i3", "<b>Three</b>"),
    ]
    with pytest.raises(InputError, match="no item of the run meets"):
        recommend([*asked, "--where", "category=vinyl"])
    recommend([*asked, "--quota", "category=1"])
    assert [row["item"] for row in _lines(out)] == ["i1", "i2"]
    with pytest.raises(InputError, match="--titles"):
        recommend([str(run), "--out", str(out), "--where", "category=dvd"])


def test_json_is_one_array_over_all_users(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    recommend([str(run), "--out", str(out), "-k", "1"])
    rows = json.loads(out.read_text())
    assert [(row["user"], row["item"], row["score"]) for row in rows] == [
        ("u0", "i1", 3.0),
        ("u1", "i0", 8.0),
    ]


def test_standard_output_has_the_lists_alone(run: Path, capfdbinary) -> None:
    recommend([str(run), "-k", "1", "--history", "i0", "i3"])
    sys.stdout.flush()
    lines = capfdbinary.readouterr().out.decode().splitlines()
    assert lines[0] == "user,item,rank,score"
    assert [line.split(",")[:3] for line in lines[1:]] == [["history", "i1", "1"]]


def test_unknown_users_get_popular_items_where_asked_for(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    asked = [str(run), "--users", "u1", "stranger", "--out", str(out), "-k", "1"]
    recommend([*asked, "--unknown", "popular"])
    assert [(row["user"], row["item"]) for row in _lines(out)] == [("u1", "i0"), ("stranger", "i0")]
    assert _lines(out)[1]["score"] == 1  # one user has i0
    recommend(asked)
    assert [row["user"] for row in _lines(out)] == ["u1"]
