"""Real processes, real signals: a run that was stopped ends with the bits of one that was not."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from jaxrec.data import synthetic

KILLER = Path(__file__).parents[1] / "killer.py"
OPTIONS = [
    *("--model.dim", "8", "--model.layers", "2", "--train.batch-size", "64"),
    *("--negatives.count", "16", "--train.epochs", "6", "--eval.every", "1", "--eval.k", "20"),
    *("--checkpoint.every", "1", "--seed", "5"),
]


def process(*args: object) -> subprocess.CompletedProcess:
    """Run a Python program with one CPU device, and no flags of this test run."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("XLA_", "JAX_"))}
    command = [sys.executable, *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, env=env, timeout=300)


def jaxrec(*args: object) -> subprocess.CompletedProcess:
    return process("-m", "jaxrec", *args)


def contents(run: Path) -> dict[str, object]:
    """Everything of a finished run that must repeat to the bit."""
    with np.load(run / "embeddings.npz") as stored:
        arrays = {name: stored[name].tobytes() for name in stored.files}
    texts = ("metrics.jsonl", "eval.json", "config.json", "slices.json")
    return arrays | {name: (run / name).read_bytes() for name in texts}


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "prepared"
    synthetic.make(80, 60, 1000, seed=1).save(folder)
    return folder


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory) -> tuple[list[str], Path]:
    """The options of a run (search, then refit) and the folder of it that nothing disturbed."""
    options = [*OPTIONS, "--data", str(data), "--train.refit"]
    run = tmp_path_factory.mktemp("whole") / "run"
    done = jaxrec("train", *options, "--run", run)
    assert done.returncode == 0, done.stderr
    return options, run


def test_a_seed_gives_the_same_bits_twice_and_another_seed_others(whole, tmp_path):
    options, run = whole
    assert jaxrec("train", *options, "--run", tmp_path / "a").returncode == 0
    assert contents(tmp_path / "a") == contents(run)
    assert jaxrec("train", *options, "--seed", "6", "--run", tmp_path / "b").returncode == 0
    other = contents(tmp_path / "b")
    assert other["user"] != contents(run)["user"]
    assert other["metrics.jsonl"] != contents(run)["metrics.jsonl"]


