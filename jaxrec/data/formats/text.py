"""Reads text files: the first lines, counts over all bytes, and the first faulty line."""

import codecs
import csv
import io
import itertools
import math
import re
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import polars as pl

from jaxrec.data import times
from jaxrec.data.formats import compressed
from jaxrec.data.formats.columns import IDS, NUMBERS, is_number, names_required
from jaxrec.data.formats.faults import Faults
from jaxrec.errors import InputError, nearest, short

_HEAD = 1 << 16
_CHUNK = 1 << 24
_BOM = b"\xef\xbb\xbf"
_BINARY = "not UTF-8 text but binary data; give a text file (unpack it, or save it as UTF-8)"
_SEPARATORS = {",": "comma", "\t": "tab", ";": "semicolon", "|": "bar", " ": "space"}
_BOUND = {".tsv": "\t"}
"""File endings that fix the separator."""
_INSTEAD = "\x1f"
"""Replaces a separator of several characters, which the parser does not support."""
_SAMPLE = 100
_ABOVE = 20
"""The number of lines among which the first row of a table is looked for."""
_SPAN = 100
"""The largest number of lines that a quoted cell may span if faulty lines are skipped."""
LARGEST = 3.4e38
"""The largest number that float32 holds."""


@dataclass(frozen=True)
class TextOptions:
    """Settings for reading a text file that cannot be detected from it.

    Attributes:
      separator: the characters between cells, or one of the names comma, tab, semicolon, bar and
        space.
      header: whether the first row names the columns.
      encoding: a name such as latin-1; UTF-8 if not given. The decoded text is held in memory.
      skip_bad_lines: leave out faulty lines, and count them. The text is held in memory.
      skip_missing_ids: leave out lines without a user or an item, and count them. With this
        option, words that programs write in place of an id (nan, null, None, NA) count as missing;
        without it, they count as ids. The text is held in memory.
      item_separator: the characters between the items of a cell, if a line is an order of several
        items.
      time_format: the format of times, in the directives of strptime (``%d/%m/%y``), or the order
        of dates such as 1/4/2014: ``day first`` or ``month first``. If not given, times are numbers
        or dates that :mod:`jaxrec.data.times` recognises.

    Raises:
      InputError: Python does not know the encoding, a separator is not usable, or the time format
        does not give a date.
    """

    separator: str | None = None
    header: bool | None = None
    encoding: str | None = None
    skip_bad_lines: bool = False
    skip_missing_ids: bool = False
    time_format: str | None = None
    item_separator: str | None = None

    def __post_init__(self) -> None:
        if self.time_format is not None:
            times.check_form(self.time_format)
        if self.item_separator == "":
            raise InputError("item_separator must not be empty; give characters such as '|' or ' '")
        if self.encoding is not None:
            try:
                known = codecs.lookup(self.encoding)
                if not known._is_text_encoding:
                    raise LookupError
            except (LookupError, ValueError) as e:
                raise InputError(
                    f"unknown encoding {self.encoding!r}; give one such as utf-8, latin-1, cp1252 "
                    "or utf-16"
                ) from e
            object.__setattr__(self, "encoding", known.name)
        if self.separator is not None:
            names = {name: character for character, name in _SEPARATORS.items()}
            text = (names | {"\\t": "\t"}).get(self.separator, self.separator)
            usable = 0 < len(text) <= 8 and text.isascii() and not set(text) & set('"\r\n\0.-')
            if not usable or any(letter.isalnum() for letter in text):
                raise InputError(
                    f"separator {self.separator!r} cannot separate cells; give characters such as "
                    f"';' or '::', or a name: {', '.join(names)}"
                )
            object.__setattr__(self, "separator", text)

    def of_tables_beside(self) -> "TextOptions":
        """Return the settings that also apply to tables of features: encoding, lines to skip."""
        return replace(self, separator=None, header=None, time_format=None, item_separator=None)


