import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from jaxrec import presets
from jaxrec.cli import sweep as command
from jaxrec.cli.train import configured
from jaxrec.config import SplitConfig
from jaxrec.data import synthetic
from jaxrec.errors import InputError
from jaxrec.sweep import Range, Sweep, best
from jaxrec.training.run import train

BASE = presets.get("mf")


optuna = pytest.importorskip("optuna", reason="sweeps need the extra `sweep`")


@pytest.fixture
def base(tmp_path):
    data = tmp_path / "data"
    synthetic.make(60, 40, 600, communities=2, seed=1).save(data)
    return replace(
        BASE,
        data=str(data),
        model=replace(BASE.model, dim=8),
        train=replace(BASE.train, epochs=2, batch_size=64),
        eval=replace(BASE.eval, every=1, k=(20,)),
        log=replace(BASE.log, doctor=False),
    )


SPACE = {"optim.learning_rate": Range(1e-3, 0.3, None, True, False), "train.l2": (1e-3, 1e-5)}


def trials(study) -> list[tuple]:
    return [(t.number, t.params, t.state.name, t.value) for t in study.get_trials(deepcopy=False)]


class _Died(BaseException):
    pass


def test_a_sweep_whose_process_ended_goes_on_and_ends_with_the_same_trials(
    base, tmp_path, monkeypatch
):
    said: list[str] = []
    whole = Sweep(tmp_path / "whole", base, SPACE, seeds=2, say=said.append)
    whole.check()
    expected = trials(whole.work(2))
    assert len(expected) == 2
    cut = Sweep(tmp_path / "cut", base, SPACE, seeds=2, say=said.append)
    one = Sweep._run_seed

    def dies(self, trial, seed):
        if (trial.number, seed.config.seed) == (1, 1):
            raise _Died
        return one(self, trial, seed)

    monkeypatch.setattr(Sweep, "_run_seed", dies)
    with pytest.raises(_Died):
        cut.work(2)
    monkeypatch.undo()
    assert trials(cut.work(2)) == expected
    assert "trial 1: resuming where its process ended" in said
    for number in range(2):
        runs = sorted((tmp_path / "cut" / f"trial-{number}").glob("seed-*"))
        seeds = [json.loads((run / "config.json").read_text()) for run in runs]
        assert {config["split"]["seed"] for config in seeds} == {base.seed}
    with pytest.raises(InputError, match=r"another sweep \(seeds differs\)"):
        Sweep(tmp_path / "cut", base, SPACE, seeds=1, say=said.append).work(2)
    ordered = [trial.value for trial in best(cut.work(2))]
    assert ordered == sorted(ordered, reverse=True)


def test_a_grid_takes_each_combination_once_and_failures_are_told(base, tmp_path):
    said: list[str] = []
    space = {"model.dim": (4,), "optim.learning_rate": (0.01, -1.0)}
    study = Sweep(tmp_path / "s", base, space, sampler="grid", say=said.append).work(99)
    found = trials(study)
    assert [params for _, params, _, _ in found] == [
        {"model.dim": 4, "optim.learning_rate": rate} for rate in (0.01, -1.0)
    ]
    assert [state for _, _, state, _ in found] == ["COMPLETE", "FAIL"]
    assert "failed: optim.learning_rate" in said[1]


def test_a_trial_below_the_median_is_stopped_early(base, tmp_path):
    sweep = Sweep(tmp_path / "s", base, {"model.dim": (4,)}, say=lambda line: None)
    study = sweep.begin()
    better = dict.fromkeys(range(1, 100), 0.99)
    for _ in range(5):  # better at every step; the pruner begins after five trials
        study.add_trial(optuna.trial.create_trial(intermediate_values=better, value=0.99))
    study = sweep.work(6)
    assert study.trials[-1].state.name == "PRUNED"
    assert len(study.trials[-1].intermediate_values) == 1
    (run,) = (tmp_path / "s" / "trial-5").glob("seed-*")
    assert not (run / "eval.json").exists()


