"""Tables and matrices in memory: the same data as from files, and the same faults."""

import gzip
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy import sparse

import jaxrec
from jaxrec.config import from_dict
from jaxrec.data.dataset import Dataset
from jaxrec.data.formats import Repeats, TextOptions
from jaxrec.data.formats.in_memory import taken
from jaxrec.errors import InputError

RNG = np.random.default_rng(7)
PAIRS = sorted({(f"u{a}", f"i{b}") for a, b in RNG.integers(0, 9, (60, 2)).tolist()})
FRAME = pl.DataFrame(PAIRS, schema=["user", "item"], orient="row").with_columns(
    count=pl.Series(np.arange(len(PAIRS)) % 4 + 1.0)
)


def pandas(frame: pl.DataFrame = FRAME) -> Any:
    pd = pytest.importorskip("pandas", reason="pandas is optional")
    return pd.DataFrame({name: frame[name].to_list() for name in frame.columns})


def arrow() -> Any:
    pa = pytest.importorskip("pyarrow", reason="pyarrow is optional")
    return pa.table({name: FRAME[name].to_list() for name in FRAME.columns})


def matrix() -> tuple[sparse.csr_array, list[str], list[str]]:
    users, items = (sorted(set(FRAME[side])) for side in ("user", "item"))
    places = [users.index(u) for u in FRAME["user"]], [items.index(i) for i in FRAME["item"]]
    values = FRAME["count"].to_numpy()
    return sparse.coo_array((values, places)).tocsr(), users, items


def from_file(write: Callable[[Any], Any], name: str) -> Callable[[Any], Dataset]:
    def read(folder: Any) -> Dataset:
        write(folder / name)
        return jaxrec.read(folder / name)

    return read


