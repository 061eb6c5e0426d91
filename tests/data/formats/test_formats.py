"""Reading data without options: the format is detected from the path, and counts are known."""

import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxrec.config import SplitConfig
from jaxrec.data import synthetic
from jaxrec.data.dataset import Dataset
from jaxrec.data.formats import FORMATS, Columns, detect, read, resolve
from jaxrec.data.split import split
from jaxrec.errors import InputError


def _pairs(data: Dataset) -> list[tuple]:
    users, items = data.user_ids[data.user].tolist(), data.item_ids[data.item].tolist()
    return list(zip(users, items, strict=True))


def _write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode())
    return path


_ids = st.one_of(
    st.integers(-(2**63), 2**63 - 1),
    st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1, max_size=8),
)


@settings(max_examples=60)
@given(
    pairs=st.lists(st.tuples(_ids, _ids), min_size=1, max_size=30, unique_by=lambda p: repr(p)),
    ending=st.sampled_from(["csv", "parquet"]),
    data=st.data(),
)
def test_ids_round_trip_in_any_order_of_lines(tmp_path_factory, pairs, ending, data):
    folder = tmp_path_factory.mktemp("ids")
    texts = sorted({(str(user), str(item)) for user, item in pairs})

    def reading(rows):
        path = folder / f"a.{ending}"
        frame = pl.DataFrame(rows, schema=["user", "item"], orient="row")
        frame.write_csv(path, quote_style="always") if ending == "csv" else frame.write_parquet(
            path
        )
        return read(path)

    found = reading(texts)
    assert sorted((str(u), str(i)) for u, i in _pairs(found)) == texts
    for ids in (found.user_ids, found.item_ids):
        assert ids.dtype == np.int64 or ids.dtype.kind == "U"
        assert (ids[1:] > ids[:-1]).all()
    again = reading(data.draw(st.permutations(texts)))
    assert again.fingerprint() == found.fingerprint()


def test_whole_number_ids_are_integers_and_sort_numerically(tmp_path):
    data = read(_write(tmp_path / "a.csv", "user,item\n10,b\n9,a\n-3,c\n9223372036854775807,a\n"))
    assert data.user_ids.tolist() == [-3, 9, 10, 2**63 - 1]
    assert data.user_ids.dtype == np.int64
    assert data.item_ids.tolist() == ["a", "b", "c"]


@pytest.mark.parametrize("odd", ["007", "+7", "-0", "9223372036854775808", "x", "1e3"])
def test_ids_that_would_print_differently_as_numbers_stay_texts(tmp_path, odd):
    lines = "".join(f"{n},1\n" for n in range(30))
    data = read(_write(tmp_path / "a.csv", f"user,item\n{lines}{odd},1\n"))
    assert data.n_users == 31
    assert odd in data.user_ids.tolist()


def test_resolve_returns_the_built_in_data(tmp_path):
    assert resolve("synthetic").fingerprint() == synthetic.embedded().fingerprint()
    path = _write(tmp_path / "a.csv", "user,item\n1,2\n")
    assert _pairs(resolve(str(path))) == [(1, 2)]


def test_prepared_folders_are_read_back(tmp_path):
    data = synthetic.make(20, 20, 60, communities=2)
    data.save(tmp_path / "out")
    assert detect(tmp_path / "out") == "prepared"
    assert read(tmp_path / "out").fingerprint() == data.fingerprint()


@pytest.mark.parametrize(
    ("files", "format"),
    [
        (["train.txt", "test.txt"], "lightgcn"),
        (["train.csv", "test.csv"], "csv"),
        (["train.csv", "item_meta.csv"], "csv"),
        (["a.tsv"], "tsv"),
        (["a.parquet"], "parquet"),
        (["a.inter", "a.item"], "recbole"),
        (["u.data", "u1.base"], "movielens"),
        (["ratings.dat", "movies.dat"], "movielens"),
        (["ratings.csv", "movies.csv", "tags.csv"], "movielens"),
    ],
)
def test_formats_are_detected_from_file_names(tmp_path, files, format):
    for name in files:
        (tmp_path / name).touch()
    assert detect(tmp_path) == format


