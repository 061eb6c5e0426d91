"""Interactions as an object a line: reviews of Amazon (2014, 2018, 2023), Yelp and others.

A line is a JSON object, or a Python literal as in older files; the file may be gzipped. Nothing is
ever evaluated as code. Keys are columns: the user, the item, the rating and the time are found as
in a table with a header.

Sources: J. Ni et al., "Justifying recommendations using distantly-labeled reviews", EMNLP 2019
(overall, reviewerID, asin, unixReviewTime); Y. Hou et al., arXiv:2403.03952 (rating, user_id,
parent_asin, timestamp in milliseconds); the Yelp Open Dataset's review.json (user_id, business_id,
stars, date).
"""

import itertools
from array import array
from collections.abc import Iterable
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
    described,
    is_number,
    known_place,
    locate,
    names_known,
)
from jaxrec.data.formats.faults import Faults
from jaxrec.data.formats.text import (
    LARGEST,
    MISSING_CURE,
    SKIP_CURE,
    TextOptions,
    not_a_weight,
    not_finite,
    read_bytes,
    role_cure,
)
from jaxrec.errors import InputError, nearest

_SAMPLE = 100
_BLOCK = 1 << 17
"""Rows that are kept as Python objects at once."""


def is_reviews(path: Path) -> bool:
    """Whether the objects of a file have a user each, as reviews do and product metadata does not.

    Raises:
      InputError: the file is one array.
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
      InputError: names the file, the line and what to do.
    """
    weights, options = event_weights or {}, options or TextOptions()
    sample = _sample(path)
    if not sample:
        raise _without_objects(path)
    keys = _keys(sample)
    rows = [[_text(found.get(key)) or "" for key in keys] for found in sample]
    form = options.time_format
    at = locate(str(path), keys, columns, event=bool(weights), rows=rows, form=form)
    key = {role: keys[place] for role, place in at.items()}
    sample_of = {role: cells_at(rows, place) for role, place in at.items()}
    reader = _Reader(path, key, weights, options, sample_of)
    frame = reader.read()
    notes = {
        **reader.timed,
        **{f"left out: {what}": count for what, count in reader.faults.notes().items()},
    }
    line = reader.line
    return Part(
        path,
        frame,
        lambda row: f"{path}:{line[row]}",
        split=split,
        notes=notes,
        reading=described(at, len(keys), keys, rows=rows, columns=columns),
    )


