"""Test runs on a full disk and in read-only folders, with real mounts and commands."""

import shutil
from pathlib import Path

import pytest
from processes import KILLER, can_mount, contents, jaxrec, mounted, process, server

from jaxrec.data import synthetic

pytestmark = pytest.mark.skipif(not can_mount(), reason="no mounts of one's own (unshare -rm)")

OPTIONS = [
    *("--model.dim", "8", "--model.layers", "2", "--train.batch-size", "64"),
    *("--negatives.count", "16", "--train.epochs", "6", "--eval.every", "1", "--eval.k", "20"),
    *("--checkpoint.every", "1", "--seed", "5"),
]


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """Return a folder with data, a finished run, and a run that was killed in the middle."""
    folder = tmp_path_factory.mktemp("home")
    synthetic.make(80, 60, 1000, seed=1).save(folder / "data")
    (folder / "ids.csv").write_text("user,item\na,b\nc,d\n")
    options = [*OPTIONS, "--data", folder / "data"]
    assert jaxrec("train", *options, "--run", folder / "run").returncode == 0
    moment = ("SIGKILL", "jaxrec.training.loop:Loop.read", 3)
    killed = process(KILLER, *moment, "train", *options, "--run", folder / "killed")
    assert killed.returncode == -9
    return folder


def told(ended, record_property, home: Path) -> str:
    """Return the message of a failed command, and check that it is one or two plain lines."""
    assert "Traceback" not in ended.stderr
    assert 1 <= len(ended.stderr.strip().splitlines()) <= 2, ended.stderr
    said = ended.stderr.strip().replace(str(home), ".")
    record_property("happened", f"status {ended.returncode}: {said}")
    return ended.stderr


@pytest.mark.long
def test_a_disk_that_is_full_during_a_save_leaves_every_checkpoint_whole(
    home, tmp_path, record_property
):
    """Run on a file system of 400 kB, and keep every checkpoint."""
    (tmp_path / "disk").mkdir()
    small = mounted(f"mount -t tmpfs -o size=400k none {tmp_path}/disk")
    options = [*OPTIONS, "--checkpoint.keep", "99", "--data", home / "data"]
    full = jaxrec("train", *options, "--run", tmp_path / "disk" / "run", before=small)
    assert full.returncode == 1
    assert "the disk is full" in told(full, record_property, tmp_path) or "space" in full.stderr
    inside = Path(f"/proc/{server(small).pid}/root{tmp_path}/disk/run")
    shutil.copytree(inside, tmp_path / "run")
    saved = list((tmp_path / "run" / "checkpoints").iterdir())
    assert len(saved) > 1
    assert all((path / "manifest.json").exists() for path in saved)
    resumed = jaxrec("resume", tmp_path / "run")
    assert resumed.returncode == 0, resumed.stderr
    assert "skipped" not in resumed.stdout
    assert jaxrec("train", *options, "--run", tmp_path / "whole").returncode == 0
    assert contents(tmp_path / "run") == contents(tmp_path / "whole")


@pytest.fixture(scope="module")
def read_only(home) -> tuple[str, ...]:
    return mounted(f"mount --bind {home} {home} && mount -o remount,ro,bind {home}")


@pytest.mark.long_but("recommend run --out recs.csv")
@pytest.mark.parametrize(
    "args",
    [
        ("train", "--data", "data", "--run", "new"),
        ("train", "--data", "data"),
        ("resume", "killed"),
        ("evaluate", "run"),
        ("recommend", "run", "--out", "recs.parquet"),
        ("recommend", "run", "--out", "recs.csv"),
        ("export", "run", "--to", "npz", "--out", "x.npz"),
        ("export", "run", "--to", "parquet", "--out", "x"),
        ("report", "run", "--out", "report.html"),
        ("data", "import", "ids.csv", "--out", "made"),
        ("data", "synth", "--users", "9", "--items", "9", "--edges", "20", "--out", "made"),
    ],
    ids=" ".join,
)
def test_a_folder_that_cannot_be_written_is_named(home, read_only, args, record_property):
    refused = jaxrec(*args, cwd=home, before=read_only)
    assert refused.returncode in (1, 2)
    message = told(refused, record_property, home)
    assert "Read-only" in message
    assert "Error:" not in message  # names of exceptions are not plain words


@pytest.mark.long
def test_a_folder_that_cannot_be_written_can_be_read(home, read_only, tmp_path, record_property):
    """Mount read-only the folder of the run, and with it that of the cache of compiled programs."""
    cache = {"XDG_CACHE_HOME": str(home)}
    out = tmp_path / "recs.csv"
    done = jaxrec("recommend", "run", "--out", out, cwd=home, before=read_only, env=cache)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    options = [*OPTIONS, "--data", home / "data", "--run", tmp_path / "run"]
    trained = jaxrec("train", *options, cwd=home, before=read_only, env=cache)
    assert trained.returncode == 0, trained.stderr
    assert contents(tmp_path / "run") == contents(home / "run")
    record_property("happened", "status 0: reads the run and trains without a cache")
