import json
import struct
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from made_run import write_embeddings

from jaxrec.errors import InputError
from jaxrec.exporting import export

USER = np.arange(12, dtype=np.float32).reshape(3, 4) / 7
ITEM = -np.arange(8, dtype=np.float32).reshape(2, 4) / 3
BIAS = {
    "user_bias": np.array([0.5, -1.0, 0.0], np.float32),
    "item_bias": np.array([2.0, 0.25], np.float32),
}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    item_ids = np.array(['sku "1"', "größe"])
    return write_embeddings(tmp_path / "run", USER, ITEM, item_ids=item_ids, **BIAS)


def test_npz_holds_what_the_run_holds(run: Path, tmp_path: Path) -> None:
    out = export(run, "npz", tmp_path / "new" / "out.npz")
    with np.load(run / "embeddings.npz") as theirs, np.load(out) as ours:
        assert sorted(ours.files) == sorted(theirs.files)
        for name in theirs.files:
            np.testing.assert_array_equal(ours[name], theirs[name])
            assert ours[name].dtype == theirs[name].dtype


def test_npz_keeps_a_name_without_suffix(run: Path, tmp_path: Path) -> None:
    export(run, "npz", tmp_path / "plain")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["plain", "run"]


def test_parquet_round_trip(run: Path, tmp_path: Path) -> None:
    out = export(run, "parquet", tmp_path / "out")
    assert sorted(p.name for p in out.iterdir()) == ["item.parquet", "user.parquet"]
    item = pl.read_parquet(out / "item.parquet")
    assert item.schema == {"id": pl.String, "embedding": pl.List(pl.Float32), "bias": pl.Float32}
    assert item["id"].to_list() == ['sku "1"', "größe"]
    np.testing.assert_array_equal(np.array(item["embedding"].to_list(), np.float32), ITEM)
    np.testing.assert_array_equal(item["bias"].to_numpy(), BIAS["item_bias"])
    user = pl.read_parquet(out / "user.parquet")
    np.testing.assert_array_equal(np.array(user["embedding"].to_list(), np.float32), USER)


def test_parquet_without_biases_has_no_bias_column(tmp_path: Path) -> None:
    run = write_embeddings(tmp_path / "run", USER, ITEM)
    out = export(run, "parquet", tmp_path / "out")
    assert pl.read_parquet(out / "user.parquet").columns == ["id", "embedding"]


def test_safetensors_reads_back_by_the_format(run: Path, tmp_path: Path) -> None:
    raw = export(run, "safetensors", tmp_path / "out.safetensors").read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    assert length % 8 == 0
    header, body = json.loads(raw[8 : 8 + length]), raw[8 + length :]
    about = header.pop("__metadata__")
    assert all(isinstance(value, str) for value in about.values())
    assert json.loads(about["user_ids"]) == ["u0", "u1", "u2"]
    assert json.loads(about["item_ids"]) == ['sku "1"', "größe"]
    assert list(header) == ["user", "item", "user_bias", "item_bias"]
    end = 0
    for name, expected in {"user": USER, "item": ITEM, **BIAS}.items():
        start, stop = header[name]["data_offsets"]
        assert (start, header[name]["dtype"]) == (end, "F32")
        found = np.frombuffer(body[start:stop], "<f4").reshape(header[name]["shape"])
        np.testing.assert_array_equal(found, expected)
        end = stop
    assert end == len(body)


def test_safetensors_refuses_a_header_that_readers_refuse(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jaxrec.exports.safetensors._LONGEST_HEADER", 64)
    with pytest.raises(InputError, match="export to npz or parquet"):
        export(run, "safetensors", tmp_path / "out.safetensors")
    assert [p.name for p in tmp_path.iterdir()] == ["run"]


def test_unknown_format_is_refused_with_the_nearest(run: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"did you mean 'parquet'.*npz, parquet, "):
        export(run, "parqet", tmp_path / "out")


def test_a_folder_with_content_is_not_replaced(run: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("keep")
    with pytest.raises(InputError, match=r"out: cannot be written \(Directory not empty\)"):
        export(run, "parquet", tmp_path / "out")
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["mine.txt"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out", "run"]


def test_unfinished_and_missing_runs(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a run folder"):
        export(tmp_path / "none", "npz", tmp_path / "out.npz")
    run = write_embeddings(tmp_path / "run", USER, ITEM)
    (run / "embeddings.npz").unlink()
    with pytest.raises(InputError, match=r"embeddings.npz is missing.*jaxrec resume"):
        export(run, "npz", tmp_path / "out.npz")
    (run / "embeddings.npz").write_bytes(b"PK\x03\x04 cut")
    with pytest.raises(InputError, match=r"embeddings.npz: damaged"):
        export(run, "npz", tmp_path / "out.npz")
    assert [p.name for p in tmp_path.iterdir()] == ["run"]


def test_context_vectors_and_no_users_in_every_format(tmp_path: Path) -> None:
    context = {"item_context": ITEM * 2}
    run = write_embeddings(tmp_path / "run", USER[:0], ITEM, **context)
    out = export(run, "parquet", tmp_path / "out")
    assert [p.name for p in out.iterdir()] == ["item.parquet"]
    frame = pl.read_parquet(out / "item.parquet")
    assert frame.columns == ["id", "embedding", "context"]
    np.testing.assert_array_equal(np.array(frame["context"].to_list(), np.float32), ITEM * 2)
    with np.load(export(run, "npz", tmp_path / "out.npz")) as stored:
        np.testing.assert_array_equal(stored["item_context"], ITEM * 2)
        assert stored["user"].shape == (0, 4)
    raw = export(run, "safetensors", tmp_path / "out.safetensors").read_bytes()
    (size,) = struct.unpack("<Q", raw[:8])
    header = json.loads(raw[8 : 8 + size])
    begin, end = header["item_context"]["data_offsets"]
    tensor = np.frombuffer(raw[8 + size + begin : 8 + size + end], "<f4").reshape(2, 4)
    np.testing.assert_array_equal(tensor, ITEM * 2)
    assert header["user"]["shape"] == [0, 4]
