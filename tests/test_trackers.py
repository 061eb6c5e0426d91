"""Test each tracker without a network, by its files after logging two splits."""

import json
import sqlite3
from pathlib import Path
from types import SimpleNamespace

import pytest

from jaxrec.config import LogConfig
from jaxrec.log import RunLog
from jaxrec.trackers import metric_name

pytestmark = pytest.mark.filterwarnings("ignore")  # warnings of the trackers' packages


def logged(run: Path, config: LogConfig) -> None:
    run.mkdir(exist_ok=True)
    (run / "config.json").write_text(json.dumps({"seed": 3, "model": {"dim": 8}}))
    log = RunLog(run, config)
    log.record(5, 1.0, "validation", "search", **{"recall@20": 0.25})
    log.record(5, 1.0, "doctor", "search", rank=0.5)
    log.close()


def test_names_are_one_level_deep_so_that_none_is_a_folder_of_another():
    names = [metric_name("doctor", name) for name in ("norm", "norm/user", "norm/user/mean")]
    assert names == ["doctor/norm", "doctor/norm.user", "doctor/norm.user.mean"]


@pytest.mark.parametrize("asked", [False, True])
def test_the_doctors_series_are_sent_where_asked_for_and_kept_either_way(
    asked, tmp_path, monkeypatch
):
    told: list[str] = []
    sink = SimpleNamespace(write=lambda step, values: told.extend(values), close=lambda: None)
    monkeypatch.setattr("jaxrec.log.sinks", lambda run, config: [sink])
    logged(tmp_path / "run", LogConfig(doctor_series=asked))
    assert told == ["validation/recall@20", *(["doctor/rank"] if asked else [])]
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["split"] for line in lines] == ["validation", "doctor"]


def test_mlflow_has_the_metrics_and_a_resumed_run_goes_on_in_its_own(tmp_path, monkeypatch):
    pytest.importorskip("mlflow", reason="needs the extra `mlflow`")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    for _ in range(2):
        logged(tmp_path / "run", LogConfig(mlflow="tests"))
    with sqlite3.connect(tmp_path / "run" / "mlflow.db") as base:
        runs = base.execute("select name, status from runs").fetchall()
        metrics = base.execute("select distinct key, value, step from metrics").fetchall()
        parameters = dict(base.execute("select key, value from params").fetchall())
    assert runs == [("run", "FINISHED")]
    assert metrics == [("validation/recall_at_20", 0.25, 5)]
    assert parameters == {"seed": "3", "model.dim": "8"}


def test_wandb_writes_offline(tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb", reason="needs the extra `wandb`")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    logged(tmp_path / "run", LogConfig(wandb="tests"))
    wandb.teardown()  # its separate process writes the remaining records
    (written,) = (tmp_path / "run" / "wandb").glob("offline-run-*/*.wandb")
    content = written.read_bytes()
    assert b"validation/recall@20" in content
    assert b"doctor/rank" not in content


def test_tensorboard_has_the_metrics(tmp_path):
    pytest.importorskip("tensorboardX", reason="needs the extra `tensorboard`")
    logged(tmp_path / "run", LogConfig(tensorboard=True))
    (events,) = (tmp_path / "run" / "tensorboard").iterdir()
    assert b"validation/recall" in events.read_bytes()


def test_trackio_has_the_metrics(tmp_path, monkeypatch):
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path))
    pytest.importorskip("trackio", reason="needs the extra `trackio`")
    logged(tmp_path / "run", LogConfig(trackio="tests"))
    with sqlite3.connect(tmp_path / "tests.db") as base:
        (told,) = base.execute("select step, metrics from metrics").fetchall()
    assert told == (5, b'{"validation/recall@20":0.25}')


def test_energy_is_estimated_without_network(tmp_path):
    pytest.importorskip("codecarbon", reason="needs the extra `energy`")
    logged(tmp_path / "run", LogConfig(energy="DEU"))
    (line,) = (tmp_path / "run" / "timing.jsonl").read_text().splitlines()
    found = json.loads(line)
    assert found["event"] == "energy"
    assert found["energy_kwh"] >= 0
    assert found["emissions_kg"] >= 0
