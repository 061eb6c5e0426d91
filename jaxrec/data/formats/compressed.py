"""Reads compressed files, recognised by their first bytes: gzip, bzip2, xz, Zstandard and zip."""

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
"""Errors of damaged or truncated files. bzip2 raises an OSError without an errno instead."""


def kind_of(path: Path) -> str | None:
    """Return the compression of a file; None if it is not compressed."""
    with path.open("rb") as file:
        head = file.read(6)
    return next((kind for magic, kind in _MAGIC.items() if head.startswith(magic)), None)


def plain_name(path: Path) -> str:
    """Return a file's name without the ending of its compression; for an archive, return the name
    of the file in it."""
    if path.suffix.lower() == ".zip" and path.is_file() and kind_of(path) == "zip":
        with _archive(path) as archive:
            return Path(_member(path, archive).filename).name
    return path.stem if path.suffix.lower() in ENDINGS else path.name


def unpacked(path: Path) -> bytes | None:
    """Return the content of a compressed file; None if the file is not compressed.

    Raises:
      InputError: the file is damaged, or an archive that does not hold exactly one file.
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
    """Return the error for a compressed file that cannot be decompressed."""
    return InputError(f"{path}: damaged or truncated ({error}); get it again")


def opened(path: Path) -> io.BufferedIOBase:
    """Open the content of a file, compressed or not, for reading.

    Raises:
      InputError: an archive is damaged or does not hold exactly one file, or Zstandard data is
        damaged or not UTF-8 text.
    """
    kind = kind_of(path)
    if kind == "zip":
        try:
            with _archive(path) as archive:
                return cast(io.BufferedIOBase, archive.open(_member(path, archive)))
        except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as e:
            raise damaged(path, e) from e  # the header of the archived file is damaged
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
    # A buffer around the gzip file would lose the lines before a damaged place, so add none.
    return gzip.GzipFile(path) if kind == "gz" else path.open("rb")


def _archive(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except zipfile.BadZipFile as e:
        raise damaged(path, e) from e


def _member(path: Path, archive: zipfile.ZipFile) -> zipfile.ZipInfo:
    """Return the only file of an archive."""
    members = [m for m in archive.infolist() if not m.is_dir() and "__MACOSX" not in m.filename]
    if len(members) != 1:
        listed = ", ".join(member.filename for member in members[:8]) or "nothing"
        raise InputError(f"{path}: holds {listed}, where one file is needed; unpack it first")
    if members[0].flag_bits & 1:
        raise InputError(f"{path}: is encrypted; unpack it first")
    return members[0]
