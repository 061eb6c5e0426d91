"""Several real processes of one run over loopback, and what watches over them."""

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from processes import environment

import jaxrec
from jaxrec.config import MeshConfig
from jaxrec.data import synthetic

LAUNCH = Path(__file__).parents[1] / "scripts" / "launch_local.py"
ROOT = LAUNCH.parents[1]
OPTIONS = [
    *("--data", "data", "--model.dim", "4", "--model.layers", "2", "--train.epochs", "40"),
    *("--train.batch-size", "32", "--optim.learning-rate", "0.005", "--train.patience", "0"),
    *("--eval.every", "1", "--checkpoint.every", "1", "--mesh.table", "2", "--run", "run"),
]


def launch(cwd: Path, *args: str) -> subprocess.Popen:
    command = [sys.executable, str(LAUNCH), "2", *args]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    path = {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, cwd=cwd, env=environment() | path, **pipes)


def assert_same_run(found: jaxrec.Run, folder: Path) -> None:
    """Parameters and metrics, within float32's rounding over a run's length."""
    with (
        np.load(found.folder / "embeddings.npz") as ours,
        np.load(folder / "embeddings.npz") as theirs,
    ):
        for name in ("user", "item"):
            np.testing.assert_allclose(ours[name], theirs[name], rtol=0, atol=1e-5)
    metrics = json.loads((folder / "eval.json").read_text())["metrics"]
    assert found.metrics == pytest.approx(metrics, abs=1e-6)


def test_two_processes_stop_at_one_step_and_go_on_as_two_or_as_one(tmp_path):
    synthetic.make(50, 41, 500, seed=3).save(tmp_path / "data")
    first = launch(tmp_path, "train", "lightgcn", *OPTIONS)
    assert first.stdout is not None
    for line in first.stdout:
        if line.startswith("search step"):
            first.send_signal(signal.SIGTERM)
            break
    _, told = first.communicate(timeout=200)
    assert first.returncode == 143, told
    assert "its checkpoint is written" in told
    assert not (tmp_path / "run" / "eval.json").exists()
    assert json.loads((tmp_path / "run" / "config.json").read_text())["mesh"]["coordinator"] is None
    shutil.copytree(tmp_path / "run", tmp_path / "copy")
    two = launch(tmp_path, "resume", "run", "--quiet")
    _, told = two.communicate(timeout=200)
    assert two.returncode == 0, told
    stored = jaxrec.resume(tmp_path / "copy", mesh=MeshConfig(), quiet=True)
    assert_same_run(stored, tmp_path / "run")
    config = tmp_path / "run" / "config.json"
    alone = json.loads(config.read_text())
    alone["mesh"]["table"] = 1
    (tmp_path / "alone.json").write_text(json.dumps(alone))
    unbroken = jaxrec.train(
        jaxrec.config.load(tmp_path / "alone.json"), run=tmp_path / "alone", quiet=True
    )
    assert_same_run(unbroken, tmp_path / "run")


@pytest.fixture
def launch_local(monkeypatch):
    monkeypatch.syspath_prepend(str(LAUNCH.parent))
    import launch_local

    monkeypatch.setattr(launch_local, "GRACE_SECONDS", 0.2)
    handlers = {s: signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT)}
    yield launch_local
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(
    ("code", "status", "how"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", 1, "was ended by SIGKILL"),
        ("raise SystemExit(2)", 2, "ended with 2"),
    ],
)
def test_when_one_process_dies_the_others_are_ended(launch_local, capsys, code, status, how):
    stuck = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    dies = subprocess.Popen([sys.executable, "-c", code])
    assert launch_local.supervise([stuck, dies]) == status
    assert stuck.returncode == -signal.SIGKILL
    assert f"process 1 of 2 {how}" in capsys.readouterr().err
    assert stuck.stdin is not None
    stuck.stdin.close()


def test_processes_that_end_well_are_no_failure(launch_local, capsys):
    fine = [subprocess.Popen([sys.executable, "-c", ""]) for _ in range(2)]
    assert launch_local.supervise(fine) == 0
    assert capsys.readouterr().err == ""
