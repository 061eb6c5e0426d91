"""Test that new items are ranked, served and compared beside the items of a run."""

import asyncio
from pathlib import Path

import httpx
import numpy as np
import polars as pl
import pytest
from processes import jaxrec as command

import jaxrec
from jaxrec.config import from_dict
from jaxrec.data import synthetic
from jaxrec.data.dataset import Dataset
from jaxrec.errors import InputError

SMALL = {
    "model": {"name": "two-tower", "layers": 0, "dim": 8},
    "split": {"test": 0.1, "validation": 0.0},
    "train": {"epochs": 2, "batch_size": 64},
    "eval": {"k": (20,), "select_on": "none", "every": 0},
}


@pytest.fixture(scope="module")
def data() -> Dataset:
    return synthetic.make(60, 50, 700, communities=5, seed=4, features=True)


@pytest.fixture(scope="module")
def run(data: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("towers") / "run"
    jaxrec.train(from_dict(SMALL), data=data, run=folder, quiet=True)
    return folder


@pytest.fixture(scope="module")
def biased(data: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("biased") / "run"
    model = SMALL["model"] | {"biases": True}
    jaxrec.train(from_dict(SMALL | {"model": model}), data=data, run=folder, quiet=True)
    return folder


def frame_of(vectors: np.ndarray, *names: str) -> pl.DataFrame:
    embedding = pl.Series(vectors.tolist(), dtype=pl.List(pl.Float32))
    return pl.DataFrame({"id": list(names), "embedding": embedding})


def twins(run: Path, *rows: int) -> pl.DataFrame:
    """Return new items with the vectors of items of the run."""
    item = jaxrec.Recommender.load(run).table.item
    return frame_of(item[list(rows)], *(f"twin of {row}" for row in rows))


def test_lists_hold_new_items_by_their_scores(run: Path) -> None:
    before = jaxrec.Recommender.load(run)
    new = np.stack([before.table.user[3] * 5, -before.table.user[3]])
    rec = jaxrec.Recommender.load(run, new_items=frame_of(new, "wanted", "unwanted"))
    user = before.user_ids[3]
    lists = rec.recommend([user], k=52, include_seen=True)
    table = rec.table
    score = table.item @ table.user[3]
    expected = [rec.item_ids[row] for row in np.argsort(-score, kind="stable")]
    expected = [item for item in expected if rec.learnt[1][rec.item_row(item)]]
    assert lists["item"].to_list() == expected
    assert lists["item"][0] == "wanted"
    np.testing.assert_allclose(lists["score"], score[[rec.item_row(i) for i in expected]], 1e-5)
    assert rec.recommend([user], k=1, deny=["wanted"])["item"][0] != "wanted"
    assert rec.recommend([user], k=5, allow=["unwanted"])["item"].to_list() == ["unwanted"]


def test_old_items_keep_their_lists(run: Path) -> None:
    far = frame_of(np.zeros((1, 8)), "nothing")
    rec, before = jaxrec.Recommender.load(run, new_items=far), jaxrec.Recommender.load(run)
    users = before.user_ids
    kept = rec.recommend(users, k=50, deny=["nothing"])
    assert kept.equals(before.recommend(users, k=50))


def test_a_twin_is_the_nearest_item_of_its_twin(run: Path) -> None:
    rec = jaxrec.Recommender.load(run, new_items=twins(run, 4, 7))
    near = rec.similar_items(["twin of 4", "twin of 7"], k=1)
    assert near["similar"].to_list() == [rec.item_ids[4], rec.item_ids[7]]


def test_a_basket_of_new_items_is_folded_in(run: Path) -> None:
    rec = jaxrec.Recommender.load(run, new_items=twins(run, 4))
    twin = rec.recommend_history(["twin of 4"], k=10, include_seen=True)
    old = rec.recommend_history([rec.item_ids[4]], k=10, include_seen=True)
    np.testing.assert_allclose(twin["score"], old["score"], rtol=1e-5)


def test_a_new_item_has_the_mean_bias_of_trained_items(biased: Path) -> None:
    rec = jaxrec.Recommender.load(biased, new_items=twins(biased, 4))
    bias_I, trained_I = rec.table.item_bias, rec.learnt[1]
    assert bias_I is not None
    assert bias_I[-1] == pytest.approx(bias_I[:-1][trained_I[:-1]].mean())
    assert bias_I.std() > 0


@pytest.mark.parametrize(
    ("frame", "said"),
    [
        (frame_of(np.ones((1, 7)), "x"), "have 7 numbers, but those of the run have 8"),
        (frame_of(np.full((1, 8), np.nan), "x"), "the embedding of new item 'x' is not finite"),
        (frame_of(np.ones((2, 8)), "x", "x"), "new item 'x' occurs twice"),
        (frame_of(np.ones((1, 8)), "x").with_columns(id=pl.lit(None)), "item number 1 has no id"),
    ],
    ids=["length", "nan", "twice", "no id"],
)
def test_unusable_vectors_are_refused(run: Path, frame: pl.DataFrame, said: str) -> None:
    frame = frame.with_columns(pl.col("id").cast(pl.String))
    with pytest.raises(InputError, match=said):
        jaxrec.Recommender.load(run, new_items=frame)


def test_items_of_the_run_are_refused(run: Path, data: Dataset) -> None:
    known = frame_of(np.ones((1, 8)), str(data.item_ids[0]))
    with pytest.raises(InputError, match=r"is in the run already \(1 of the new items are\)"):
        jaxrec.Recommender.load(run, new_items=known)


def test_models_of_ids_are_refused(data: Dataset, tmp_path: Path) -> None:
    config = from_dict(SMALL | {"model": {"name": "mf", "layers": 0, "dim": 8}})
    jaxrec.train(config, data=data, run=tmp_path / "mf", quiet=True)
    with pytest.raises(InputError, match="mf has an embedding for each id"):
        jaxrec.Recommender.load(tmp_path / "mf", new_items=frame_of(np.ones((1, 8)), "x"))


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("new.csv", "id,embedding\n", "must end in .parquet or .jsonl"),
        ("new.jsonl", '{"id": "a"}\n', "cannot be read as embeddings of items"),
        ("new.parquet", "no table", "cannot be read as embeddings of items"),
        ("absent.jsonl", None, "cannot be read as embeddings of items"),
    ],
)
def test_other_files_are_refused(
    run: Path, tmp_path: Path, name: str, text: str | None, said: str
) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=said):
        jaxrec.Recommender.load(run, new_items=tmp_path / name)