class Source(NamedTuple):
    """A text file, or a piece of one.

    Attributes:
      content: the text in UTF-8; None if the file itself can be read as it is.
      before: the number of lines of the file before the content.
    """

    path: Path
    content: bytes | None = None
    before: int = 0

    def open(self) -> io.BufferedReader | io.BytesIO:
        """Open the text in UTF-8, at its beginning."""
        return self.path.open("rb") if self.content is None else io.BytesIO(self.content)


class Head(NamedTuple):
    """The first lines of a file.

    Attributes:
      blank: the number of blank lines before the first row.
      gap: the number of blank lines between the first and the second row.
      separator: the characters between cells.
      rows: the cells of the first rows.
      guessed: whether the separator was detected and not given.
    """

    blank: int
    gap: int
    separator: str
    rows: list[list[str]]
    guessed: bool


class Survey(NamedTuple):
    """Counts over all bytes of a text file.

    Attributes:
      bom: 1 if the file starts with a byte order mark, else 0.
      windows: the number of lines that end as in Windows, by a carriage return and a line feed.
      blank: the number of blank lines.
      separators: the number of separators, also of those in quoted cells.
      quotes: whether there are quote characters.
    """

    bom: int
    windows: int
    blank: int
    separators: int
    quotes: bool


@dataclass(frozen=True)
class Layout:
    """The layout of a delimited file.

    Attributes:
      skip: the number of lines before the first row of data.
      width: the number of cells per row.
      at: the position of each role's column, from 0.
      quote: whether cells may be quoted.
      events: the known events, if events are read.
      dated: whether times are dates in text and not numbers.
      form: the format of the dates, if given.
      guessed: whether the separator was detected and not given.
      absent: texts that mean a missing id, besides the empty text.
      more: the values of constant columns, which come after those of the file.
    """

    source: Source
    separator: str
    skip: int
    width: int
    at: dict[str, int]
    quote: bool
    events: tuple[str, ...] = ()
    dated: bool = False
    form: str | None = None
    guessed: bool = False
    absent: frozenset[str] = frozenset()
    more: tuple[str, ...] = ()

    @property
    def path(self) -> Path:
        return self.source.path

    def lacks(self, cell: str) -> bool:
        """Return whether a cell means a missing id."""
        return not cell or cell in self.absent

    def scan(self, names: Sequence[str], *, lenient: bool = False) -> pl.LazyFrame:
        """Return all rows of data as texts, in columns of these names.

        Args:
          lenient: also return rows that have too many cells, or bytes that are not UTF-8.
        """
        content = self.source.content
        return pl.scan_csv(
            self.path if content is None else content,
            has_header=False,
            skip_rows=self.skip,
            separator=self.separator,
            quote_char='"' if self.quote else None,
            schema=dict.fromkeys(names, pl.String),
            glob=False,
            truncate_ragged_lines=lenient,
            encoding="utf8-lossy" if lenient else "utf8",
        )


def unreadable(path: Path, error: OSError) -> InputError:
    """Return the error for a file that the system cannot read."""
    place, reason = error.filename or path, error.strerror or error
    return InputError(f"{place}: cannot be read ({reason}); check the path and its permissions")


def read_bytes(path: Path, size: int = -1) -> bytes:
    """Read the first ``size`` bytes of a file; -1 reads all.

    Raises:
      InputError: the bytes are empty or binary.
    """
    with path.open("rb") as file:
        content = file.read(size)
    refuse_no_text(path, content)
    return content


def refuse_no_text(path: Path, content: bytes) -> None:
    """Raise InputError if the content of a file is empty or clearly binary."""
    if not content.removeprefix(_BOM).strip():
        raise InputError(f"{path}: empty; give a file with rows")
    wide = _wide(content)
    if wide is not None:
        raise InputError(f"{path}: looks like UTF-16, not UTF-8; --encoding {wide} reads it")
    if b"\0" in content or content.startswith((b"\x1f\x8b", b"PK\x03\x04", b"PAR1")):
        raise InputError(f"{path}: {_BINARY}")


