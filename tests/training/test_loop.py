"""Test the loop: one compilation, few dispatches, delayed metrics, and the right last step."""

import dataclasses
import json
import os
import signal
from pathlib import Path

import jax
import numpy as np
import optax
import pytest

import jaxrec
from jaxrec.config import (
    CheckpointConfig,
    Config,
    EvalConfig,
    ModelConfig,
    NegativesConfig,
    OptimConfig,
    SplitConfig,
    TrainConfig,
)
from jaxrec.data import synthetic
from jaxrec.data.dataset import Dataset
from jaxrec.errors import InputError, RunError
from jaxrec.training import loop as loops
from jaxrec.training.schedule import Cadence

CONFIG = Config(
    model=ModelConfig(dim=8, layers=2),
    negatives=NegativesConfig("shared", 16),
    optim=OptimConfig(learning_rate=0.02),
    train=TrainConfig(epochs=3, batch_size=64),
    eval=EvalConfig(k=(5, 20)),
)


def data(seed: int = 1) -> Dataset:
    return synthetic.make(80, 60, 1000, seed=seed)


def run(tmp_path: Path, config: Config = CONFIG, **options) -> jaxrec.Run:
    return jaxrec.train(config, data=data(), run=tmp_path / "run", quiet=True, **options)


def lines(run: jaxrec.Run, split: str | None = None) -> list[dict]:
    records = [json.loads(x) for x in (run.folder / "metrics.jsonl").read_text().splitlines()]
    return [r for r in records if split is None or r["split"] == split]


@pytest.mark.long
def test_nothing_is_compiled_after_the_first_epoch(tmp_path, monkeypatch):
    compiled: list[str] = []
    seen: list[tuple[str, int]] = []

    def listener(event: str, duration: float, **_) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            compiled.append(event)

    jax.monitoring.register_event_duration_secs_listener(listener)
    original = loops.RunLog.record

    def record(self, step, epoch, split, phase, **values):
        seen.append((f"{phase} {split}", len(compiled)))
        original(self, step, epoch, split, phase, **values)

    monkeypatch.setattr(loops.RunLog, "record", record)
    run(tmp_path, dataclasses.replace(CONFIG, train=TrainConfig(epochs=5, batch_size=64)))
    lines = [(what, count) for what, count in seen if what.startswith("search ")]
    assert lines[0][1] > 0
    # One line of the doctor at step 0, then per epoch one of train, validation and the doctor.
    assert len(lines) == 16
    first = [what for what, _ in lines].index("search validation")
    after = {count for _, count in lines[first:]}
    assert len(after) == 1  # only the first evaluation compiles


@pytest.mark.long
def test_one_dispatch_holds_many_steps_and_its_metrics_come_one_dispatch_late(
    tmp_path, monkeypatch
):
    order: list[str] = []
    original_read, original_compile = loops.Loop.read, loops.Loop._compile

    def read(self, totals, step):
        order.append("read")
        original_read(self, totals, step)

    def compile_(self, state, step):
        dispatch = original_compile(self, state, step)

        def counted(*args):
            order.append("dispatch")
            return dispatch(*args)

        return counted

    monkeypatch.setattr(loops.Loop, "read", read)
    monkeypatch.setattr(loops.Loop, "_compile", compile_)
    config = dataclasses.replace(
        CONFIG,
        train=TrainConfig(steps=1000, batch_size=16),
        eval=EvalConfig(k=(20,), every=0),
        checkpoint=CheckpointConfig(every=0),
    )
    run(tmp_path, dataclasses.replace(config, eval=EvalConfig(k=(20,), every=500)))
    assert order.count("dispatch") == order.count("read")
    assert order.count("dispatch") <= 40
    assert order[:3] == ["dispatch", "dispatch", "read"]


def test_the_loop_moves_data_only_where_it_says_so(tmp_path, monkeypatch):
    original = loops.Loop._advance

    def guarded(self, dispatch, state, step):
        with jax.transfer_guard("disallow"):
            return original(self, dispatch, state, step)

    monkeypatch.setattr(loops.Loop, "_advance", guarded)
    assert run(tmp_path).metrics["recall@20"] > 0