def test_what_would_be_decided_on_test_is_refused(base, tmp_path):
    on_test = replace(base, eval=replace(base.eval, select_on="test"))
    with pytest.raises(InputError, match="decided on validation"):
        Sweep(tmp_path / "s", on_test, SPACE).check()
    for name in ("split.seed", "split.fold"):
        with pytest.raises(InputError, match="decides how trials are judged"):
            Sweep(tmp_path / "s", base, {name: (1, 2)}).check()
    fold = replace(base, split=SplitConfig("folds", fold=1))
    with pytest.raises(InputError, match=r"trains all folds; leave out --split\.fold"):
        Sweep(tmp_path / "s", fold, {}).check()


def test_a_sweep_without_a_space_trains_all_folds_and_tells_their_spread(
    base, tmp_path, monkeypatch, capsys
):
    options = ["--split.name", "folds", "--split.folds", "2", "--log.no-doctor", "--eval.k", "20"]
    options += ["--epochs", "1", "--dim", "8", "--data", base.data]
    args = ["mf", *options, "--seeds", "2", "--out", str(tmp_path / "cv"), "--quiet"]
    one = Sweep._run_seed

    def dies(self, trial, seed):
        if seed.config.seed == 1:
            raise _Died
        return one(self, trial, seed)

    monkeypatch.setattr(Sweep, "_run_seed", dies)
    monkeypatch.setitem(command.__globals__, "own_process", lambda: None)
    with pytest.raises(_Died):
        command(args)
    assert not (tmp_path / "cv" / "fold-1").exists()
    monkeypatch.setattr(Sweep, "_run_seed", one)
    command(args[:-1])
    told = capsys.readouterr().out
    assert "trial 0: resuming where its process ended" in told
    cells = {line.split()[0]: line.split() for line in told.splitlines() if line.startswith("  ")}
    runs = [[tmp_path / "cv" / f"fold-{n}" / f"seed-{seed}" for seed in (0, 1)] for n in (0, 1)]
    by_hand = [np.mean([recall(run) for run in of_fold]) for of_fold in runs]
    found = [float(line.split()[2]) for line in told.splitlines() if line.startswith("  fold ")]
    assert found == pytest.approx(by_hand, abs=2e-5)
    summary = (np.mean(by_hand), np.std(by_hand, ddof=1), min(by_hand), max(by_hand))
    shown = [float(cells[name][1]) for name in ("mean", "sd", "min", "max")]
    assert shown == pytest.approx(summary, abs=2e-5)
    single = configured(["mf", *options, "--split.seed", "0", "--split.fold", "1", "--seed", "1"])
    done = train(single.config, run=tmp_path / "single", quiet=True)
    assert recall(done.folder) == pytest.approx(recall(runs[1][1]), abs=1e-5)


def recall(run: Path) -> float:
    """Return the recall@20 on test that a run has written."""
    return json.loads((run / "eval.json").read_text())["metrics"]["recall@20"]


WORKER = """
import sys
from pathlib import Path
from jaxrec.sweep import Sweep
from test_sweep import GIVEN, SIX, numbered

def waits(self, trial, seed):
    print(trial.number, flush=True)
    assert sys.stdin.readline()
    return numbered(self, trial, seed)

Sweep._run_seed = waits
Sweep(Path(sys.argv[1]), GIVEN, SIX, sampler="random", say=lambda line: None).work(6)
"""
GIVEN = BASE.replace({"data": "synthetic"})
SIX = {"model.dim": (2, 3), "optim.learning_rate": Range(1e-3, 0.3, None, True, False)}


def numbered(self, trial, seed) -> float:
    """Replace a run by a value that depends on its configuration."""
    return seed.config.model.dim + seed.config.optim.learning_rate