def _wide(content: bytes) -> str | None:
    """Return the encoding if the byte order mark or many zero bytes show UTF-16, else None."""
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    head = content[:1000]
    even, odd, half = head[::2].count(0), head[1::2].count(0), len(head) / 2
    if len(head) < 8 or min(even, odd) or max(even, odd) < half / 2:
        return None
    return "utf-16-le" if odd else "utf-16-be"


def opened(path: Path, options: TextOptions) -> Source:
    """Open a file as UTF-8 text with a separator of one character, decompressed if needed.

    Raises:
      InputError: the text is not in the given encoding.
    """
    encoding, separator = options.encoding or "utf-8", options.separator or ""
    content = compressed.unpacked(path)
    if encoding == "utf-8" and len(separator) < 2:
        if content is not None:
            refuse_no_text(path, content)
        return Source(path, content)
    content = path.read_bytes() if content is None else content
    if encoding != "utf-8":
        try:
            # Bytes that are not in the encoding are reported later, with their line.
            text = content.decode(encoding, "surrogateescape")
            content = text.encode("utf-8", "surrogateescape")
        except UnicodeError as e:
            raise _not_in(path, encoding, e) from e
        refuse_no_text(path, content)
    if len(separator) > 1:
        content = _with_one_character(path, content, separator)
    return Source(path, content)


def pieces(path: Path, options: TextOptions, size: int, *, quote: bool = True) -> Iterator[Source]:
    """Yield a file in pieces of about ``size`` bytes, each converted as by :func:`opened`.

    A piece ends with a whole row, unless a quoted cell is longer than several pieces. The first
    piece is large enough for :func:`look` to return the same result as for the whole file.

    Args:
      quote: whether cells may be quoted; a quoted cell may contain line ends.

    Raises:
      InputError: the file is empty, binary or damaged.
    """
    encoding, separator = options.encoding or "utf-8", options.separator or ""
    decoder = codecs.getincrementaldecoder(encoding)("surrogateescape")
    left, before = b"", 0
    with compressed.opened(path) as file:
        while True:
            try:
                raw = file.read(size if before else max(size, 2 * _HEAD))
            except OSError as e:
                if e.errno is not None:
                    raise
                raise compressed.damaged(path, e) from e
            except compressed.DAMAGED as e:
                raise compressed.damaged(path, e) from e
            if encoding == "utf-8":
                left += raw
            else:
                text = _decoded(path, decoder, raw, encoding)
                left += text.encode("utf-8", "surrogateescape")
            if not before:
                refuse_no_text(path, left)
            cut = _end_of_rows(left, quote, force=len(left) > 8 * size) if raw else len(left)
            if cut:
                content = left[:cut]
                if len(separator) > 1:
                    content = _with_one_character(path, content, separator)
                yield Source(path, content, before)
                before += left.count(b"\n", 0, cut)
                left = left[cut:]
            if not raw:
                return


def _decoded(path: Path, decoder: codecs.IncrementalDecoder, raw: bytes, encoding: str) -> str:
    try:
        return decoder.decode(raw, final=not raw)
    except UnicodeError as e:
        raise _not_in(path, encoding, e) from e


def _not_in(path: Path, encoding: str, error: UnicodeError) -> InputError:
    return InputError(f"{path}: not {encoding} text ({error}); give its encoding: --encoding")


def _with_one_character(path: Path, content: bytes, separator: str) -> bytes:
    """Replace a separator of several characters by one character that the parser supports."""
    if _INSTEAD.encode() in content:
        raise InputError(f"{path}: {_BINARY}")
    return content.replace(separator.encode(), _INSTEAD.encode())


def _end_of_rows(content: bytes, quote: bool, *, force: bool) -> int:
    """Return where the last whole row ends; 0 if no row is whole.

    Args:
      force: if no row is whole, return the end of the last line, where a quoted cell may be open.
    """
    last = end = content.rfind(b"\n") + 1
    odd = quote and content.count(b'"', 0, end) % 2
    while end and odd:
        start = content.rfind(b"\n", 0, end - 1) + 1
        odd = (odd + content.count(b'"', start, end)) % 2
        end = start
    return last if force and not end else end