def test_every_line_is_where_the_cadence_says_and_the_last_step_is_evaluated(tmp_path):
    config = dataclasses.replace(
        CONFIG,
        train=TrainConfig(steps=23, batch_size=64),
        eval=EvalConfig(k=(5, 20), every=10),
        checkpoint=CheckpointConfig(every=7, keep=50),
    )
    done = run(tmp_path, config)
    assert [r["step"] for r in lines(done, "train")] == [10, 20, 23]
    assert [r["step"] for r in lines(done, "validation")] == [10, 20, 23]
    saved = sorted(int(p.parent.name) for p in done.folder.glob("checkpoints/*/manifest.json"))
    best = max(lines(done, "validation"), key=lambda r: r["recall@20"])["step"]
    assert {0, 7, 14, 21, 23, best} <= set(saved) <= {0, 7, 10, 14, 20, 21, 23}
    assert lines(done, "test")[-1]["recall@20"] == done.metrics["recall@20"]


def test_training_beats_popularity_and_the_best_parameters_are_the_ones_reported(tmp_path):
    done = run(tmp_path, dataclasses.replace(CONFIG, train=TrainConfig(epochs=40, batch_size=64)))
    curve = [r["recall@20"] for r in lines(done, "validation")]
    reported = done.evaluation["validation"]["metrics"]["recall@20"]
    assert reported == max(curve)
    assert done.evaluation["best_step"] == lines(done, "validation")[int(np.argmax(curve))]["step"]
    popularity = done.evaluation["baselines"]["popularity"]["recall@5"]
    assert done.metrics["recall@5"] > 1.3 * popularity
    again = jaxrec.evaluate(done.folder, "test", (5, 20), data=prepared(tmp_path))
    assert again["metrics"]["recall@20"] == pytest.approx(done.metrics["recall@20"], abs=1e-6)


@pytest.mark.long
def test_the_log_says_how_many_hard_negatives_there_were_and_what_ranking_them_took(tmp_path):
    config = dataclasses.replace(
        CONFIG,
        negatives=NegativesConfig(hard=2, hard_ranks=(5, 20)),
        train=TrainConfig(epochs=4, batch_size=64),
    )
    done = run(tmp_path, config)
    assert [line["hard_negatives"] for line in lines(done, "train")] == [0, 1, 2, 2]
    timing = [json.loads(x) for x in (done.folder / "timing.jsonl").read_text().splitlines()]
    (ranked,) = [line for line in timing if line.get("event") == "ranked"]
    assert ranked["hard_negatives_seconds"] > 0


def prepared(tmp_path: Path) -> Path:
    data().save(tmp_path / "prepared")
    return tmp_path / "prepared"


def test_patience_stops_a_run_that_no_longer_improves(tmp_path):
    config = dataclasses.replace(
        CONFIG,
        optim=OptimConfig(learning_rate=1e-7),
        train=TrainConfig(epochs=50, batch_size=64, patience=3),
    )
    done = run(tmp_path, config)
    curve = [r["recall@20"] for r in lines(done, "validation")]
    assert len(curve) == int(np.argmax(curve)) + 4 < 50


@pytest.mark.long
def test_refit_trains_the_chosen_length_on_train_and_validation(tmp_path):
    config = dataclasses.replace(
        CONFIG, train=TrainConfig(epochs=8, batch_size=64, patience=2, refit=True)
    )
    done = run(tmp_path, config)
    search = [r for r in lines(done) if r["phase"] == "search"]
    refit = [r for r in lines(done, "train") if r["phase"] == "refit"]
    curve = [r for r in search if r["split"] == "validation"]
    chosen = max(curve, key=lambda r: r["recall@20"])["step"]
    assert refit[-1]["step"] == search[-1]["step"] + chosen
    assert done.evaluation["steps"] == chosen
    assert "trained on train and validation" in done.evaluation["protocol"]
    with np.load(done.folder / "seen.npz") as seen:
        env = json.loads((done.folder / "env.json").read_text())["data"]
        assert len(seen["indices"]) == env["train"] + env["validation"]
    assert not [r for r in lines(done) if r["split"] == "test" and r["phase"] == "search"]