def test_ambiguous_and_unknown_folders_list_the_formats_found(tmp_path):
    with pytest.raises(InputError, match="none of its files has a known format \\(nothing\\)"):
        read(tmp_path)
    (tmp_path / "readme.md").touch()
    with pytest.raises(InputError, match=r"readme\.md.*--format: prepared, lightgcn"):
        read(tmp_path)
    (tmp_path / "train.txt").touch()
    (tmp_path / "b.parquet").touch()
    with pytest.raises(InputError, match=r"could be lightgcn or parquet; .*--format"):
        read(tmp_path)


def test_several_tables_are_refused_with_a_request_for_one(tmp_path):
    _write(tmp_path / "a.csv", "user,item\n1,2\n")
    _write(tmp_path / "b.csv", "user,item\n1,2\n")
    with pytest.raises(InputError, match=r"found a\.csv, b\.csv; name the file itself"):
        read(tmp_path)


def test_bad_paths_and_formats(tmp_path):
    with pytest.raises(InputError, match="no such file or folder"):
        read(tmp_path / "nowhere")
    with pytest.raises(InputError, match="cannot be read"):
        read(tmp_path / "nowhere.csv", format="csv")
    with pytest.raises(InputError, match="did you mean 'lightgcn'"):
        read(tmp_path, format="lightgnc")
    with pytest.raises(InputError, match="the name does not tell the format"):
        read(_write(tmp_path / "a.xyz", "1,2\n"))
    (tmp_path / "loop.csv").symlink_to(tmp_path / "loop.csv")
    with pytest.raises(InputError, match=r"loop\.csv: cannot be read"):
        read(tmp_path / "loop.csv", format="csv")
    with pytest.raises(InputError, match="fixed columns"):
        read(_write(tmp_path / "train.txt", "1 2\n"), columns=Columns(user="a"))
    with pytest.raises(InputError, match="cannot be read"):
        read(tmp_path / ("x" * 300))


SEVERAL = ("prepared", "instacart")
"""Formats of several files, which are read together."""


@pytest.mark.parametrize("format", [name for name in FORMATS if name not in SEVERAL])
@pytest.mark.parametrize("content", [b"", b"\n \n", bytes(range(256)) * 20, b"\x1f\x8b\x08\0\0"])
def test_empty_and_binary_files_are_refused_in_every_format(tmp_path, format, content):
    name = {"lightgcn": "train.txt", "recbole": "a.inter", "movielens": "u.data"}.get(format)
    path = tmp_path / (name or f"a.{format}")
    path.write_bytes(content)
    with pytest.raises(InputError, match=f"{path.name}: (empty|not UTF-8|not a Parquet|damaged)"):
        read(path, format=format)


def test_gowalla(real_data):
    data = read(real_data / "gowalla")
    assert (data.n_users, data.n_items) == (29_858, 40_981)
    assert data.split is not None
    assert np.bincount(data.split).tolist() == [810_128, 0, 217_242]
    assert data.notes == {}
    train = data.take(data.split == 0)
    counts = train.user_counts()
    assert (counts.min(), np.median(counts), counts.max()) == (8, 16, 811)
    assert train.item_counts().max() == 1_415


def test_movielens_100k(real_data):
    data = read(real_data / "ml-100k")
    assert (data.n_users, data.n_items, data.n_edges) == (943, 1_682, 100_000)
    assert data.rating is not None
    assert np.bincount(data.rating.astype(int)).tolist() == [
        0,
        6_110,
        11_370,
        27_145,
        34_174,
        21_201,
    ]
    assert data.time is not None
    assert (data.time.min(), data.time.max()) == (874_724_710, 893_286_638)
    assert data.notes["files without a header"] == 1