def all_lines(path: Path, options: TextOptions) -> pl.DataFrame:
    """Return every line that is not blank, without surrounding spaces, and its number from 1.

    Raises:
      InputError: the file is empty, or not text in the given encoding.
    """
    source = opened(path, options)
    content = read_bytes(path) if source.content is None else source.content
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as e:
        line = content[: e.start].count(b"\n") + 1
        raise InputError(f"{path}:{line}: not valid UTF-8; give its encoding: --encoding") from e
    lines = pl.Series("line", text.split("\n"), dtype=pl.String).str.strip_chars(" \r")
    frame = lines.to_frame().with_row_index("number", offset=1)
    return frame.filter(pl.col("line") != "")


def look(
    source: Source,
    *,
    separator: str | None = None,
    ending: str | None = None,
    quote: bool = True,
    needed: str = "user and item",
) -> Head:
    """Read the head of a file, and detect the separator if none is given.

    Args:
      ending: the ending to assume for the name, such as .tsv, which may fix the separator; by
        default, the ending of the file's name.
      needed: the contents that the columns must have, for messages.

    Raises:
      InputError: the file is empty, binary or without rows, or it is not clear which separator
        cuts it into columns.
    """
    path = source.path
    head = read_bytes(path, _HEAD) if source.content is None else source.content[:_HEAD]
    if b"\0" in head:
        raise InputError(f"{path}: {_BINARY}")
    lines = head.decode("utf-8-sig", errors="replace").split("\n")
    cut = len(head) == _HEAD and len(lines) > 1
    if cut:
        lines.pop()
    lines = [line.rstrip("\r") for line in lines]
    full = [n for n, line in enumerate(lines) if line]
    if not full:
        raise InputError(
            f"{path}:{len(lines) + 1}: longer than {_HEAD} bytes, too long for a row; save "
            "the file again with one row per line"
        )
    blank, gap = full[0], full[1] - full[0] - 1 if len(full) > 1 else 0
    lines = lines[blank : blank + _SAMPLE]
    place = f"{path}:{blank + 1}"
    start = _lines_above(lines, separator, quote=quote)
    if start:
        raise InputError(
            f"{place}: {short(lines[0])!r} is no row of the table, which begins on line "
            f"{blank + start + 1}; drop the lines above that line"
        )
    if separator is None:
        separator = _BOUND.get((ending or Path(compressed.plain_name(path)).suffix).lower())
    elif len(separator) > 1:
        separator = _INSTEAD
    if separator is not None:
        rows = cut_up(lines, separator, quote=quote, place=place)
        if len(rows[0]) < 2:
            name = name_of(separator)
            # Only a separator that cuts the line is suggested.
            cuts = [s for s in _SEPARATORS if s != separator and s in lines[0]]
            shown = name_of(cuts[0]) if cuts else "CHARACTER"
            raise InputError(
                f"{place}: one column, where {needed} are needed: there is no {name} in the line; "
                "give the separator of the cells: jaxrec data import ... --separator "
                f"{shown}"
            )
        return Head(blank, gap, separator, rows, False)
    detected = separated(lines, place=place, quote=quote, known=names_required)
    if detected is None:
        names = ", ".join(_SEPARATORS.values())
        hint = "--separator '::' splits it" if "::" in lines[0] else "--separator names another one"
        if re.fullmatch(r"\d+:", lines[0]):
            hint = "this is a film of the Netflix Prize: --format netflix reads it"
        raise InputError(
            f"{place}: one column, where {needed} are needed (separators tried: {names}; {hint})"
        )
    return Head(blank, gap, *detected, True)


def _lines_above(lines: Sequence[str], separator: str | None, *, quote: bool) -> int:
    """Return the number of lines above a table, such as comments or a title; 0 if there are none.

    The table begins below a line ``sep=;``, which spreadsheets write, or with a line that names the
    needed columns while the first line has another number of cells, or is a comment.
    """
    if re.fullmatch('"?sep=.?"?', lines[0]):
        return 1
    characters = _SEPARATORS if separator is None else (separator,)
    for character in characters:
        rows = [_cells(line, character, quote) for line in lines[:_ABOVE]]
        if names_required(rows[0]):
            return 0
        for n, row in enumerate(rows):
            if names_required(row) and (len(row) != len(rows[0]) or lines[0].startswith("#")):
                return n
    return 0


