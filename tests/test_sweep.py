import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from jaxrec import presets
from jaxrec.data import synthetic
from jaxrec.errors import InputError
from jaxrec.sweep import Range, Sweep, best

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
    )


SPACE = {"optim.learning_rate": Range(1e-3, 0.3, None, True, False), "model.dim": (4, 8)}


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
    sweep = Sweep(tmp_path / "s", base, {"model.dim": (4, 8)}, say=lambda line: None)
    study = sweep.begin()
    better = dict.fromkeys(range(1, 100), 0.99)
    for _ in range(5):  # better at every step; the pruner begins after five
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
    with pytest.raises(InputError, match="decides how trials are judged"):
        Sweep(tmp_path / "s", base, {"split.seed": (1, 2)}).check()


def test_two_processes_repeat_no_trial_and_one_may_be_killed(base, tmp_path):
    space = '[model.dim]\nchoices = [2, 3, 4, 5]\n["optim.learning-rate"]\nchoices = [0.01, 0.1]\n'
    path = tmp_path / "space.toml"
    path.write_text(space)
    command = [
        *(sys.executable, "-m", "jaxrec", "sweep", "mf", "--data", base.data),
        *("--space", str(path), "--out", str(tmp_path / "s"), "--trials", "6"),
        *("--train.epochs", "2", "--model.dim", "4", "--no-prune"),
    ]
    root = str(Path(__file__).parents[1])
    how = {"cwd": tmp_path, "env": {**os.environ, "PYTHONPATH": root, "XLA_FLAGS": ""}}
    first = subprocess.Popen(command, **how, stdout=subprocess.DEVNULL)
    second = subprocess.Popen(command, **how, stdout=subprocess.DEVNULL)
    while not (tmp_path / "s" / "trial-0" / "seed-0" / "metrics.jsonl").exists():
        assert second.poll() is None or first.poll() is None
        time.sleep(0.05)
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    assert second.wait(timeout=500) == 0
    subprocess.run(command, **how, check=True, stdout=subprocess.DEVNULL)
    study = optuna.load_study(
        study_name="sweep", storage=f"sqlite:///{tmp_path / 's' / 'study.db'}"
    )
    done = [t for t in study.trials if "same_as" not in t.user_attrs]
    assert len(study.trials) == 6
    assert {t.state.name for t in done} == {"COMPLETE"}
    assert len({json.dumps(t.params) for t in done}) == len(done)
