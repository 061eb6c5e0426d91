"""Reads interactions from JSON lines: reviews of Amazon (2014, 2018, 2023), Yelp and others.

A line is a JSON object, or a Python literal as in older files; the file may be compressed. Nothing
is ever evaluated as code. Keys are treated as the column names of a table. If the value of ``user``
is an object, its key ``id`` is the column ``user.id``.
"""

import itertools
from array import array
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl

from jaxrec.data import times
from jaxrec.data.formats import amazon_metadata, compressed
from jaxrec.data.formats.assemble import Part, ids
from jaxrec.data.formats.columns import (
    IDS,
    MISSING,
    Roles,
    cells_at,
    is_number,
    known_place,
    located,
    names_known,
)
from jaxrec.data.formats.faults import Faults
from jaxrec.data.formats.text import (
    LARGEST,
    MISSING_CURE,
    SKIP_CURE,
    TextOptions,
    none_left,
    not_a_weight,
    not_finite,
    read_bytes,
    role_cure,
)
from jaxrec.errors import InputError, nearest

_SAMPLE = 100
_BLOCK = 1 << 17
"""The number of rows that are held as Python objects at once."""
_DEPTH = 3
"""The largest depth of nested objects whose keys become columns."""


def is_reviews(path: Path) -> bool:
    """Return whether a file holds reviews, whose objects name a user, and not product metadata.

    Raises:
      InputError: the file is a single JSON array.
    """
    return names_known(_keys(_sample(path)), "user")


def table(
    path: Path,
    columns: Roles,
    event_weights: dict[str, float] | None,
    *,
    split: int | None = None,
    options: TextOptions | None = None,
) -> Part:
    """Read the needed keys of every line.

    Raises:
      InputError: the content is not usable; the message names the file, the line and a fix.
    """
    (part,) = pieces(path, columns, event_weights, None, split=split, options=options)
    return part


def pieces(
    path: Path,
    columns: Roles,
    event_weights: dict[str, float] | None,
    rows: int | None,
    *,
    split: int | None = None,
    options: TextOptions | None = None,
    more: Mapping[str, str] | None = None,
) -> Iterator[Part]:
    """Read as :func:`table` does, in parts of about ``rows`` rows, or in one part if None.

    The last part has the counts of all lines that were left out.

    Args:
      more: keys and values to set in every object, which come from the names of partition folders.

    Raises:
      InputError: the content is not usable; the message names the file, the line and a fix.
    """
    weights, options = event_weights or {}, options or TextOptions()
    more = dict(more or {})
    sample = [record | more for record in _sample(path)]
    if not sample:
        raise _without_objects(path)
    keys = _keys(sample)
    cells = [[_text(_at(record, key)) or "" for key in keys] for record in sample]
    at, reading, form = located(
        *(str(path), keys, columns),
        event=bool(weights),
        rows=cells,
        form=options.time_format,
        texts=lambda place: _texts(path, keys[place], options.encoding, more),
    )
    key = {role: keys[place] for role, place in at.items()}
    sample_of = {role: cells_at(cells, place) for role, place in at.items()}
    reader = _Reader(
        *(path, key, weights, replace(options, time_format=form), sample_of), more=more
    )
    last = None
    for frame, line, timed in reader.read(rows):
        if last is not None:
            yield last

        def where(row: int, line: array = line) -> str:
            return f"{path}:{line[row]}"

        last = Part(path, frame, where, split=split, notes=timed, reading=reading)
    assert last is not None
    last.notes |= {f"left out: {fault}": count for fault, count in reader.faults.notes().items()}
    yield last


