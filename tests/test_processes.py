"""Test a run of several real processes over loopback, and the watching of processes."""

import contextlib
import json
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from processes import contents, environment

import jaxrec
from jaxrec.config import MeshConfig
from jaxrec.data import synthetic
from jaxrec.parted.write import partition_data
from jaxrec.training.checkpoint import read_manifest

LAUNCH = Path(__file__).parents[1] / "scripts" / "launch_local.py"
ROOT = LAUNCH.parents[1]
OPTIONS = [
    *("--data", "data", "--model.dim", "4", "--model.layers", "2", "--train.epochs", "40"),
    *("--train.batch-size", "32", "--optim.learning-rate", "0.005", "--train.patience", "0"),
    *("--eval.every", "1", "--checkpoint.every", "1", "--mesh.table", "2", "--run", "run"),
]


def launch(cwd: Path, *args: str, count: int = 2) -> subprocess.Popen:
    command = [sys.executable, str(LAUNCH), str(count), *args]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    path = {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, cwd=cwd, env=environment() | path, **pipes)


def assert_same_run(found: jaxrec.Run, folder: Path) -> None:
    """Check parameters and metrics within the float32 rounding of a whole run."""
    with (
        np.load(found.folder / "embeddings.npz") as ours,
        np.load(folder / "embeddings.npz") as theirs,
    ):
        for name in ("user", "item"):
            np.testing.assert_allclose(ours[name], theirs[name], rtol=0, atol=1e-5)
    metrics = json.loads((folder / "eval.json").read_text())["metrics"]
    assert found.metrics == pytest.approx(metrics, abs=1e-6)


def interrupted(process: subprocess.Popen) -> str:
    """Send SIGTERM after the first steps, and return the output until the process ends."""
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("search step"):
            process.send_signal(signal.SIGTERM)
            break
    _, told = process.communicate(timeout=200)
    assert process.returncode == 143, told
    return told


@pytest.mark.long
def test_four_processes_train_as_one_and_resume_to_the_bits_of_an_unbroken_run(tmp_path):
    synthetic.make(50, 41, 500, seed=3).save(tmp_path / "data")
    options = [*OPTIONS, "--mesh.table", "4", "--train.epochs", "4"]
    whole = launch(tmp_path, "train", "lightgcn", *options, count=4)
    _, told = whole.communicate(timeout=200)
    assert whole.returncode == 0, told
    shutil.move(tmp_path / "run", tmp_path / "whole")
    interrupted(launch(tmp_path, "train", "lightgcn", *options, count=4))
    resumed = launch(tmp_path, "resume", "run", count=4)
    _, told = resumed.communicate(timeout=200)
    assert resumed.returncode == 0, told
    assert contents(tmp_path / "run") == contents(tmp_path / "whole")
    config = json.loads((tmp_path / "whole" / "config.json").read_text())
    config["mesh"]["table"] = 1
    (tmp_path / "alone.json").write_text(json.dumps(config))
    alone = jaxrec.train(
        jaxrec.config.load(tmp_path / "alone.json"), run=tmp_path / "alone", quiet=True
    )
    assert_same_run(alone, tmp_path / "whole")


@pytest.mark.long
def test_two_processes_stop_at_one_step_and_go_on_as_two_or_as_one(tmp_path):
    synthetic.make(50, 41, 500, seed=3).save(tmp_path / "data")
    first = launch(tmp_path, "train", "lightgcn", *OPTIONS)
    told = interrupted(first)
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


