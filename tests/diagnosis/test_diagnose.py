"""Test what the doctor reads: finished and failed runs, embeddings from elsewhere, bad files."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

import jaxrec
from jaxrec.cli import _run
from jaxrec.config import Config, EvalConfig, ModelConfig, NegativesConfig, OptimConfig, TrainConfig
from jaxrec.data import synthetic
from jaxrec.diagnosis.diagnose import diagnose
from jaxrec.errors import InputError, RunError

CONFIG = Config(
    model=ModelConfig(dim=8, layers=2),
    negatives=NegativesConfig("shared", 16),
    optim=OptimConfig(learning_rate=0.02),
    train=TrainConfig(epochs=4, batch_size=64, l2=1e-3),
    eval=EvalConfig(k=(5, 20), every=2),
)
DATA = synthetic.make(80, 60, 1000, seed=1)


def doctor(capsys: pytest.CaptureFixture[str], *args: str) -> tuple[int, str]:
    capsys.readouterr()
    status = _run(["doctor", *args])
    return status, capsys.readouterr().out


@pytest.fixture(scope="module")
def healthy(tmp_path_factory) -> Path:
    run = tmp_path_factory.mktemp("healthy") / "run"
    jaxrec.train(CONFIG, data=DATA, run=run, quiet=True)
    return run


@pytest.fixture(scope="module")
def broken(tmp_path_factory, reports) -> tuple[Path, str]:
    """Return a run whose gradients are never cleared, and what it printed."""
    run = tmp_path_factory.mktemp("broken") / "run"
    config = dataclasses.replace(CONFIG, mistakes=("accumulated-gradients",))
    with pytest.MonkeyPatch.context() as patch, reports():
        said: list[str] = []
        patch.setattr("jaxrec.log.Reporter.say", lambda self, text: said.append(text))
        jaxrec.train(config, data=DATA, run=run)
    return run, "\n".join(said)


def test_a_sound_run_is_called_healthy(healthy, capsys):
    status, out = doctor(capsys, str(healthy))
    assert (status, out) == (0, f"{healthy}: healthy; the doctor found no problem\n")


def test_it_is_measured_at_step_0_and_at_every_evaluation(healthy):
    lines = [json.loads(x) for x in (healthy / "metrics.jsonl").read_text().splitlines()]
    per_epoch = next(r["step"] for r in lines if r["split"] == "train")
    at = [r["step"] for r in lines if r["split"] == "doctor"]
    assert at == [0, 2 * per_epoch, 4 * per_epoch]
    assert {"gradient", "fed_gradient", "gradient/embedding"} <= lines[1].keys()


def test_a_finding_is_status_3_and_its_cause_comes_first(broken, capsys):
    run, _ = broken
    status, out = doctor(capsys, str(run))
    assert status == 3
    first = out.split("\n\n")[1].splitlines()
    assert first[0].startswith("accumulated-gradients: ")
    assert any(line.startswith("  seen ") and "norm" in line for line in first)
    status, out = doctor(capsys, str(run), "--json")
    told = json.loads(out)
    assert status == 3
    assert told["healthy"] is False
    assert told["findings"][0]["name"] == "accumulated-gradients"
    assert told["figures"]["fed_gradient"] > 3 * told["figures"]["gradient"]


def test_the_log_warns_once_when_a_finding_starts(broken):
    _, said = broken
    assert said.count("doctor: the optimizer receives far more than the gradient of its step") == 1


def test_the_report_has_the_findings_and_the_curves(broken):
    pytest.importorskip("matplotlib")
    page = (broken[0] / "report.html").read_text()
    assert "gradients are never reset" in page
    assert page.count("Effective rank") >= 1


def test_a_run_that_ended_in_nan_is_told_by_what_it_left(tmp_path, capsys):
    config = dataclasses.replace(CONFIG, optim=OptimConfig("sgd", learning_rate=1e30))
    with pytest.raises(RunError, match="jaxrec doctor"):
        jaxrec.train(config, data=DATA, run=tmp_path / "run", quiet=True)
    status, out = doctor(capsys, str(tmp_path / "run"))
    assert status == 3
    assert "learning-rate-high" in out
    assert "not finite" in out


def test_a_run_that_was_not_watched_is_told_by_its_embeddings(healthy, tmp_path, capsys):
    run = tmp_path / "run"
    run.mkdir()
    for name in ("config.json", "embeddings.npz"):
        (run / name).write_bytes((healthy / name).read_bytes())
    assert doctor(capsys, str(run))[0] == 0
    (run / "embeddings.npz").unlink()
    with pytest.raises(InputError, match="nothing to diagnose yet"):
        diagnose(run)


def test_embeddings_from_elsewhere(healthy, tmp_path, capsys):
    table = dict(np.load(healthy / "embeddings.npz"))
    path = tmp_path / "mine.npz"
    np.savez(path, user=table["user"], item=table["item"])
    assert doctor(capsys, str(path))[0] == 0
    leaning = {n: table[n] + np.float32(30) * table[n].std() for n in ("user", "item")}
    np.savez(path, **leaning)
    status, out = doctor(capsys, str(path))
    assert status == 3
    assert "collapse" in out
    assert "cosine among items 0.99" in out


def test_embeddings_are_matched_with_their_data_by_id(healthy, tmp_path):
    table = dict(np.load(healthy / "embeddings.npz"))
    folder = tmp_path / "data"
    DATA.save(folder)
    plain = diagnose(_saved(tmp_path / "a.npz", table, "user", "item"), folder)
    assert plain.healthy
    turned = {name: table[name][::-1] for name in table if table[name].ndim}
    path = _saved(tmp_path / "b.npz", turned, "user", "item", "user_ids", "item_ids")
    by_id = diagnose(path, folder)
    assert plain.figures["train_auc"] > 0.7
    assert by_id.figures["train_auc"] == pytest.approx(plain.figures["train_auc"], abs=0.05)
    wrong = diagnose(_saved(tmp_path / "c.npz", turned, "user", "item"), folder)
    assert wrong.figures["train_auc"] < 0.65


def test_a_single_matrix_is_looked_at_alone(tmp_path):
    noise = np.random.default_rng(0).normal(size=(40, 6))
    np.save(tmp_path / "m.npy", noise)
    assert diagnose(tmp_path / "m.npy").healthy
    np.savez(tmp_path / "m.npz", vectors=np.abs(noise) + 20)
    (found,) = diagnose(tmp_path / "m.npz").findings
    assert found.name == "collapse"


def test_embeddings_that_are_not_finite_are_a_finding(tmp_path, capsys):
    x = np.ones((5, 3))
    x[1, 2] = np.nan
    np.savez(tmp_path / "x.npz", user=np.eye(3), item=x)
    status, out = doctor(capsys, str(tmp_path / "x.npz"))
    assert status == 3
    assert "not finite" in out


def _saved(path: Path, table: dict[str, np.ndarray], *names: str) -> Path:
    np.savez(path, **{name: table[name] for name in names})
    return path


def _bad(tmp_path: Path, what: str) -> Path:
    path = tmp_path / f"{what}.npz"
    eye = np.eye(4)
    if what == "text":
        path.write_text("not an archive")
    elif what == "pickle":
        np.savez(path, user=np.array([{"a": 1}], dtype=object), item=eye)
    elif what == "flat":
        np.savez(path, user=eye, item=np.ones(4))
    elif what == "widths":
        np.savez(path, user=eye, item=np.ones((4, 3)))
    elif what == "several":
        np.savez(path, a=eye, b=eye)
    elif what == "words":
        np.savez(path, user=eye, item=np.full((3, 4), "x"))
    elif what == "one-row":
        np.savez(path, user=eye, item=np.ones((1, 4)))
    elif what == "cut":
        np.savez(path, user=eye, item=eye)
        path.write_bytes(path.read_bytes()[:-40])
    return path


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("absent", "no such file"),
        ("text", "not a NumPy file"),
        ("pickle", "not a NumPy file"),
        ("cut", "not a NumPy file"),
        ("flat", r"item has shape \(4,\)"),
        ("widths", "user has 4 columns and item 3"),
        ("several", "nor exactly one matrix"),
        ("words", "it must be a matrix of numbers"),
        ("one-row", "has one row"),
    ],
)
def test_files_that_are_none_are_refused_in_a_line(tmp_path, what, words):
    with pytest.raises(InputError, match=words) as told:
        diagnose(_bad(tmp_path, what))
    assert len(str(told.value).splitlines()) <= 2


def test_wrong_pairings_are_refused(healthy, tmp_path):
    DATA.save(tmp_path / "data")
    with pytest.raises(InputError, match="a run has its own data"):
        diagnose(healthy, tmp_path / "data")
    with pytest.raises(InputError, match="not a run folder"):
        diagnose(tmp_path)
    np.savez(tmp_path / "x.npz", user=np.eye(9), item=np.eye(9))
    with pytest.raises(InputError, match="user has 9 rows, but"):
        diagnose(tmp_path / "x.npz", tmp_path / "data")
    ids = {"user_ids": np.arange(9), "item_ids": np.arange(9)}
    np.savez(tmp_path / "y.npz", user=np.eye(9), item=np.eye(9), **ids)
    with pytest.raises(InputError, match="lacks the user or the item of every pair"):
        diagnose(tmp_path / "y.npz", tmp_path / "data")
    np.save(tmp_path / "z.npy", np.eye(9))
    with pytest.raises(InputError, match="needs both"):
        diagnose(tmp_path / "z.npy", tmp_path / "data")
