"""Compressed files, told by their first bytes: gzip, bzip2, xz, Zstandard and zip archives."""

import bz2
import gzip
import io
import lzma
import zipfile
import zlib
from pathlib import Path
from typing import cast

import polars as pl

from jaxrec.errors import InputError

_MAGIC = {
    b"\x1f\x8b": "gz",
    b"BZh": "bz2",
    b"\xfd7zXZ\0": "xz",
    b"\x28\xb5\x2f\xfd": "zst",
    b"PK\x03\x04": "zip",
}
ENDINGS = tuple(f".{kind}" for kind in _MAGIC.values())
DAMAGED = (EOFError, zlib.error, gzip.BadGzipFile, lzma.LZMAError, zipfile.BadZipFile)
"""What reading from a damaged or truncated file raises; of bzip2 an OSError without a number."""


def kind_of(path: Path) -> str | None:
    """How a file is packed; None where it is not."""
    with path.open("rb") as file:
        head = file.read(6)
    return next((kind for magic, kind in _MAGIC.items() if head.startswith(magic)), None)


def plain_name(path: Path) -> str:
    """The name of a file without the ending that says how it is packed; of an archive, that of the
    file in it."""
    if path.suffix.lower() == ".zip" and path.is_file() and kind_of(path) == "zip":
        with _archive(path) as archive:
            return Path(_member(path, archive).filename).name
    return path.stem if path.suffix.lower() in ENDINGS else path.name


def unpacked(path: Path) -> bytes | None:
    """The content of a packed file; None where the file is not packed.

    Raises:
      InputError: it is damaged, or an archive of several files.
    """
    if kind_of(path) is None:
        return None
    try:
        with opened(path) as file:
            return file.read()
    except DAMAGED as e:
        raise damaged(path, e) from e
    except OSError as e:
        if e.errno is not None:
            raise
        raise damaged(path, e) from e


def damaged(path: Path, error: Exception) -> InputError:
    """The error for a packed file that cannot be unpacked."""
    return InputError(f"{path}: damaged or truncated ({error}); get it again")


def opened(path: Path) -> io.BufferedIOBase:
    """The content of a file, packed or not, to read from.

    Raises:
      InputError: an archive of several files, or Zstandard that is damaged or holds no UTF-8 text.
    """
    kind = kind_of(path)
    if kind == "zip":
        with _archive(path) as archive:
            return cast(io.BufferedIOBase, archive.open(_member(path, archive)))
    if kind == "zst":
        try:
            lines = pl.read_lines(path, glob=False).to_series()
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as e:
            if isinstance(e, OSError) and e.errno is not None:
                raise
            raise damaged(path, e) from e
        return io.BytesIO("".join(f"{line}\n" for line in lines).encode())
    if kind == "bz2":
        return bz2.open(path)
    if kind == "xz":
        return lzma.open(path)
    # With no buffer of ours around it: what comes before damage would be lost there.
    return gzip.GzipFile(path) if kind == "gz" else path.open("rb")


def _archive(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except zipfile.BadZipFile as e:
        raise damaged(path, e) from e


def _member(path: Path, archive: zipfile.ZipFile) -> zipfile.ZipInfo:
    """The one file of an archive."""
    there = [m for m in archive.infolist() if not m.is_dir() and "__MACOSX" not in m.filename]
    if len(there) != 1:
        listed = ", ".join(member.filename for member in there[:8]) or "nothing"
        raise InputError(f"{path}: holds {listed}, where one file is needed; unpack it first")
    if there[0].flag_bits & 1:
        raise InputError(f"{path}: is encrypted; unpack it first")
    return there[0]