MOMENTS = {
    "between the steps": ("jaxrec.train.loop:Loop._read", 5),
    "while a line is written": ("jaxrec.log:RunLog.record", 4),
    "during an evaluation": ("jaxrec.evaluate.ranking:Evaluator.__call__", 3),
    "while Orbax writes": ("jaxrec.train.checkpoint:Checkpoints._seal", 4),
    "before a save is sealed": ("jaxrec.train.checkpoint:write_manifest", 3),
    "before anything is sealed": ("jaxrec.train.checkpoint:write_manifest", 1),
    "between the steps of the refit": ("jaxrec.train.loop:Loop._read", 9),
    "while results are written": ("jaxrec.train.results:write_slices", 1),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_at_a_moment_it_resumes_to_the_same_bits(whole, tmp_path, moment):
    options, undisturbed = whole
    run = tmp_path / "run"
    killed = process(KILLER, "SIGKILL", *MOMENTS[moment], "train", *options, "--run", run)
    assert killed.returncode == -signal.SIGKILL
    assert not (run / "eval.json").exists()
    resumed = jaxrec("resume", run)
    assert resumed.returncode == 0, resumed.stderr
    assert contents(run) == contents(undisturbed)


def test_killed_again_and_again_it_still_ends_with_the_same_bits(whole, tmp_path):
    options, undisturbed = whole
    run = tmp_path / "run"
    process(KILLER, "SIGKILL", "jaxrec.train.loop:Loop._read", 4, "train", *options, "--run", run)
    for _ in range(2):
        process(KILLER, "SIGKILL", "jaxrec.train.loop:Loop._read", 3, "resume", run)
    assert jaxrec("resume", run).returncode == 0
    assert contents(run) == contents(undisturbed)


@pytest.mark.parametrize(
    ("name", "moment", "status"),
    [
        ("SIGTERM", ("jaxrec.train.loop:Loop._read", 4), 143),
        ("SIGINT", ("jaxrec.evaluate.ranking:Evaluator.__call__", 2), 130),
        ("SIGTERM", ("jax.stages:Lowered.compile", 1), 143),
        ("SIGTERM", ("jaxrec.train.checkpoint:Checkpoints._seal", 3), 143),
        ("SIGINT", ("jaxrec.train.results:final_evaluation", 1), 130),
    ],
)
def test_a_signal_ends_with_a_checkpoint_and_nothing_lost(whole, tmp_path, name, moment, status):
    options, undisturbed = whole
    run = tmp_path / "run"
    ended = process(KILLER, name, *moment, "train", *options, "--run", run)
    assert ended.returncode == status, ended.stderr
    assert "Traceback" not in ended.stderr
    assert list((run / "checkpoints").glob("*/manifest.json"))
    assert not (run / "eval.json").exists()
    before = (run / "metrics.jsonl").read_bytes()
    resumed = jaxrec("resume", run)
    assert resumed.returncode == 0, resumed.stderr
    assert (run / "metrics.jsonl").read_bytes().startswith(before)
    assert contents(run) == contents(undisturbed)


def test_a_second_signal_ends_at_once(data, tmp_path):
    script = tmp_path / "twice.py"
    script.write_text(
        "import os, signal, sys\n"
        "import jaxrec.train.loop as loop\n"
        "from jaxrec.cli import main\n"
        "def stuck(*_):\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    signal.pause()\n"
        "    while True: signal.pause()\n"
        "loop.Loop._read = stuck\n"
        "main()\n"
    )
    run = tmp_path / "run"
    ended = process(script, "train", *OPTIONS, "--data", data, "--run", run)
    assert ended.returncode == 143


def _corrupt(file: Path, how: str) -> None:
    content = bytearray(file.read_bytes())
    if how == "flipped bit":
        content[len(content) // 2] ^= 4
    else:
        del content[len(content) // 2 :]
    file.write_bytes(content)


@pytest.mark.parametrize("how", ["flipped bit", "truncated"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_is_used(whole, tmp_path, how):
    options, undisturbed = whole
    run = tmp_path / "run"
    process(KILLER, "SIGKILL", "jaxrec.train.loop:Loop._read", 5, "train", *options, "--run", run)
    sealed = sorted((run / "checkpoints").glob("*/manifest.json"), key=lambda p: int(p.parent.name))
    newest, before = sealed[-1].parent, sealed[-2].parent
    files = [p for p in newest.rglob("*") if p.is_file() and p.stat().st_size]
    _corrupt(max(files, key=lambda p: p.stat().st_size), how)
    resumed = jaxrec("resume", run)
    assert resumed.returncode == 0, resumed.stderr
    assert f"checkpoint {newest.name} is skipped" in resumed.stdout
    assert f"going on from the checkpoint of step {before.name}" in resumed.stdout
    assert contents(run) == contents(undisturbed)


def test_a_full_disk_ends_with_a_plain_error_and_earlier_checkpoints_intact(data, tmp_path):
    script = tmp_path / "full.py"
    # Every file that the process writes from the third save on may hold 2 kB at most.
    script.write_text(
        "import resource, signal\n"
        "import jaxrec.train.checkpoint as checkpoint\n"
        "from jaxrec.cli import main\n"
        "original, calls = checkpoint.Checkpoints.save, 0\n"
        "def save(*args, **kwargs):\n"
        "    global calls\n"
        "    calls += 1\n"
        "    if calls == 3:\n"
        "        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))\n"
        "    return original(*args, **kwargs)\n"
        "checkpoint.Checkpoints.save = save\n"
        "main()\n"
    )
    run = tmp_path / "run"
    options = [*OPTIONS, "--data", data]
    ended = process(script, "train", *options, "--run", run)
    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr
    assert "could not be written" in ended.stderr
    assert len(ended.stderr.strip().splitlines()) <= 2
    assert len(list((run / "checkpoints").iterdir())) == 2
    resumed = jaxrec("resume", run)
    assert resumed.returncode == 0, resumed.stderr
    assert jaxrec("train", *options, "--run", tmp_path / "whole").returncode == 0
    assert contents(run) == contents(tmp_path / "whole")


def test_a_nan_loss_names_the_step_and_keeps_the_last_good_checkpoint(data, tmp_path):
    run = tmp_path / "run"
    ended = jaxrec(
        *("train", *OPTIONS, "--data", data, "--run", run),
        *("--optim.name", "sgd", "--optim.learning-rate", "1e30"),
    )
    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr
    assert "not finite" in ended.stderr
    assert " at step " in ended.stderr or " after step " in ended.stderr
    assert [p.name for p in (run / "checkpoints").iterdir()] == ["0"]
    assert not (run / "embeddings.npz").exists()


def test_resume_refuses_what_is_no_run_and_says_when_nothing_is_left(whole, tmp_path):
    _, run = whole
    again = jaxrec("resume", run)
    assert again.returncode == 0
    assert "finished" in again.stdout
    nothing = jaxrec("resume", tmp_path)
    assert nothing.returncode == 2
    assert "config.json" in nothing.stderr


def test_resume_refuses_other_data(whole, data, tmp_path):
    options, _ = whole
    run = tmp_path / "run"
    process(KILLER, "SIGKILL", "jaxrec.train.loop:Loop._read", 2, "train", *options, "--run", run)
    synthetic.make(80, 60, 1000, seed=2).save(tmp_path / "other")
    refused = jaxrec("resume", run, "--data", tmp_path / "other")
    assert refused.returncode == 2
    assert "fingerprint" in refused.stderr


def test_metrics_hold_no_wall_times_and_timing_does(whole):
    _, run = whole
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert {"step", "epoch", "split"} <= set.intersection(*(set(line) for line in lines))
    assert not any("second" in name for line in lines for name in line)
    timing = [json.loads(line) for line in (run / "timing.jsonl").read_text().splitlines()]
    assert any("steps_per_second" in line for line in timing)


def test_two_processes_cannot_run_one_folder(whole, tmp_path):
    options, _ = whole
    run = tmp_path / "run"
    process(KILLER, "SIGKILL", "jaxrec.train.loop:Loop._read", 2, "train", *options, "--run", run)
    import fcntl

    with (run / ".lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        refused = jaxrec("resume", run)
    assert refused.returncode == 2
    assert "another process" in refused.stderr