@pytest.mark.long
def test_a_process_opens_the_parts_of_its_own_devices_alone(tmp_path, launch_local):
    """Give each process the data without the other's part.

    Together they write the same run as one process with all data.
    """
    data = synthetic.make(50, 41, 500, seed=3)
    frame = pl.DataFrame({"user": data.user_ids[data.user], "item": data.item_ids[data.item]})
    frame.write_parquet(tmp_path / "pairs.parquet")
    partition_data(tmp_path / "pairs.parquet", tmp_path / "whole", 2)
    options = [
        *("train", "lightgcn", "--data", "data", "--model.dim", "4", "--model.layers", "2"),
        *("--train.epochs", "3", "--train.batch-size", "32", "--mesh.table", "2"),
        *("--checkpoint.every", "1", "--run", str(tmp_path / "run")),
    ]
    where = ["--mesh.coordinator", f"127.0.0.1:{launch_local.free_port()}", "--mesh.processes", "2"]
    processes = []
    for n in range(2):
        home = tmp_path / f"host-{n}"
        shutil.copytree(tmp_path / "whole", home / "data")
        shutil.rmtree(home / "data" / f"part-{1 - n:05d}")
        command = [sys.executable, "-m", "jaxrec", *options, *where, "--mesh.process-id", str(n)]
        path = environment() | {"PYTHONPATH": str(ROOT)}
        processes.append(subprocess.Popen(command, cwd=home, env=path, stdout=subprocess.DEVNULL))
    assert launch_local.supervise(processes) == 0
    assert not (tmp_path / "run" / ".seen").exists()
    config = jaxrec.config.load(tmp_path / "run" / "config.json")
    alone = jaxrec.train(config, data=tmp_path / "whole", run=tmp_path / "alone", quiet=True)
    assert_same_run(alone, tmp_path / "run")
    with np.load(alone.folder / "seen.npz") as ours, np.load(tmp_path / "run/seen.npz") as theirs:
        for name in ("indptr", "indices"):
            np.testing.assert_array_equal(ours[name], theirs[name])
    stored = json.loads((tmp_path / "run" / "eval.json").read_text())
    for name in ("false_negative_rate", "validation", "baselines"):
        assert alone.evaluation[name] == stored[name]


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


class Link:
    """A relay to an address on this machine that stops relaying when it is cut."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.cut, self._closed = threading.Event(), threading.Event()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.own_port = self._listening.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while not self._closed.is_set():
                near, _ = self._listening.accept()
                far = self._reached()
                for ends in ((near, far), (far, near)):
                    threading.Thread(target=self._carry, args=ends, daemon=True).start()

    def _reached(self) -> socket.socket:
        while not self._closed.wait(0.05):  # the first process may not be listening yet
            with contextlib.suppress(ConnectionRefusedError):
                return socket.create_connection(("127.0.0.1", self.port))
        raise OSError("closed")

    def _carry(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while (content := source.recv(65536)) and not self.cut.is_set():
                sink.sendall(content)

    def close(self) -> None:
        self._closed.set()
        self._listening.close()


@pytest.mark.long
@pytest.mark.parametrize("fault", ["the first stands still", "the second stands still", "no link"])
def test_a_process_that_falls_silent_ends_the_job(
    launch_local, tmp_path, capsys, fault, record_property
):
    """Cut only the link to the coordinator; the connection for sums stays."""
    synthetic.make(50, 41, 500, seed=3).save(tmp_path / "data")
    link = Link(launch_local.free_port())
    options = [*OPTIONS, "--train.epochs", "100000", "--mesh.silent-seconds", "4"]
    processes = []
    for n, port in enumerate((link.port, link.own_port)):
        where = ["--mesh.coordinator", f"127.0.0.1:{port}", "--mesh.processes", "2"]
        command = [sys.executable, "-m", "jaxrec", "train", "lightgcn", *options, *where]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
        path = environment() | {"PYTHONPATH": str(ROOT)}
        own = ["--mesh.process-id", str(n)]
        processes.append(subprocess.Popen([*command, *own], cwd=tmp_path, env=path, **pipes))
    late = threading.Timer(500, lambda: [process.kill() for process in processes])
    late.start()
    for line in processes[0].stdout:
        if line.startswith("search step"):
            break
    if fault == "no link":
        link.cut.set()
    else:
        processes[["first", "second"].index(fault.split()[1])].send_signal(signal.SIGSTOP)
    began = time.monotonic()
    status = launch_local.supervise(processes)
    seconds = time.monotonic() - began
    assert status == 1
    assert late.is_alive(), "the job did not end by itself"
    late.cancel()
    link.close()
    for process in processes:
        process.stdout.close()
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1
    record_property("happened", f"{fault}: {said.strip()}, {seconds:.1f} s after it")
    assert "was ended by SIGABRT" in said or "ended with" in said
    sealed = list((tmp_path / "run").glob("checkpoints/*/manifest.json"))
    assert sealed
    for manifest in sealed:
        read_manifest(manifest.parent)


def test_processes_that_end_well_are_no_failure(launch_local, capsys):
    fine = [subprocess.Popen([sys.executable, "-c", ""]) for _ in range(2)]
    assert launch_local.supervise(fine) == 0
    assert capsys.readouterr().err == ""
