"""Test the search for the best model: its trials, its files, and its final run."""

import dataclasses
import json
import os
import signal
import threading
import time

import numpy as np
import pytest

import jaxrec
from jaxrec import config as configs
from jaxrec import presets
from jaxrec.config import EvalConfig, LossConfig, ModelConfig, TrainConfig
from jaxrec.data import synthetic
from jaxrec.data.dataset import Dataset
from jaxrec.errors import InputError
from jaxrec.evaluation import baselines
from jaxrec.log import Reporter
from jaxrec.training import auto
from jaxrec.training.auto import Deadline, Search, Trial
from jaxrec.training.filters import Kept
from jaxrec.training.task import UserTask


def data() -> Dataset:
    return synthetic.make(90, 60, 1300, communities=4, seed=1)


def asked(minutes: float = 100.0):
    return dataclasses.replace(presets.get("auto"), minutes=minutes)


def search(tmp_path, minutes: float = 100.0) -> Search:
    task = UserTask.of(asked(minutes), data())
    return Search.of(tmp_path, task, Reporter(True), time.monotonic())


def only(monkeypatch, *names: str) -> None:
    every = auto.candidates
    monkeypatch.setattr(
        auto, "candidates", lambda *a: {n: c for n, c in every(*a).items() if n in names}
    )


def test_the_winner_is_the_run_and_its_configuration_repeats_it(tmp_path, monkeypatch):
    only(monkeypatch, "turbo-cf", "gf-cf")
    monkeypatch.setattr(auto, "neighbours", lambda config: iter(()))
    run = jaxrec.train(asked(), data=data(), run=tmp_path / "auto", quiet=True)
    found = json.loads((tmp_path / "auto" / "auto.json").read_text())
    values = {trial["name"]: trial["value"] for trial in found["trials"]}
    assert values.keys() == {"turbo-cf", "gf-cf"}
    assert found["winner"] == max(values, key=values.__getitem__)
    assert all(value > found["popularity"] for value in values.values())
    stored = configs.load(tmp_path / "auto" / "config.json")
    assert stored.minutes is None
    assert stored.model.filter == found["winner"]
    lines = (tmp_path / "auto" / "metrics.jsonl").read_text().splitlines()
    chosen = json.loads(lines[0])
    assert (chosen["split"], chosen["recall@20"]) == ("validation", max(values.values()))
    again = jaxrec.train(stored, data=data(), run=tmp_path / "again", quiet=True)
    assert again.evaluation == run.evaluation
    for name in ("filter.npz", "embeddings.npz"):
        ours, theirs = (np.load(tmp_path / of / name) for of in ("auto", "again"))
        assert all(np.array_equal(ours[key], theirs[key]) for key in ours.files)


def test_trials_never_see_test(tmp_path, monkeypatch):
    only(monkeypatch, "turbo-cf", "ease")
    monkeypatch.setattr(auto, "neighbours", lambda config: iter(()))
    ours = search(tmp_path)
    whole = ours.task.splits
    item = np.random.default_rng(0).permutation(whole.test.item)
    moved = whole._replace(test=dataclasses.replace(whole.test, item=item))
    ours.run()
    theirs = Search(tmp_path, dataclasses.replace(ours.task, splits=moved), Reporter(True), 0.0)
    theirs.began = time.monotonic()
    theirs.run()
    assert [trial.value for trial in ours.trials] == [trial.value for trial in theirs.trials]