@pytest.mark.long
def test_commands_embed_and_rank(run: Path, data: Dataset, tmp_path: Path) -> None:
    data.save(tmp_path / "data")
    assert data.item_features is not None
    cells = {
        name: [column.names[code] or None for code in column.code[:2]]
        for name, column in data.item_features.columns.items()
        if hasattr(column, "names") and not hasattr(column, "indptr")
    }
    assert cells
    pl.DataFrame({"item": ["new 0", "new 1"]} | cells).write_csv(tmp_path / "new.csv")
    new = tmp_path / "new.parquet"
    asked = ["embed", run, "--new-items", tmp_path / "new.csv", "--out", new]
    done = command(*asked, "--data", tmp_path / "data", quick=True)
    assert done.returncode == 0, done.stderr
    asked = ["--new-items", new, "--allow", "new 0", "new 1", "-k", 2]
    done = command("recommend", run, *asked, "--users", data.user_ids[0], quick=True)
    assert done.returncode == 0, done.stderr
    assert {line.split(",")[1] for line in done.stdout.splitlines()[1:]} == {"new 0", "new 1"}
    done = command("similar", run, "--new-items", new, "--items", "new 0", quick=True)
    assert done.returncode == 0, done.stderr


def test_the_server_ranks_new_items_and_reads_them_again(run: Path, tmp_path: Path) -> None:
    pytest.importorskip("fastapi")
    from jaxrec.serving.app import create
    from jaxrec.serving.limits import Limits
    from jaxrec.serving.reload import signature

    new = tmp_path / "new.parquet"
    twins(run, 4).write_parquet(new)
    app = create(run, new_items=new, limits=Limits(k=60), watch_seconds=0.0)
    before = signature(run, [new])

    async def ask() -> list[str]:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            response = await client.post("/similar", json={"items": ["twin of 4"], "k": 1})
            (answer,) = response.json()
            return [item["item"] for item in answer["items"]]

    assert asyncio.run(ask()) == [jaxrec.Recommender.load(run).item_ids[4]]
    app.state.current.close()
    twins(run, 7).write_parquet(new)
    assert signature(run, [new]) != before
