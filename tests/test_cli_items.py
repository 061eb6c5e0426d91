"""Test item graphs and runs of item models from the command line, within this process."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from made_run import write_item_run

from jaxrec import cli
from jaxrec.data import synthetic_items
from jaxrec.data.itemgraph import ItemGraph
from jaxrec.errors import InputError

META = "{'asin': 'A', 'related': {'also_bought': ['B', 'N']}}\nbroken\n{'asin': 'B'}\n"


def lines(text: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        found.setdefault(line[:14].strip(), []).append(line[14:])
    return found


def run(*args: object) -> None:
    cli.COMMANDS[str(args[0])]([str(arg) for arg in args[1:]])


def test_metadata_is_imported_with_its_faults_told_by_line(tmp_path, capsys):
    (tmp_path / "meta.json").write_text(META)
    run("data", "import", tmp_path / "meta.json", "--out", tmp_path / "out")
    told = lines(capsys.readouterr().out)
    assert told["items"] == ["2, 0 without a pair"]
    assert told["pairs"] == ["1"]
    assert told["weights"] == ["1 to 1"]
    assert told["note"] == [
        "not a product (a Python literal or a JSON object), at line 2: 1",
        "a related item that is not a product, at line 1: 1",
    ]
    graph = ItemGraph.load(tmp_path / "out", verify=True)
    assert told["fingerprint"] == [graph.fingerprint()]
    run("data", "stats", tmp_path / "out")
    assert lines(capsys.readouterr().out)["fingerprint"] == told["fingerprint"]
    run("data", "stats", tmp_path / "meta.json")
    assert lines(capsys.readouterr().out)["fingerprint"] == told["fingerprint"]
    with pytest.raises(InputError, match=r"meta\.json:2: not a product"):
        run("data", "import", tmp_path / "meta.json", "--out", tmp_path / "strict", "--strict")
    assert not (tmp_path / "strict").exists()


def test_weights_and_windows_are_options(tmp_path):
    (tmp_path / "meta.json").write_text(META)
    run(
        *("data", "import", tmp_path / "meta.json", "--out", tmp_path / "a"),
        *("--pairs.also-bought", "0.25"),
    )
    assert ItemGraph.load(tmp_path / "a").weight.tolist() == [0.25]
    (tmp_path / "seen.csv").write_text("user,item,time\n1,p,10\n1,q,20\n1,r,40\n")
    run(
        *("data", "import", tmp_path / "seen.csv", "--out", tmp_path / "b"),
        *("--format", "co-occurrence", "--pairs.window", "15"),
    )
    graph = ItemGraph.load(tmp_path / "b")
    assert (graph.src.tolist(), graph.dst.tolist()) == ([0], [1])


def test_item_graphs_are_made_up(tmp_path, capsys):
    run(
        *("data", "synth", "--items", "60", "--pairs", "90", "--missing", "0.5"),
        *("--seed", "3", "--out", tmp_path / "out"),
    )
    told = lines(capsys.readouterr().out)
    assert told["pairs"] == ["90"]
    assert "group (category of" in told["item features"][0]
    assert ItemGraph.load(tmp_path / "out").n_items == 60


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ("import meta.json --out o --users u.csv", "--users does not apply"),
        ("import meta.json --out o --event-weights a=1", "--event-weights does not apply"),
        ("import meta.json --out o --pairs.test 0.5", "options of `jaxrec train`"),
        ("import meta.json --out o --columns.user a", "--columns.user does not apply"),
        ("import seen.csv --out o --strict", "--strict does not apply"),
        ("import seen.csv --out o --columns.src user", "--columns.src does not apply"),
        ("import seen.csv --out o --pairs.history 3", "with --format co-occurrence"),
        ("synth --items 60 --pairs 90 --users 3 --out o", "--users does not apply"),
        ("synth --items 60 --edges 90 --out o", "give --users and --edges"),
        ("synth --items 60 --users 9 --edges 90 --missing 0.5 --out o", "--missing is for"),
        ("stats none", "no such file"),
    ],
)
def test_what_does_not_go_together_is_refused(tmp_path, monkeypatch, args, said):
    monkeypatch.chdir(tmp_path)
    Path("meta.json").write_text(META)
    Path("seen.csv").write_text("user,item\n1,p\n1,q\n")
    with pytest.raises(InputError, match=said):
        run("data", *args.split())
    assert not Path("o").exists()


@pytest.fixture
def finished(tmp_path) -> Path:
    graph = synthetic_items.make(60, 150, communities=3, seed=1)
    community = synthetic_items.planted(60, communities=3, seed=1).item_community
    return write_item_run(tmp_path / "run", graph, np.eye(3)[community])


def test_a_run_of_items_is_evaluated_and_asked_for_neighbours(finished, capsys):
    run("evaluate", finished, "--k", "5")
    told = capsys.readouterr().out
    assert "98 pairs" not in told
    assert "test: 100 pairs" in told
    assert "items ranked" in told
    assert "average_precision_seen" in told
    assert json.loads((finished / "eval.json").read_text())["pairs"] == 100
    run("similar", finished, "--items", "i01", "-k", "2")
    header, *rows = capsys.readouterr().out.splitlines()
    assert header == "item\tsimilar\trank\tscore"
    assert [row.split("\t")[0::2] for row in rows] == [["i01", "1"], ["i01", "2"]]


def test_users_are_not_to_be_had_of_a_run_of_items(finished, tmp_path):
    (tmp_path / "ids.csv").write_text("user\nu1\n")
    (tmp_path / "seen.csv").write_text("item\ni01\n")
    for more in ([], ["--users", tmp_path / "ids.csv"], ["--history", tmp_path / "seen.csv"]):
        with pytest.raises(InputError, match="trained on items alone and knows no users"):
            run("recommend", finished, "--out", tmp_path / "recs.csv", *more)
    assert not (tmp_path / "recs.csv").exists()


def test_a_run_of_items_is_exported_without_users(finished, tmp_path):
    run("export", finished, "--to", "parquet", "--out", tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["item.parquet"]
    assert pl.read_parquet(tmp_path / "out" / "item.parquet").height == 60
    for to in ("npz", "safetensors"):
        run("export", finished, "--to", to, "--out", tmp_path / to)
        assert (tmp_path / to).stat().st_size > 0


def test_new_items_need_side_information(finished, tmp_path):
    (tmp_path / "new.csv").write_text("item,group\nn1,g1\n")
    with pytest.raises(InputError, match="has one vector per id and none for new items"):
        run("embed", finished, "--new-items", tmp_path / "new.csv", "--out", tmp_path / "e.jsonl")
    with pytest.raises(InputError, match="embeds items by their features alone"):
        run(
            *("embed", finished, "--new-items", tmp_path / "new.csv", "--out"),
            *(tmp_path / "e.jsonl", "--edges", tmp_path / "new.csv"),
        )


def test_new_items_without_a_known_feature_have_no_embedding(finished, tmp_path, monkeypatch):
    asked = []

    def cold(run, config, features):
        asked.append((run, config.preset, list(features.columns)))
        return np.array([[0.6, 0.8], [0, 0]], np.float32)

    monkeypatch.setattr("jaxrec.embedding.cold_vectors", cold)
    (tmp_path / "new.csv").write_text("item,group\n7,g1\n8,\n")
    run("embed", finished, "--new-items", tmp_path / "new.csv", "--out", tmp_path / "e.parquet")
    assert asked == [(finished, "skipgram", ["group"])]
    frame = pl.read_parquet(tmp_path / "e.parquet")
    assert frame.schema == {"id": pl.String, "embedding": pl.List(pl.Float32)}
    assert frame["id"].to_list() == ["7", "8"]
    assert frame["embedding"].to_list() == [pytest.approx([0.6, 0.8]), None]