@pytest.mark.long
def test_a_trained_trial_is_the_beginning_of_the_winners_run(tmp_path, monkeypatch):
    monkeypatch.setattr(auto, "neighbours", lambda config: iter(()))
    made = auto.candidates(asked(), 1000, False)["mf"]
    short = dataclasses.replace(
        made,
        model=dataclasses.replace(made.model, dim=8),
        train=dataclasses.replace(made.train, epochs=3, patience=0),
    )
    monkeypatch.setattr(auto, "candidates", lambda *a: {"mf": short})
    jaxrec.train(asked(), data=data(), run=tmp_path / "run", quiet=True)
    (trial,) = json.loads((tmp_path / "run" / "auto.json").read_text())["trials"]
    lines = [json.loads(x) for x in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    values = [x["recall@20"] for x in lines if x["split"] == "validation"]
    assert max(values) == trial["value"]
    assert configs.load(tmp_path / "run" / "config.json").train.refit


def test_finished_trials_are_kept_by_resume(tmp_path, monkeypatch):
    only(monkeypatch, "turbo-cf", "gf-cf")
    monkeypatch.setattr(auto, "neighbours", lambda config: iter(()))
    folder = tmp_path / "run"

    def broken(search, config):
        if config.model.filter == "gf-cf":
            raise KeyboardInterrupt  # a killed process would leave the same files
        return fit(search, config)

    fit = Search._fit
    monkeypatch.setattr(Search, "_fit", broken)
    with pytest.raises(KeyboardInterrupt):
        jaxrec.train(asked(), data=data(), run=folder, quiet=True)
    tried = []
    monkeypatch.setattr(Search, "_fit", lambda s, c: tried.append(c.model.filter) or fit(s, c))
    jaxrec.resume(folder, data=data(), quiet=True)
    assert tried == ["gf-cf"]
    assert len(json.loads((folder / "auto.json").read_text())["trials"]) == 2


def test_a_signal_keeps_the_best_so_far(tmp_path, monkeypatch):
    only(monkeypatch, "turbo-cf", "gf-cf")
    fit = Search._fit

    def then_signal(search, config):
        made = fit(search, config)
        os.kill(os.getpid(), signal.SIGINT)
        return made

    monkeypatch.setattr(Search, "_fit", then_signal)
    ours = search(tmp_path)
    assert threading.current_thread() is threading.main_thread()
    assert ours.run().name == "turbo-cf"
    assert "interrupted" in json.loads((tmp_path / "auto.json").read_text())["ended"]


def test_popularity_is_fitted_however_short_the_budget(tmp_path):
    ours = search(tmp_path, minutes=0.001)
    assert ours.run().name == "popularity"
    assert len(ours.trials) == 1
    assert ours.trials[0].value == ours.popularity
    assert set(ours.left_out.values()) == {"the time is too short to train it"}
    assert ours.left_out.keys() >= {"turbo-cf", "ease", "mf", "lightgcn"}


def test_the_best_filters_are_blended(tmp_path, monkeypatch):
    only(monkeypatch, "turbo-cf", "gf-cf", "ease")
    monkeypatch.setattr(auto, "neighbours", lambda config: iter(()))
    ours = search(tmp_path)
    ours.run()
    *first, last = ours.trials
    assert {trial.name for trial in first} == {"turbo-cf", "gf-cf", "ease"}
    assert (last.name, last.config.model.ease_weight) == ("hybrid", 1.0)
    best = max((t for t in first if t.name != "ease"), key=lambda trial: trial.value)
    assert last.config.model.filter == best.name
    assert last.config.model.ease_l2 == 200


def test_a_part_that_is_used_again_is_computed_once():
    kept, made = Kept(), []
    for key in (1, 2, 1, 3, 1, 2):
        found = kept.take(("ease", key), lambda key=key: made.append(key) or key)
        assert found == key
    assert made == [1, 2, 3, 2]  # the latest two are kept


def test_trials_rank_a_sample_of_many_users(tmp_path, monkeypatch):
    monkeypatch.setattr(auto, "_USERS", 30)
    ours = search(tmp_path)
    of_trials, ratio = ours._sampled
    held, all_held = of_trials.splits.validation, ours.task.splits.validation
    assert (held.user_counts() > 0).sum() == 30
    assert ratio == (all_held.user_counts() > 0).sum() / 30
    counts = held.user_counts()
    assert (counts == all_held.user_counts())[counts > 0].all()
    assert of_trials.splits.train is ours.task.splits.train


def test_what_does_not_take_the_data_is_named(tmp_path, monkeypatch):
    only(monkeypatch, "turbo-cf", "ease")
    monkeypatch.setattr(auto, "neighbours", lambda config: iter(()))
    monkeypatch.setattr(baselines, "free_memory", lambda: 1000)
    ours = search(tmp_path)
    ours.run()
    assert "EASE on 60 items needs" in ours.left_out["ease"]


def test_a_deadline_stops_a_trial_and_no_other():
    watch = Deadline()
    with watch:
        watch.allow(-1.0)
        assert watch()
        assert not watch.asked
        watch.allow(100.0)
        assert not watch()


def test_neighbours_of_the_best_are_tried_before_those_of_others(tmp_path):
    ours = search(tmp_path)
    first = auto.candidates(asked(), 1000, False)
    ours.trials += [Trial(n, first[n], v, 1.0, 1.0) for n, v in (("ease", 0.3), ("gf-cf", 0.2))]
    ours.left_out |= {name: "" for name in (*first, "hybrid") if name not in ("ease", "gf-cf")}
    name, config = next(ours._untried(first))
    assert name == "ease: model.ease_l2 400"
    ours.trials.append(Trial(name, config, 0.1, 1.0, 1.0))
    assert next(ours._untried(first))[0] == "ease: model.ease_l2 100"
    assert Trial.from_dict(json.loads(json.dumps(ours.trials[0].to_dict()))) == ours.trials[0]


def test_every_candidate_keeps_the_asked_trackers():
    log = dataclasses.replace(asked().log, tensorboard=True, wandb="project")
    with_trackers = dataclasses.replace(asked(), log=log)
    assert {c.log for c in auto.candidates(with_trackers, 1000, True).values()} == {log}


@pytest.mark.parametrize(
    "name", ["mf", "lightgcn", "ease", "turbo-cf", "gf-cf", "cheby-cf", "blend"]
)
def test_neighbours_are_sound_and_differ(name):
    config = auto.candidates(asked(), 10_000, True)[name]
    found = list(auto.neighbours(config))
    assert len(found) >= 3
    assert config not in found
    assert all(a != b for n, a in enumerate(found) for b in found[:n])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"eval": EvalConfig(select_on="none")}, "set eval.select_on validation"),
        ({"loss": LossConfig("mse")}, "leave minutes out"),
        ({"warm_start": "runs/x"}, "with new parameters"),
        ({"model": ModelConfig(dim=128)}, "which chooses the options model"),
        ({"train": TrainConfig(epochs=3)}, "which chooses the options train"),
    ],
)
def test_what_does_not_go_with_a_search_is_refused(change, said):
    with pytest.raises(InputError, match=said):
        dataclasses.replace(asked(), **change)
