"""Text files: a look at the head, a fast survey of the bytes, and the slow search for a fault."""

import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from jaxrec.data.formats.columns import NUMBERS, is_number
from jaxrec.errors import InputError, nearest

_HEAD = 1 << 16
_CHUNK = 1 << 24
_BOM = b"\xef\xbb\xbf"
_BINARY = "not UTF-8 text but binary data; give a text file (unpack it, or save it as UTF-8)"
_SEPARATORS = {",": "comma", "\t": "tab", ";": "semicolon", "|": "bar", " ": "space"}
_SAMPLE = 20
LARGEST = 3.4e38
"""What float32 can hold."""


class Head(NamedTuple):
    """The first lines of a file: rows of cells, and blank lines before the first and the second."""

    blank: int
    gap: int
    separator: str
    rows: list[list[str]]


class Survey(NamedTuple):
    """Counts over the bytes of a text file."""

    bom: int
    windows: int
    blank: int
    separators: int
    quotes: bool


@dataclass(frozen=True)
class Layout:
    """How a delimited file is laid out.

    Attributes:
      skip: lines before the first row of data.
      width: cells a row.
      at: place of each role's column, from 0.
      quote: whether cells may be quoted.
      events: the known events, where they are read.
    """

    path: Path
    separator: str
    skip: int
    width: int
    at: dict[str, int]
    quote: bool
    events: tuple[str, ...] = ()


def unreadable(path: Path, error: OSError) -> InputError:
    """The error for a file that the system does not let us read."""
    place, reason = error.filename or path, error.strerror or error
    return InputError(f"{place}: cannot be read ({reason}); check the path and its rights")


def read_bytes(path: Path, size: int = -1) -> bytes:
    """The first ``size`` bytes, or all; InputError where empty or plainly binary."""
    with path.open("rb") as file:
        content = file.read(size)
    if not content.removeprefix(_BOM).strip():
        raise InputError(f"{path}: empty; a file with rows is needed")
    if b"\0" in content or content.startswith((b"\x1f\x8b", b"PK\x03\x04", b"PAR1")):
        raise InputError(f"{path}: {_BINARY}")
    return content


def look(
    path: Path,
    *,
    separator: str | None = None,
    quote: bool = True,
    needed: str = "user and item",
) -> Head:
    """Read the head and, where none is given, find the separator.

    Args:
      needed: what the columns must hold, for messages.

    Raises:
      InputError: empty, binary, no rows, or no separator gives two columns.
    """
    head = read_bytes(path, _HEAD)
    lines = head.decode("utf-8-sig", errors="replace").split("\n")
    if len(head) == _HEAD and len(lines) > 1:
        lines.pop()
    lines = [line.rstrip("\r") for line in lines]
    full = [n for n, line in enumerate(lines) if line]
    if not full:
        raise InputError(
            f"{path}:{len(lines) + 1}: longer than {_HEAD} bytes, which no row is; write it anew"
        )
    blank, gap = full[0], full[1] - full[0] - 1 if len(full) > 1 else 0
    lines = lines[blank : blank + _SAMPLE]
    best, found = (0.0, 0), None
    for candidate in [separator] if separator else _SEPARATORS:
        try:
            rows = _cells(lines, candidate, quote)
        except csv.Error as e:
            raise InputError(f"{path}: not rows of a table ({e}); write it anew as csv") from e
        width = len(rows[0])
        score = (sum(len(row) == width for row in rows) / len(rows), width)
        if width >= 2 and score > best:
            best, found = score, Head(blank, gap, candidate, rows)
    if found is None:
        looked = [separator] if separator else list(_SEPARATORS)
        names = ", ".join(_SEPARATORS.get(s, repr(s)) for s in looked)
        raise InputError(
            f"{path}:{blank + 1}: one column, where {needed} are needed "
            f"(separators looked for: {names})"
        )
    return found


