"""Test how Python code requests a run, and what the returned run offers."""

from pathlib import Path

import polars as pl
import pytest
from made_run import CONFIG, trained

import jaxrec
from jaxrec.config import Config
from jaxrec.data import synthetic
from jaxrec.errors import InputError
from jaxrec.training.finished_run import Run


def test_a_run_has_its_metrics_its_history_and_its_recommender() -> None:
    run = Run.load(trained())
    history = run.history
    assert history.filter(pl.col("split") == "train").height == CONFIG.train.epochs
    best = history.filter(split="validation", phase="search")["recall@20"].max()
    assert best == run.evaluation["validation"]["metrics"]["recall@20"]
    assert run.recommender().recommend("u001", 3).height == 3
    assert f"test recall@20 {run.metrics['recall@20']:.4f}" in repr(run)
    assert f"<td>{run.metrics['ndcg@20']:.4f}</td>" in run._repr_html_()
    assert any(f"jaxrec serve {trained()}" == command for command in run.next_commands())


def test_names_in_a_notebook_are_escaped() -> None:
    made = Run(Path("<b>"), CONFIG, {"metrics": {"<i>": 1.0}, "split": "<u>", "baselines": {}})
    page = made._repr_html_()
    assert not [tag for tag in ("<i>", "<u>") if tag in page]
    assert "&lt;b&gt;" in page


def test_a_folder_without_a_finished_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a run folder"):
        Run.load(tmp_path)


@pytest.mark.long
def test_reports_are_written_where_asked(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="the extra `report`")
    assert Run.load(trained()).report(tmp_path / "page.html").stat().st_size > 1000


@pytest.mark.long
def test_options_and_the_call_after_each_evaluation(tmp_path: Path) -> None:
    data = synthetic.make(60, 60, 800, communities=4, seed=1)
    told: list[tuple[int, float]] = []
    run = jaxrec.train(
        CONFIG,
        data=data,
        run=tmp_path / "run",
        quiet=True,
        on_eval=lambda step, metrics: told.append((step, metrics["recall@20"])),
        epochs=4,
        learning_rate=0.02,
    )
    assert (run.config.train.epochs, run.config.optim.learning_rate) == (4, 0.02)
    records = run.history.filter(split="validation", phase="search")
    assert told == list(zip(records["step"], records["recall@20"], strict=True))
    assert len(told) == 2  # every second of four epochs


def test_changes_by_dotted_names() -> None:
    config = Config().replace({"optim.learning_rate": 0.5, "train.epochs": 2, "seed": 3})
    assert (config.optim.learning_rate, config.train.epochs, config.seed) == (0.5, 2, 3)
    with pytest.raises(InputError, match=r"did you mean 'optim\.learning_rate'"):
        Config().replace({"optim.learning_rte": 0.5})
    with pytest.raises(InputError, match=r"train\.epochs"):
        Config().replace({"train.epochs": -1})


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"epoch": 3}, "did you mean 'epochs'"),
        ({"every": 3}, "eval.every or checkpoint.every"),
        ({"name": "mf"}, "choose one by config.replace"),
    ],
)
def test_options_that_are_none_or_several_are_refused(options: dict, said: str) -> None:
    with pytest.raises(InputError, match=said):
        jaxrec.train(CONFIG, **options)
