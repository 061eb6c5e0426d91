"""Test the options of ``jaxrec data``, and what it reports about how it read a file."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

import jaxrec
from jaxrec.cli.data import data
from jaxrec.cli.train import configured, train
from jaxrec.data import synthetic
from jaxrec.data.dataset import Dataset
from jaxrec.data.formats import resolve
from jaxrec.errors import InputError
from jaxrec.evaluation.user_runs import splits_of

SHOP = "kunde;ware;wann\n" + "".join(f"k{n % 4};w{n % 3};2014-04-{n + 1:02}\n" for n in range(12))


@pytest.fixture
def shop(tmp_path):
    (tmp_path / "shop.csv").write_text(SHOP)
    return tmp_path


def said(capsys, *args: object) -> str:
    data([str(arg) for arg in args])
    return capsys.readouterr().out


NAMED = ("--columns.user", "kunde", "--columns.item", "ware", "--columns.time", "wann")


def test_stats_and_import_take_the_same_options_and_say_what_was_read(shop, capsys):
    expected = "shop.csv: separator semicolon: user <- `kunde`, item <- `ware`, time <- `wann`"
    stats = said(capsys, "stats", shop / "shop.csv", *NAMED)
    assert f"columns       {expected}\n" in stats
    assert "times         1396310400 to 1397260800 (2014-04-01 to 2014-04-12)\n" in stats
    imported = said(capsys, "import", shop / "shop.csv", "--out", shop / "out", *NAMED)
    table, _, command = stats.rstrip("\n").rpartition("\n")
    assert imported.startswith(table)
    options = "--columns.user kunde --columns.item ware --columns.time wann"
    assert command.startswith("to train      jaxrec data import ")
    assert command.endswith(f"--out prepared {options} && jaxrec train lightgcn --data prepared")
    assert said(capsys, "stats", shop / "out").startswith(table)


@pytest.mark.parametrize("more", [(), ("--columns.user", "user")])
def test_an_empty_name_leaves_a_column_out_alone_too(tmp_path, capsys, more):
    (tmp_path / "a.csv").write_text("user,item,time\n1,2,soon\n")
    with pytest.raises(InputError, match=r"time 'soon' is not a number.*--columns\.time ''"):
        data(["import", str(tmp_path / "a.csv"), "--out", str(tmp_path / "out"), *more])
    assert not (tmp_path / "out").exists()
    args = ("import", tmp_path / "a.csv", "--out", tmp_path / "out", "--columns.time", "", *more)
    assert "not used: time" in said(capsys, *args)
    assert Dataset.load(tmp_path / "out").time is None


def test_options_settle_what_the_messages_ask_for(tmp_path, capsys):
    path = tmp_path / "a.csv"
    path.write_text("ann,hat\nbo,cup\n")
    with pytest.raises(InputError, match="could be a header or a row of data"):
        data(["stats", str(path)])
    assert "no header: user <- column 1" in said(capsys, "stats", path, "--no-header")
    with pytest.raises(InputError, match="no column looks like the user; it has ann, hat"):
        data(["stats", str(path), "--header"])
    with pytest.raises(InputError, match="--header and --no-header contradict each other"):
        data(["stats", str(path), "--header", "--no-header"])
    path.write_text("1;2,5\n2;3,5\n")
    with pytest.raises(InputError, match="the separator could be the comma or semicolon"):
        data(["stats", str(path)])
    assert "items         2\n" in said(capsys, "stats", path, "--separator", "semicolon")


def test_encodings_and_lines_to_leave_out(tmp_path, capsys):
    path = tmp_path / "BX.csv"
    path.write_bytes('"User-ID";"ISBN"\n1;"é"\n2;\n3;"b";4\n'.encode("latin-1"))
    with pytest.raises(InputError, match="--encoding latin-1"):
        data(["stats", str(path)])
    told = said(capsys, "stats", path, "--encoding", "latin-1", "--skip-bad-lines")
    assert "note          left out: the item is missing, at line 3: 1\n" in told
    assert "note          left out: more or fewer columns than the first line, at line 4: 1" in told
    path.write_bytes(path.read_bytes().replace(b'\n3;"b";4', b""))
    args = ("import", path, "--out", tmp_path / "out", "--encoding", "latin-1")
    said(capsys, *args, "--skip-missing-ids")
    assert Dataset.load(tmp_path / "out").item_ids.tolist() == ["é"]


def test_a_partition_says_what_it_read(tmp_path, capsys):
    days = [f"2014-04-{n + 1:02}T10:00:00Z" for n in range(12)]
    frame = pl.DataFrame({"who": range(12), "item": [n % 3 for n in range(12)], "time": days})
    frame.write_parquet(tmp_path / "a.parquet")
    args = ("partition", tmp_path / "a.parquet", "--out", tmp_path / "out", "--parts", 2)
    cut = ("--split.name", "temporal", "--split.test-time", 1397116800, "--split.validation", 0)
    told = said(capsys, *args, *cut, "--split.no-per-user", "--columns.user", "who")
    assert "columns       a.parquet: user <- `who`, item <- `item`, time <- `time`\n" in told
    assert "pairs         9 train, 0 validation, 3 test\n" in told


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.txt", b"1\t2\n"),  # the format
        ("a.csv", "user,item\n1,caf\xe9\n".encode("latin-1")),  # the encoding
        ("a.csv", b"user,item\n1,2\n,3\n"),  # lines without an id
        ("a.csv", b"user,item\n1,2\n1,2,3\n"),  # faulty lines
        ("a.csv", b"user;item;rating\n1;2;4,5\n"),  # a column to leave out
        ("a.csv", b"1::2::3\n"),  # the separator
    ],
)
def test_training_says_that_options_of_data_are_those_of_an_import(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match="jaxrec data import"):
        train(["mf", "--data", str(tmp_path / name), "--run", str(tmp_path / "run")])
    assert not (tmp_path / "run").exists()


def test_a_separator_that_does_not_cut_is_not_proposed_again(tmp_path, capsys):
    (tmp_path / "a.csv").write_text("user;item\n1;2\n")
    with pytest.raises(InputError, match=r"no comma in the line.*--separator semicolon$"):
        data(["stats", str(tmp_path / "a.csv"), "--separator", ","])
    assert "pairs         1\n" in said(
        capsys, "stats", tmp_path / "a.csv", "--separator", "semicolon"
    )


def test_a_decimal_comma_is_named(tmp_path):
    (tmp_path / "a.csv").write_text("user;item;rating\n1;2;4,5\n")
    with pytest.raises(InputError, match="rating '4,5' has a decimal comma, where a point is"):
        data(["stats", str(tmp_path / "a.csv")])


def test_one_column_for_two_things_is_refused_with_the_option(tmp_path, capsys):
    (tmp_path / "a.csv").write_text("user,item,sku\n1,2,3\n")
    twice = ("stats", tmp_path / "a.csv", "--columns.user", "item")
    with pytest.raises(InputError, match=r"name another: .*--columns\.item NAME"):
        said(capsys, *twice)
    assert "item <- `sku`" in said(capsys, *twice, "--columns.item", "sku")


def test_repeats_are_counted_and_the_first_kept_on_request(tmp_path, capsys):
    (tmp_path / "a.csv").write_text("user,item,time\n1,2,30\n1,2,10\n1,2,20\n3,2,5\n")
    for options, time, weight in (
        ((), "5 to 30", None),
        (("--keep", "first"), "5 to 10", None),
        (("--count-repeats",), "5 to 30", "1 to 3"),
    ):
        out = tmp_path / "-".join(("out", *options))
        lines = said(capsys, "import", tmp_path / "a.csv", "--out", out, *options)
        assert f"times         {time}\n" in lines
        assert (f"weights       {weight}\n" in lines) == (weight is not None)
    with pytest.raises(InputError, match="has no repeated pairs to merge"):
        said(capsys, "import", out, "--out", tmp_path / "x", "--count-repeats")
    (tmp_path / "p.csv").write_text("src,dst\na,b\n")
    for option in (("--count-repeats",), ("--keep", "first")):
        with pytest.raises(InputError, match=f"{option[0]} does not apply to this data"):
            said(capsys, "import", tmp_path / "p.csv", "--out", tmp_path / "x", *option)


SPLITS = {
    "random": ("--split.name", "random", "--filter.k-core", "3"),
    "windows": ("--split.name", "windows", "--split.folds", "2", "--split.test", "0.4"),
    "no validation": ("--split.name", "temporal", "--split.validation", "0"),
}


@pytest.mark.parametrize("form", ["parquet", "csv", "prepared"])
@pytest.mark.parametrize("name", SPLITS)
def test_a_split_that_is_shared_is_read_as_the_same_split(tmp_path, capsys, name, form):
    made = synthetic.make(60, 40, 600, communities=2, seed=1)
    rng = np.random.default_rng(0)
    time, rating = rng.integers(0, 90, made.n_edges), rng.integers(1, 6, made.n_edges) / 3
    replace(made, time=time * 1e6 + 1e9, rating=rating.astype(np.float32)).save(tmp_path / "data")
    out = tmp_path / "shared"
    arguments = ["split", tmp_path / "data", "--out", out, "--format", form, *SPLITS[name]]
    told = said(capsys, *arguments, "--seed", "7")
    assert ("--split.validation 0" in told) == (name == "no validation")
    given = ("mf", "--data", str(tmp_path / "data"), *SPLITS[name], "--split.seed", "7")
    config = configured([*given]).config
    parts = splits_of(config, resolve(config.data))
    no_more = ["--split.validation", "0"] if name == "no validation" else []
    shared = configured(["mf", "--data", str(out), *no_more]).config
    again = splits_of(shared, resolve(shared.data))
    assert [part.fingerprint() for part in again] == [part.fingerprint() for part in parts]


@pytest.mark.long
def test_a_run_on_a_shared_split_has_the_same_metrics_and_a_run_shares_its_split(tmp_path, capsys):
    synthetic.make(60, 40, 600, communities=2, seed=1).save(tmp_path / "data")
    small = {"epochs": 1, "dim": 8, "doctor": False, "quiet": True}
    first = jaxrec.train("mf", data=tmp_path / "data", run=tmp_path / "first", **small)
    told = said(capsys, "split", first.folder, "--out", tmp_path / "shared")
    command = told.splitlines()[-1]
    assert command == f"to train      jaxrec train lightgcn --data {tmp_path / 'shared'}"
    second = jaxrec.train("mf", data=tmp_path / "shared", run=tmp_path / "second", **small)
    assert second.metrics == first.metrics
    with pytest.raises(InputError, match="is a run, which has its split already"):
        data(["split", str(first.folder), "--out", str(tmp_path / "x"), "--split.test", "0.3"])
    cold = ["split", str(tmp_path / "data"), "--out", "x", "--split.name", "cold-items"]
    with pytest.raises(InputError, match="cold-items ranks the held-out items among themselves"):
        data(cold)
    synthetic.make(60, 40, 600, communities=2, features=True).save(tmp_path / "featured")
    told = said(capsys, "split", tmp_path / "featured", "--out", tmp_path / "bare")
    assert "not written   " in told
    assert "features; --format prepared keeps them" in told
