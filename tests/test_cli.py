"""Test the command line as a user sees it: real processes, exit status, plain errors."""

import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from processes import environment, jaxrec

from jaxrec.cli.arguments import parse
from jaxrec.cli.train import Resume
from jaxrec.data import synthetic

SMALL = [
    *("--model.dim", "8", "--train.epochs", "2", "--train.batch-size", "256"),
    *("--negatives.count", "32"),
]


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """Return a folder with a prepared data set and a finished run on it, runs/quickstart-1."""
    folder = tmp_path_factory.mktemp("home")
    synthetic.make(60, 50, 700, communities=4, seed=2).save(folder / "data")
    command = [sys.executable, "-m", "jaxrec", "train", "--data", "data", *SMALL]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), cwd=folder)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return folder


def test_train_says_what_it_did_and_leaves_the_run_folder_of_the_contract(home):
    run = home / "runs" / "quickstart-1"
    names = {p.name for p in run.iterdir()}
    assert names >= {
        *("config.json", "env.json", "metrics.jsonl", "timing.jsonl", "checkpoints"),
        *("embeddings.npz", "eval.json", "report.html"),
    }
    config = json.loads((run / "config.json").read_text())
    assert config["model"]["dim"] == 8
    assert config["data"] == str(home / "data")
    env = json.loads((run / "env.json").read_text())
    assert {"versions", "device", "commit", "fingerprint", "command"} <= set(env)
    content = json.loads((run / "eval.json").read_text())
    assert {"split", "metrics", "baselines", "users", "protocol"} <= set(content)
    assert set(content["baselines"]) == {"popularity", "random"}
    assert content["split"] == "test"


@pytest.mark.long
def test_a_second_run_takes_the_next_free_name_and_repeats_from_the_config_file(home):
    done = jaxrec("train", "--config", "runs/quickstart-1/config.json", cwd=home)
    assert done.returncode == 0, done.stderr
    assert "validation recall@20" in done.stdout
    assert "popularity" in done.stdout
    assert "run folder: runs/quickstart-2" in done.stdout
    first, second = (home / "runs" / f"quickstart-{n}" / "metrics.jsonl" for n in (1, 2))
    assert first.read_bytes() == second.read_bytes()


def test_recommend_similar_export_and_report(home):
    run = "runs/quickstart-1"
    (home / "users.csv").write_text("user\nu01\nu02\n")
    (home / "deny.txt").write_text("i05\ni06\n")
    done = jaxrec(
        *("recommend", run, "--out", "recs.parquet", "--users", "users.csv", "-k", 5),
        *("--deny", "deny.txt"),
        cwd=home,
    )
    assert done.returncode == 0, done.stderr
    frame = pl.read_parquet(home / "recs.parquet")
    assert frame.columns == ["user", "item", "rank", "score"]
    assert frame["user"].to_list() == ["u01"] * 5 + ["u02"] * 5
    assert not {"i05", "i06"} & set(frame["item"])
    assert jaxrec("recommend", run, "--out", "all.csv", cwd=home).returncode == 0
    assert pl.read_csv(home / "all.csv")["user"].n_unique() == 60
    done = jaxrec("similar", run, "--items", "i01", "i02", "-k", 3, cwd=home)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 7
    done = jaxrec("export", run, "--to", "parquet", "--out", "vectors", cwd=home)
    assert done.returncode == 0, done.stderr
    assert pl.read_parquet(home / "vectors" / "item.parquet").height == 50
    assert jaxrec("report", run, "--out", "page.html", cwd=home).returncode == 0
    assert (home / "page.html").read_text().lstrip().lower().startswith("<!doctype html>")


def test_evaluate_prints_a_table_and_writes_eval_json(home):
    run = home / "runs" / "quickstart-1"
    before = json.loads((run / "eval.json").read_text())
    done = jaxrec(
        *("evaluate", run, "--split", "test", "--k", 5, 20, "--baselines", "item-knn", "ease"),
        cwd=home,
    )
    assert done.returncode == 0, done.stderr
    after = json.loads((run / "eval.json").read_text())
    assert set(after["baselines"]) == {"popularity", "random", "item-knn", "ease"}
    assert after["metrics"]["recall@20"] == pytest.approx(before["metrics"]["recall@20"], abs=1e-6)
    assert "recall@5" in done.stdout
    value = jaxrec("evaluate", run, "--split", "val", cwd="/")  # from any folder
    assert value.returncode == 0, value.stderr
    assert json.loads((run / "eval.json").read_text())["split"] == "validation"


def test_data_commands(home):
    done = jaxrec(
        "data", "synth", "--users", 9, "--items", 8, "--edges", 15, "--out", "s", cwd=home
    )
    assert done.returncode == 0, done.stderr
    (home / "raw.csv").write_text("who,what,how\na,x,click\na,y,buy\nb,x,click\nb,z,buy\n")
    (home / "kinds.csv").write_text("what,kind\nx,toy\ny,book\nnew,toy\n")
    done = jaxrec(
        *("data", "import", "raw.csv", "--format", "csv", "--out", "imported"),
        *("--columns.user", "who", "--columns.item", "what", "--columns.event", "how"),
        *("--event-weights", "click=1", "buy=3"),
        *("--items", "kinds.csv", "--cold-items"),
        cwd=home,
    )
    assert done.returncode == 0, done.stderr
    done = jaxrec("data", "stats", "imported", cwd=home)
    assert re.search(r"weights +1 to 3", done.stdout)
    assert re.search(r"item features +kind \(category of 2, 1 missing\)", done.stdout)