def _cells(line: str, separator: str, quote: bool) -> list[str]:
    """Cut one line into cells; an empty list if that is not possible."""
    if len(separator) > 1:
        separator = _INSTEAD
    try:
        return cut_up([line], separator, quote=quote, place="")[0] if line else [""]
    except InputError:
        return [""]


def separated(
    lines: Sequence[str], *, place: str, quote: bool = True, known: Callable[[list[str]], bool]
) -> tuple[str, list[list[str]]] | None:
    """Detect the separator of lines, and cut them into cells; None if no separator fits.

    The separator is the one of comma, tab, semicolon and bar that cuts every line into the same
    number of cells, at least two. A space is tried only if none of these cuts the first line.

    Args:
      place: file and line, for messages.
      known: returns whether a row names the needed columns, which decides between several
        separators.

    Raises:
      InputError: several separators are possible.
    """
    cut = {s: cut_up(lines, s, quote=quote, place=place) for s in _SEPARATORS}
    cut = {s: rows for s, rows in cut.items() if rows and len(rows[0]) >= 2}
    spaced = cut.pop(" ", None)
    if spaced and not cut and (known(spaced[0]) or _numeric(spaced)):
        cut[" "] = spaced
    if len(cut) > 1:
        named = {s: rows for s, rows in cut.items() if known(rows[0])}
        cut = named if len(named) == 1 else cut
    even = {s: rows for s, rows in cut.items() if _evenness(rows) == 1}
    if len(even) > 1 and len(lines) > 1:
        names = " or ".join(_SEPARATORS[s] for s in even)
        one = next(s for s in even)
        raise InputError(
            f"{place}: the separator could be the {names}; choose one: "
            f"--separator {_SEPARATORS[one]}"
        )
    if not (even or cut):
        return None
    # Lines with too many or too few cells are reported later.
    return max((even or cut).items(), key=lambda separated: _evenness(separated[1]))


def _evenness(rows: Sequence[Sequence[str]]) -> float:
    return sum(len(row) == len(rows[0]) for row in rows) / len(rows)


def _numeric(rows: Sequence[Sequence[str]]) -> bool:
    return all(is_number(cell) for row in rows for cell in row[:2])


def name_of(separator: str) -> str:
    """Return a separator's name for messages."""
    return _SEPARATORS.get(separator, repr(separator))


def cut_up(lines: Sequence[str], separator: str, *, quote: bool, place: str) -> list[list[str]]:
    """Cut lines into cells without surrounding spaces, up to the first line that is not a row.

    Raises:
      InputError: the first line is not a row.
    """
    quoting = csv.QUOTE_MINIMAL if quote else csv.QUOTE_NONE
    rows: list[list[str]] = []
    try:
        for row in csv.reader(lines, delimiter=separator, quoting=quoting):
            if row:
                rows.append([cell.strip() for cell in row])
    except csv.Error as e:
        if not rows and "new-line" in str(e):
            raise InputError(
                f"{place}: its lines end with carriage returns; save the file again with the line "
                "ends of Unix or Windows"
            ) from e
        if not rows:
            raise InputError(
                f"{place}: not rows of a table ({e}); save the file again as csv"
            ) from e
    return rows


def survey(source: Source, separator: str) -> Survey:
    """Count blank lines, separators and quotes. Raises InputError if a byte is NUL."""
    windows = blank = separators = 0
    lines, quotes, bom = source.before, False, False
    with source.open() as file:
        while chunk := file.read(_CHUNK):
            chunk += file.readline()
            if file.tell() == len(chunk):
                bom = chunk.startswith(_BOM)
            if b"\0" in chunk:
                line = lines + chunk[: chunk.index(b"\0")].count(b"\n") + 1
                raise InputError(f"{source.path}:{line}: {_BINARY}")
            lines += chunk.count(b"\n")
            windows += chunk.count(b"\r\n")
            separators += chunk.count(separator.encode())
            quotes = quotes or b'"' in chunk
            if chunk[:1] in b"\r\n" or b"\n\n" in chunk or b"\n\r\n" in chunk:
                blank += len(re.findall(rb"(?m)^\r?\n", chunk))
    return Survey(int(bom), windows, blank, separators, quotes)


