"""Test what a run reports about columns that it does not read."""

import json
from dataclasses import replace

import numpy as np
import pytest

import jaxrec
from jaxrec.config import Config, from_dict
from jaxrec.data import synthetic
from jaxrec.data.dataset import Dataset, Exposed
from jaxrec.evaluation.user_runs import splits_of
from jaxrec.training.unused_data import unread

SMALL = {
    "model": {"name": "mf", "layers": 0, "dim": 4},
    "train": {"epochs": 1, "batch_size": 256},
    "eval": {"every": 1},
}


def told(data: Dataset, **sections) -> list[str]:
    sections = {"model": {}} | sections
    config = from_dict({name: SMALL.get(name, {}) | more for name, more in sections.items()})
    return unread(config, splits_of(config, data))


def with_ratings(values, **columns) -> Dataset:
    data = synthetic.make(30, 40, 240, communities=3, seed=2)
    rating = np.resize(np.array(values, np.float32), data.n_edges)
    return replace(data, rating=rating, **columns)


DISLIKES = (
    "are not used: every pair counts as a positive; --filter.min-rating R drops pairs rated below R"
)


@pytest.mark.parametrize("loss", ["bpr", "bce", "softmax", "triplet", "hinge"])
def test_ratings_are_not_used_by_losses_of_rankings(loss):
    line = f"ratings -1 to 1 {DISLIKES}"
    assert told(with_ratings([1, -1]), loss={"name": loss}) == [line]
    assert told(with_ratings([-1]), loss={"name": loss}) == [f"ratings of -1 {DISLIKES}"]


def test_counts_among_the_ratings_are_shown_the_way_to_weights():
    assert told(with_ratings([1, 253, 3])) == [
        f"ratings 1 to 253 {DISLIKES}; to use counts as weights: "
        "`jaxrec data import ... --columns.weight COLUMN`"
    ]
    assert "weights" not in told(with_ratings([0.5, 99.5]))[0]


def test_ratings_of_books_of_which_most_are_0_are_said(tmp_path):
    path = tmp_path / "BX-Book-Ratings.csv"
    rows = [f'"{n}";"{n % 7:010}";"{max(n % 20 - 9, 0)}"\n' for n in range(60)]
    path.write_text('"User-ID";"ISBN";"Book-Rating"\n' + "".join(rows))
    assert told(jaxrec.read(path)) == [f"ratings 0 to 10 {DISLIKES}"]


def test_ratings_that_are_read_or_say_nothing_are_passed_over():
    mixed = with_ratings([1, -1])
    assert told(mixed, loss={"name": "mse"}, eval={"select_on": "none"}) == []
    assert told(mixed, filter={"min_rating": 0}) == []
    assert told(with_ratings([1])) == []
    assert told(replace(mixed, rating=None)) == []


def test_levels_of_edges_are_told_from_the_loss():
    gcmc = {"name": "gcmc", "layers": 1}
    (line,) = told(with_ratings([1, 2, 3]), model=gcmc)
    assert line.startswith("ratings 1 to 3 are types of edges, and are not used by loss bpr: ")
    (line,) = told(with_ratings([1, 2, 3]), model=gcmc | {"levels": False})
    assert line.startswith("ratings 1 to 3 are not used: ")


def test_what_was_shown_and_weights_that_a_model_passes_over():
    data = synthetic.make(30, 40, 240, communities=3, seed=2)
    data = replace(data, weight=np.resize(np.array([1, 5], np.float32), data.n_edges))
    assert told(data) == []
    assert told(data, model={"name": "lightgcn", "layers": 2}) == []
    (line,) = told(data, model={"name": "pinsage", "layers": 2})
    assert line.startswith("weights 1 to 5 are used by the loss, but not when pinsage samples")
    shown = replace(data, exposed=Exposed(np.array([0], np.int32), np.array([1], np.int32)))
    assert told(shown) == [
        "1 pairs that were shown but not chosen are not used; --negatives.name exposed draws "
        "negatives from them"
    ]
    assert told(shown, negatives={"name": "exposed"}) == []


@pytest.mark.long
def test_it_is_said_once_and_stands_in_the_result_and_the_report(tmp_path, capsys):
    data = with_ratings([1, -1])
    run = jaxrec.train(from_dict(SMALL), data=data, run=tmp_path / "run")
    line = f"ratings -1 to 1 {DISLIKES}"
    said = " ".join(capsys.readouterr().out.split())
    assert said.count(line) == 1
    assert run.evaluation["unread"] == [line]
    assert jaxrec.evaluate(run.folder, data=data)["unread"] == [line]
    assert json.loads((run.folder / "eval.json").read_text())["unread"] == [line]
    jaxrec.report([run.folder], tmp_path / "report.html")
    assert f"<li>R{line[1:]}.</li>" in (tmp_path / "report.html").read_text()
    likes = jaxrec.train(
        replace(from_dict(SMALL), filter=replace(Config().filter, min_rating=0.0)),
        data=data,
        run=tmp_path / "likes",
    )
    assert "unread" not in likes.evaluation
    assert "are not used" not in capsys.readouterr().out


@pytest.mark.long
@pytest.mark.parametrize("model", [{"name": "mf", "layers": 0}, {"name": "lightgcn", "layers": 1}])
def test_counts_in_a_file_are_read_by_the_loss_and_the_graph(model, tmp_path):
    rng = np.random.default_rng(0)
    pairs = sorted({(int(u), int(i)) for u, i in rng.integers(0, 20, (200, 2))})
    lines = "".join(f"{u},{i},{rng.integers(1, 50)}\n" for u, i in pairs)
    (tmp_path / "plays.csv").write_text(f"user,item,plays\n{lines}")
    data = jaxrec.read(tmp_path / "plays.csv")
    config = from_dict(SMALL | {"model": model | {"dim": 4}})
    found = []
    for number, of in enumerate([data, replace(data, weight=None)]):
        run = jaxrec.train(config, data=of, run=tmp_path / f"run{number}", quiet=True)
        found.append(np.load(run.folder / "embeddings.npz")["user"])
    assert not np.allclose(found[0], found[1], atol=1e-6)


@pytest.mark.long
def test_ids_that_read_like_missing_ones_are_said_by_a_run(tmp_path, capsys):
    lines = "".join(f"{u},{i}\n" for u in ("a", "b", "nan") for i in range(8))
    (tmp_path / "a.csv").write_text(f"user,item\n{lines}")
    jaxrec.train(from_dict(SMALL), data=tmp_path / "a.csv", run=tmp_path / "run")
    said = " ".join(capsys.readouterr().out.split())
    assert "ids of users that look like missing values ('nan'), kept" in said