@pytest.mark.long
def test_presets_env_and_help():
    assert "lightgcn-gowalla" in jaxrec("presets").stdout
    assert "jaxlib" in jaxrec("env").stdout
    for command in ([], ["train"], ["resume"], ["data", "import"], ["presets"], ["env"]):
        done = jaxrec(*command, "--help")
        assert done.returncode == 0
        assert "usage" in done.stdout
    assert "jaxrec 1" in jaxrec("--version").stdout


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ("trian", ["'trian'", "'train'"]),
        ("train quikstart", ["'quikstart'", "'quickstart'"]),
        ("train --model.dmi 3", ["--model.dmi", "--model.dim"]),
        ("train --model.dim x", ["--model.dim", "'x'"]),
        ("train --model.dim 0", ["model.dim"]),
        ("train --loss.name brp", ["'brp'", "--loss.name", "'bpr'"]),
        ("train --eval.metric recal@20", ["'recal@20'", "'recall'"]),
        ("train --data no-such-folder", ["no-such-folder"]),
        ("train --config no-such-file", ["no-such-file"]),
        ("train mf --config runs/quickstart-1/config.json", ["not both"]),
        ("train --run runs/quickstart-1", ["runs/quickstart-1", "resume"]),
        ("train --run data/manifest.json/run", ["data/manifest.json/run"]),
        ("train --split.name temporal --data flat.csv", ["temporal", "time"]),
        ("train lightgcn --model.name pinsage --model.fan-outs 3 2", ["model.fan_outs", "(3 2)"]),
        (
            "train --data data --model.name gcmc --model.features True",
            ["model.features"],
        ),
        ("train --data data --model.name gcmc --model.levels True", ["model.levels", "ratings"]),
        (
            "embed runs/quickstart-1 --new-items i.csv --out e.jsonl",
            ["embedding for each id", "no-ids"],
        ),
        (
            "train --data data --negatives.hard 1 --negatives.hard-ranks 10 99999",
            ["negatives.hard_ranks 10 99999", "items of"],
        ),
        ("resume nowhere", ["nowhere", "config.json"]),
        ("evaluate runs/quickstart-1 --split tset", ["'tset'", "'test'"]),
        ("evaluate nowhere", ["nowhere"]),
        ("recommend runs/quickstart-1 --out r.xlsx", ["r.xlsx", ".parquet"]),
        ("recommend runs/quickstart-1 --out r.csv --users none.csv", ["none.csv"]),
        ("similar runs/quickstart-1 --items i001", ["i001", "i01"]),
        ("export runs/quickstart-1 --to nzp --out x", ["'nzp'", "'npz'"]),
        ("data import broken.csv --out b", ["broken.csv:3"]),
        ("data import broken.csv --out b --event-weights buy", ["--event-weights"]),
        ("data stat", ["'stats'"]),
        ("presets more", ["presets"]),
    ],
)
def test_what_a_user_can_get_wrong_is_told_in_one_or_two_plain_lines(home, args, words):
    (home / "broken.csv").write_text("user,item,rating\na,x,3\nb,y,nan\n")
    (home / "flat.csv").write_text("user,item\na,x\nb,y\na,y\n")
    before = {p for p in home.rglob("*") if p.is_file()}
    done = jaxrec(*args.split(), cwd=home)
    assert done.returncode == 2
    assert 1 <= len(done.stderr.strip().splitlines()) <= 2, done.stderr
    assert done.stderr.startswith("jaxrec: ")
    assert "Traceback" not in done.stderr
    assert all(word in done.stderr for word in words), done.stderr
    after = {p for p in home.rglob("*") if p.is_file() and p.suffix != ".pyc"}
    assert after <= before
    assert not list(home.glob("runs/quickstart-3*"))


def test_debug_shows_the_traceback(home):
    done = jaxrec("resume", "nowhere", "--debug", cwd=home)
    assert done.returncode != 0
    assert "Traceback" in done.stderr


@pytest.mark.long
def test_on_a_terminal_there_is_a_progress_bar_and_elsewhere_plain_lines(home):
    leader, follower = pty.openpty()
    command = [sys.executable, "-m", "jaxrec", "train", "--data", "data", *SMALL]
    env = {k: v for k, v in environment().items() if k != "NO_COLOR"} | {"TERM": "xterm-256color"}
    done = subprocess.Popen(
        [*command, "--run", "pty"], stdout=follower, stderr=follower, cwd=home, env=env
    )
    os.close(follower)
    shown = b""
    while True:
        try:
            piece = os.read(leader, 65536)
        except OSError:  # the reading end is closed
            break
        if not piece:
            break
        shown += piece
    os.close(leader)
    assert done.wait(timeout=300) == 0
    assert "━" in shown.decode()
    plain = jaxrec("train", "--data", "data", *SMALL, "--run", "plain", cwd=home)
    assert "━" not in plain.stdout
    assert "\x1b" not in plain.stdout
    assert "search step" in plain.stdout


def test_a_signal_that_comes_while_arguments_are_read_is_no_bad_argument(monkeypatch):
    def stopped(*args, **kwargs):
        raise SystemExit(143)

    monkeypatch.setattr("tyro.cli", stopped)
    with pytest.raises(SystemExit) as ended:
        parse(Resume, ["run"], "jaxrec resume")
    assert ended.value.code == 143
