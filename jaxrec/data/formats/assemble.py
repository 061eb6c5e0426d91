"""Assembles the files that were read into one Dataset: numbers ids, and merges repeated pairs."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl

from jaxrec.data.dataset import REPEATED, TRAIN, Dataset, Exposed
from jaxrec.data.formats.columns import MISSING
from jaxrec.data.pair_keys import rows_of_keys
from jaxrec.errors import InputError, short

LIMIT = 2**31 - 1
"""The largest number of users, items or pairs that int32 row numbers can count."""


@dataclass
class Part:
    """The interactions of one file, or of a piece of a file, in the order of its lines.

    Attributes:
      path: the file.
      frame: user and item (Int64 or String); rating, time, weight (Float64) if the file has them.
      where: returns ``file:line`` of a row of the frame.
      split: 0 train, 1 validation, 2 test; None if the source has no split.
      lone_users, lone_items: ids that the source names without a pair.
      notes: counts of irregularities of the file.
      reading: the role of each column; empty if the format fixes the roles.
      untyped: whether the file is text, which does not distinguish numbers from texts.
    """

    path: Path
    frame: pl.DataFrame
    where: Callable[[int], str]
    split: int | None = None
    lone_users: pl.Series | None = None
    lone_items: pl.Series | None = None
    notes: dict[str, int] = field(default_factory=dict)
    reading: str = ""
    untyped: bool = False


def whole_number(text: pl.Expr) -> pl.Expr:
    """Convert texts to Int64; null where the number would print as a different text."""
    rewritten = text.str.contains(r"^(\+|-0|0.)")
    return pl.when(~rewritten).then(text.cast(pl.Int64, strict=False))


def ids(texts: pl.Series) -> pl.Series:
    """Convert ids to Int64 if all are whole numbers; otherwise return them as they are."""
    numbers = texts.to_frame("id").select(whole_number(pl.col("id"))).to_series()
    return texts if numbers.null_count() else numbers


def one_by_one(frame: pl.DataFrame, lists: pl.Series) -> tuple[pl.DataFrame, np.ndarray]:
    """Turn rows with several items into one row per item; also return the old row of each item."""
    frame = frame.with_columns(lists.alias("item")).with_row_index("order")
    frame = frame.explode("item").drop_nulls("item")
    if frame["item"].dtype == pl.String:
        frame = frame.with_columns(pl.col("item").str.strip_chars()).filter(pl.col("item") != "")
    return frame.drop("order"), frame["order"].to_numpy()


_LISTED = 3
"""The largest number of files whose column roles are listed file by file."""
_WHOLE = r"^(0|-?[1-9][0-9]{0,15})(\.0+)?$"
_POINTED = r"^-?[0-9]+\.0+$"
_LISTS = {"|": r"^[^|]+(\|[^|]+)+$", ";": "^[^;]+(;[^;]+)+$", ",": r"^\[[^\[\]]+,[^\[\]]+\]$"}
"""For each separator: the form of a list of items in one cell."""
_NUMERIC = r"^-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?$"


def whole_ids(column: pl.Series) -> pl.Series:
    """Convert text ids to Int64 if all are whole numbers, also in the form 1.0.

    pandas writes a column of whole numbers in this form if one of them is missing.
    """
    if column.dtype != pl.String or not column.str.contains(_WHOLE).all():
        return column
    return column.str.replace(r"\.0+$", "").cast(pl.Int64)


@dataclass(frozen=True)
class Repeats:
    """How repeated pairs are merged.

    Attributes:
      keep: ``last`` keeps the rating and time of the latest repeat, ``first`` those of the earliest
        (without times, of the last or the first line). Both sum the weights.
      count: use the number of repeats of a pair as its weight.
    """

    keep: Literal["last", "first"] = "last"
    count: bool = False


def to_dataset(parts: Sequence[Part], name: str, repeats: Repeats | None = None) -> Dataset:
    """Assemble one Dataset from all parts, and empty their frames, to save memory.

    Ids become row numbers in ascending order (whole numbers by value), and interactions are
    sorted by user and item, so the order of lines does not matter. A repeated pair keeps the
    rating and time of its latest repeat (without times, of its last line) and the sum of its
    weights, unless ``repeats`` says otherwise. Pairs whose weights sum to 0 count as shown and not
    chosen. A pair in several parts of a split stays in each of them.

    Raises:
      InputError: the first part has no interactions, no pair has a weight above 0, a weight is
        negative, there are more rows or ids than int32 can count, or repeats are to be counted
        although there are weights.
    """
    repeats = repeats or Repeats()
    if repeats.count:
        for part in parts:
            count_rows(part)
    heights = [part.frame.height for part in parts]
    _refuse_beyond(parts, "interactions", sum(heights))
    if not heights[0]:
        raise InputError(f"{parts[0].path}: has no interactions; give a file with rows")
    lone = [part.lone_users for part in parts if part.lone_users is not None]
    notes = _sum([part.notes for part in parts])
    sides = []
    for role, more in (("user", lone), ("item", [])):
        columns_of = [part.frame.drop_in_place(role) for part in parts]
        untyped = all(part.untyped for part in parts)
        if untyped:
            columns_of = _typed(columns_of, f"{role}s", notes)
        rows, table = id_rows(columns_of, more)
        if untyped and role == "item":
            notes |= _like_lists(rows, table)
        notes |= _like_missing(rows, table, f"{role}s") | _padded(table, f"{role}s")
        sides += [rows, table]
    user, user_ids, item, item_ids = sides
    del sides, columns_of, rows
    _refuse_beyond(parts, "users and items", len(user_ids) + len(item_ids))

    files = np.split(user, np.cumsum(heights)[:-1])
    notes["unsorted lines"] = sum(int((np.diff(column) < 0).sum()) for column in files)
    key = user.astype(np.int64) * len(item_ids) + item
    del user, item, files
    for part in parts:
        refuse_negative(part)
    for role in ("rating", "time", "weight"):
        having = [part.frame.height for part in parts if role in part.frame.columns]
        notes |= in_some_files(role, sum(having), sum(heights))
    columns = {role: _column(parts, role) for role in ("rating", "time", "weight")}
    split = None
    if any(part.split is not None for part in parts):
        split = np.repeat([part.split or TRAIN for part in parts], heights).astype(np.uint8)

    n_items = max(len(item_ids), 1)
    if split is not None:
        key *= 3  # pairs of different parts of a split get different keys
        key += split
    if not (key[1:] > key[:-1]).all():
        order = np.argsort(key, kind="stable")
        key = key[order]
        repeat = key[1:] == key[:-1]
        notes["duplicate pairs"] = int(repeat.sum())
        if repeat.any():
            last, order = merge_repeats(key, order, repeat, columns, keep=repeats.keep)
            key = key[last]
        for role, column in columns.items():
            columns[role] = None if column is None else column[order]
    if split is not None:
        key, split = np.divmod(key, 3)
        split = split.astype(np.uint8)

    exposed, liked = None, columns["weight"]
    if liked is not None and not liked.all():
        chosen = liked > 0
        if not chosen.any():
            raise InputError(
                f"{parts[0].path}: no pair has a weight above 0; give at least one pair or event "
                "such a weight"
            )
        shown = ~chosen
        if split is not None:
            # Training must not read pairs shown in validation or test. A pair that is chosen in any
            # part of the split does not count as shown and not chosen.
            shown &= (split == TRAIN) & ~np.isin(key, key[chosen])
        time = columns["time"]
        left_user, left_item = (part.astype(np.int32) for part in rows_of_keys(key[shown], n_items))
        exposed = Exposed(left_user, left_item, None if time is None else time[shown])
        key = key[chosen]
        split = None if split is None else split[chosen]
        columns = {role: None if c is None else c[chosen] for role, c in columns.items()}
    if split is not None:
        notes[REPEATED] = int((key[1:] == key[:-1]).sum())
    user, item = (part.astype(np.int32) for part in rows_of_keys(key, n_items))
    if split is not None or lone:
        train = slice(None) if split is None else split == TRAIN
        notes |= _untrained(user[train], item[train], user_ids, item_ids, lone)
    return Dataset(
        user,
        item,
        user_ids,
        item_ids,
        rating=columns["rating"],
        time=columns["time"],
        weight=columns["weight"],
        split=split,
        name=name,
        exposed=exposed,
        notes={note: count for note, count in notes.items() if count},
        reading=readings((part.path.name, part.reading) for part in parts),
    )


def in_some_files(role: str, count: int, total: int) -> dict[str, int]:
    """Return a note if some of the rows, ``count`` of ``total``, have a column of this role."""
    if count in (0, total):
        return {}
    return {f"rows with a {role}, which is not used because rows of other files have none": count}


def readings(parts: Iterable[tuple[str, str]]) -> tuple[str, ...]:
    """Return a line per file that gives the roles of its columns.

    If there are more than three files, all files with the same roles share one line.

    Args:
      parts: the name of each file, and the roles of its columns in words.
    """
    of_reading: dict[str, dict[str, None]] = {}
    for name, reading in parts:
        if reading:
            of_reading.setdefault(reading, {})[name] = None
    each = tuple(f"{name}: {how}" for how, names in of_reading.items() for name in names)
    if len(each) <= _LISTED:
        return each
    return tuple(
        f"{next(iter(names))}{f' and {len(names) - 1} more' if len(names) > 1 else ''}: {reading}"
        for reading, names in of_reading.items()
    )


def _typed(columns: list[pl.Series], kind: str, notes: dict[str, int]) -> list[pl.Series]:
    """Convert ids from text files to whole numbers if all are whole, also in the form 1.0.

    Otherwise ids stay texts, and numbers among them are counted in the notes.
    """
    if all(column.dtype == pl.Int64 for column in columns):
        return columns
    table = pl.concat([column.cast(pl.String).unique() for column in columns]).unique()
    pointed = int(table.str.contains(_POINTED).sum())
    if pointed and table.str.contains(_WHOLE).all():
        notes[f"ids of {kind} such as 1.0, read as whole numbers"] = pointed
        return [whole_ids(column) for column in columns]
    if pointed:
        notes[f"ids of {kind} such as 1.0, kept as texts because other ids are texts"] = pointed
    elif table.str.contains(_NUMERIC).all():
        odd = int(table.str.contains(r"[.eE]").sum())
        notes |= {f"ids of {kind} that are not whole numbers, kept as texts": odd} if odd else {}
    return columns


def _like_missing(rows: np.ndarray, table: np.ndarray, kind: str) -> dict[str, int]:
    """Return a note that names the ids that look like missing values, and counts their rows."""
    if table.dtype.kind != "U" or not len(table):
        return {}
    words = np.array(sorted(MISSING))
    place = np.minimum(np.searchsorted(table, words), len(table) - 1)
    place = place[table[place] == words]
    if not len(place):
        return {}
    named = ", ".join(map(repr, table[place].tolist()))
    note = (
        f"ids of {kind} that look like missing values ({named}), kept; --skip-missing-ids drops "
        "them"
    )
    return {note: int(np.isin(rows, place).sum())}


def _like_lists(rows: np.ndarray, table: np.ndarray) -> dict[str, int]:
    """Return a note that counts the rows of items such as a|b, if at least half of the items are
    such lists."""
    if table.dtype.kind != "U":
        return {}
    ids = pl.Series("id", table.tolist(), dtype=pl.String)
    for separator, form in _LISTS.items():
        listed = ids.str.contains(form)
        if 2 * int(listed.sum()) >= max(len(ids), 1):
            shown = short(str(ids[int(listed.arg_max() or 0)]))
            note = (
                f"items such as {shown!r}, which look like lists, kept as one item each; "
                f"--item-separator '{separator}' cuts them"
            )
            return {note: int(listed.to_numpy()[rows].sum())}
    return {}


def _padded(table: np.ndarray, kind: str) -> dict[str, int]:
    """Return a note that counts the ids which differ only by leading zeros, such as 007 and 7."""
    if table.dtype.kind != "U":
        return {}
    ids = pl.Series("id", table.tolist(), dtype=pl.String)
    padded = ids.filter(ids.str.contains(r"^0+[0-9]"))
    bare = padded.str.replace("^0+([0-9])", "$1")
    both = bare.is_in(ids.implode())
    if not both.any():
        return {}
    place = int(both.arg_max() or 0)
    note = f"ids of {kind} such as {padded[place]} and {bare[place]}, kept as different ids"
    return {note: int(both.sum())}


def refuse_negative(part: Part) -> None:
    """Raise InputError at the first weight below 0."""
    if "weight" in part.frame.columns:
        wrong = part.frame["weight"] < 0
        if wrong.any():
            row = int(wrong.arg_max() or 0)
            raise InputError(
                f"{part.where(row)}: weight {part.frame['weight'][row]:g} is negative; fix or "
                'drop the row, or leave the weights out: --columns.weight ""'
            )


def rows_of(ids: pl.Series, known: pl.Series) -> np.ndarray:
    """Return the row in ``known`` of each id in ``ids``, int32; -1 for absent ids.

    An id such as 1.0 also matches 1, because some programs write whole numbers that way.
    """
    rows = np.arange(len(known), dtype=np.int32)

    def place(asked: pl.Series) -> np.ndarray:
        return asked.replace_strict(known, rows, default=-1, return_dtype=pl.Int32).to_numpy()

    row = place(ids)
    if ids.dtype == pl.String and known.dtype == pl.String:
        pointed = ids.str.contains(_POINTED).fill_null(False).to_numpy() & (row < 0)
        if pointed.any():
            row = row.copy()
            row[pointed] = place(ids.filter(pl.Series(pointed)).str.replace(r"\.0+$", ""))
    return row


def id_rows(
    columns: Sequence[pl.Series], more: Sequence[pl.Series]
) -> tuple[np.ndarray, np.ndarray]:
    """Return row numbers for the ids of ``columns``, [E] int32, and the sorted table of all ids.

    The ids of ``more`` are added to the table only.
    """
    both = [*columns, *more]
    kind = id_kind([column.dtype for column in both])
    table = pl.concat([column.cast(kind).unique() for column in both]).unique().sort()
    places = IdPlaces(table)
    return np.concatenate([places(column) for column in columns]), places.ids


def id_kind(dtypes: Iterable[Any]) -> Any:
    """Return the polars type for ids of all these types: Int64 if each is Int64, else String."""
    return pl.Int64 if all(dtype == pl.Int64 for dtype in dtypes) else pl.String


class IdPlaces:
    """Finds the rows of ids in a sorted table of ids, of type Int64 or String."""

    def __init__(self, table: pl.Series) -> None:
        self._kind, self._enum = table.dtype, None
        if table.dtype == pl.Int64:
            self.ids = table.to_numpy()
        else:
            self.ids, self._enum = np.array(table.to_list(), dtype=np.str_), pl.Enum(table)

    def __call__(self, column: pl.Series) -> np.ndarray:
        """Return the row numbers of ids, int32."""
        column = column.cast(self._kind)
        if self._enum is None:
            return np.searchsorted(self.ids, column.to_numpy()).astype(np.int32)
        return np.asarray(column.cast(self._enum).to_physical()).astype(np.int32)


def count_rows(part: Part) -> None:
    """Give every row the weight 1, so that a pair's weights sum to its number of rows.

    Raises:
      InputError: the rows have weights.
    """
    if "weight" in part.frame.columns:
        raise InputError(
            f"{part.path}: has weights, which are summed already; to count repeats, read it "
            'without them (--columns.weight "", and no event weights)'
        )
    part.frame = part.frame.with_columns(weight=pl.lit(1.0))


def merge_repeats(
    key: np.ndarray,
    order: np.ndarray,
    repeat: np.ndarray,
    columns: dict[str, np.ndarray | None],
    *,
    keep: Literal["last", "first"] = "last",
) -> tuple[np.ndarray, np.ndarray]:
    """Choose one of the rows of each repeated pair, and sum the pair's weights in that row.

    Returns:
      A mask of ``key`` that selects the last key of each pair, and the chosen row of each pair.

    Args:
      key: sorted, with equal keys for a repeated pair.
      order: the row of each key.
      repeat: for each key but the first, whether it equals the key before it.
      columns: ``time`` and ``weight`` of each row, or None where the data has none.
      keep: whether the latest or the earliest row of a pair is kept.
    """
    first, last = np.concatenate([[True], ~repeat]), np.concatenate([~repeat, [True]])
    time, weight = columns["time"], columns["weight"]
    if time is not None:
        among = np.flatnonzero(~(first & last))
        order[among] = order[among][np.lexsort((time[order[among]], key[among]))]
    kept = order[last if keep == "last" else first]
    if weight is not None:
        with np.errstate(over="ignore"):  # the Dataset refuses a sum beyond float32
            weight[kept] = np.add.reduceat(weight[order], np.flatnonzero(first))
    return last, kept


def _column(parts: Sequence[Part], role: str) -> np.ndarray | None:
    """Remove a column from all parts, and return it; None if a part lacks it."""
    if not all(role in part.frame.columns for part in parts):
        return None
    kind = np.float64 if role == "time" else np.float32
    series = [part.frame.drop_in_place(role) for part in parts]
    return np.concatenate([column.to_numpy().astype(kind) for column in series])


def _refuse_beyond(parts: Sequence[Part], noun: str, count: int) -> None:
    if count > LIMIT:
        raise InputError(
            f"{parts[0].path}: {count} {noun} are more than int32 can count ({LIMIT}); "
            "leave some out"
        )


def _untrained(
    user: np.ndarray,
    item: np.ndarray,
    user_ids: np.ndarray,
    item_ids: np.ndarray,
    lone: Sequence[pl.Series],
) -> dict[str, int]:
    """Count the users and items without a train pair."""
    users_trained = np.bincount(user, minlength=len(user_ids)) > 0
    items_trained = np.bincount(item, minlength=len(item_ids)) > 0
    named = users_trained.copy()
    kind = pl.Int64 if user_ids.dtype == np.int64 else pl.String
    for series in lone:
        series = whole_ids(series) if kind == pl.Int64 else series
        named[np.searchsorted(user_ids, series.cast(kind).to_numpy().astype(user_ids.dtype))] = True
    return {
        "users without train items": int((~users_trained).sum()),
        "users that only test has": int((~named).sum()),
        "items that only test has": int((~items_trained).sum()),
    }


def _sum(notes: Sequence[dict[str, int]]) -> dict[str, int]:
    total: dict[str, int] = {}
    for part in notes:
        for note, count in part.items():
            total[note] = total.get(note, 0) + count
    return total
