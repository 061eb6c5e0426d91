"""Test that a prepared folder is read as it was written, and that errors name any damage."""

import errno
import json
from dataclasses import replace

import numpy as np
import pytest

from jaxrec.data import prepared
from jaxrec.data.dataset import Csr, Dataset, Exposed
from jaxrec.data.features import Bag, Category, Column, Features, Number, Vector
from jaxrec.data.prepared import is_prepared
from jaxrec.errors import InputError


@pytest.fixture
def data() -> Dataset:
    """Return a data set of three users and three items with every column."""
    return Dataset(
        user=np.array([0, 0, 1, 2], np.int32),
        item=np.array([2, 0, 1, 1], np.int32),
        user_ids=np.array(["ann", "bob", "zoë"]),
        item_ids=np.array([-5, 7, 2**40]),
        rating=np.array([1, 2, 3, 4.5], np.float32),
        time=np.array([10, 20, 30, 1e9]),
        weight=np.array([1, 1, 2, 3], np.float32),
        split=np.array([0, 2, 0, 1], np.uint8),
        name="little",
        notes={"duplicate pairs": 1},
    )


@pytest.fixture
def featured(data) -> Dataset:
    """Return ``data`` with features of every type."""
    names = np.array(["", "a", "zoë"])
    users: dict[str, Column] = {"age": Number(np.array([20, np.nan, 40], np.float32))}
    items: dict[str, Column] = {
        "maker": Category(np.array([2, 0, 1], np.int32), names),
        "a/b: tags": Bag(np.array([0, 2, 2, 3], np.int32), np.array([1, 2, 1], np.int32), names),
        "look": Vector(np.array([[1, 2], [3, 4], [np.nan] * 2], np.float32)),
    }
    return replace(data, user_features=Features(users), item_features=Features(items))


@pytest.mark.parametrize("timed", [False, True])
def test_what_was_shown_is_saved_and_damage_to_it_named(data, timed, tmp_path):
    time = np.array([3.0, 4.0]) if timed else None
    shown = Exposed(np.array([1, 2], np.int32), np.array([0, 2], np.int32), time)
    exposed = replace(data, exposed=shown)
    assert exposed.fingerprint() != data.fingerprint()
    exposed.save(tmp_path / "out")
    back = Dataset.load(tmp_path / "out", verify=True)
    assert back.exposed is not None
    assert [None if x is None else x.tolist() for x in back.exposed] == [
        [1, 2],
        [0, 2],
        [3.0, 4.0] if timed else None,
    ]
    np.testing.assert_array_equal(back.exposed_csr().indptr, [0, 0, 1, 2])
    ids = tmp_path / "out" / "item_ids.npy"
    whole = np.load(ids)
    np.save(ids, whole.astype("M8[s]") if whole.dtype.kind == "i" else whole.astype("S"))
    with pytest.raises(InputError, match=r"item_ids.npy: does not match manifest.json"):
        Dataset.load(tmp_path / "out")
    np.save(ids, whole)
    np.save(tmp_path / "out" / "exposed_item.npy", np.array([0, 9], np.int32))
    with pytest.raises(InputError, match=r"exposed_item.npy: row number 9 is outside"):
        Dataset.load(tmp_path / "out")
    np.save(tmp_path / "out" / "exposed_item.npy", np.array([0], np.int32))
    with pytest.raises(InputError, match=r"exposed_item.npy: does not match manifest.json"):
        Dataset.load(tmp_path / "out")


def test_save_and_load_round_trip(data, tmp_path):
    data.save(tmp_path / "out")
    back = Dataset.load(tmp_path / "out", verify=True)
    assert back.columns().keys() == data.columns().keys()
    for name, column in data.columns().items():
        np.testing.assert_array_equal(back.columns()[name], column)
        assert back.columns()[name].dtype == column.dtype
    assert back.user_ids.tolist() == ["ann", "bob", "zoë"]
    assert back.item_ids.tolist() == [-5, 7, 2**40]
    assert (back.name, back.notes) == (data.name, data.notes)
    assert back.fingerprint() == data.fingerprint()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_absent_columns_stay_absent(data, tmp_path):
    bare = Dataset(data.user, data.item, data.user_ids, data.item_ids)
    bare.save(tmp_path / "out")
    assert list(Dataset.load(tmp_path / "out").columns()) == ["user", "item"]
    assert is_prepared(tmp_path / "out")
    assert not is_prepared(tmp_path)


def test_columns_are_memory_mapped(data, tmp_path):
    data.save(tmp_path / "out")
    back = Dataset.load(tmp_path / "out")
    assert all(isinstance(column, np.memmap) for column in back.columns().values())
    with pytest.raises(ValueError, match="read-only"):
        back.user[0] = 1


def test_csr_is_sorted_and_without_repeats():
    data = Dataset(
        user=np.array([2, 0, 2, 2], np.int32),
        item=np.array([3, 1, 0, 3], np.int32),
        user_ids=np.arange(3),
        item_ids=np.arange(4),
    )
    csr = data.csr()
    assert isinstance(csr, Csr)
    assert csr.indptr.tolist() == [0, 1, 1, 3]
    assert csr.indices.tolist() == [1, 0, 3]
    assert csr.degree.tolist() == [1, 0, 2]
    assert data.user_counts().tolist() == [1, 0, 3]
    assert data.item_counts().tolist() == [1, 1, 0, 2]


@pytest.mark.parametrize("name", ["user", "item", "rating", "time", "weight", "split"])
def test_fingerprint_sees_every_column(data, name):
    changed = {k: v.copy() for k, v in data.columns().items()}
    changed[name][2] += 1
    other = Dataset(**changed, user_ids=data.user_ids, item_ids=data.item_ids)
    assert other.fingerprint() != data.fingerprint()