def gzipped(write: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def go(path: Any) -> None:
        plain = path.with_suffix("")
        write(plain)
        path.write_bytes(gzip.compress(plain.read_bytes()))

    return go


WAYS: dict[str, Callable[[Any], Dataset]] = {
    "csv": from_file(FRAME.write_csv, "a.csv"),
    "csv.gz": from_file(gzipped(FRAME.write_csv), "a.csv.gz"),
    "jsonl": from_file(FRAME.write_ndjson, "a.jsonl"),
    "jsonl.gz": from_file(gzipped(FRAME.write_ndjson), "a.jsonl.gz"),
    "parquet": from_file(FRAME.write_parquet, "a.parquet"),
    "pandas": lambda _: jaxrec.from_pandas(pandas()),
    "polars": lambda _: jaxrec.from_polars(FRAME),
    "lazy": lambda _: jaxrec.from_polars(FRAME.lazy()),
    "arrow": lambda _: jaxrec.from_arrow(arrow()),
    "scipy": lambda _: jaxrec.from_scipy(*matrix()),
    "numpy": lambda _: jaxrec.from_numpy(FRAME["user"], FRAME["item"], weight=FRAME["count"]),
}


@pytest.mark.parametrize("way", WAYS)
def test_the_same_pairs_give_the_same_data_from_every_source(way, tmp_path):
    data = WAYS[way](tmp_path)
    found = zip(data.user_ids[data.user].tolist(), data.item_ids[data.item].tolist(), strict=True)
    assert list(found) == PAIRS
    assert data.weight is not None
    assert data.weight.tolist() == FRAME["count"].to_list()
    data.save(tmp_path / "prepared")
    assert Dataset.load(tmp_path / "prepared").fingerprint() == WAYS["csv"](tmp_path).fingerprint()


def test_columns_are_named_by_keyword_and_left_out_by_an_empty_name():
    frame = pandas(FRAME.rename({"user": "buyer", "item": "thing", "count": "n"}))
    data = jaxrec.from_pandas(frame, user="buyer", item="thing", weight="n", name="shop")
    assert data.fingerprint() == WAYS["polars"](None).fingerprint()
    assert data.reading == ("shop: user <- `buyer`, item <- `thing`, weight <- `n`",)
    assert jaxrec.from_polars(FRAME, weight="").weight is None
    with pytest.raises(InputError, match=r"no role 'usr' of a column \(did you mean 'user'"):
        jaxrec.from_polars(FRAME, usr="user")
    with pytest.raises(InputError, match="data: no column 'buyer'; it has user, item, count"):
        jaxrec.from_pandas(pandas(), user="buyer")


def test_times_and_repeats(tmp_path):
    days = [datetime(2014, 4, day, tzinfo=UTC) for day in (3, 1, 2, 9)]
    frame = pl.DataFrame({"user": list("aaab"), "item": list("xxxy"), "date": days})
    frame = frame.with_columns(rating=pl.Series([3.0, 1.0, 2.0, 9.0]))
    for make, table in ((jaxrec.from_polars, frame), (jaxrec.from_pandas, pandas(frame))):
        last = make(table)
        assert last.time is not None
        assert last.time.tolist() == [days[0].timestamp(), days[3].timestamp()]
        first = make(table, repeats=Repeats(keep="first", count=True))
        assert first.time is not None
        assert first.rating is not None
        assert first.weight is not None
        assert first.time.tolist() == [days[1].timestamp(), days[3].timestamp()]
        assert (first.rating.tolist(), first.weight.tolist()) == ([1, 9], [3, 1])
    frame.write_csv(tmp_path / "a.csv")
    assert jaxrec.read(tmp_path / "a.csv", repeats=Repeats("first", True)).fingerprint() == (
        first.fingerprint()
    )
    weighted = frame.with_columns(weight=pl.lit(2.0))
    with pytest.raises(InputError, match="has weights, which are summed already"):
        jaxrec.from_polars(weighted, repeats=Repeats(count=True))


def test_pandas_frames_with_extension_types():
    pd = pytest.importorskip("pandas", reason="pandas is optional")
    zoned = pd.Series(pd.to_datetime(["2014-04-01", "2014-04-02"])).dt.tz_localize("Asia/Kolkata")
    frame = pd.DataFrame(
        {
            "user": pd.Categorical(["b", "a"]),
            "item": pd.array([7, 2**53 + 1], dtype="Int64"),
            "rating": pd.array([3, 4], dtype="Int8"),
            "time": zoned,
            "unused": [object(), None],
        }
    )
    data = jaxrec.from_pandas(frame)
    assert data.user_ids.tolist() == ["a", "b"]
    assert data.item_ids.tolist() == [7, 2**53 + 1]
    assert data.rating is not None
    assert data.time is not None
    assert data.rating.tolist() == [4, 3]
    assert data.time.tolist() == [1396377000.0, 1396290600.0]
    holes = frame.astype({"item": "object"})
    holes.loc[1, "item"] = None
    with pytest.raises(InputError, match="data: row 2: the item is missing"):
        jaxrec.from_pandas(holes)
    left = jaxrec.from_pandas(holes, text=TextOptions(skip_missing_ids=True))
    assert (left.n_edges, left.notes["left out: no item"]) == (1, 1)
    with pytest.raises(InputError, match="user: the id at index 0 is a tuple, neither a whole"):
        jaxrec.from_pandas(pd.DataFrame({"user": [(1, 2)], "item": [3]}))


def test_rows_and_columns_without_an_entry_are_left_out_and_counted():
    entries = np.array([[0, 2, 0], [0, 0, 0], [1, 0, 0]])
    held = sparse.csr_matrix(entries)
    held.data[1] = 0  # an explicit entry of 0
    data = jaxrec.from_scipy(held, ["ann", "bo", "cy"], [10, 20, 30])
    assert (data.user_ids.tolist(), data.item_ids.tolist()) == (["ann"], [20])
    left = ("entries of 0", "rows without an entry", "columns without an entry")
    assert [data.notes[f"{what}, left out"] for what in left] == [1, 2, 2]
    twice = sparse.coo_array(([1, 1, 1], ([0, 0, 1], [0, 0, 1])))
    summed = jaxrec.from_scipy(twice)
    assert summed.weight is not None
    assert summed.weight.tolist() == [2, 1]
    assert jaxrec.from_scipy(sparse.csc_array(np.eye(3))).weight is None
    likes = sparse.csr_array(np.array([[1.0, -1.0]]))
    with pytest.raises(InputError, match=r"an entry is -1, .*values='rating' takes entries"):
        jaxrec.from_scipy(likes)
    rated = jaxrec.from_scipy(likes, values="rating").rating
    assert rated is not None
    assert rated.tolist() == [1, -1]
    for ids, said in ((["a"], "1 user_ids for 3 rows"), (["a", "a", "b"], "id 'a' is repeated")):
        with pytest.raises(InputError, match=said):
            jaxrec.from_scipy(held, ids)
    with pytest.raises(InputError, match="the matrix has no entry"):
        jaxrec.from_scipy(sparse.csr_array((3, 3)))


def test_a_wrong_type_is_refused_with_the_function_that_accepts_it():
    with pytest.raises(InputError, match=r"polars\.DataFrame; jaxrec\.from_polars takes it"):
        jaxrec.from_pandas(FRAME)
    with pytest.raises(InputError, match=r"builtins\.dict; jaxrec\.from_numpy takes columns"):
        jaxrec.from_scipy({})
    with pytest.raises(InputError, match="2 users and 1 items"):
        jaxrec.from_numpy([1, 2], [3])
    for nothing in ({}, "path", None):
        assert taken(nothing) is nothing


@pytest.mark.parametrize("make", [pandas, lambda: FRAME.lazy(), lambda: matrix()[0]])
def test_training_accepts_tables_in_memory(make, tmp_path):
    config = from_dict(
        {
            "model": {"name": "mf", "layers": 0, "dim": 4},
            "train": {"epochs": 1},
            "eval": {"k": [3], "every": 0, "select_on": "none"},
        }
    )
    run = jaxrec.train(config, data=make(), run=tmp_path / "run", quiet=True)
    again = jaxrec.evaluate(run.folder, data=make())
    assert again["metrics"] == pytest.approx(run.metrics)
    with pytest.raises(InputError, match="was trained on a Dataset in memory"):
        jaxrec.evaluate(run.folder)
