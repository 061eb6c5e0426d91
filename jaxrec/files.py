"""Write files atomically, and read them safely."""

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

_LONGEST_NAME = 255  # in bytes, on every file system of Linux and macOS
_LONGEST_PATH = 4096  # in bytes, on Linux


def check_path(path: str | Path, where: str | None = None) -> None:
    """Check that a path is a valid file name.

    Args:
      where: the name of the path in messages; by default the path itself.

    Raises:
      InputError: the path is empty, holds an invalid character, or is too long.
    """
    text = str(path)
    prefix = "" if where is None else f"{where}: "
    shown = repr(text if len(text) <= 80 else f"{text[:60]}...")
    if not text:
        raise InputError(f"{where or 'a path'} must not be empty")
    try:
        name = os.fsencode(text)
    except UnicodeEncodeError:
        name = b"\0"
    if b"\0" in name:
        raise InputError(f"{prefix}{shown} holds an invalid character; give another path")
    if len(name) > _LONGEST_PATH or max(map(len, name.split(b"/"))) > _LONGEST_NAME:
        raise InputError(f"{prefix}{shown} is too long for a file name")


@contextlib.contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path next to ``path`` for a new file or folder, and rename it at the end.

    On an exception the temporary path is removed, so a reader never finds partial content. Missing
    parent folders are created, and leftovers of killed processes are removed first.

    Raises:
      InputError: the path cannot be written (no permission, a full disk, an existing folder that is
      not empty).
    """
    path = Path(path)
    check_path(path)
    if not path.name:
        raise InputError(f"{path}: is a folder; name a file or a folder in it")
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")  # matched by _PARTIAL
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
    """Remove a file, a link or a folder tree, ignoring errors."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink()


_PARTIAL = re.compile(r"\.(?P<name>.+)\.(?P<process>\d+)\.partial", re.DOTALL)
"""Names of the temporary paths of :func:`replacing`."""


def is_partial(path: Path) -> bool:
    """Return whether the path is a temporary path of :func:`replacing`."""
    return _PARTIAL.fullmatch(path.name) is not None


def remove_partial(folder: Path, name: str | None = None) -> None:
    """Remove partial files and folders that killed processes left in ``folder``.

    Args:
      name: the file whose partial files are removed; None removes the partial files of all files.
    """
    for path in list(folder.iterdir()) if folder.is_dir() else ():
        found = _PARTIAL.fullmatch(path.name)
        if found is None or name not in (None, found["name"]):
            continue
        if not _runs(int(found["process"])):
            remove(path)


def _runs(process: int) -> bool:
    """Return whether another process with this number runs on this machine."""
    if process == os.getpid():  # an earlier process had the same number, as in containers
        return False
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # the process belongs to another user
        return True
    return process > 0


def parse_json(text: str | bytes) -> Any:
    """Parse a JSON text.

    Raises:
      ValueError: the text is not JSON (json.JSONDecodeError) or not UTF-8, or is nested too deeply.
    """
    try:
        return json.loads(text)
    except RecursionError as e:
        raise ValueError("nested too deep") from e


def read_arrays(path: Path, mmap: bool = False) -> Any:
    """Read the array of an .npy file, or the arrays of an .npz file by name, without unpickling.

    Args:
      mmap: whether to memory-map an .npy file.

    Raises:
      ValueError: the file is not .npy or .npz, is damaged, or has a header that declares more than
        fits into memory.
      OSError: the file cannot be opened.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # NumPy warns of odd headers
            found = _arrays(path, mmap)
    except _NO_ARRAYS as e:
        raise ValueError(f"not a valid NumPy file ({type(e).__name__})") from e
    for array in found.values() if isinstance(found, dict) else (found,):
        _check_code_points(array)
    return found


def _check_code_points(array: Any) -> None:
    """Raise ValueError if a text array holds invalid code points."""
    import numpy as np

    if array.dtype.kind == "U" and array.size and array.dtype.itemsize:
        number = np.dtype(np.uint32).newbyteorder(array.dtype.byteorder)
        point = np.ascontiguousarray(array).reshape(-1).view(number)
        for start in range(0, len(point), _BLOCK):
            part = point[start : start + _BLOCK]
            if ((part > 0x10FFFF) | ((part >= 0xD800) & (part <= 0xDFFF))).any():
                raise ValueError("a string has invalid characters")


def _arrays(path: Path, mmap: bool) -> Any:
    import numpy as np

    if mmap:
        return np.lib.format.open_memmap(path, mode="r")  # refuses pickles
    # If np.load cannot read a file that it opened itself, it does not close the file.
    with path.open("rb") as file:
        stored = np.load(file, allow_pickle=False)
        if isinstance(stored, np.ndarray):
            return _native(stored)
        with stored:
            arrays = {name: stored[name] for name in stored.files}
    odd = [name for name, array in arrays.items() if not isinstance(array, np.ndarray)]
    if odd:
        raise ValueError(f"{odd[0]!r} is not an array")
    return {name: _native(array) for name, array in arrays.items()}


def _native(array: Any) -> Any:
    """Convert to the machine's byte order, which JAX requires."""
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


_BLOCK = 1 << 20
# Exceptions of NumPy and zipfile for malformed headers and members.
_NO_ARRAYS = (
    *(TypeError, EOFError, SyntaxError, tokenize.TokenError, MemoryError, OverflowError),
    *(zipfile.BadZipFile, zlib.error, struct.error, RuntimeError, KeyError, RecursionError),
)


def write_json(path: str | Path, value: Any) -> None:
    """Write a JSON file atomically. Raises InputError as :func:`replacing` does."""
    with replacing(path) as partial:
        partial.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")


def write_npz(path: str | Path, arrays: dict[str, Any]) -> None:
    """Write an .npz file atomically. Raises InputError as :func:`replacing` does."""
    import numpy as np

    with replacing(path) as partial, partial.open("wb") as file:
        np.savez(file, **arrays)


def write_npz_by_block(path: str | Path, arrays: dict[str, tuple[int, Iterable[Any], str]]) -> None:
    """Write an .npz file of one-dimensional arrays atomically, one piece of an array at a time.

    Args:
      arrays: the length, the pieces and the dtype of each array, by its name.
    """
    import numpy as np

    with replacing(path) as partial, zipfile.ZipFile(partial, "w") as archive:
        for name, (size, pieces, dtype) in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                write_npy_header(file, size, dtype)
                for piece in pieces:
                    file.write(np.ascontiguousarray(piece, dtype).data)


def write_npy(path: Path, array: Any) -> None:
    """Write an .npy file, raising OSError on a full disk.

    ``np.save`` does not notice if the disk is full at the last 4 KiB.
    """
    import numpy as np

    array = np.ascontiguousarray(array)
    with path.open("wb") as file:
        header = np.lib.format.header_data_from_array_1_0(array)
        np.lib.format.write_array_header_1_0(file, header)
        file.write(array.data)


def write_npy_header(file: Any, size: int, dtype: Any) -> None:
    """Write the header of a one-dimensional .npy file; the raw values follow."""
    import numpy as np

    header = {"descr": np.dtype(dtype).str, "fortran_order": False, "shape": (size,)}
    np.lib.format.write_array_header_1_0(file, header)
