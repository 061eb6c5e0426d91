"""Test embedding new items by inductive models, and runs that start from another's parameters."""

import dataclasses

import numpy as np
import polars as pl
import pytest
from processes import jaxrec as command

import jaxrec
from jaxrec.config import from_dict
from jaxrec.data import synthetic
from jaxrec.data.dataset import Dataset
from jaxrec.data.features import Bag, Category, Features
from jaxrec.embedding import _read_pairs
from jaxrec.errors import InputError
from jaxrec.evaluation.user_runs import splits_of

BASE = {
    "model": {"dim": 8},
    "split": {"test": 0.1, "validation": 0.0},
    "optim": {"learning_rate": 0.02},
    "train": {"epochs": 4, "batch_size": 64},
    "eval": {"k": (20,), "select_on": "none", "every": 0},
}
INDUCTIVE = {
    "gcmc": {"name": "gcmc", "layers": 1, "ids": False},
    "gcmc, two layers, normalised": {
        "name": "gcmc",
        "layers": 2,
        "ids": False,
        "batch_norm": True,
    },
    "pinsage, uniform": {"name": "pinsage", "layers": 2, "ids": False, "neighbors": "uniform"},
    "pinsage": {"name": "pinsage", "layers": 2, "ids": False, "fan_outs": (6, 4), "walks": 256},
    "two towers": {"name": "two-tower", "layers": 0, "ids": False, "tower_dims": (16,)},
    "two towers with ids": {"name": "two-tower", "layers": 0, "id_dropout": 0.5},
}
pytestmark = pytest.mark.long_but("pinsage", "two towers")


def config(model: dict, **sections):
    return from_dict(BASE | {"model": BASE["model"] | model} | sections)


@pytest.fixture(scope="module")
def data() -> Dataset:
    return synthetic.make(90, 70, 1500, communities=5, seed=4, features=True)


