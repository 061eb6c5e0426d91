"""Test messages about files whose contents do not fit their names."""

import io
import resource
import zipfile

import numpy as np
import pytest

from jaxrec.errors import InputError
from jaxrec.files import parse_json, read_arrays, write_npy


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


def npz(**members: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as made:
        for name, content in members.items():
            made.writestr(name, content)
    return file.getvalue()


def test_arrays_come_back(tmp_path):
    for texts in (np.array(["a", "\U0010ffff"]), np.array("é"), np.array([], "U1"), np.array([""])):
        np.save(tmp_path / "t.npy", texts.astype(texts.dtype.newbyteorder()))
        assert read_arrays(tmp_path / "t.npy").tolist() == texts.tolist()
    np.save(tmp_path / "x.npy", np.arange(3))
    np.savez(tmp_path / "x.npz", a=np.arange(2), b=np.ones(1))
    assert read_arrays(tmp_path / "x.npy").tolist() == [0, 1, 2]
    assert isinstance(read_arrays(tmp_path / "x.npy", mmap=True), np.memmap)
    np.save(tmp_path / "swapped.npy", np.arange(3).astype(">f4"))
    assert read_arrays(tmp_path / "swapped.npy").dtype == np.float32
    found = read_arrays(tmp_path / "x.npz")
    assert {name: array.tolist() for name, array in found.items()} == {"a": [0, 1], "b": [1.0]}


WHOLE = npy(np.arange(3))
BROKEN = {
    "a pickle": npy(np.array([print], object)),
    "a header that is no literal": WHOLE.replace(b"'descr': ", b"'descr': \x1b"),
    "a header without an end": WHOLE.replace(b"}", b"("),
    "more than memory holds": WHOLE.replace(b"(3,), }" + b" " * 15, b"(1152921504606846,), }"),
    "texts of what is no character": npy(np.array(["ab", "c"])).replace(b"b\0\0\0", b"bddd"),
    "texts of half a character": npy(np.array(["a\ud800"])),
    "cut short": WHOLE[:-1],
    "empty": b"",
    "a member that is no array": npz(x=b"PAR1"),
    "a member that is a pickle": npz(**{"x.npy": npy(np.array([print], object))}),
    "half an archive": npz(**{"x.npy": WHOLE})[:-9],
}


@pytest.mark.parametrize("mmap", [False, True])
@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
def test_what_is_no_sound_file_of_arrays_is_a_value_error(tmp_path, content, mmap):
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(ValueError):
        read_arrays(tmp_path / "x", mmap)


def test_what_is_nested_too_deep_is_no_json():
    assert parse_json('{"a": [1]}') == {"a": [1]}
    with pytest.raises(ValueError, match="nested"):
        parse_json("[" * 100_000)


def test_an_error_is_two_plain_lines_whatever_it_quotes():
    assert str(InputError("x: is none\nfix it")) == "x: is none\nfix it"
    assert str(InputError("a\x1b[31m\ud800\u2028b")) == r"a\x1b[31m\ud800\u2028b"
    assert str(InputError("a\nb\nc")) == "a\nb c"
    long = str(InputError(f"file: {'A' * 10_000}; fix it"))
    assert len(long) < 700
    assert long.startswith("file: AAA")
    assert long.endswith("AAA; fix it")


@pytest.mark.parametrize(
    "array",
    [np.arange(5, dtype=np.int32), np.zeros((0,), np.float32), np.array(["a", "éß"]), np.eye(3).T],
    ids=["numbers", "none", "texts", "two axes"],
)
def test_an_array_is_written_as_numpy_writes_it(tmp_path, array):
    write_npy(tmp_path / "ours.npy", array)
    np.save(tmp_path / "theirs.npy", np.ascontiguousarray(array))
    assert (tmp_path / "ours.npy").read_bytes() == (tmp_path / "theirs.npy").read_bytes()


def test_a_small_array_that_has_no_room_is_an_error(tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (600, hard))
    try:
        with pytest.raises(OSError, match="too large"):
            write_npy(tmp_path / "x.npy", np.arange(100))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
