"""Writing files whole or not at all."""

import contextlib
import json
import os
import re
import shutil
import struct
import tokenize
import warnings
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from jaxrec.errors import InputError

_LONGEST_NAME = 255  # bytes, on every file system of Linux and macOS
_LONGEST_PATH = 4096  # bytes, on Linux


def check_path(path: str | Path, where: str | None = None) -> None:
    """Check that a file could have such a name, before the system stumbles over it.

    Args:
      where: what messages call it; the path itself where None.

    Raises:
      InputError: it is empty, holds what is no character, or is too long.
    """
    text = str(path)
    said = "" if where is None else f"{where}: "
    shown = repr(text if len(text) <= 80 else f"{text[:60]}...")
    if not text:
        raise InputError(f"{where or 'a path'} must not be empty")
    try:
        name = os.fsencode(text)
    except UnicodeEncodeError:
        name = b"\0"
    if b"\0" in name:
        raise InputError(f"{said}{shown} holds what is no character")
    if len(name) > _LONGEST_PATH or max(map(len, name.split(b"/"))) > _LONGEST_NAME:
        raise InputError(f"{said}{shown} is too long for the name of a file")


@contextlib.contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yield a temporary sibling of ``path`` to write a file or make a folder at.

    It takes the place of ``path`` when the block ends well and is removed when it does not,
    so that a reader finds the old content, the new content, or nothing. Missing parent
    folders are made. What a killed process left of the same ``path`` is removed first.

    Raises:
      InputError: the place cannot be written (no permission, a full disk, a folder that is
        not empty where the result would go).
    """
    path = Path(path)
    check_path(path)
    if not path.name:
        raise InputError(f"{path}: is a folder; name a file or a folder in it")
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_partial(path.parent, path.name)
        yield partial
        os.replace(partial, path)
    except OSError as e:
        raise InputError(f"{path}: cannot be written ({e.strerror or e})") from e
    finally:
        remove(partial)


def remove(path: Path) -> None:
    """Remove a file, a link or a folder with all that is in it; what cannot be removed stays."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink()


_PARTIAL = re.compile(r"\.(?P<name>.+)\.(?P<process>\d+)\.partial", re.DOTALL)
"""The name of what :func:`replacing` writes at before it takes its place."""


def is_partial(path: Path) -> bool:
    """Whether the name is one that :func:`replacing` gives to what is not yet whole."""
    return _PARTIAL.fullmatch(path.name) is not None


def remove_partial(folder: Path, name: str | None = None) -> None:
    """Remove the partial files and folders that processes left in ``folder`` when they were killed.

    Args:
      name: only those of this file; of any where None.
    """
    for path in list(folder.iterdir()) if folder.is_dir() else ():
        found = _PARTIAL.fullmatch(path.name)
        if found is None or name not in (None, found["name"]):
            continue
        if not _runs(int(found["process"])):
            remove(path)


def _runs(process: int) -> bool:
    """Whether another process of this number runs on this machine."""
    if process == os.getpid():  # an earlier one had our number, as in containers
        return False
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # it is another user's
        return True
    return process > 0


def parse_json(text: str | bytes) -> Any:
    """What a JSON text says.

    Raises:
      ValueError: it is none (json.JSONDecodeError), is no UTF-8, or is nested too deep to be read.
    """
    try:
        return json.loads(text)
    except RecursionError as e:
        raise ValueError("nested too deep") from e


def read_arrays(path: Path, mmap: bool = False) -> Any:
    """The array of an .npy file, or the arrays of an .npz file by name; nothing is unpickled.

    Args:
      mmap: map an .npy file into memory instead of reading it.

    Raises:
      ValueError: it is no such file, a damaged one, or promises more than memory holds.
      OSError: it cannot be opened.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of headers that NumPy reads only with trouble
            found = _arrays(path, mmap)
    except _NO_ARRAYS as e:
        raise ValueError(f"no sound NumPy file ({type(e).__name__})") from e
    for array in found.values() if isinstance(found, dict) else (found,):
        _refuse_no_text(array)
    return found


def _refuse_no_text(array: Any) -> None:
    """Raise ValueError at texts that hold numbers which are no characters."""
    import numpy as np

    if array.dtype.kind == "U" and array.size and array.dtype.itemsize:
        number = np.dtype(np.uint32).newbyteorder(array.dtype.byteorder)
        point = np.ascontiguousarray(array).reshape(-1).view(number)
        for start in range(0, len(point), _BLOCK):
            part = point[start : start + _BLOCK]
            if ((part > 0x10FFFF) | ((part >= 0xD800) & (part <= 0xDFFF))).any():
                raise ValueError("a text that is none")


def _arrays(path: Path, mmap: bool) -> Any:
    import numpy as np

    if mmap:
        return np.lib.format.open_memmap(path, mode="r")  # refuses what would be unpickled
    # np.load leaves a file open that it opened itself and could not read.
    with path.open("rb") as file:
        stored = np.load(file, allow_pickle=False)
        if isinstance(stored, np.ndarray):
            return _native(stored)
        with stored:
            arrays = {name: stored[name] for name in stored.files}
    odd = [name for name, array in arrays.items() if not isinstance(array, np.ndarray)]
    if odd:
        raise ValueError(f"{odd[0]!r} is no array")
    return {name: _native(array) for name, array in arrays.items()}


def _native(array: Any) -> Any:
    """The array in this machine's order of bytes, which JAX wants."""
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


_BLOCK = 1 << 20
# What NumPy and zipfile raise at headers and members that make no sense.
_NO_ARRAYS = (
    *(TypeError, EOFError, SyntaxError, tokenize.TokenError, MemoryError, OverflowError),
    *(zipfile.BadZipFile, zlib.error, struct.error, RuntimeError, KeyError, RecursionError),
)


def write_json(path: str | Path, value: Any) -> None:
    """A JSON file, whole or not at all. Raises InputError as :func:`replacing` does."""
    with replacing(path) as partial:
        partial.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")


def write_npz(path: str | Path, arrays: dict[str, Any]) -> None:
    """An .npz file, whole or not at all. Raises InputError as :func:`replacing` does."""
    import numpy as np

    with replacing(path) as partial, partial.open("wb") as file:
        np.savez(file, **arrays)


def write_npz_by_block(path: str | Path, arrays: dict[str, tuple[int, Iterable[Any], str]]) -> None:
    """An .npz file of arrays with one axis that come in pieces, whole or not at all.

    Args:
      arrays: how long each is, its pieces, and its dtype.
    """
    import numpy as np

    with replacing(path) as partial, zipfile.ZipFile(partial, "w") as archive:
        for name, (size, pieces, dtype) in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                write_npy_header(file, size, dtype)
                for piece in pieces:
                    file.write(np.ascontiguousarray(piece, dtype).data)


def write_npy(path: Path, array: Any) -> None:
    """An .npy file. Unlike ``np.save`` it raises OSError also where the disk has no room for the
    last 4 KiB: NumPy's own writes lose that error."""
    import numpy as np

    array = np.ascontiguousarray(array)
    with path.open("wb") as file:
        header = np.lib.format.header_data_from_array_1_0(array)
        np.lib.format.write_array_header_1_0(file, header)
        file.write(array.data)


def write_npy_header(file: Any, size: int, dtype: Any) -> None:
    """What comes first in an .npy file of one axis; its values come next, as they are."""
    import numpy as np

    header = {"descr": np.dtype(dtype).str, "fortran_order": False, "shape": (size,)}
    np.lib.format.write_array_header_1_0(file, header)