class _Reader:
    """Reads the lines one by one into blocks of columns."""

    def __init__(
        self,
        path: Path,
        key: dict[str, str],
        weights: dict[str, float],
        options: TextOptions,
        sample: dict[str, list[str]],
        more: dict[str, str],
    ) -> None:
        self._sample, self._more = sample, more
        self._path, self._key, self._weights, self._options = path, key, weights, options
        self._absent = MISSING if options.skip_missing_ids else frozenset[str]()
        self.faults = Faults(path, strict=False)
        self._line = array("q")
        self._frames: list[pl.DataFrame] = []
        self._cells: dict[str, list[Any]] = {role: [] for role in key}

    def read(self, rows: int | None) -> Iterator[tuple[pl.DataFrame, array, dict[str, int]]]:
        """Yield the columns of a :class:`Part`, each row's line, and notes on how times were read.

        Args:
          rows: about how many rows to yield at a time; None for all rows at once.
        """
        damaged, found = Faults(self._path, strict=not self._options.skip_bad_lines), False
        block = _BLOCK if rows is None else min(rows, _BLOCK)
        for number, content in amazon_metadata.lines(self._path, damaged):
            if self._options.encoding is not None:
                content = content.decode(self._options.encoding, "replace").encode()
            parsed = amazon_metadata.parse(content)
            if parsed is None:
                self._refuse(number, "not a JSON object")
                continue
            for row in self._each_item(parsed | self._more if self._more else parsed):
                self._add(number, row)
            if len(next(iter(self._cells.values()))) >= block:
                self._close()
                if rows is not None and len(self._line) >= rows:
                    yield self._taken()
                    found = True
        self._close()
        for fault, count in damaged.notes().items():
            self.faults.add(fault, 0, count=count)
        last = self._taken()
        if last[0].is_empty() and not found:
            raise none_left(self._path, self.faults)
        yield last

    def _taken(self) -> tuple[pl.DataFrame, array, dict[str, int]]:
        """Return the rows that were read since the last call."""
        frame, timed = self._in_seconds(pl.concat(self._frames))
        frame = frame.with_columns(
            ids(frame[role]).alias(role) for role in IDS if role in frame.columns
        )
        line = self._line
        self._line, self._frames = array("q"), []
        return frame, line, timed

    def _each_item(self, parsed: dict[str, Any]) -> Iterable[dict[str, Any]]:
        """Return one object per item if the object has a list of items, else the object itself."""
        key = self._key.get("item", "")
        items = _at(parsed, key)
        if not isinstance(items, list):
            return (parsed,)
        rows = []
        for item in items:
            if isinstance(item, dict):
                place = known_place(list(item), "item")
                item = None if place is None else list(item.values())[place]
            rows.append(parsed | {key: item})
        return rows

    def _add(self, number: int, parsed: dict[str, Any]) -> None:
        cells = {}
        for role, key in self._key.items():
            value = _at(parsed, key)
            text = _text(value)
            if text is None or (role in IDS and text in self._absent):
                value = None if text is not None else value
                empty = value in (None, "")
                fault = f"the {role} is missing" if empty else f"the {role} is not a text"
                self._refuse(number, fault, role, missing=True)
                return
            fault = self._fault(role, text)
            if fault:
                self._refuse(number, f"{role} {fault}", role, cell=text)
                return
            cells[role] = text
        for role, cell in cells.items():
            self._cells[role].append(cell)
        self._line.append(number)

    def _fault(self, role: str, text: str) -> str | None:
        if role == "event" and text not in self._weights:
            known = ", ".join(self._weights)
            return f"has no weight{nearest(text, self._weights)}, known: {known}"
        if role in IDS or role == "event" or (role == "time" and not is_number(text)):
            return None  # dates are checked later, all at once
        if not is_number(text):
            return "is not a number"
        if not abs(float(text)) < LARGEST:
            return not_finite(text)
        return not_a_weight(text, of_pairs=False) if role == "weight" else None

    def _refuse(
        self,
        number: int,
        fault: str,
        role: str | None = None,
        *,
        missing: bool = False,
        cell: str | None = None,
    ) -> None:
        """Count a faulty line, which is left out; raise InputError if the options forbid that."""
        skips = self._options.skip_bad_lines
        no_id = missing and role in IDS
        if skips or (no_id and self._options.skip_missing_ids):
            self.faults.add(fault, number)
            return
        text = fault if cell is None else fault.replace(f"{role} ", f"{role} {cell!r} ", 1)
        cure = MISSING_CURE if no_id else SKIP_CURE
        if role is not None and not no_id:
            cells = () if cell is None else (cell, *self._sample[role])
            cure = role_cure(role, cells, self._options.time_format)
        raise InputError(f"{self._path}:{number}: {text}{cure}")

    def _close(self) -> None:
        """Add a frame with the cells that were read since the last call."""
        block = {}
        for role, cells in self._cells.items():
            text = pl.Series(role, cells, dtype=pl.String)
            if role == "event":
                block["weight"] = text.replace_strict(self._weights, return_dtype=pl.Float64)
            elif role in IDS or role == "time":
                block[role] = text  # the unit of times can only be found from all of them
            else:
                block[role] = text.cast(pl.Float64)
        self._cells = {role: [] for role in self._key}
        self._frames.append(pl.DataFrame(block))

    def _in_seconds(self, frame: pl.DataFrame) -> tuple[pl.DataFrame, dict[str, int]]:
        """Convert times to seconds, and drop the rows whose time cannot be read."""
        if "time" not in frame.columns:
            return frame, {}
        texts = frame["time"]
        seconds, timed = times.of_column(texts, self._options.time_format)
        bad = seconds.is_null()
        frame = frame.with_columns(seconds.alias("time"))
        if not bad.any():
            return frame, timed
        for row in bad.arg_true().to_list():
            fault = f"time {times.why_not(texts[row], self._options.time_format)}"
            self._refuse(self._line[row], fault, "time", cell=texts[row])
        self._line = array("q", [self._line[row] for row in (~bad).arg_true().to_list()])
        return frame.filter(~bad), timed


