"""Test run folders: which are accepted and replaced, and which results eval.json keeps."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from processes import KILLER, jaxrec, process

from jaxrec import config as configs
from jaxrec import evaluate, resume, trackers, train
from jaxrec.cli.train import configured
from jaxrec.config import (
    Config,
    EvalConfig,
    LogConfig,
    ModelConfig,
    NegativesConfig,
    SplitConfig,
    TrainConfig,
)
from jaxrec.data import commands, synthetic
from jaxrec.data.dataset import Dataset
from jaxrec.errors import InputError
from jaxrec.files import is_partial, replacing, write_json
from jaxrec.runfolder import RUN_FILES
from jaxrec.training.items.walk_files import write_walks

CONFIG = Config(
    model=ModelConfig("mf", dim=8, layers=0),
    negatives=NegativesConfig("shared", 16),
    train=TrainConfig(steps=4, batch_size=64),
    eval=EvalConfig(k=(5, 10)),
)


def data(users: int = 40, items: int = 30, seed: int = 1) -> Dataset:
    return synthetic.make(users, items, users * items // 4, communities=3, seed=seed)


def gone() -> int:
    """Return the id of a process that has ended."""
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    return ended.pid


def files(folder: Path) -> dict[str, bytes]:
    found = {str(p.relative_to(folder)): p for p in folder.rglob("*") if p.is_file()}
    return {name: path.read_bytes() for name, path in found.items()}


@pytest.mark.long
def test_a_run_killed_while_its_first_file_is_written_begins_anew(tmp_path):
    data().save(tmp_path / "data")
    run = tmp_path / "run"
    options = ["--data", tmp_path / "data", "--model.dim", 4, "--train.steps", 2, "--run", run]
    options = ["train", "mf", *options]
    moment = ("os:replace", 1)
    killed = process(KILLER, "SIGKILL", *moment, *options)
    assert killed.returncode == -signal.SIGKILL
    (left,) = (p for p in run.iterdir() if p.name != ".lock")
    assert is_partial(left)
    refused = jaxrec("resume", run)
    assert refused.returncode == 2
    assert f"jaxrec train --run {run}" in refused.stderr
    again = jaxrec(*options)
    assert again.returncode == 0, again.stderr
    assert not any(map(is_partial, run.rglob("*")))
    assert (run / "eval.json").exists()


@pytest.mark.long
@pytest.mark.parametrize("process", [gone, os.getpid, os.getppid], ids=["gone", "ours", "alive"])
def test_a_folder_of_partial_files_alone_is_as_good_as_empty(tmp_path, process):
    run = tmp_path / "run"
    run.mkdir()
    (run / ".lock").touch()
    left = run / f".config.json.{process()}.partial"
    left.write_text("{")
    train(CONFIG, data=data(), run=run, quiet=True)
    assert left.exists() == (process is os.getppid)  # its process still runs and may write it
    assert (run / "eval.json").exists()


@pytest.mark.long
def test_partial_files_of_a_killed_process_go_when_their_place_is_written_next(tmp_path):
    number = gone()

    def leave(place: Path, folder: bool = False) -> Path:
        left = place.with_name(f".{place.name}.{number}.partial")
        left.parent.mkdir(parents=True, exist_ok=True)
        if folder:
            left.mkdir()
            (left / "user.npy").write_bytes(b"half")
        else:
            left.write_text("half")
        return left

    place = tmp_path / "file.json"
    left, other = leave(place), leave(tmp_path / "other.json")
    write_json(place, {"a": 1})
    assert not left.exists()
    assert other.exists()  # it belongs to another file
    left = leave(tmp_path / "prepared", folder=True)
    data().save(tmp_path / "prepared")
    assert not left.exists()
    # A folder that holds only such partial files counts as empty.
    left = leave(tmp_path / "new" / "list.csv")
    data().save(tmp_path / "new")
    assert Dataset.load(tmp_path / "new").fingerprint() == data().fingerprint()
    # Resuming a run removes its partial files, too.
    config = dataclasses.replace(CONFIG, data=str(tmp_path / "new"))
    done = train(config, run=tmp_path / "run", quiet=True)
    (done.folder / "eval.json").unlink()
    left = leave(done.folder / "slices.json")
    resume(done.folder, quiet=True)
    assert not left.exists()


def test_a_folder_that_appears_under_our_own_number_is_no_hindrance(tmp_path):
    """Containers give their first process the same id every time."""
    left = tmp_path / f".data.{os.getpid()}.partial"
    left.mkdir()
    (left / "half").touch()
    with replacing(tmp_path / "data") as partial:
        partial.mkdir()
    assert list((tmp_path / "data").iterdir()) == []


def test_walks_are_written_whole_or_not_at_all(tmp_path, monkeypatch):
    commands.synth_items(40, 60, tmp_path / "graph")
    with monkeypatch.context() as patched:

        def full(*args, **kwargs):
            raise OSError(28, "No space left on device")

        patched.setattr("polars.DataFrame.write_parquet", full)
        with pytest.raises(InputError, match="No space left"):
            write_walks(str(tmp_path / "graph"), tmp_path / "walks")
    assert {p.name for p in tmp_path.iterdir()} == {"graph"}
    assert write_walks(str(tmp_path / "graph"), tmp_path / "walks") > 0


@pytest.mark.long
def test_overwrite_replaces_a_run_once_the_new_one_is_known_to_be_possible(tmp_path):
    run = tmp_path / "run"
    first = train(CONFIG, data=data(), run=run, quiet=True)
    assert {p.name for p in run.iterdir()} - {".lock"} <= RUN_FILES
    before = files(run)
    for wrong, said in (
        ({"data": tmp_path / "none"}, "none"),
        (
            {"data": data(), "config": dataclasses.replace(CONFIG, warm_start=str(run))},
            "warm_start",
        ),
    ):
        with pytest.raises(InputError, match=said):
            train(**({"config": CONFIG, "overwrite": True, "run": run, "quiet": True} | wrong))
        assert files(run) == before
    with pytest.raises(InputError, match=r"already holds a run.*resume.*--overwrite"):
        train(CONFIG, data=data(), run=run, quiet=True)
    (run / "checkpoints" / "left").mkdir()
    other = dataclasses.replace(CONFIG, seed=3)
    again = train(other, data=data(), run=run, quiet=True, overwrite=True)
    alone = train(other, data=data(), run=tmp_path / "alone", quiet=True)
    for name in ("config.json", "metrics.jsonl", "eval.json"):
        assert (run / name).read_bytes() == (alone.folder / name).read_bytes()
    assert not (run / "checkpoints" / "left").exists()
    assert again.metrics != first.metrics


@pytest.mark.parametrize(
    ("there", "said"),
    [
        ({"notes.txt": "mine"}, "holds no run"),
        ({"config.json": "{}", "notes.txt": "mine"}, r"notes\.txt, which is not part of a run"),
        ({"config.json": '{"compilerOptions": {}}'}, "only replaces runs of jaxrec"),
        ({"config.json": "module.exports = 1"}, "only replaces runs of jaxrec"),
    ],
)
def test_overwrite_leaves_what_is_not_ours(tmp_path, there, said):
    run = tmp_path / "run"
    run.mkdir()
    for name, text in there.items():
        (run / name).write_text(text)
    before = files(run)
    with pytest.raises(InputError, match=said):
        train(CONFIG, data=data(), run=run, quiet=True, overwrite=True)
    assert files(run) == before
    with pytest.raises(InputError, match="--overwrite needs --run"):
        train(CONFIG, data=data(), quiet=True, overwrite=True)


def test_overwrite_leaves_a_run_that_goes_on(tmp_path):
    import fcntl

    run = train(CONFIG, data=data(), run=tmp_path / "run", quiet=True).folder
    before = files(run)
    with (run / ".lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(InputError, match="another process"):
            train(CONFIG, data=data(), run=run, quiet=True, overwrite=True)
    assert files(run) == before


@pytest.mark.parametrize("extra", ["tensorboard", "wandb", "mlflow", "trackio", "energy"])
def test_missing_extras_are_told_before_there_is_a_folder(tmp_path, monkeypatch, extra):
    monkeypatch.setattr(trackers.importlib.util, "find_spec", lambda name: None)
    asked = LogConfig(**{extra: True if extra == "tensorboard" else "project"})
    config = dataclasses.replace(CONFIG, log=asked)
    with pytest.raises(InputError, match=rf"pip install 'jaxrec\[{extra}\]'"):
        train(config, data=data(), run=tmp_path / "run", quiet=True)
    assert not list(tmp_path.iterdir())


@pytest.mark.long
@pytest.mark.parametrize("items", [12, 20])
def test_lists_as_long_as_the_catalogue_are_no_sign_that_something_is_wrong(
    tmp_path, capsys, items
):
    # Split over all pairs, so that validation has some pairs.
    split = SplitConfig(per_user=False)
    config = dataclasses.replace(CONFIG, eval=EvalConfig(k=(3, 20)), split=split)
    train(config, data=data(30, items), run=tmp_path / "small")
    said = capsys.readouterr().out
    assert "something is wrong" not in said
    assert "recall@20 means nothing here, because lists of 20 hold every item" in said


def test_a_model_no_better_than_popularity_still_is_told(tmp_path, capsys):
    train(dataclasses.replace(CONFIG, train=TrainConfig(steps=0)), data=data(), run=tmp_path / "r")
    assert "no better than popularity in recall@10: something is wrong" in capsys.readouterr().out


@pytest.mark.long
def test_the_metric_that_selects_follows_the_cut_offs_and_it_is_said(tmp_path, capsys):
    asked = configured(["mf", "--eval.k", "10"])
    assert asked.config.metric == "recall@10"
    assert asked.config.eval.k == (10,)
    assert configured(["mf", "--eval.k", "5", "20"]).config.metric == "recall@20"
    config = dataclasses.replace(CONFIG, eval=EvalConfig(k=(10,)))
    done = train(config, data=data(), run=tmp_path / "run")
    said = capsys.readouterr().out
    assert "recall@10 selects the parameters, because eval.k does not include 20" in said
    assert "recall@10 on validation" in done.evaluation["protocol"]
    # The metric of the starting configuration is kept.
    (tmp_path / "c.json").write_text(
        json.dumps(configs.to_dict(Config(eval=EvalConfig(metric="ndcg@50"))))
    )
    asked = configured(["--config", str(tmp_path / "c.json"), "--eval.k", "5", "9"])
    assert asked.config.eval.metric == "ndcg@9"
    assert asked.notes == ("eval.metric is ndcg@9, since --eval.k has no cut-off for ndcg@50",)
    asked = configured(["--config", str(tmp_path / "c.json"), "--eval.k", "5", "50"])
    assert (asked.config.eval.metric, asked.notes) == ("ndcg@50", ())
    with pytest.raises(InputError, match="cut-off among"):
        configured(["mf", "--eval.k", "10", "--eval.metric", "recall@20"])


def test_evaluate_keeps_what_eval_json_says_already(tmp_path):
    data().save(tmp_path / "data")
    config = dataclasses.replace(CONFIG, data=str(tmp_path / "data"))
    run = train(config, run=tmp_path / "run", quiet=True).folder

    def content() -> dict:
        return json.loads((run / "eval.json").read_text())

    first = content()
    assert {"validation", "train", "steps", "best_step"} <= first.keys()
    evaluate(run)  # at the run's own cut-offs
    assert content() == first
    # Metrics at other cut-offs are added to the existing ones.
    evaluate(run, "test", (7,), baselines=["item-knn"])
    more = content()
    assert more["metrics"].keys() == first["metrics"].keys() | {
        name.replace("@10", "@7") for name in first["metrics"] if name.endswith("@10")
    }
    assert all(more["metrics"][name] == value for name, value in first["metrics"].items())
    assert all(name.endswith("@7") for name in more["baselines"]["item-knn"])
    assert {name: more[name] for name in ("validation", "train", "steps")} == {
        name: first[name] for name in ("validation", "train", "steps")
    }
    # Evaluating another part keeps the results on test under "test", from which they return.
    evaluate(run, "validation")
    other = content()
    assert other["split"] == "validation"
    assert other["metrics"] == first["validation"]["metrics"]
    assert other["test"]["metrics"] == more["metrics"]
    assert "validation" not in other
    evaluate(run)
    assert content() == more
    # Results of another protocol are not mixed with new ones.
    (run / "eval.json").write_text(json.dumps(more | {"protocol": "sampled negatives"}))
    evaluate(run)
    assert content()["metrics"] == first["metrics"]


def test_evaluate_prints_the_cut_offs_that_were_asked_for(tmp_path, capsys):
    from jaxrec.cli.run_outputs import evaluate as command

    data().save(tmp_path / "data")
    config = dataclasses.replace(CONFIG, data=str(tmp_path / "data"))
    run = train(config, run=tmp_path / "run", quiet=True).folder
    command([str(run), "--k", "3"])
    printed = capsys.readouterr().out
    assert "recall@3 " in printed
    assert "recall@5 " not in printed
    command([str(run)])
    printed = capsys.readouterr().out
    assert "recall@10 " in printed
    assert "recall@3 " not in printed
