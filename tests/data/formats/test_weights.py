"""Interactions with a column of weights, with ids such as 1.0, and with missing ids."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from jaxrec.cli.data import data as command
from jaxrec.config import SplitConfig
from jaxrec.data.dataset import Dataset
from jaxrec.data.formats import Columns, TextOptions, read
from jaxrec.data.formats.item_graphs import read_items
from jaxrec.errors import InputError
from jaxrec.parted.pairs import Source, read_pairs

SKIP = TextOptions(skip_missing_ids=True)


def write(path: Path, content: str | dict[str, Any]) -> Path:
    if isinstance(content, str):
        path.write_text(content)
    else:
        pl.DataFrame(content, strict=False).write_parquet(path)
    return path


def weights(data: Dataset) -> dict[tuple[Any, Any], float]:
    assert data.weight is not None
    ids = zip(data.user_ids[data.user].tolist(), data.item_ids[data.item].tolist(), strict=True)
    return dict(zip(ids, data.weight.tolist(), strict=True))


TRIPLETS = "u1\ts1\t1\nu1\ts2\t3\nu2\ts1\t253\nu1\ts1\t4\n"
"""As the Million Song data has them: user, song, plays; a pair is there twice."""


def test_counts_are_weights_and_repeats_are_summed(tmp_path):
    path = write(tmp_path / "triplets.txt", TRIPLETS)
    columns = Columns(user="1", item="2", weight="3")
    data = read(path, "tsv", columns)
    assert weights(data) == {("u1", "s1"): 5, ("u1", "s2"): 3, ("u2", "s1"): 253}
    assert data.rating is None
    assert data.notes["duplicate pairs"] == 1
    assert any("weight <- column 3" in line for line in data.reading)
    data.save(tmp_path / "out")
    assert weights(Dataset.load(tmp_path / "out", verify=True)) == weights(data)


@pytest.mark.parametrize("name", ["weight", "play_count", "plays", "listen_count", "count"])
def test_common_names_of_a_weight_are_found_in_text_and_parquet(name, tmp_path):
    table = {"user_id": [1, 1, 2], "artist_id": [7, 8, 7], name: [2.5, 1.0, 4.0]}
    text = pl.DataFrame(table).write_csv()
    found = read(write(tmp_path / "a.csv", text)), read(write(tmp_path / "a.parquet", table))
    for data in found:
        assert weights(data) == {(1, 7): 2.5, (1, 8): 1, (2, 7): 4}
        assert f"weight <- `{name}`" in data.reading[0]
    left = read(tmp_path / "a.csv", columns=Columns(weight=""))
    assert left.weight is None
    assert f"not used: {name}" in left.reading[0]


def test_a_score_column_is_a_rating_and_not_a_weight(tmp_path):
    data = read(write(tmp_path / "a.csv", "user,item,score\n1,2,3\n1,3,5\n"))
    assert data.weight is None
    assert data.rating is not None


def test_the_command_accepts_weights_in_a_fourth_column_without_a_header(tmp_path, capsys):
    path = write(tmp_path / "lastfm.tsv", "u1\tm1\tA\t10\nu1\tm2\tB\t20\nu2\tm1\tA\t30\n")
    columns = ["--columns.user", "1", "--columns.item", "3", "--columns.weight", "4"]
    command(["import", str(path), *columns, "--out", str(tmp_path / "out")])
    assert "weights       10 to 30" in capsys.readouterr().out
    assert weights(Dataset.load(tmp_path / "out")) == {
        ("u1", "A"): 10,
        ("u1", "B"): 20,
        ("u2", "A"): 30,
    }


@pytest.mark.parametrize("kind", ["csv", "parquet"])
@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([1.0, -3.0], r"(:3|row 2): weight -3.* is negative"),
        ([0.0, 0.0], "no pair has a weight above 0"),
        ([3e38, 3e38], "has a sum that is too large for float32"),
        ([1.0, 1e39], r"(:3|row 2): weight .* is too large"),
    ],
)
def test_invalid_weights_are_refused(kind, values, said, tmp_path):
    table = {"user": [1, 2], "item": [7, 8], "weight": values}
    path = tmp_path / f"a.{kind}"
    write(path, pl.DataFrame(table).write_csv() if kind == "csv" else table)
    with pytest.raises(InputError, match=said):
        read(path)
    assert read(path, columns=Columns(weight="")).n_edges == 2


def test_repeats_beyond_float32_are_refused(tmp_path):
    path = write(tmp_path / "a.csv", "user,item,weight\n1,2,3e38\n1,2,3e38\n2,2,1\n")
    with pytest.raises(InputError, match="weight holds inf"):
        read(path)


def test_a_weight_of_zero_marks_an_exposed_pair(tmp_path):
    data = read(write(tmp_path / "a.csv", "user,item,plays\n1,2,0\n1,3,4\n2,3,1\n2,2,0\n2,2,2\n"))
    assert weights(data) == {(1, 3): 4, (2, 2): 2, (2, 3): 1}
    assert data.exposed is not None
    assert (data.exposed.user.tolist(), data.exposed.item.tolist()) == ([0], [0])


def test_weights_come_from_events_or_from_a_column(tmp_path):
    path = write(tmp_path / "a.csv", "user,item,event,weight\n1,2,buy,5\n1,3,click,9\n")
    events = {"buy": 3.0, "click": 1.0}
    assert weights(read(path, event_weights=events)) == {(1, 2): 3, (1, 3): 1}
    with pytest.raises(InputError, match=r"--event-weights and --columns\.weight both set"):
        read(path, columns=Columns(weight="weight"), event_weights=events)


def test_parts_on_disk_have_the_same_weights(tmp_path):
    rng = np.random.default_rng(0)
    table = {
        "user": rng.integers(0, 20, 300).tolist(),
        "item": rng.integers(0, 15, 300).tolist(),
        "plays": rng.integers(1, 9, 300).tolist(),
    }
    path = write(tmp_path / "a.parquet", table)
    (tmp_path / "work").mkdir()
    found = read_pairs(Source(path), tmp_path / "work", SplitConfig(), 0, rows=64)
    total = 0.0
    for part in found.parts.values():
        made = part.read(0, len(part))
        total += float(made["weight"].sum()) if len(part) else 0
    assert total == sum(table["plays"])
    write(tmp_path / "a.parquet", table | {"plays": [-1] * 300})
    (tmp_path / "again").mkdir()
    with pytest.raises(InputError, match=r"row 1: weight -1.* is negative"):
        read_pairs(Source(path), tmp_path / "again", SplitConfig(), 0, rows=64)


def test_item_pairs_report_unused_ratings_and_weights(tmp_path):
    path = write(tmp_path / "a.csv", "user,item,rating,plays\n1,2,1,5\n1,3,-1,7\n2,3,1,1\n")
    told = read_items(path).notes
    assert told["not used, as a pair's weight is its number of users: ratings -1 to 1"] == 3
    assert told["not used, as a pair's weight is its number of users: weights 1 to 7"] == 3


FLOATS = {"user": [1.0, 2.0, 10.0], "item": [7.0, 7.0, 9.0]}


def test_whole_numbers_with_a_point_are_the_same_ids_in_text_and_parquet(tmp_path):
    text = write(tmp_path / "a.csv", pl.DataFrame(FLOATS).write_csv())
    assert "1.0,7.0" in text.read_text()
    mixed = write(tmp_path / "b.csv", "user,item\n1,7.00\n2.0,7\n10.0,9.0\n")
    whole = write(tmp_path / "c.csv", "user,item\n1,7\n2,7\n10,9\n")
    prints = {read(path).fingerprint() for path in (text, mixed, whole)}
    prints.add(read(write(tmp_path / "a.parquet", FLOATS)).fingerprint())
    assert len(prints) == 1
    notes = read(text).notes
    assert notes["ids of users such as 1.0, read as whole numbers"] == 3
    assert notes["ids of items such as 1.0, read as whole numbers"] == 2


def test_parts_of_a_split_agree_on_ids(tmp_path):
    write(tmp_path / "train.csv", "user,item\n1,7\n2,7\n2,9\n")
    write(tmp_path / "test.csv", "user,item\n1.0,9.0\n")
    data = read(tmp_path, "csv")
    assert (data.user_ids.tolist(), data.item_ids.tolist()) == ([1, 2], [7, 9])


def test_a_table_of_features_agrees_on_ids(tmp_path):
    path = write(tmp_path / "a.csv", "user,item\n1,7\n2,7\n2,9\n")
    items = write(tmp_path / "items.csv", "item,price\n7.0,1\n9.0,2\n")
    assert read(path, items=items).item_features is not None


@pytest.mark.parametrize(
    ("ids", "note"),
    [
        (["1.0", "x"], "ids of users such as 1.0, kept as texts because other ids are texts"),
        (["1.5", "3"], "ids of users that are not whole numbers, kept as texts"),
        (["1e+20", "3"], "ids of users that are not whole numbers, kept as texts"),
    ],
)
def test_other_numbers_stay_texts_and_are_counted(ids, note, tmp_path):
    lines = "".join(f"{name},7\n" for name in ids)
    data = read(write(tmp_path / "a.csv", f"user,item\n{lines}"))
    assert data.user_ids.tolist() == sorted(ids)
    assert data.notes[note] == 1


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([1.0, float("nan")], "row 2: user nan is missing"),
        ([1.0, 2.5], "row 2: user 2.5 is not a whole number"),
        ([1.0, 2.0**60], r"row 2: user .* is beyond 2\^53"),
        ([True, False], "user has type Boolean; convert it to whole numbers or texts"),
    ],
)
def test_parquet_columns_of_other_types_are_refused_as_ids(values, said, tmp_path):
    path = write(tmp_path / "a.parquet", {"user": values, "item": [1, 2]})
    with pytest.raises(InputError, match=said):
        read(path)


def test_parquet_decimals_and_bytes_are_read_as_ids_if_possible(tmp_path):
    users = pl.Series("user", ["1.00", "2.00"]).cast(pl.Decimal(10, 2))
    items = pl.Series("item", [b"caf\xc3\xa9", b"tea"])
    pl.DataFrame([users, items]).write_parquet(tmp_path / "a.parquet")
    data = read(tmp_path / "a.parquet")
    assert data.user_ids.tolist() == [1, 2]
    assert data.item_ids.tolist() == ["café", "tea"]
    odd = pl.Series("user", ["1.00", "1.50"]).cast(pl.Decimal(10, 2))
    pl.DataFrame([odd, items]).write_parquet(tmp_path / "b.parquet")
    with pytest.raises(InputError, match=r"row 2: user .* is not a whole number"):
        read(tmp_path / "b.parquet")


LITERALS = ["nan", "NaN", "null", "None", "NA", "<NA>"]


@pytest.mark.parametrize("literal", LITERALS)
def test_ids_that_look_like_missing_values_are_counted_or_dropped(literal, tmp_path):
    rows = [("1", "7"), (literal, "7"), (literal, "8"), ("2", "8"), ("2", literal)]
    text = "user,item\n" + "".join(f"{u},{i}\n" for u, i in rows)
    table = {"user": [u for u, _ in rows], "item": [i for _, i in rows]}
    json = "".join(f'{{"user": "{u}", "item": "{i}"}}\n' for u, i in rows)
    paths = [
        write(tmp_path / "a.csv", text),
        write(tmp_path / "a.parquet", table),
        write(tmp_path / "a.jsonl", json),
    ]
    kept = f"that look like missing values ({literal!r}), kept; --skip-missing-ids drops them"
    for path in paths:
        data = read(path)
        assert data.n_users == 3
        assert data.notes[f"ids of users {kept}"] == 2
        assert data.notes[f"ids of items {kept}"] == 1
        left = read(path, text=SKIP)
        assert left.user_ids.astype(str).tolist() == ["1", "2"]
        assert left.item_ids.astype(str).tolist() == ["7", "8"]
        counted = {what: n for what, n in left.notes.items() if what.startswith("left out")}
        assert sum(counted.values()) == 3


def test_whole_numbers_that_pandas_writes_as_floats_are_read_as_whole_numbers(tmp_path):
    path = write(tmp_path / "a.csv", "user,item\n1.0,7\n,7\n3.0,8\n")
    with pytest.raises(InputError, match=r":3: the user is missing.*--skip-missing-ids"):
        read(path)
    data = read(path, text=SKIP)
    assert data.user_ids.tolist() == [1, 3]
    path = write(tmp_path / "a.parquet", {"user": [1.0, float("nan"), 3.0], "item": [7, 7, 8]})
    assert read(path, text=SKIP).fingerprint() == data.fingerprint()
