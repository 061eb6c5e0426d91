"""Compressed files, patterns and partitioned folders give the same rows as one plain file."""

import bz2
import gzip
import io
import lzma
import shutil
import zipfile
from pathlib import Path

import polars as pl
import pytest

from jaxrec.config import from_dict
from jaxrec.data import formats
from jaxrec.data.dataset import Dataset
from jaxrec.data.formats import Columns, TextOptions, read
from jaxrec.data.formats.assemble import to_dataset
from jaxrec.data.formats.item_graphs import read_items
from jaxrec.errors import InputError
from jaxrec.parted.write import partition_data

FRAME = pl.DataFrame(
    {"user": [f"u{n % 5}" for n in range(40)], "item": [f"é{n % 8}" for n in range(40)]}
)
CSV = FRAME.write_csv().encode()


def zst(path: Path, content: bytes) -> None:
    lines = content.decode().removesuffix("\n").split("\n")
    pl.DataFrame({"line": lines}).write_csv(
        path, include_header=False, compression="zstd", quote_style="never", check_extension=False
    )


def archived(path: Path, content: bytes, *more: str) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name in (path.stem, "__MACOSX/._a", *more):
            archive.writestr(name, content)


PACKERS = {
    "gz": lambda path, content: path.write_bytes(gzip.compress(content)),
    "bz2": lambda path, content: path.write_bytes(bz2.compress(content)),
    "xz": lambda path, content: path.write_bytes(lzma.compress(content)),
    "zst": zst,
    "zip": archived,
}


@pytest.fixture
def plain(tmp_path) -> Dataset:
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain" / "a.csv").write_bytes(CSV)
    return read(tmp_path / "plain" / "a.csv")


@pytest.mark.parametrize("kind", PACKERS)
def test_compressed_files_are_read_like_their_contents(kind, plain, tmp_path):
    for name, content in (
        ("a.csv", CSV),
        ("a.tsv", CSV.replace(b",", b"\t")),
        ("a.jsonl", FRAME.write_ndjson().encode()),
    ):
        path = tmp_path / f"{name}.{kind}"
        PACKERS[kind](path, content)
        data = read(path)
        assert data.fingerprint() == plain.fingerprint()
        assert data.name == "a"
    folder = tmp_path / "folder"
    folder.mkdir()
    PACKERS[kind](folder / f"train.csv.{kind}", CSV)
    PACKERS[kind](folder / f"test.csv.{kind}", b"user,item\nu1,x\n")
    split = read(folder).split
    assert split is not None
    assert sorted(split) == [0] * 40 + [2]