def records(layout: Layout) -> Iterator[tuple[int, list[str]]]:
    """Yield each row of data that is not blank, with the number of its first line, from 1.

    This is slow. Bytes that are not UTF-8 become lone surrogates. Raises InputError at a row that
    the csv module refuses.
    """
    quoting = csv.QUOTE_MINIMAL if layout.quote else csv.QUOTE_NONE
    raw = layout.source.open()
    with io.TextIOWrapper(raw, "utf-8-sig", "surrogateescape", newline="\n") as file:
        for _ in range(layout.skip):
            file.readline()
        reader = csv.reader(file, delimiter=layout.separator, quoting=quoting)
        while True:
            line = layout.source.before + layout.skip + reader.line_num + 1
            try:
                row = next(reader, None)
            except csv.Error as e:
                raise InputError(
                    f"{layout.path}:{line}: not a row of a table ({e}); save the file again as csv"
                ) from e
            if row is None:
                return
            if row:
                yield line, [cell.strip() for cell in row]


def find_fault(layout: Layout) -> int:
    """Read the file line by line and raise InputError at the first fault.

    Returns:
      The number of rows, if there is no fault.
    """
    count = 0
    numbered = records(layout)
    for line, row in numbered:
        fault = _fault(layout, row)
        if fault:
            more = [row, *(next_row for _, next_row in itertools.islice(numbered, _SAMPLE))]
            cure = _cure(layout, fault, more, first=count == 0 and not layout.source.before)
            raise InputError(f"{layout.path}:{line}: {fault.text}{cure}")
        count += 1
    return count


def find_stray_quote(layout: Layout) -> None:
    """Raise InputError at the first line with an odd number of quotes, if there is one."""
    with layout.source.open() as file:
        for number, line in enumerate(file, start=layout.source.before + 1):
            if line.count(b'"') % 2:
                raise InputError(
                    f"{layout.path}:{number}: a quote within a cell; quote the whole cell and "
                    "double the quote, or drop it"
                )


class Fault(NamedTuple):
    """A fault that was found in a line.

    Attributes:
      text: a description of the fault that quotes the line.
      kind: a description without the content of the line, for counting.
      role: the role of the faulty cell; None if the whole line is faulty.
      missing: whether the cell is empty.
    """

    text: str
    kind: str
    role: str | None = None
    missing: bool = False


MISSING_CURE = "; fix or drop the line, or leave such lines out: --skip-missing-ids"
SKIP_CURE = "; fix or drop the line, or leave such lines out: --skip-bad-lines"


def role_cure(role: str, cells: Sequence[str] = (), form: str | None = None) -> str:
    """Return the fix for a cell that does not fit its column.

    Args:
      cells: some cells of the column, the faulty one among them. If none of them fits, the fix is
        for the column and not for the line.
      form: the form of times, if it is known.
    """
    if role == "event":
        return "; give the event a weight: --event-weights"
    leave_out = f"leave the column out: --columns.{role} ''"
    cells = [cell for cell in cells if cell]
    if len(cells) > 1 and not any(map(is_number, cells)):
        forms = times.fitting(cells) if role == "time" else []
        if forms:
            return f"; so are all lines that were checked: {reads(forms)}, or {leave_out}"
        if all(re.fullmatch(_COMMA, cell) for cell in cells):
            return f"; so has every line that was checked: write points, or {leave_out}"
        if not (role == "time" and any(times.is_moment(cell, form) for cell in cells)):
            form = "give its form (--time-format '%d.%m.%Y'), " if role == "time" else ""
            return (
                f"; so are all lines that were checked: {form}name another column, or {leave_out}"
            )
    return f"; fix the line, or {leave_out}"