def _sample(path: Path) -> list[dict[str, Any]]:
    """Return the first objects of a file."""
    lines = amazon_metadata.lines(path, Faults(path, strict=False))
    first = list(itertools.islice(lines, _SAMPLE))
    if first and first[0][1].startswith(b"["):
        raise InputError(
            f"{path}: a single array, where one object per line is needed; "
            f"`jq -c '.[]' {path.name}` converts it"
        )
    parsed = (amazon_metadata.parse(content) for _, content in first)
    return [record for record in parsed if record is not None]


def _texts(
    path: Path, key: str, encoding: str | None, more: dict[str, Any]
) -> Iterator[pl.LazyFrame]:
    """Yield the values of a key in all objects, in the column ``text``."""
    lines = amazon_metadata.lines(path, Faults(path, strict=False))
    contents = (content for _, content in lines)
    if encoding is not None:
        contents = (content.decode(encoding, "replace").encode() for content in contents)
    while block := list(itertools.islice(contents, _BLOCK)):
        parsed = (amazon_metadata.parse(content) for content in block)
        texts = [_text(_at(record | more, key)) for record in parsed if record is not None]
        yield pl.LazyFrame({"text": texts}, schema={"text": pl.String})


def _keys(sample: list[dict[str, Any]]) -> list[str]:
    return list(dict.fromkeys(key for record in sample for key in _flat(record)))


def _flat(record: Mapping[Any, Any], above: str = "", depth: int = 0) -> Iterator[str]:
    """Yield the keys of an object; the key ``id`` of an inner object ``user`` is ``user.id``."""
    for key, value in record.items():
        if isinstance(value, dict) and value and depth < _DEPTH:
            yield from _flat(value, f"{above}{key}.", depth + 1)
        else:
            yield f"{above}{key}"


def _at(record: Mapping[str, Any], key: str) -> Any:
    """Return the value of a key such as ``user`` or ``user.id``; None if it is not there."""
    if key in record or "." not in key:
        return record.get(key)
    first, _, rest = key.partition(".")
    inner = record.get(first)
    return _at(inner, rest) if isinstance(inner, dict) else None


def _text(value: Any) -> str | None:
    """Return an id, number or text as text; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        value = int(value)
    return str(value).strip() or None


def _without_objects(path: Path) -> InputError:
    if compressed.kind_of(path) is None:
        read_bytes(path)
    return InputError(f"{path}: empty, or no line is a JSON object; give a file with one per line")