@pytest.mark.long
def test_any_optax_chain_can_take_the_place_of_the_configured_one(tmp_path):
    still = run(tmp_path / "still", tx=optax.set_to_zero())
    losses = {round(r["loss"], 2) for r in lines(still, "train")}
    assert len(losses) == 1
    moved = run(tmp_path / "moved", tx=optax.chain(optax.clip(1.0), optax.sgd(1.0)))
    assert lines(moved, "train")[-1]["loss"] < lines(moved, "train")[0]["loss"]


def test_zero_steps_evaluate_the_initial_parameters(tmp_path):
    done = run(tmp_path, dataclasses.replace(CONFIG, train=TrainConfig(epochs=0)))
    assert done.evaluation["best_step"] == 0
    assert lines(done, "train") == []
    assert lines(done, "validation")[0]["step"] == 0


def test_selection_on_a_part_that_is_not_there_is_refused(tmp_path):
    config = dataclasses.replace(CONFIG, split=SplitConfig(validation=0.0))
    with pytest.raises(InputError, match=r"split\.validation"):
        run(tmp_path, config)
    config = dataclasses.replace(config, eval=EvalConfig(k=(20,), select_on="none"))
    done = run(tmp_path / "none", config)
    assert done.evaluation["selected_on"] == "none"
    assert "validation" not in done.evaluation


@pytest.mark.long
def test_selection_on_test_is_said_wherever_it_is_read(tmp_path, reports):
    config = dataclasses.replace(CONFIG, eval=EvalConfig(k=(20,), select_on="test"))
    with reports():
        done = run(tmp_path, config)
    assert "ON TEST" in done.evaluation["protocol"]
    assert done.evaluation["selected_on"] == "test"
    assert "test" in (done.folder / "report.html").read_text()


def test_a_folder_that_holds_a_run_is_refused(tmp_path):
    run(tmp_path, dataclasses.replace(CONFIG, train=TrainConfig(epochs=1)))
    with pytest.raises(InputError, match="jaxrec resume"):
        run(tmp_path)


@pytest.mark.long
@pytest.mark.parametrize("positives", ["edges", "users"])
@pytest.mark.parametrize("score", ["dot", "cosine"])
def test_bfloat16_learns_as_float32_does(tmp_path, positives, score):
    results = {}
    for dtype in ("float32", "bfloat16"):
        config = dataclasses.replace(
            CONFIG,
            model=ModelConfig(dim=8, layers=2, dtype=dtype, score=score),
            train=TrainConfig(epochs=10, batch_size=64, positives=positives),
        )
        results[dtype] = run(tmp_path / dtype, config).metrics["recall@20"]
    assert results["bfloat16"] == pytest.approx(results["float32"], abs=0.06)


@pytest.mark.parametrize("epochs", [True, False])
def test_the_cadence_counts_epochs_or_steps_as_the_length_does(epochs):
    train = TrainConfig(epochs=4, batch_size=30) if epochs else TrainConfig(steps=50, batch_size=30)
    alone = Cadence.of(Config(train=train), pairs=100)
    assert (alone.evaluate, alone.checkpoint, alone.log) == (4, 4, 4)  # by default every epoch
    config = Config(train=train, eval=EvalConfig(every=2), checkpoint=CheckpointConfig(every=3))
    cadence = Cadence.of(config, pairs=100)
    assert cadence.per_epoch == 4
    expected = (16, 8, 12, 4) if epochs else (50, 2, 3, 2)
    assert (cadence.total, cadence.evaluate, cadence.checkpoint, cadence.log) == expected
    steps = [0]
    while steps[-1] < cadence.total:
        steps.append(cadence.next_boundary(steps[-1]))
    for every in (cadence.evaluate, cadence.checkpoint, cadence.log):
        due = {s for s in range(1, cadence.total + 1) if cadence.due(every, s)}
        assert due <= set(steps)
        assert cadence.total in due