def reads(forms: Sequence[str]) -> str:
    """Return a hint at the options by which times of these forms can be read."""
    listed = " or ".join(f"--time-format '{form}'" for form in forms)
    return f"{listed} reads them"


_COMMA = r"[+-]?\d*,\d+|[+-]?\d+"


def not_finite(cell: str | float) -> str:
    """Return why a number is refused: it is too large, or not finite."""
    large = math.isfinite(float(cell)) or any(map(str.isdigit, str(cell)))
    return f"is too large (float32 holds up to {LARGEST:g})" if large else "is not a finite number"


def _cure(layout: Layout, fault: Fault, rows: Sequence[Sequence[str]], *, first: bool) -> str:
    """Return the fix for a fault in the first row of ``rows``.

    Args:
      first: whether it is the first row of the table.
    """
    if fault.missing and fault.role in IDS:
        return MISSING_CURE
    if fault.role in NUMBERS:
        place = layout.at[fault.role]
        # Lines below the faulty one may hold bytes that are not UTF-8.
        rows = [[*row, *layout.more] for row in rows if len(row) == layout.width]
        cells = [row[place].encode(errors="replace").decode() for row in rows]
        return role_cure(fault.role, () if fault.missing else cells, layout.form)
    if fault.text.startswith("not valid"):
        return ""
    if fault.role == "event" and not fault.missing:
        return role_cure("event")
    widths = {len(row) for row in rows}
    if fault.role is None and first and len(rows) > 1 and len(widths) == 1:
        return "; so have all lines that were checked: name every column in the first line"
    cure = SKIP_CURE
    if fault.role is None and layout.guessed:
        cure += f" (the separator was taken to be the {name_of(layout.separator)}; --separator "
        cure += "names another one)"
    return cure


def _fault(layout: Layout, row: Sequence[str], *, ids_only: bool = False) -> Fault | None:
    """Return the first fault of a row, or None; with ``ids_only``, only missing ids are faults."""
    whole = len(row) == layout.width
    row = [*row, *layout.more]
    if ids_only:
        roles = (role for role in IDS if role in layout.at and whole)
        missing = (role for role in roles if layout.lacks(row[layout.at[role]]))
        return next(map(_missing, missing), None)
    if not whole:
        count = len(row) - len(layout.more)
        s = "" if count == 1 else "s"
        text = f"{count} column{s}, where the first line has {layout.width}"
        return Fault(text, "more or fewer columns than the first line")
    for cell in row:
        if not cell.isascii() and any("\ud800" <= letter <= "\udfff" for letter in cell):
            return Fault(_undecoded(cell), "not valid UTF-8")
    for role, place in layout.at.items():
        cell = row[place]
        if not cell or (role in IDS and layout.lacks(cell)):
            return _missing(role)
        if role in NUMBERS:
            wrong = _no_moment(cell, layout) if role == "time" else _no_number(cell)
            if wrong is None and role == "weight":
                wrong = not_a_weight(cell, of_pairs="src" in layout.at)
            if wrong:
                return Fault(f"{role} {cell!r} {wrong}", f"{role} {wrong}", role)
        if role == "event" and cell not in layout.events:
            known = ", ".join(layout.events)
            hint = nearest(cell, layout.events)
            text = f"event {cell!r} has no weight{hint}, known: {known}"
            return Fault(text, "event has no weight", role)
    return None


def _missing(role: str) -> Fault:
    return Fault(f"the {role} is missing", f"the {role} is missing", role, True)


def not_a_weight(cell: str, *, of_pairs: bool) -> str | None:
    """Return why a number cannot be the weight of an item pair or an interaction, or None."""
    if of_pairs:
        return None if float(cell) > 0 else "is not positive"
    return None if float(cell) >= 0 else "is negative"


