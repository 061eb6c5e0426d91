"""Test the scripts by running them as users do."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

SCRIPTS = Path(__file__).parents[1] / "scripts"


def run(script: str, *args, seconds: str = "540"):
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return subprocess.run(
        [str(SCRIPTS / script), *map(str, args)],
        env=os.environ | {"PATH": path, "SECONDS_A_PIECE": seconds},
        capture_output=True,
        text=True,
    )


@pytest.fixture
def folder(tmp_path):
    """Write a split in the form of LightGCN's files."""
    rng = np.random.default_rng(0)
    lists = [rng.permutation(30)[:11] for _ in range(20)]
    for name, part in (("train.txt", slice(8)), ("test.txt", slice(8, None))):
        lines = [" ".join(map(str, [u, *items[part]])) for u, items in enumerate(lists)]
        (tmp_path / name).write_text("\n".join(lines) + "\n")
    return tmp_path


@pytest.mark.long
def test_pieces_of_a_long_run_end_with_more_to_do_and_go_on(folder):
    long = ("--train.epochs", "100000000", "--model.dim", "4")
    for _ in range(2):
        piece = run("lightgcn_1000_epochs.sh", folder, folder / "run", *long, seconds="8")
        assert (piece.returncode, "More to do" in piece.stdout) == (75, True), piece.stderr
    assert (folder / "run" / "config.json").is_file()


@pytest.mark.long
def test_a_run_that_is_done_is_said_to_be_done(folder):
    short = ("--train.epochs", "2", "--model.dim", "4")
    first = run("lightgcn_1000_epochs.sh", folder, folder / "run", *short)
    assert first.returncode == 0, first.stderr
    found = json.loads((folder / "run" / "eval.json").read_text())
    again = run("lightgcn_1000_epochs.sh", folder, folder / "run")
    assert again.returncode == 0
    assert json.loads(again.stdout.split("is done: ")[1]) == found


def test_without_its_folders_it_says_how_it_is_called():
    told = run("lightgcn_1000_epochs.sh")
    assert told.returncode == 2
    assert "GOWALLA RUN" in told.stderr