def test_the_pace_settles_at_the_aim_whatever_boundaries_cut():
    for seconds_a_step in (0.0001, 0.03, 0.1, 7.0):
        pace = loops.Pace()
        sizes = []
        for turn in range(12):
            n = min(pace.steps, 3) if turn == 8 else pace.steps
            pace.took(n * seconds_a_step, n)
            sizes.append(n)
        aim = max(1, min(loops.SCAN_LENGTH, int(loops.DISPATCH_SECONDS / seconds_a_step)))
        assert sizes[0] == 1
        assert max(sizes) <= aim
        assert pace.steps == pytest.approx(aim, abs=1)


def test_from_python_a_signal_is_an_exception_and_leaves_a_checkpoint(tmp_path, monkeypatch):
    original = loops.Loop._compile

    def interrupted(self, state, step):
        os.kill(os.getpid(), signal.SIGINT)
        return original(self, state, step)

    monkeypatch.setattr(loops.Loop, "_compile", interrupted)
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(jaxrec.Interrupted) as caught:
        run(tmp_path)
    assert caught.value.exit_status == 130
    assert (tmp_path / "run" / "checkpoints" / "0" / "manifest.json").exists()
    assert signal.getsignal(signal.SIGINT) is before
    monkeypatch.undo()
    assert jaxrec.resume(tmp_path / "run", data=data(), quiet=True).metrics


def test_resume_wants_the_same_optax_chain_and_the_same_data(tmp_path, monkeypatch):
    def stop(self, state, step):
        raise RunError("stopped by the test")

    monkeypatch.setattr(loops.Loop, "_compile", stop)
    with pytest.raises(RunError, match="stopped"):
        run(tmp_path, tx=optax.sgd(0.1))
    monkeypatch.undo()
    folder = tmp_path / "run"
    with pytest.raises(InputError, match="tx="):
        jaxrec.resume(folder, data=data(), quiet=True)
    with pytest.raises(InputError, match="in memory"):
        jaxrec.resume(folder, tx=optax.sgd(0.1), quiet=True)
    with pytest.raises(InputError, match="fingerprint"):
        jaxrec.resume(folder, data=data(seed=2), tx=optax.sgd(0.1), quiet=True)
    assert jaxrec.resume(folder, data=data(), tx=optax.sgd(0.1), quiet=True).metrics


@pytest.mark.long
def test_evaluate_gives_the_baselines_of_a_refit_the_same_train_data(tmp_path):
    config = dataclasses.replace(CONFIG, train=TrainConfig(epochs=2, batch_size=64, refit=True))
    done = run(tmp_path, config)
    again = jaxrec.evaluate(done.folder, "test", (5, 20), data=data(), baselines=["item-knn"])
    assert again["baselines"]["popularity"] == done.evaluation["baselines"]["popularity"]
    assert again["train"] == done.evaluation["train"]
    other = jaxrec.evaluate(done.folder, "test", (7,), data=data())
    assert other["train"] == done.evaluation["train"]  # at the run's cut-offs
    with pytest.raises(InputError, match="refit"):
        jaxrec.evaluate(done.folder, "validation", data=data())
    with pytest.raises(InputError, match="cut-offs"):
        jaxrec.evaluate(done.folder, "test", (0, 20), data=data())


def test_parameters_that_are_not_finite_stop_the_run_before_they_are_ranked(tmp_path):
    config = dataclasses.replace(
        CONFIG,
        optim=OptimConfig("sgd", learning_rate=1e38),
        train=TrainConfig(epochs=3, batch_size=4096),
    )
    with pytest.raises(RunError, match="after step 0; the checkpoint of step 0 is kept"):
        run(tmp_path, config)