def test_fingerprint_sees_ids_and_not_the_name(data):
    columns = data.columns()
    renamed = Dataset(**columns, user_ids=data.user_ids, item_ids=data.item_ids, name="other")
    assert renamed.fingerprint() == data.fingerprint()
    relabelled = Dataset(**columns, user_ids=data.user_ids, item_ids=data.item_ids + 1)
    assert relabelled.fingerprint() != data.fingerprint()


@pytest.mark.parametrize("name", ["user.npy", "rating.npy", "user_ids.npy", "item_ids.npy"])
@pytest.mark.parametrize("harm", ["missing", "cut", "shorter", "junk"])
def test_damage_is_named(data, tmp_path, name, harm):
    folder = tmp_path / "out"
    data.save(folder)
    path = folder / name
    if harm == "missing":
        path.unlink()
    elif harm == "cut":
        path.write_bytes(path.read_bytes()[:-3])
    elif harm == "shorter":
        np.save(path, np.load(path)[:-1])
    else:
        path.write_bytes(b"junk")
    with pytest.raises(InputError, match=name):
        Dataset.load(folder)


def test_features_round_trip_memory_mapped(featured, tmp_path):
    featured.save(tmp_path / "out")
    back = Dataset.load(tmp_path / "out", verify=True)
    for side, features in featured.features().items():
        found = back.features()[side].arrays()
        assert list(found) == list(features.arrays())
        for name, array in features.arrays().items():
            np.testing.assert_array_equal(found[name], array)
            assert isinstance(found[name], np.memmap)
    assert back.fingerprint() == featured.fingerprint()


def test_the_fingerprint_sees_features_and_stays_without_them(data, featured):
    golden = "2a014b2d11c9af516a2f077fa800def410ecdf5092989ff7b193597c1ba000a4"
    assert data.fingerprint() == golden
    one = replace(featured, user_features=None)
    other = replace(one, item_features=one.item_features.take(np.array([1, 0, 2])))
    assert len({d.fingerprint() for d in (data, featured, one, other)}) == 4


def test_interactions_taken_keep_the_features(featured):
    assert featured.take(np.array([1, 3])).item_features is featured.item_features


@pytest.mark.parametrize("side", ["user", "item"])
def test_features_must_have_a_row_an_id(featured, side):
    features = featured.features()[f"{side}_features"].take(np.arange(2))
    with pytest.raises(InputError, match=f"{side}_features has 2 rows for 3 {side}s"):
        replace(featured, **{f"{side}_features": features})


@pytest.mark.parametrize("n", range(6))
@pytest.mark.parametrize("harm", ["missing", "shorter", "junk"])
def test_damaged_features_are_named(featured, tmp_path, n, harm):
    featured.save(tmp_path / "out")
    path = tmp_path / "out" / f"item_features.{n}.npy"
    if harm == "missing":
        path.unlink()
    elif harm == "shorter":
        np.save(path, np.load(path)[:-1])
    else:
        path.write_bytes(b"junk")
    # A bag's offsets contradict its codes, or codes contradict names; the error names one of both.
    with pytest.raises(InputError, match=r"item_features\.[0-5]\.npy: "):
        Dataset.load(tmp_path / "out")


@pytest.mark.parametrize("listed", [["x:y:z"], ["x"], [1], 5, None, ["x:bag:code"]])
def test_a_strange_list_of_features_is_refused(featured, tmp_path, listed):
    featured.save(tmp_path / "out")
    path = tmp_path / "out" / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"item_features": listed}))
    with pytest.raises(InputError, match=r"manifest\.json"):
        Dataset.load(tmp_path / "out")


def test_a_flipped_value_is_found_by_verify(data, tmp_path):
    folder = tmp_path / "out"
    data.save(folder)
    content = bytearray((folder / "rating.npy").read_bytes())
    content[-1] ^= 1
    (folder / "rating.npy").write_bytes(content)
    assert Dataset.load(folder).n_edges == 4
    with pytest.raises(InputError, match="fingerprint"):
        Dataset.load(folder, verify=True)


def test_row_numbers_outside_the_table_are_refused(data, tmp_path):
    data.save(tmp_path / "out")
    np.save(tmp_path / "out" / "item.npy", np.array([0, 1, 2, 3], np.int32))
    with pytest.raises(InputError, match=r"item\.npy: row number 3 is outside"):
        Dataset.load(tmp_path / "out")


@pytest.mark.parametrize(
    "change",
    [
        {"version": 99},
        {"format": "other"},
        {"columns": ["user"]},
        {"columns": ["user", "item", "../../secret"]},
        {"users": "3"},
        {"notes": None},
    ],
)
def test_a_strange_manifest_is_refused(data, tmp_path, change):
    data.save(tmp_path / "out")
    path = tmp_path / "out" / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(InputError, match=r"manifest\.json"):
        Dataset.load(tmp_path / "out")


def test_a_folder_with_content_is_not_overwritten(data, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("keep")
    with pytest.raises(InputError, match="exists already"):
        data.save(tmp_path / "out")
    assert (tmp_path / "out" / "mine.txt").read_text() == "keep"


def test_an_empty_folder_is_filled(data, tmp_path):
    (tmp_path / "out").mkdir()
    data.save(tmp_path / "out")
    assert Dataset.load(tmp_path / "out").n_edges == 4


def test_a_place_that_cannot_be_written_is_named(data, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="out: cannot be written"):
        data.save(tmp_path / "file" / "out")


def test_a_full_disk_leaves_nothing_behind(data, tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(prepared, "write_npy", full)
    with pytest.raises(InputError, match="No space left"):
        data.save(tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