def test_two_processes_repeat_no_trial_and_one_may_be_killed(tmp_path, monkeypatch):
    paths = [str(Path(__file__).parents[1]), str(Path(__file__).parent)]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    command = [sys.executable, "-c", WORKER, str(tmp_path / "s")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "env": env}
    with subprocess.Popen(command, **pipes) as first, subprocess.Popen(command, **pipes) as second:
        began = {int(worker.stdout.readline()): worker for worker in (first, second)}
        assert set(began) == {0, 1}
        began[0].kill()  # SIGKILL, in the middle of its trial
        began[0].wait()
        left = began[1]
        left.stdin.write("\n" * 6)
        left.stdin.close()
        assert [int(line) for line in left.stdout] == [0, 2, 3, 4, 5]
        assert left.wait() == 0
    monkeypatch.setattr(Sweep, "_run_seed", numbered)
    how = {"sampler": "random", "say": lambda line: None}
    study = Sweep(tmp_path / "s", GIVEN, SIX, **how).work(6)
    whole = Sweep(tmp_path / "whole", GIVEN, SIX, **how).work(6)
    assert trials(study) == trials(whole)
    assert {t.state.name for t in study.trials} == {"COMPLETE"}
    assert len({json.dumps(t.params) for t in study.trials}) == 6


def test_a_batch_does_not_exceed_the_number_of_trials_asked_for(tmp_path, monkeypatch):
    monkeypatch.setattr(Sweep, "_run_seed", numbered)
    monkeypatch.setattr(Sweep, "_train_together", lambda self, runs: None)
    how = {"sampler": "random", "say": lambda line: None, "batch": 4}
    assert len(Sweep(tmp_path / "s", GIVEN, SIX, **how).work(6).trials) == 6


def test_values_whose_trial_failed_are_tried_again(tmp_path, monkeypatch):
    faults = [InputError("no space left"), None]

    def fails_once(self, trial, seed) -> float:
        if (fault := faults.pop(0)) is not None:
            raise fault
        return 0.5

    monkeypatch.setattr(Sweep, "_run_seed", fails_once)
    how = {"sampler": "random", "say": lambda line: None}
    study = Sweep(tmp_path / "s", GIVEN, {"model.dim": (2,)}, **how).work(2)
    assert [trial.state.name for trial in study.trials] == ["FAIL", "COMPLETE"]


def test_trials_of_one_shape_are_trained_together_and_come_to_the_same(base, tmp_path):
    said: list[str] = []
    space = {"optim.learning_rate": (0.01, 0.1), "model.dim": (2, 4), "train.l2": (1e-3,)}
    grid = {"sampler": "grid", "say": said.append}
    found = trials(Sweep(tmp_path / "at-once", base, space, batch=3, **grid).work(3))
    alone = trials(Sweep(tmp_path / "alone", base, space, batch=1, **grid).work(3))
    assert said[0] == "2 runs were trained together in one program"  # two trials have dim 2
    assert [t[:3] for t in found] == [t[:3] for t in alone]
    assert [t[3] for t in found] == pytest.approx([t[3] for t in alone], abs=1e-5)
    for number in range(3):
        assert (tmp_path / "at-once" / f"trial-{number}" / "seed-0" / "embeddings.npz").is_file()


def test_the_seeds_of_a_trial_that_is_stopped_early_end_with_it(base, tmp_path):
    sweep = Sweep(tmp_path / "s", base, {"train.l2": (1e-4,)}, seeds=2, say=lambda line: None)
    study = sweep.begin()
    for _ in range(5):
        better = dict.fromkeys(range(1, 100), 0.99)
        study.add_trial(optuna.trial.create_trial(intermediate_values=better, value=0.99))
    study = sweep.work(6)
    assert study.trials[-1].state.name == "PRUNED"
    for seed in range(2):
        run = tmp_path / "s" / "trial-5" / f"seed-{seed}"
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        assert sum(line["split"] == "validation" for line in lines) == 1
        assert not (run / "eval.json").exists()
