"""Test with real processes and signals that a resumed run equals an unbroken one exactly."""

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from processes import KILLER, contents, jaxrec, process, unforked

from jaxrec.data import synthetic

OPTIONS = [
    *("--model.dim", "8", "--model.layers", "2", "--train.batch-size", "64"),
    *("--negatives.count", "16", "--train.epochs", "6", "--eval.every", "1", "--eval.k", "20"),
    *("--checkpoint.every", "1", "--seed", "5"),
]


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "prepared"
    synthetic.make(80, 60, 1000, seed=1).save(folder)
    return folder


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory) -> tuple[list[str], Path]:
    """Return the options of a run (search, then refit), and the folder of an unbroken run."""
    options = [*OPTIONS, "--data", str(data), "--train.refit"]
    run = tmp_path_factory.mktemp("whole") / "run"
    done = jaxrec("train", *options, "--run", run)
    assert done.returncode == 0, done.stderr
    return options, run


@pytest.fixture(scope="module")
def killed(whole, tmp_path_factory) -> Path:
    """Return the folder of a run that was killed between the steps; tests take copies of it."""
    options, _ = whole
    run = tmp_path_factory.mktemp("killed") / "run"
    ended = process(
        KILLER, "SIGKILL", *MOMENTS["between the steps"], "train", *options, "--run", run
    )
    assert ended.returncode == -signal.SIGKILL
    return run


@pytest.mark.long
def test_a_seed_gives_the_same_bits_twice_and_another_seed_others(whole, tmp_path):
    options, run = whole
    assert jaxrec("train", *options, "--run", tmp_path / "a").returncode == 0
    assert contents(tmp_path / "a") == contents(run)
    assert jaxrec("train", *options, "--seed", "6", "--run", tmp_path / "b").returncode == 0
    other = contents(tmp_path / "b")
    assert other["user"] != contents(run)["user"]
    assert other["metrics.jsonl"] != contents(run)["metrics.jsonl"]


MOMENTS = {
    "between the steps": ("jaxrec.training.loop:Loop.read", 5),
    "while a line is written": ("jaxrec.log:RunLog.record", 4),
    "during an evaluation": ("jaxrec.evaluation.ranking:Evaluator.__call__", 3),
    "while Orbax writes": ("jaxrec.training.checkpoint:Checkpoints._seal", 4),
    "before a save is sealed": ("jaxrec.training.checkpoint:write_manifest", 3),
    "before anything is sealed": ("jaxrec.training.checkpoint:write_manifest", 1),
    "between the steps of the refit": ("jaxrec.training.loop:Loop.read", 9),
    "when the refit begins": ("jaxrec.training.loop:Loop._compile", 2),
    "while results are written": ("jaxrec.training.results:write_slices", 1),
}


@pytest.mark.long_but("before anything is sealed")
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


@pytest.mark.long
def test_killed_again_and_again_it_still_ends_with_the_same_bits(whole, killed, tmp_path):
    _, undisturbed = whole
    run = shutil.copytree(killed, tmp_path / "run")
    for _ in range(2):
        process(KILLER, "SIGKILL", "jaxrec.training.loop:Loop.read", 5, "resume", run)
    assert jaxrec("resume", run).returncode == 0
    assert contents(run) == contents(undisturbed)


@pytest.mark.long
def test_killed_before_the_report_it_only_writes_the_report(whole, tmp_path):
    options, undisturbed = whole
    run = tmp_path / "run"
    moment = ("jaxrec.reporting.page:report", 1)
    process(KILLER, "SIGKILL", *moment, "train", *options, "--run", run, reports=True)
    assert not (run / "report.html").exists()
    resumed = jaxrec("resume", run, reports=True)
    assert resumed.returncode == 0, resumed.stderr
    assert "there is nothing to train" in resumed.stdout
    assert (run / "report.html").exists()
    assert contents(run) == contents(undisturbed)


