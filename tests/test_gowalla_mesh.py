"""Compare a mesh with one device on the Gowalla data, for minutes: `pytest -m gowalla`."""

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from processes import contents, environment

from jaxrec.runfolder import read_json

pytestmark = pytest.mark.gowalla

ROOT = Path(__file__).parents[1]
STEPS = 12
# The tolerance allows for float32 sums in another order over 12 steps of Adam; entries are about
# 0.1.
TOLERANCE = {"rtol": 0, "atol": 1e-5}
OPTIONS = [
    *("--model.layers", "3", "--optim.learning-rate", "0.01", "--train.batch-size", "2048"),
    *("--train.steps", str(STEPS), "--train.l2", "1e-4", "--negatives.count", "1"),
    *("--split.validation", "0", "--eval.select-on", "none", "--eval.k", "20"),
    *("--eval.every", "4", "--checkpoint.every", "4"),
]
MESHES = {
    "one device": (1, 1, 1, 1),
    "8 virtual devices": (1, 8, 2, 4),
    "2 processes": (2, 1, 1, 2),
    "4 processes": (4, 1, 1, 4),
}
"""Numbers of processes and of devices per process, mesh.data and mesh.table."""


def started(name: str, *args: object) -> subprocess.Popen:
    """Start `jaxrec ARGS` on a mesh."""
    processes, devices, _, _ = MESHES[name]
    launch = [str(ROOT / "scripts" / "launch_local.py"), str(processes)]
    command = [sys.executable, *(launch if processes > 1 else ["-m", "jaxrec"]), *map(str, args)]
    env = environment() | {"PYTHONPATH": str(ROOT), "JAX_NUM_CPU_DEVICES": str(devices)}
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True)


def train(name: str, data: Path, run: Path) -> subprocess.Popen:
    _, _, parts, table = MESHES[name]
    mesh = ["--mesh.data", parts, "--mesh.table", table]
    return started(name, "train", "lightgcn", "--data", data, "--run", run, *OPTIONS, *mesh)


def ended(process: subprocess.Popen) -> int:
    process.communicate(timeout=1200)
    return process.returncode


@pytest.fixture(scope="module")
def alone(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("alone") / "run"
    assert ended(train("one device", real_data / "gowalla", run)) == 0
    return run


@pytest.mark.parametrize("name", list(MESHES)[1:])
def test_gowalla_on_a_mesh(name: str, alone: Path, real_data: Path, tmp_path: Path):
    """Match a run on one device.

    An interrupted run matches the uninterrupted one to the last bit.
    """
    whole = tmp_path / "run"
    assert ended(train(name, real_data / "gowalla", whole)) == 0
    with np.load(whole / "embeddings.npz") as ours, np.load(alone / "embeddings.npz") as theirs:
        for side in ("user", "item"):
            np.testing.assert_allclose(ours[side], theirs[side], **TOLERANCE)
    metrics, expected = (read_json(run / "eval.json")["metrics"] for run in (whole, alone))
    # If two nearly equal scores change places, one hit may be gained or lost, 7e-6 of recall.
    assert metrics == pytest.approx(expected, abs=2e-5)
    assert metrics["recall@20"] > 0.01

    unbroken = contents(whole)
    shutil.rmtree(whole)
    broken = train(name, real_data / "gowalla", whole)
    assert broken.stdout is not None
    for line in broken.stdout:
        if line.startswith("search step 4/"):
            broken.send_signal(signal.SIGTERM)
            break
    assert ended(broken) == 143
    assert not (whole / "eval.json").exists()
    assert ended(started(name, "resume", whole)) == 0
    assert contents(whole) == unbroken