@pytest.fixture(scope="module", params=INDUCTIVE)
def trained(request, data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("inductive") / "run"
    return request.param, jaxrec.train(
        config(INDUCTIVE[request.param]), data=data, run=folder, quiet=True
    )


def cells(column, rows):
    """Return a column in the form of a data frame's column."""
    if isinstance(column, Category):
        return [column.names[column.code[row]] or None for row in rows]
    if isinstance(column, Bag):
        spans = [column.code[column.indptr[row] : column.indptr[row + 1]] for row in rows]
        return [[str(column.names[code]) for code in span] or None for span in spans]
    return [None if np.isnan(x) else float(x) for x in column.value[rows]]


def as_new(data: Dataset, features: Features, rows: np.ndarray, path):
    """Write items of the data under other ids to a file."""
    frame = {"item": [f"new {data.item_ids[row]}" for row in rows]}
    frame |= {name: cells(column, rows) for name, column in features.columns.items()}
    pl.DataFrame(frame).write_parquet(path)
    return path


def train_part(run) -> Dataset:
    from jaxrec.evaluation.user_runs import splits_of

    return splits_of(
        run.config, synthetic.make(90, 70, 1500, communities=5, seed=4, features=True)
    ).train


def test_an_item_of_training_under_a_new_name_gets_its_own_embedding_again(trained, data, tmp_path):
    name, run = trained
    rows, train = np.arange(0, 70, 3), splits_of(run.config, data).train
    assert data.item_features is not None
    items = as_new(data, data.item_features, rows, tmp_path / "items.parquet")
    there = np.isin(train.item, rows)
    pairs = {
        "user": data.user_ids[train.user[there]],
        "item": [f"new {i}" for i in data.item_ids[train.item[there]]],
    }
    pl.DataFrame(pairs).write_csv(tmp_path / "edges.csv")
    edges = None if name.startswith("two towers") else tmp_path / "edges.csv"
    made = jaxrec.embed(run.folder, items, edges=edges, data=data)
    assert made["id"].to_list() == [f"new {data.item_ids[row]}" for row in rows]
    ours = np.array(made["embedding"].to_list())
    with np.load(run.folder / "embeddings.npz") as stored:
        theirs = stored["item"][rows]
    if name == "two towers with ids":  # not the vector with the id, but in the same space
        assert np.median((ours * theirs).sum(1)) > 0
        assert not np.allclose(ours, theirs)
    elif name == "pinsage":  # new random walks have other visits
        cosine = (
            (ours * theirs).sum(1) / np.linalg.norm(ours, axis=1) / np.linalg.norm(theirs, axis=1)
        )
        assert np.median(cosine) > 0.95
    else:
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def test_without_edges_the_features_alone_tell_the_community(trained, data, tmp_path):
    name, run = trained
    rows = np.arange(70)
    assert data.item_features is not None
    items = as_new(data, data.item_features, rows, tmp_path / "items.parquet")
    made = np.array(jaxrec.embed(run.folder, items, data=data)["embedding"].to_list())
    planted = synthetic.truth(90, 70, communities=5, seed=4)
    with np.load(run.folder / "embeddings.npz") as stored:
        score_UI = stored["user"] @ made.T
    own = planted.user_community[:, None] == planted.item_community
    assert score_UI[own].mean() > score_UI[~own].mean(), name


def test_new_items_are_refused_by_a_model_of_ids_and_with_unknown_users(trained, data, tmp_path):
    name, run = trained
    assert data.item_features is not None
    items = as_new(data, data.item_features, np.arange(3), tmp_path / "items.parquet")
    pl.DataFrame({"user": ["nobody"], "item": [f"new {data.item_ids[0]}"]}).write_csv(
        tmp_path / "edges.csv"
    )
    fault = r"edges.csv: user 'nobody' is not in the run"
    if name.startswith("two towers"):
        fault = "two-tower embeds items by their features; leave out the edges"
    with pytest.raises(InputError, match=fault):
        jaxrec.embed(run.folder, items, edges=tmp_path / "edges.csv", data=data)
    if name == "gcmc":
        for asked in ({"layers": 1}, {"name": "gcmc", "layers": 1}):
            made = config(asked)
            folder = tmp_path / made.model.name
            plain = jaxrec.train(made, data=data, run=folder, quiet=True)
            said = rf"{made.model.name} has an embedding for each id, so it cannot embed new"
            with pytest.raises(InputError, match=said):
                jaxrec.embed(plain.folder, items, data=data)
        bare = dataclasses.replace(data, item_features=None, user_features=None)
        towers = config({"name": "two-tower", "layers": 0})
        plain = jaxrec.train(towers, data=bare, run=tmp_path / "bare", quiet=True)
        with pytest.raises(InputError, match=r"the run's items had no features"):
            jaxrec.embed(plain.folder, items, data=bare)


@pytest.mark.long
def test_new_items_are_embedded_from_the_command_line(data, tmp_path):
    data.save(tmp_path / "data")
    options = ["--data", tmp_path / "data", "--model.name", "pinsage", "--model.layers", 1]
    options += ["--model.no-ids", "--model.dim", 8, "--train.epochs", 1, "--run", tmp_path / "run"]
    done = command("train", "lightgcn", *options, quick=True)
    assert done.returncode == 0, done.stderr
    assert data.item_features is not None
    items = as_new(data, data.item_features, np.arange(5), tmp_path / "items.parquet")
    out = tmp_path / "emb.parquet"
    done = command("embed", tmp_path / "run", "--new-items", items, "--out", out, quick=True)
    assert done.returncode == 0, done.stderr
    frame = pl.read_parquet(out)
    assert frame.columns == ["id", "embedding"]
    assert frame["embedding"].list.len().to_list() == [8] * 5


def smaller(data: Dataset) -> Dataset:
    """Return the first 60 users and 50 items, with the same ids."""
    keep = (data.user < 60) & (data.item < 50)
    part = data.take(keep)
    features = {
        "user_features": data.user_features and data.user_features.take(np.arange(60)),
        "item_features": data.item_features and data.item_features.take(np.arange(50)),
    }
    return dataclasses.replace(
        part, user_ids=data.user_ids[:60], item_ids=data.item_ids[:50], **features
    )


@pytest.mark.long
@pytest.mark.parametrize(
    "model",
    [
        {"layers": 1, "layer_weights": "learned", "score": "mlp"},
        {"name": "gcmc", "layers": 1},
        {"name": "two-tower", "layers": 0, "tower_dims": (6,), "id_dropout": 0.2},
    ],
    ids=lambda model: model.get("name", "lightgcn"),
)
def test_a_warm_start_keeps_old_rows_and_grows_the_tables(model, data, tmp_path):
    before = jaxrec.train(config(model), data=smaller(data), run=tmp_path / "a", quiet=True)
    still = config(model, warm_start=str(before.folder), train=BASE["train"] | {"epochs": 0})
    grown = jaxrec.train(still, data=data, run=tmp_path / "b", quiet=True)
    with (
        np.load(before.folder / "parameters.npz") as old,
        np.load(grown.folder / "parameters.npz") as new,
    ):
        assert old.keys() == new.keys()
        for name in old.keys() - {"embedding"}:
            np.testing.assert_array_equal(new[name], old[name])
        table = new["embedding"]
        assert table.shape[0] == 160
        np.testing.assert_array_equal(table[:60], old["embedding"][:60])
        np.testing.assert_array_equal(table[90:140], old["embedding"][60:])
        assert (np.abs(table[60:90]).sum(axis=1) > 0).all()
    on = jaxrec.train(
        config(model, warm_start=str(before.folder)), data=data, run=tmp_path / "c", quiet=True
    )
    assert on.metrics["recall@20"] > 1.2 * grown.evaluation["baselines"]["random"]["recall@20"]


@pytest.mark.long
def test_a_warm_start_from_the_command_line_takes_the_model_of_its_run(data, tmp_path):
    smaller(data).save(tmp_path / "small")
    data.save(tmp_path / "data")
    options = ["--model.dim", 8, "--model.layers", 1, "--train.epochs", 1]
    first = ["--data", tmp_path / "small", *options, "--run", tmp_path / "a"]
    done = command("train", "lightgcn", *first, quick=True)
    assert done.returncode == 0, done.stderr
    more = ["--warm-start", tmp_path / "a", "--data", tmp_path / "data", "--run", tmp_path / "b"]
    done = command("train", *more, quick=True)
    assert done.returncode == 0, done.stderr
    with np.load(tmp_path / "b" / "embeddings.npz") as stored:
        assert stored["user"].shape == (90, 8)
    done = command("train", *more[:-1], tmp_path / "c", "--model.dim", 4)
    assert done.returncode == 2
    assert "model.dim is 8, not 4" in done.stderr


def test_pairs_of_new_items_are_read_or_refused(tmp_path):
    table = tmp_path / "pairs.csv"
    table.write_text("user,item,rating\nu,a,3\nu,a,3\nv,a,\n")
    assert _read_pairs(table, with_ratings=False).rows() == [("u", "a"), ("v", "a")]
    assert _read_pairs(table, with_ratings=True).rows() == [("u", "a", 3.0)]
    table.write_text("user,item,rating\nu,a,good\n")
    with pytest.raises(InputError, match=r"pairs.csv: a cell has the wrong type"):
        _read_pairs(table, with_ratings=True)
    with pytest.raises(InputError, match="cannot be read as a table"):
        _read_pairs(tmp_path / "none.csv", with_ratings=True)