def _no_moment(cell: str, layout: Layout) -> str | None:
    """Return why a cell is not a time, or None if it is one."""
    if layout.dated:
        return times.why_not(cell, layout.form)
    if is_number(cell):
        return _no_number(cell)
    fault = times.why_not(cell) or "is a date, where the first lines have numbers"
    return fault.replace("a date or time such", "a number or a date such")


def _no_number(cell: str) -> str | None:
    """Return why a cell is not a number, or None if it is one."""
    if not is_number(cell):
        comma = re.fullmatch(r"[+-]?\d*,\d+", cell)
        return "has a decimal comma, where a point is needed" if comma else "is not a number"
    return None if abs(float(cell)) < LARGEST else not_finite(cell)


def _undecoded(cell: str) -> str:
    """Return a message that a cell is not UTF-8, which suggests an encoding that can read it."""
    content = cell.encode("utf-8", "surrogateescape")
    fine = any(0x80 <= byte < 0xA0 for byte in content)
    encoding = "cp1252" if fine else "latin-1"
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError:
        return "not valid UTF-8; give its encoding (--encoding), or skip such lines"
    return f"not valid UTF-8; in {encoding} it is {short(text)!r}: --encoding {encoding}"


def sifted(layout: Layout, faults: Faults, *, ids_only: bool) -> Layout | None:
    """Replace faulty records by blank lines, and count them in ``faults``.

    Args:
      ids_only: replace only the records that lack an id.

    Returns:
      The layout of the new text, or None if no record is left.
    """
    quoting = csv.QUOTE_MINIMAL if layout.quote else csv.QUOTE_NONE
    kept, again = io.BytesIO(), deque[bytes]()
    with layout.source.open() as file:
        for _ in range(layout.skip):
            kept.write(file.readline())
        number = layout.source.before + layout.skip
        while True:
            record: list[bytes] = []

            def lines(record: list[bytes] = record, marked: bool = number == 0) -> Iterator[str]:
                while len(record) < _SPAN and (
                    line := again.popleft() if again else file.readline()
                ):
                    record.append(line)
                    yield line.decode("utf-8-sig" if marked else "utf-8", "surrogateescape")

            try:
                row = next(csv.reader(lines(), delimiter=layout.separator, quoting=quoting), None)
            except csv.Error as e:
                fault = Fault(f"not a row of a table ({e})", "not a row of a table")
            else:
                cells = [cell.strip() for cell in row or ()]
                fault = _fault(layout, cells, ids_only=ids_only) if cells else None
                if layout.quote and sum(line.count(b'"') for line in record) % 2:
                    fault = fault or Fault("a quote within a cell", "a quote within a cell")
                if any(b"\0" in line for line in record):
                    fault = fault or Fault("a NUL byte", "a NUL byte")
            if not record:
                break
            if fault is None or (ids_only and not fault.missing):
                kept.writelines(record)
                number += len(record)
                continue
            # After an unclosed quote, valid lines may be in the record, so read them again.
            again.extendleft(reversed(record[1:]))
            number += 1
            kept.write(b"\n")
            faults.add(fault.kind, number)
    # The parser takes the width of all rows from the first line it reads, so skip blank lines.
    source = layout.source._replace(content=kept.getvalue())
    skip = first_row(source, layout.skip)
    return None if skip is None else replace(layout, source=source, skip=skip)


def first_row(source: Source, skip: int = 0) -> int | None:
    """Return the number of lines before the first line after ``skip`` lines that is not blank.

    The result is None if all lines after them are blank.
    """
    with source.open() as file:
        for _ in range(skip):
            file.readline()
        while (line := file.readline()) and not line.strip(b"\r\n"):
            skip += 1
    return skip if line else None


def none_left(path: Path, faults: Faults) -> InputError:
    """Return the error for a file of which all lines were left out."""
    reason = f" ({faults.first})" if faults.first else ""
    return InputError(f"{path}: no line is valid{reason}; give a file with valid lines")


def line_of(layout: Layout, row: int) -> str:
    """Return ``file:line`` of a row of data, counted from 0."""
    for number, (line, _) in enumerate(records(layout)):
        if number == row:
            return f"{layout.path}:{line}"
    raise IndexError(row)