@pytest.mark.parametrize("kind", PACKERS)
def test_damaged_compressed_files_are_refused(kind, tmp_path):
    path = tmp_path / f"a.csv.{kind}"
    PACKERS[kind](path, CSV * 50)
    whole = path.read_bytes()
    for damaged in (whole[: len(whole) // 2], whole[:20] + b"\xff" * 9 + whole[29:]):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match=r"a\.csv\.\w+: (damaged|not UTF-8|the header)"):
            read(path)


def test_archives_of_several_files_are_refused_with_their_contents(tmp_path):
    archived(tmp_path / "a.csv.zip", CSV, "b.csv")
    with pytest.raises(InputError, match=r"holds a\.csv, b\.csv, where one file is needed"):
        read(tmp_path / "a.csv.zip")


def test_compressed_text_may_have_any_encoding_and_separator(plain, tmp_path):
    content = CSV.decode().replace(",", "::").encode("latin-1")
    path = tmp_path / "a.csv.gz"
    path.write_bytes(gzip.compress(content))
    data = read(path, text=TextOptions(separator="::", encoding="latin-1"))
    assert data.fingerprint() == plain.fingerprint()
    with pytest.raises(InputError, match=r"a\.csv\.gz:2: not valid UTF-8"):
        read(path, text=TextOptions(separator="::"))


def test_feature_tables_and_item_pairs_may_be_compressed(tmp_path):
    (tmp_path / "a.csv").write_bytes(CSV)
    items = "item,price\n" + "".join(f"é{n},{n}\n" for n in range(8))
    (tmp_path / "items.csv.gz").write_bytes(gzip.compress(items.encode()))
    features = read(tmp_path / "a.csv", items=tmp_path / "items.csv.gz").item_features
    assert features is not None
    assert features.n_rows == 8
    (tmp_path / "p.csv.bz2").write_bytes(bz2.compress(b"src,dst\na,b\nb,c\n"))
    assert read_items(tmp_path / "p.csv.bz2").n_pairs == 2


def test_patterns_name_several_files(plain, tmp_path):
    for n, part in enumerate(FRAME.iter_slices(9)):
        part.write_csv(tmp_path / f"part-{n}.csv")
    data = read(tmp_path / "part-*.csv")
    assert data.fingerprint() == plain.fingerprint()
    assert data.name == tmp_path.name
    assert data.reading == (
        "part-0.csv and 4 more: separator comma: user <- `user`, item <- `item`",
    )
    (tmp_path / "part-7.csv").write_text("user,item\nu,\n")
    with pytest.raises(InputError, match=r"part-7\.csv:2: the item is missing"):
        read(tmp_path / "part-*.csv")
    with pytest.raises(InputError, match=r"one \.csv file is needed.*or a pattern: '.*/\*\.csv'"):
        read(tmp_path)
    with pytest.raises(InputError, match=r"no-\*\.csv: no file matches the pattern"):
        read(tmp_path / "no-*.csv")
    (tmp_path / "part-8.jsonl").write_text('{"user": "u", "item": "i"}\n')
    with pytest.raises(InputError, match=r"has files of the formats csv and jsonl"):
        read(tmp_path / "part-*")


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_partitioned_folders_are_read_completely_and_split_by_name(ending, plain, tmp_path):
    root = tmp_path / "hive"
    for n, part in enumerate(FRAME.iter_slices(9)):
        folder = root / f"day={n % 2}" / f"hour={n}"
        folder.mkdir(parents=True)
        write = part.write_csv if ending == "csv" else part.write_parquet
        write(folder / f"part.{ending}")
    assert read(root).fingerprint() == plain.fingerprint()
    timed = read(root, columns=Columns(time="hour"))
    assert timed.time is not None
    assert set(timed.time) <= set(range(5))
    split = tmp_path / "split"
    for part in ("train", "test"):
        (split / f"split={part}").mkdir(parents=True)
        frame = FRAME if part == "train" else FRAME.head(1)
        write = frame.write_csv if ending == "csv" else frame.write_parquet
        write(split / f"split={part}" / f"a.{ending}")
    labels = read(split).split
    assert labels is not None
    assert sorted(labels) == [0] * 40 + [2]


def hive(root: Path, write, name: str) -> Path:
    """Write a folder partitioned by event and date, of files that hold an event as well."""
    days = [("view", "2024-05-01"), ("buy", "2024-05-02 10%3A00"), ("buy", "2024-05-03")]
    for (event, day), part in zip(days, FRAME.iter_slices(14), strict=True):
        folder = root / f"event={event}" / f"date={day}"
        folder.mkdir(parents=True)
        write(part.with_columns(event=pl.lit("click")), folder / name)
    return root


def as_csv(frame: pl.DataFrame) -> bytes:
    return frame.write_csv().encode()


def as_json(frame: pl.DataFrame) -> bytes:
    return frame.write_ndjson().encode()


WRITERS = {
    "a.parquet": lambda frame, path: frame.write_parquet(path),
    "a.csv": lambda frame, path: path.write_bytes(as_csv(frame).replace(b"\n", b"\n\n")),
    "a.csv.gz": lambda frame, path: path.write_bytes(gzip.compress(as_csv(frame))),
    "a.tsv": lambda frame, path: path.write_text(frame.write_csv(separator="\t")),
    "a.jsonl": lambda frame, path: path.write_bytes(as_json(frame)),
    "a.jsonl.gz": lambda frame, path: path.write_bytes(gzip.compress(as_json(frame))),
}


@pytest.mark.parametrize("name", WRITERS)
def test_keys_of_partitions_are_columns_of_every_format(name, tmp_path):
    root = hive(tmp_path / "hive", WRITERS[name], name)
    weights = {"view": 1.0, "buy": 3.0}
    data = read(root, event_weights=weights)
    assert data.time is not None
    assert data.weight is not None
    assert set(data.weight) == {1, 3}  # the folder's event, not that of the file
    assert set(data.time) == {1714521600.0, 1714644000.0, 1714694400.0}
    (reading,) = {line.partition(": ")[2] for line in data.reading}
    assert reading.endswith("time <- `date`, event <- `event`")
    pieces = list(formats.pieces(root, event_weights=weights, rows=3))
    assert sum(part.frame.height for part in pieces) == FRAME.height
    again = to_dataset(pieces, data.name)
    assert again.fingerprint() == data.fingerprint()
    made = partition_data(root, tmp_path / "out", 2, event_weights=weights, rows=5)
    assert made["interactions"] == FRAME.height
    with pytest.raises(
        InputError, match=r"event=view.*event 'view' has no weight.*--event-weights"
    ):
        read(root, event_weights={"buy": 1.0})
    left = read(root, columns=Columns(time="")).reading[0]
    assert left.endswith("not used: event, date")


def test_keys_of_partitions_of_files_without_a_header(tmp_path):
    bare = lambda frame, path: path.write_text(  # noqa: E731
        frame.select("user", "item").write_csv(include_header=False)
    )
    root, text = hive(tmp_path / "hive", bare, "a.csv"), TextOptions(header=False)
    data = read(root, event_weights={"view": 0.0, "buy": 3.0}, text=text)
    assert data.exposed is not None
    assert data.time is not None
    assert data.reading[0].endswith(
        "user <- column 1, item <- column 2, time <- `date`, event <- `event`"
    )
    data = read(root, columns=Columns(user="2", item="event", time=""), text=text)
    assert data.item_ids.tolist() == ["buy", "view"]
    assert data.reading[0].endswith("not used: column 1, date")
    (root / "event=view").rename(root / "user=7")
    with pytest.raises(InputError, match=r"a folder gives the user .user=.*; name all columns"):
        read(root, text=text)


@pytest.mark.parametrize("name", WRITERS)
def test_an_id_from_a_partition(name, tmp_path):
    frame = pl.DataFrame({"item": ["tea", "cup"], "rating": [1.0, 2.0]})
    null = "__HIVE_DEFAULT_PARTITION__"
    for user in ("ann", "b%2Fo", null):
        folder = tmp_path / "hive" / f"user={user}"
        folder.mkdir(parents=True)
        WRITERS[name](frame, folder / name)
    with pytest.raises(InputError, match=r"user=__HIVE.*the user is missing|user '' is an empty"):
        read(tmp_path / "hive")
    shutil.rmtree(tmp_path / "hive" / f"user={null}")
    assert read(tmp_path / "hive").user_ids.tolist() == ["ann", "b/o"]


@pytest.mark.long
def test_a_run_keeps_the_pattern_of_its_data(tmp_path, monkeypatch):
    import jaxrec

    monkeypatch.chdir(tmp_path)
    for n, part in enumerate(FRAME.iter_slices(20)):
        part.write_csv(tmp_path / f"part-{n}.csv")
    config = from_dict(
        {
            "data": "part-*.csv",
            "model": {"name": "mf", "layers": 0, "dim": 4},
            "train": {"epochs": 1},
            "eval": {"k": [3], "every": 0, "select_on": "none"},
        }
    )
    run = jaxrec.train(config, run=tmp_path / "run", quiet=True)
    assert run.config.data == str(tmp_path / "part-*.csv")
    monkeypatch.chdir("/")
    assert jaxrec.evaluate(run.folder)["metrics"] == pytest.approx(run.metrics)


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl"])
def test_a_damaged_header_within_an_archive_is_told(name, tmp_path):
    path, file = tmp_path / f"{name}.zip", io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(
            name, "user,item\n1,2\n" if name == "a.csv" else '{"user": 1, "item": 2}\n'
        )
    content = file.getvalue()
    directory = content.index(b"PK\x01\x02")
    moved = content[:directory].replace(name.encode(), b"b" + name.encode()[1:])
    odd = bytearray(content)
    odd[directory + 10] = 99  # a compression that there is not
    for damaged in (moved + content[directory:], bytes(odd)):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match=r"zip: damaged or truncated"):
            read(path)
        with pytest.raises(InputError, match=r"zip: damaged or truncated"):
            partition_data(path, tmp_path / "out", 2)