@pytest.mark.long
def test_rows_that_lag_behind_are_killed_and_resumed_to_the_same_bits(data, tmp_path):
    """Row-sparse Adam stores rows as of their last update; a checkpoint leaves them so."""
    model = ["--model.layers", 0, "--optim.sparse", "True", "--train.batch-size", 16]
    options = [*OPTIONS, *model, "--data", data]
    undisturbed, run = tmp_path / "undisturbed", tmp_path / "run"
    assert jaxrec("train", *options, "--run", undisturbed).returncode == 0
    moment = ("jaxrec.training.checkpoint:Checkpoints._seal", 3)
    killed = process(KILLER, "SIGKILL", *moment, "train", *options, "--run", run)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert jaxrec("resume", run).returncode == 0
    assert contents(run) == contents(undisturbed)
    # Repeat with the table in the host's memory, killed while rows are written to it.
    by_host, options = tmp_path / "host", [*options, "--mesh.memory", "host"]
    moment = ("jaxrec.training.placement.host_rows:RowDispatch._turn", 150)
    killed = process(KILLER, "SIGKILL", *moment, "train", *options, "--run", by_host)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert jaxrec("resume", by_host).returncode == 0
    differ = {n for n, x in contents(by_host).items() if x != contents(undisturbed)[n]}
    assert differ == {"config.json"}


