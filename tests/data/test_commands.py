"""Test what the data commands print and write."""

import numpy as np
import polars as pl
import pytest

from jaxrec.data import commands
from jaxrec.data.dataset import Dataset
from jaxrec.data.formats import Columns
from jaxrec.errors import InputError


def _lines(text: str) -> dict[str, str]:
    return {line[:14].strip(): line[14:] for line in text.splitlines()}


def test_import_writes_a_prepared_folder_and_says_what_is_in_it(tmp_path):
    source = tmp_path / "a.csv"
    source.write_text(
        "klant,ding,event,time\n1,x,buy,1e9\n2,x,view,1e9\n2,y,view,5e8\n2,y,view,1e9\n"
    )
    text = commands.import_data(
        source,
        tmp_path / "out",
        columns=Columns(user="klant", item="ding"),
        event_weights={"buy": 3.0, "view": 1.0},
    )
    lines = _lines(text)
    assert (lines["users"], lines["items"], lines["pairs"]) == ("2", "2", "3")
    assert lines["density"] == "75.0000%"
    assert lines["pairs a user"] == "1 / 1.5 / 2 (min, median, max)"
    assert lines["times"] == "1000000000 to 1000000000 (2001-09-09 to 2001-09-09)"
    assert lines["weights"] == "1 to 3"
    assert lines["note"] == "duplicate pairs: 1"
    assert lines["written to"] == str(tmp_path / "out")
    data = Dataset.load(tmp_path / "out", verify=True)
    assert data.fingerprint() == lines["fingerprint"]
    assert text.startswith(commands.stats(str(tmp_path / "out")).rpartition("\n")[0])


def test_stats_of_a_given_split(tmp_path):
    (tmp_path / "train.txt").write_text("1 2 3\n")
    (tmp_path / "test.txt").write_text("1 4\n")
    lines = _lines(commands.stats(str(tmp_path)))
    assert lines["given split"] == "2 train, 0 validation, 1 test"


def test_features_are_imported_and_listed(tmp_path):
    (tmp_path / "a.csv").write_text("user,item\n1,2\n3,4\n")
    (tmp_path / "items.csv").write_text("item,tags,year,maker\n2,a|b,1990,x\n9,c,,\n4,a,,y\n")
    pl.DataFrame({"user": [1, 3], "look": [[1.0, 2.0], None]}).write_parquet(tmp_path / "u.parquet")
    text = commands.import_data(
        tmp_path / "a.csv",
        tmp_path / "out",
        items=tmp_path / "items.csv",
        users=tmp_path / "u.parquet",
        cold_items=True,
    )
    lines = _lines(text)
    assert lines["items"] == "3"
    assert lines["user features"] == "look (vector of 2, 1 missing)"
    features = "tags (bag of 3), year (number, 2 missing), maker (category of 2, 1 missing)"
    assert lines["item features"] == features
    assert Dataset.load(tmp_path / "out", verify=True).fingerprint() == lines["fingerprint"]
    assert text.startswith(commands.stats(str(tmp_path / "out")).rpartition("\n")[0])


def test_a_failed_import_leaves_nothing_behind(tmp_path):
    source = tmp_path / "a.csv"
    source.write_text("user,item,rating\n1,2,x\n")
    with pytest.raises(InputError, match=r"a\.csv:2"):
        commands.import_data(source, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]


def test_an_occupied_folder_is_refused_before_the_source_is_read(tmp_path):
    (tmp_path / "keep.txt").write_text("mine")
    with pytest.raises(InputError, match="exists already"):
        commands.import_data(tmp_path / "nowhere.csv", tmp_path)
    with pytest.raises(InputError, match="exists already"):
        commands.synth(10, 10, 20, tmp_path)


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "a.csv").write_text("user,item\n1,2\n")
    with pytest.raises(InputError, match="cannot be written"):
        commands.import_data(tmp_path / "a.csv", tmp_path / "a.csv" / "out")


def test_synth_honours_sizes_and_seed(tmp_path):
    made = [
        _lines(commands.synth(40, 30, 200, tmp_path / f"out{n}", seed=seed))
        for n, seed in enumerate([1, 1, 2])
    ]
    assert (made[0]["users"], made[0]["items"], made[0]["pairs"]) == ("40", "30", "200")
    assert made[0]["fingerprint"] == made[1]["fingerprint"] != made[2]["fingerprint"]


@pytest.mark.parametrize(
    ("counts", "value"), [([5, 5, 5, 5], 0.0), ([0, 0, 0, 8], 0.75), ([1, 3], 0.25), ([0, 0], 0.0)]
)
def test_gini(counts, value):
    assert commands.gini(np.array(counts)) == pytest.approx(value)


def test_stats_end_with_the_command_to_train(tmp_path):
    path = tmp_path / "my data.csv"
    path.write_text("user,item\n1,2\n2,3\n")
    last = commands.stats(str(path)).rpartition("\n")[2]
    assert last == f"to train      jaxrec train lightgcn --data '{path}'"
    pairs = tmp_path / "p.csv"
    pairs.write_text("src,dst\na,b\n")
    assert commands.stats(str(pairs)).endswith(f"jaxrec train skipgram --data {pairs}")
    assert commands.stats("synthetic").endswith("jaxrec train lightgcn --data synthetic")
