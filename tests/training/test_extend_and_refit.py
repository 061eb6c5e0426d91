"""Test extending runs, and refitting them for production."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from processes import contents

import jaxrec
from jaxrec import config as configs
from jaxrec.config import (
    Config,
    ModelConfig,
    NegativesConfig,
    OptimConfig,
    TrainConfig,
)
from jaxrec.data import synthetic
from jaxrec.data.dataset import Dataset
from jaxrec.errors import InputError

CONFIG = Config(
    preset="lightgcn",
    model=ModelConfig(dim=8, layers=1),
    negatives=NegativesConfig("shared", 8),
    optim=OptimConfig(learning_rate=0.02, warmup_steps=3),
    train=TrainConfig(epochs=5, batch_size=256),
)


@pytest.fixture(scope="module")
def data() -> Dataset:
    return synthetic.make(60, 60, 800, communities=4, seed=1)


def of(epochs: int, every: int | None = None) -> Config:
    train = replace(CONFIG.train, epochs=epochs)
    return replace(CONFIG, train=train, eval=replace(CONFIG.eval, every=every))


@pytest.mark.long
@pytest.mark.parametrize("every", [None, 2])
def test_going_on_gives_the_bits_of_the_longer_run(
    data: Dataset, tmp_path: Path, every: int | None
) -> None:
    """Also cover a shorter run that was only evaluated at its end, off the longer run's cadence."""
    jaxrec.train(of(5, every), data=data, run=tmp_path / "whole", quiet=True)
    jaxrec.train(of(3, every), data=data, run=tmp_path / "run", quiet=True)
    made = jaxrec.resume(tmp_path / "run", data=data, epochs=5, quiet=True)
    assert made.config.train.epochs == 5
    assert contents(tmp_path / "run") == contents(tmp_path / "whole")
    env = json.loads((tmp_path / "run" / "env.json").read_text())
    assert env["lengths"] == [{"epochs": 3}]
    again = jaxrec.resume(tmp_path / "run", data=data, epochs=5, quiet=True)
    assert again.metrics == made.metrics


@pytest.mark.parametrize(
    ("change", "epochs", "said"),
    [
        ({"optim": OptimConfig(schedule="cosine")}, 9, "optim.schedule cosine depends on"),
        ({"train": TrainConfig(epochs=5, refit=True)}, 9, "train.refit has replaced the model"),
        ({"train": TrainConfig(steps=5)}, 9, "length is set in steps"),
        ({}, 4, "already has 5 epochs"),
    ],
)
def test_what_would_have_been_another_run_is_refused(
    tmp_path: Path, change: dict, epochs: int, said: str
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(configs.to_dict(replace(CONFIG, **change))))
    with pytest.raises(InputError, match=said):
        jaxrec.resume(tmp_path, epochs=epochs)
    assert configs.load(tmp_path / "config.json") == replace(CONFIG, **change)


@pytest.mark.long
def test_refit_trains_on_all_pairs_for_the_best_length(data: Dataset, tmp_path: Path) -> None:
    run = jaxrec.train(of(4), data=data, run=tmp_path / "run", quiet=True)
    values = [r["recall@20"] for r in _validation(run.folder)]
    made = jaxrec.refit(run.folder, data=data, to=tmp_path / "all", quiet=True)
    assert made.config.train.epochs == 1 + int(np.argmax(values))
    assert made.config.eval.select_on == "none"
    env = json.loads((made.folder / "env.json").read_text())
    assert env["data"]["train"] == data.n_edges
    assert made.config.model == run.config.model
    own = jaxrec.Recommender.load(made.folder).recommend("u01", 5)["item"].to_list()
    assert not set(own) & {data.item_ids[i] for i in data.item[data.user == 1]}
    with pytest.raises(InputError, match="data in memory"):
        jaxrec.refit(run.folder)


def test_refit_needs_a_run_that_has_finished(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(configs.to_dict(CONFIG)))
    with pytest.raises(InputError, match="has not finished"):
        jaxrec.refit(tmp_path)


def _validation(run: Path) -> list[dict]:
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [r for r in lines if r["split"] == "validation" and r["phase"] == "search"]