@pytest.mark.long_but("SIGTERM-moment2-143")
@pytest.mark.parametrize(
    ("name", "moment", "status"),
    [
        ("SIGTERM", ("jaxrec.training.loop:Loop.read", 4), 143),
        ("SIGINT", ("jaxrec.evaluation.ranking:Evaluator.__call__", 2), 130),
        ("SIGTERM", ("jax.stages:Lowered.compile", 1), 143),
        ("SIGTERM", ("jaxrec.training.checkpoint:Checkpoints._seal", 3), 143),
        ("SIGINT", ("jaxrec.training.results:final_evaluation", 1), 130),
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
    if moment[0].endswith("compile"):  # the process did not wait for the compilation to end
        assert "compiled" not in (run / "timing.jsonl").read_text()
    before = (run / "metrics.jsonl").read_bytes()
    resumed = jaxrec("resume", run)
    assert resumed.returncode == 0, resumed.stderr
    assert (run / "metrics.jsonl").read_bytes().startswith(before)
    assert contents(run) == contents(undisturbed)


TWICE = """
import os, signal, sys
import jaxrec.training.loop as loop
import jaxrec.training.signals as signals
from jaxrec.cli import main

signals.REPEAT_SECONDS = float(sys.argv.pop(1))
read = loop.Loop.read

def twice(self, totals, step):
    if not self.watch():
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        while signals.REPEAT_SECONDS == 0:
            signal.pause()
    read(self, totals, step)

loop.Loop.read = twice
main()
"""


@pytest.mark.parametrize("repeat", [0, 100])
def test_a_second_signal_ends_at_once_but_a_repeat_of_the_first_does_not(data, tmp_path, repeat):
    script = tmp_path / "twice.py"
    script.write_text(TWICE)
    run = tmp_path / "run"
    ended = process(script, repeat, "train", *OPTIONS, "--data", data, "--run", run)
    assert ended.returncode == 143
    saved = [p.parent.name for p in run.glob("checkpoints/*/manifest.json")]
    if repeat:
        assert "its checkpoint is written" in ended.stderr
        assert max(map(int, saved)) > 0
    else:
        assert ended.stderr == ""
        assert saved == ["0"]


def _corrupt(file: Path, how: str) -> None:
    if how == "missing":
        file.unlink()
        return
    content = bytearray(file.read_bytes())
    if how == "flipped bit":
        content[len(content) // 2] ^= 4
    else:
        del content[len(content) // 2 :]
    file.write_bytes(content)


@pytest.fixture(scope="module")
def saved(whole, tmp_path_factory) -> Path:
    """Return the folder of a run that was killed before its fourth checkpoint."""
    options, _ = whole
    run = tmp_path_factory.mktemp("saved") / "run"
    saves = ("jaxrec.training.checkpoint:Checkpoints.save", 4)
    process(KILLER, "SIGKILL", *saves, "train", *options, "--run", run)
    return run


@pytest.mark.long_but("truncated")
@pytest.mark.parametrize("how", ["flipped bit", "truncated", "missing"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_is_used(
    whole, saved, tmp_path, how, record_property
):
    _, undisturbed = whole
    run = shutil.copytree(saved, tmp_path / "run")
    sealed = sorted((run / "checkpoints").glob("*/manifest.json"), key=lambda p: int(p.parent.name))
    newest, before = sealed[-1].parent, sealed[-2].parent
    files = [p for p in newest.rglob("*") if p.is_file() and p.stat().st_size]
    _corrupt(max(files, key=lambda p: p.stat().st_size), how)
    resumed = jaxrec("resume", run)
    assert resumed.returncode == 0, resumed.stderr
    assert f"checkpoint {newest.name} is skipped" in resumed.stdout
    skipped = next(line for line in resumed.stdout.splitlines() if "is skipped" in line)
    record_property("happened", f"{how}: {skipped.replace(str(tmp_path), '.')}")
    assert f"resuming from the checkpoint of step {before.name}" in resumed.stdout
    assert contents(run) == contents(undisturbed)


FULL = """
import resource, signal, sys
import jaxrec.log, jaxrec.training.checkpoint, jaxrec.training.results
from jaxrec.cli import main

where, limit, owner = sys.argv.pop(1), int(sys.argv.pop(1)), sys.modules
*module, cls, name = where.split(".")
owner = getattr(sys.modules[".".join(module)], cls)
original, calls = getattr(owner, name), 0

def filling(*args, **kwargs):
    global calls
    calls += 1
    if calls == 3:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    return original(*args, **kwargs)

setattr(owner, name, filling)
main()
"""


@pytest.fixture(scope="module")
def without_refit(data, tmp_path_factory) -> Path:
    """Return the folder of an unbroken run without a refit."""
    run = tmp_path_factory.mktemp("without") / "run"
    assert jaxrec("train", *OPTIONS, "--data", data, "--run", run).returncode == 0
    return run


@pytest.mark.long
@pytest.mark.parametrize(
    ("where", "limit"),
    [
        ("jaxrec.training.checkpoint.Checkpoints.save", 2000),
        ("jaxrec.log.RunLog.record", 100),
    ],
)
def test_a_full_disk_ends_with_a_plain_error_and_earlier_checkpoints_intact(
    data, without_refit, tmp_path, where, limit, record_property
):
    """From the third call on, limit every file that the process writes to ``limit`` bytes."""
    script = tmp_path / "full.py"
    script.write_text(FULL)
    run = tmp_path / "run"
    options = [*OPTIONS, "--data", data]
    ended = unforked(script, where, limit, "train", *options, "--run", run)
    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr
    assert "be written" in ended.stderr
    assert len(ended.stderr.strip().splitlines()) <= 2, ended.stderr
    record_property("happened", ended.stderr.strip().replace(str(tmp_path), "."))
    saved = list((run / "checkpoints").iterdir())
    assert saved
    assert all((path / "manifest.json").exists() for path in saved)
    resumed = jaxrec("resume", run)
    assert resumed.returncode == 0, resumed.stderr
    assert contents(run) == contents(without_refit)


@pytest.mark.long
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


def test_resume_refuses_other_data(killed, tmp_path):
    run = shutil.copytree(killed, tmp_path / "run")
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


@pytest.mark.long
def test_of_two_processes_that_start_on_one_folder_one_is_refused(data, tmp_path, record_property):
    command = [sys.executable, "-m", "jaxrec", "train", *OPTIONS, "--data", str(data)]
    command += ["--run", str(tmp_path / "run")]
    both = [
        subprocess.Popen([*command, "--model.dim", dim], stderr=subprocess.PIPE, text=True)
        for dim in ("8", "4")
    ]
    errors = [process.communicate(timeout=300)[1] for process in both]
    assert sorted(process.returncode for process in both) == [0, 2], errors
    told = "".join(errors).strip()
    assert str(tmp_path / "run") in told
    assert len(told.splitlines()) == 1
    record_property("happened", told.replace(str(tmp_path), "."))
    winner = ["8", "4"][[process.returncode for process in both].index(0)]
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert str(config["model"]["dim"]) == winner
    with np.load(tmp_path / "run" / "embeddings.npz") as stored:
        assert str(stored["user"].shape[1]) == winner


def test_a_folder_that_another_process_holds_is_refused(killed, tmp_path):
    run = shutil.copytree(killed, tmp_path / "run")
    import fcntl

    with (run / ".lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        refused = jaxrec("resume", run)
    assert refused.returncode == 2
    assert "another process" in refused.stderr