def _cells(lines: Sequence[str], separator: str, quote: bool) -> list[list[str]]:
    quoting = csv.QUOTE_MINIMAL if quote else csv.QUOTE_NONE
    rows = csv.reader(lines, delimiter=separator, quoting=quoting)
    return [[cell.strip() for cell in row] for row in rows if row]


def survey(path: Path, separator: str) -> Survey:
    """Count what the parser does not tell. Raises InputError where a byte is NUL."""
    windows = blank = separators = lines = 0
    quotes = bom = False
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            chunk += file.readline()
            if file.tell() == len(chunk):
                bom = chunk.startswith(_BOM)
            if b"\0" in chunk:
                line = lines + chunk[: chunk.index(b"\0")].count(b"\n") + 1
                raise InputError(f"{path}:{line}: {_BINARY}")
            lines += chunk.count(b"\n")
            windows += chunk.count(b"\r\n")
            separators += chunk.count(separator.encode())
            quotes = quotes or b'"' in chunk
            if chunk[:1] in b"\r\n" or b"\n\n" in chunk or b"\n\r\n" in chunk:
                blank += len(re.findall(rb"(?m)^\r?\n", chunk))
    return Survey(int(bom), windows, blank, separators, quotes)


def records(layout: Layout) -> Iterator[tuple[int, list[str]]]:
    """Slowly, each row of data with the number of its first line, from 1; blank ones left out.

    Bytes that are not UTF-8 come as lone surrogates. Raises InputError at a row that the csv
    module cannot take.
    """
    quoting = csv.QUOTE_MINIMAL if layout.quote else csv.QUOTE_NONE
    with layout.path.open(encoding="utf-8-sig", errors="surrogateescape", newline="\n") as file:
        for _ in range(layout.skip):
            file.readline()
        reader = csv.reader(file, delimiter=layout.separator, quoting=quoting)
        while True:
            line = layout.skip + reader.line_num + 1
            try:
                row = next(reader, None)
            except csv.Error as e:
                raise InputError(
                    f"{layout.path}:{line}: not a row of a table ({e}); write it anew"
                ) from e
            if row is None:
                return
            if row:
                yield line, [cell.strip() for cell in row]


def find_fault(layout: Layout) -> int:
    """Go through the file line by line and raise InputError at the first fault.

    Returns:
      The number of rows, where there is no fault.
    """
    count = 0
    for line, row in records(layout):
        fault = _fault(layout, row)
        if fault:
            raise InputError(f"{layout.path}:{line}: {fault}; mend or drop the line")
        count += 1
    return count


def find_stray_quote(layout: Layout) -> None:
    """Raise InputError at the first line with an odd number of quotes, where there is one."""
    with layout.path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if line.count(b'"') % 2:
                raise InputError(
                    f"{layout.path}:{number}: a quote within a cell; quote the whole cell and "
                    "double the quote, or drop it"
                )


def _fault(layout: Layout, row: Sequence[str]) -> str | None:
    if len(row) != layout.width:
        s = "" if len(row) == 1 else "s"
        return f"{len(row)} column{s}, where the first line has {layout.width}"
    for cell in row:
        if not cell.isascii() and any("\ud800" <= letter <= "\udfff" for letter in cell):
            return "not valid UTF-8"
    for role, place in layout.at.items():
        cell = row[place]
        if not cell:
            return f"the {role} is missing"
        if role in NUMBERS:
            if not is_number(cell):
                return f"{role} {cell!r} is not a number"
            if not abs(float(cell)) < LARGEST:
                return f"{role} {cell!r} is not a finite number"
        if role == "event" and cell not in layout.events:
            known = ", ".join(layout.events)
            return f"event {cell!r} has no weight{nearest(cell, layout.events)}, known: {known}"
    return None


def line_of(layout: Layout, row: int) -> str:
    """``file:line`` of a row of data, from 0."""
    for number, (line, _) in enumerate(records(layout)):
        if number == row:
            return f"{layout.path}:{line}"
    raise IndexError(row)