def test_movielens_latest_small(real_data):
    data = read(real_data / "ml-latest-small")
    assert (data.n_users, data.n_items, data.n_edges) == (610, 9_724, 100_836)
    assert data.rating is not None
    assert (data.rating.min(), data.rating.max()) == (0.5, 5)
    assert data.time is not None
    assert (data.time.min(), data.time.max()) == (828_124_615, 1_537_799_250)
    assert data.notes["lines with Windows ends"] == 100_837


def test_a_copy_of_latest_small_with_a_damaged_time_is_refused(real_data, tmp_path):
    # Some copies of this file have a web address in the time of line 522.
    lines = (real_data / "ml-latest-small" / "ratings.csv").read_bytes().splitlines(keepends=True)
    lines[521] = lines[521].rstrip() + b" https://files.grouplens.org/datasets\r\n"
    shutil.copy(real_data / "ml-latest-small" / "movies.csv", tmp_path)
    (tmp_path / "ratings.csv").write_bytes(b"".join(lines))
    with pytest.raises(InputError, match=r"ratings\.csv:522: time '84743496. http.* is not a"):
        read(tmp_path)


def test_amazon_grocery(real_data):
    data = read(real_data / "amazon-grocery" / "train.csv")
    assert (data.n_users, data.n_edges) == (14_681, 121_892)
    assert list(data.columns()) == ["user", "item", "time"]
    assert read(real_data / "amazon-grocery").fingerprint() == data.fingerprint()


AGAIN = {"train": [("u1", "i1"), ("u1", "i2"), ("u2", "i1")], "test": [("u1", "i1"), ("u2", "i2")]}


def _lists(pairs: list[tuple[str, str]]) -> str:
    users = dict.fromkeys(user for user, _ in pairs)
    return "".join(f"{u} {' '.join(i for user, i in pairs if user == u)}\n" for u in users)


WRITTEN = {
    "csv": ("{}.csv", lambda rows: "user,item\n" + "".join(f"{u},{i}\n" for u, i in rows)),
    "tsv": ("{}.tsv", lambda rows: "user\titem\n" + "".join(f"{u}\t{i}\n" for u, i in rows)),
    "jsonl": (
        "{}.jsonl",
        lambda rows: "".join(f'{{"user_id": "{u}", "item_id": "{i}"}}\n' for u, i in rows),
    ),
    "recbole": (
        "set.{}.inter",
        lambda rows: "user_id:token\titem_id:token\n" + "".join(f"{u}\t{i}\n" for u, i in rows),
    ),
    "lightgcn": ("{}.txt", _lists),
    "movielens": ("u1.{}", lambda rows: "".join(f"{u[1]}\t{i[1]}\t3\t9\n" for u, i in rows)),
}


@pytest.mark.parametrize("format", [*WRITTEN, "parquet", "prepared"])
def test_repeated_pairs_are_kept_in_every_format_with_a_split(tmp_path, format):
    for part, rows in AGAIN.items():
        if format in ("parquet", "prepared"):
            name = tmp_path / f"{part}.parquet"
            pl.DataFrame(rows, schema=["user", "item"], orient="row").write_parquet(name)
            continue
        name, write = WRITTEN[format]
        part = "base" if format == "movielens" and part == "train" else part
        (tmp_path / name.format(part)).write_text(write(rows))
    data = read(tmp_path / "u1.base" if format == "movielens" else tmp_path)
    if format == "prepared":
        data.save(tmp_path / "prepared")
        data = read(tmp_path / "prepared")
    assert data.notes["held-out pairs that are also in an earlier part of the split"] == 1
    kept = SplitConfig(repeats="keep", validation=0.0)
    dropped = SplitConfig(repeats="drop", validation=0.0)
    for config, in_test in ((kept, 2), (dropped, 1)):
        assert [part.n_edges for part in split(data, config, 0)] == [3, 0, in_test]
    with pytest.raises(InputError, match="1 held-out pairs that are also in an earlier part"):
        split(data, SplitConfig(repeats="refuse"), 0)