class _Reader:
    """Goes through the lines, and keeps blocks of columns."""

    def __init__(
        self,
        path: Path,
        key: dict[str, str],
        weights: dict[str, float],
        options: TextOptions,
        sample: dict[str, list[str]],
    ) -> None:
        self._sample = sample
        self._path, self._key, self._weights, self._options = path, key, weights, options
        self._absent = MISSING if options.skip_missing_ids else frozenset[str]()
        self.faults = Faults(path, strict=False)
        self.line = array("q")
        self.timed: dict[str, int] = {}
        self._frames: list[pl.DataFrame] = []
        self._cells: dict[str, list[Any]] = {role: [] for role in key}

    def read(self) -> pl.DataFrame:
        """All rows, as a :class:`Part` has them."""
        damaged = Faults(self._path, strict=not self._options.skip_bad_lines)
        for number, content in amazon_metadata.lines(self._path, damaged):
            if self._options.encoding is not None:
                content = content.decode(self._options.encoding, "replace").encode()
            found = amazon_metadata.parse(content)
            if found is None:
                self._refuse(number, "not a JSON object")
                continue
            for one in self._each_item(found):
                self._add(number, one)
            if len(self.line) % _BLOCK == 0:
                self._close()
        self._close()
        for what, count in damaged.notes().items():
            self.faults.add(what, 0, count=count)
        frame = self._in_seconds(pl.concat(self._frames))
        if frame.is_empty():
            reason = f" ({self.faults.first})" if self.faults.first else ""
            raise InputError(f"{self._path}: no line is left{reason}; a file with some is needed")
        return frame.with_columns(
            ids(frame[role]).alias(role) for role in IDS if role in frame.columns
        )

    def _each_item(self, found: dict[str, Any]) -> Iterable[dict[str, Any]]:
        """The object once for each of its items, where it has a list of them."""
        key = self._key.get("item", "")
        items = found.get(key)
        if not isinstance(items, list):
            return (found,)
        made = []
        for item in items:
            if isinstance(item, dict):
                place = known_place(list(item), "item")
                item = None if place is None else list(item.values())[place]
            made.append(found | {key: item})
        return made

    def _add(self, number: int, found: dict[str, Any]) -> None:
        cells = {}
        for role, key in self._key.items():
            value = found.get(key)
            text = _text(value)
            if text is None or (role in IDS and text in self._absent):
                value = None if text is not None else value
                what = f"the {role} is missing" if value in (None, "") else f"the {role} is no text"
                self._refuse(number, what, role, missing=True)
                return
            fault = self._fault(role, text)
            if fault:
                self._refuse(number, f"{role} {fault}", role, cell=text)
                return
            cells[role] = text
        for role, cell in cells.items():
            self._cells[role].append(cell)
        self.line.append(number)

    def _fault(self, role: str, text: str) -> str | None:
        if role == "event" and text not in self._weights:
            known = ", ".join(self._weights)
            return f"has no weight{nearest(text, self._weights)}, known: {known}"
        if role in IDS or role == "event" or (role == "time" and not is_number(text)):
            return None  # dates are looked at by blocks
        if not is_number(text):
            return "is not a number"
        if not abs(float(text)) < LARGEST:
            return not_finite(text)
        return not_a_weight(text, of_pairs=False) if role == "weight" else None

    def _refuse(
        self,
        number: int,
        what: str,
        role: str | None = None,
        *,
        missing: bool = False,
        cell: str | None = None,
    ) -> None:
        """Count a line that is left out, or raise InputError where none may be."""
        skips = self._options.skip_bad_lines
        no_id = missing and role in IDS
        if skips or (no_id and self._options.skip_missing_ids):
            self.faults.add(what, number)
            return
        told = what if cell is None else what.replace(f"{role} ", f"{role} {cell!r} ", 1)
        cure = MISSING_CURE if no_id else SKIP_CURE
        if role is not None and not no_id:
            cure = role_cure(role, () if missing else self._sample[role])
        raise InputError(f"{self._path}:{number}: {told}{cure}")

    def _close(self) -> None:
        """Make a block of what has been kept since the last one."""
        made = {}
        for role, cells in self._cells.items():
            text = pl.Series(role, cells, dtype=pl.String)
            if role == "event":
                made["weight"] = text.replace_strict(self._weights, return_dtype=pl.Float64)
            elif role in IDS or role == "time":
                made[role] = text  # all the times together say what each is
            else:
                made[role] = text.cast(pl.Float64)
        self._cells = {role: [] for role in self._key}
        self._frames.append(pl.DataFrame(made))

    def _in_seconds(self, frame: pl.DataFrame) -> pl.DataFrame:
        """The rows with their times as numbers, without those whose time is none."""
        if "time" not in frame.columns:
            return frame
        texts = frame["time"]
        seconds, self.timed = times.of_column(texts, self._options.time_format)
        bad = seconds.is_null()
        frame = frame.with_columns(seconds.alias("time"))
        if not bad.any():
            return frame
        for row in bad.arg_true().to_list():
            what = f"time is not a date or time such as {times.EXAMPLES}"
            self._refuse(self.line[row], what, "time", cell=texts[row])
        self.line = array("q", [self.line[row] for row in (~bad).arg_true().to_list()])
        return frame.filter(~bad)


def _sample(path: Path) -> list[dict[str, Any]]:
    """The first objects of a file."""
    lines = amazon_metadata.lines(path, Faults(path, strict=False))
    first = list(itertools.islice(lines, _SAMPLE))
    if first and first[0][1].startswith(b"["):
        raise InputError(
            f"{path}: one array, where an object a line is needed; `jq -c '.[]' {path.name}` "
            "writes it so"
        )
    made = (amazon_metadata.parse(content) for _, content in first)
    return [found for found in made if found is not None]


def _keys(sample: list[dict[str, Any]]) -> list[str]:
    return list(dict.fromkeys(str(key) for found in sample for key in found))


def _text(value: Any) -> str | None:
    """An id, number or text as text; None where it is none."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        value = int(value)
    return str(value).strip() or None


def _without_objects(path: Path) -> InputError:
    if compressed.kind_of(path) is None:
        read_bytes(path)
    return InputError(f"{path}: empty, or no JSON object a line; a file with some is needed")
