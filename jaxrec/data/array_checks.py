"""Validate callers' arrays and convert them to the dtypes of data sets.

A column of the right dtype is not copied, so it may be memory-mapped; only its minimum and maximum
are checked. Id tables and features, whose checks cost more, are checked once per object.
"""

import os
import weakref
from typing import Any

import numpy as np

from jaxrec.data.features import Features
from jaxrec.errors import InputError

LARGEST = float(np.finfo(np.float32).max)
SMALLEST = float(np.finfo(np.float32).tiny)
"""The smallest normal float32. Devices flush smaller positive numbers to 0."""
WHOLE_FLOATS = 2**53
"""Every integer up to this one is exact in float64."""
_MISSING = ("NAType", "NaTType")
_FRAMES = {
    "pandas": ("from_pandas", ("DataFrame",)),
    "polars": ("from_polars", ("DataFrame", "LazyFrame")),
    "pyarrow": ("from_arrow", ("Table", "RecordBatch")),
    "scipy": ("from_scipy", ("matrix", "array")),
}
"""For each library: the jaxrec function that converts its tables, and the endings of their class
names."""
_sound: dict[tuple[int, str], weakref.ref[Any]] = {}


def id_table(ids: Any, what: str) -> np.ndarray:
    """Convert ids to an id table: int64 or unicode, one-dimensional, unique.

    Ids may be texts (also UTF-8 bytes) or whole numbers. They may be given as a list, a NumPy
    array, or a column of pandas or polars. Floats are accepted if all are whole numbers. If some
    ids are texts, or whole numbers beyond int64, all become texts.

    Args:
      what: name of the ids in messages.

    Raises:
      InputError: an id is missing, empty, repeated, or neither a whole number nor a text.
    """
    if _known(ids, "ids"):
        return ids
    table = id_array(ids, what)
    if not (table[1:] > table[:-1]).all():
        ordered = np.sort(table)
        twice = ordered[1:][ordered[1:] == ordered[:-1]]
        if len(twice):
            raise InputError(
                f"{what}: id {_shown(twice[0])} is repeated; an id table holds each id once "
                "(numpy.unique with return_inverse=True gives a table and row numbers)"
            )
    _remember(table, "ids")
    return table


def id_array(ids: Any, what: str) -> np.ndarray:
    """Convert ids to int64 or unicode, in the given order, without checking for repeats."""
    array = _array(ids, what)
    kind = array.dtype.kind
    if kind == "f" and array.size:
        # All ids here are numbers, because NumPy turns a mixture of numbers and texts into texts.
        whole = np.isfinite(array) & (array == np.round(array)) & (np.abs(array) <= WHOLE_FLOATS)
        if not whole.all():
            place = int(np.argmin(whole))
            fault = "is missing" if np.isnan(array[place]) else "is not a whole number up to 2^53"
            raise InputError(
                f"{what}: the id {array[place]} at index {place} {fault}; ids must be whole "
                "numbers or texts"
            )
        return array.astype(np.int64)
    if kind in "iu":
        beyond = kind == "u" and array.size and int(array.max()) > np.iinfo(np.int64).max
        return array.astype(np.str_) if beyond else array.astype(np.int64, copy=False)
    if kind == "S":
        kind, array = "O", array.astype(object)
    elif kind == "T":  # this is the kind of numpy.dtypes.StringDtype
        kind, array = "O", np.array(array.tolist(), dtype=object)
    if kind == "O":
        array = _of_objects(array.tolist(), what)
    elif kind == "U":
        array = array.astype(array.dtype.newbyteorder("="), copy=False)
    elif array.size:
        raise InputError(
            f"{what}: ids of dtype {array.dtype} are neither whole numbers nor texts; convert them "
            "to texts first, for example by ids.astype(str)"
        )
    else:
        array = np.zeros(0, np.int64)
    if array.dtype.kind == "U":
        empty = array == ""
        if empty.any():
            raise InputError(f"{what}: the id at index {int(np.argmax(empty))} is empty")
    return array


def id_texts(ids: Any, what: str) -> list[str]:
    """Convert one id or several, of any type that :func:`id_table` accepts, to texts.

    Raises:
      InputError: an id is missing, empty, or neither a whole number nor a text.
    """
    if taken_by(ids) is not None:
        raise InputError(
            f"{what}: a {_name(ids)} is not a list of ids; give one of its columns as a list (to "
            "give users with their items, pass a polars.DataFrame, such as polars.from_pandas(...))"
        )
    if isinstance(ids, str | bytes | int | float | np.generic):
        ids = [ids]
    elif isinstance(ids, np.ndarray):
        ids = ids.reshape(-1) if not ids.ndim else ids
    elif not hasattr(ids, "__array__"):  # ids may be a set, a generator or a list
        ids = list(ids)
    if isinstance(ids, list) and all(type(name) is str for name in ids):
        return ids
    return [str(name) for name in id_array(ids, what).tolist()]


def without_point(name: str) -> str:
    """Return an id such as ``1.0`` as ``1``, and any other id unchanged.

    A missing value turns a column of integers into floats, so that the id 1 is written as 1.0.
    """
    whole, point, rest = name.partition(".")
    digits = whole.removeprefix("-")
    pointed = point and rest and not rest.strip("0") and digits.isascii() and digits.isdigit()
    return whole if pointed else name


def rows(values: Any, n_rows: int, what: str, of: str, length: int | None = None) -> np.ndarray:
    """Check the row numbers that refer to an id table, and convert them to int32, [n].

    Args:
      n_rows: the length of the id table.
      of: what the table lists (users or items), for messages.
      length: the required number of values; None for any number.

    Raises:
      InputError: a value is not an integer or is outside the table, or ``length`` does not match.
    """
    array = _array(values, what, length)
    if array.size and array.dtype.kind not in "iu":
        raise InputError(
            f"{what} has dtype {array.dtype}, but must hold row numbers of the {of}, counted from "
            "0 (numpy.unique with return_inverse=True gives a table and row numbers)"
        )
    if array.size:
        low, high = int(array.min()), int(array.max())
        if low < 0 or high >= n_rows:
            odd = low if low < 0 else high
            raise InputError(
                f"{what}: row number {odd} is outside the id table of {n_rows} {of}; rows are "
                "counted from 0 (numpy.unique with return_inverse=True gives row numbers)"
            )
    return array.astype(np.int32, copy=False)


def numbers(values: Any, what: str, length: int, dtype: Any = np.float32) -> np.ndarray:
    """Convert finite numbers to float32 or float64, [n]; dates become seconds since 1970.

    Raises:
      InputError: a value is not a finite number, or is a date although ``dtype`` is float32, or
        ``length`` does not match.
    """
    array = _array(values, what, length)
    if array.dtype.kind == "M":
        if dtype is not np.float64:
            raise InputError(f"{what} must be numbers, not dates; give dates as time=")
        lacking = np.isnat(array)
        if lacking.any():
            raise InputError(f"{what}: the value at index {int(np.argmax(lacking))} is missing")
        array = array.astype("M8[us]").astype(np.int64) / 1e6
    elif array.dtype.kind == "O" or (not array.size and array.dtype.kind not in "fiu"):
        try:
            array = np.array(array.tolist(), np.float64)
        except (TypeError, ValueError, OverflowError) as e:
            raise InputError(f"{what} must be numbers ({e})") from e
    if array.dtype.kind not in "fiu":
        raise InputError(f"{what} must be numbers, not {array.dtype}")
    with np.errstate(over="ignore"):
        made = array.astype(dtype, copy=False)
    if made.size and not (np.isfinite(made.min()) and np.isfinite(made.max())):
        place = int(np.argmin(np.isfinite(made)))
        raise InputError(f"{what} holds {array[place]} at index {place}; give finite numbers")
    return made


def times(values: Any, what: str, length: int) -> np.ndarray:
    """Convert numbers to float64, and dates to seconds since 1970; see :func:`numbers`."""
    return numbers(values, what, length, np.float64)


def weights(values: Any, what: str, length: int) -> np.ndarray:
    """Convert positive numbers to float32, [n].

    Raises:
      InputError: a value is not a positive finite number, or their sum is too large for float32.
    """
    made = numbers(values, what, length)
    if made.size and made.min() < SMALLEST:
        place = int(np.argmin(made))
        raise InputError(
            f"{what} holds {made[place]:g} at index {place}, but weights must be positive; leave "
            "out pairs of weight 0"
        )
    if made.size and made.sum(dtype=np.float64) > LARGEST:
        raise InputError(
            f"{what} has a sum that is too large for float32; divide all values by one number, "
            "which does not change the result"
        )
    return made


def labels(values: Any, what: str, length: int) -> np.ndarray:
    """Convert the labels of a split to uint8, [n]: 0 train, 1 validation, 2 test.

    Raises:
      InputError: a value is not 0, 1 or 2.
    """
    array = _array(values, what, length)
    numeric = array.dtype.kind in "iu" or not array.size
    if not numeric or (array.size and not (array.min() >= 0 and array.max() <= 2)):
        raise InputError(f"{what} must only hold 0 (train), 1 (validation) and 2 (test)")
    return array.astype(np.uint8, copy=False)


def check_features(features: Any, n_rows: int, what: str, of: str) -> None:
    """Raise InputError if features are invalid, or their number of rows is wrong."""
    if not isinstance(features, Features):
        raise InputError(f"{what} must be Features or None, not {type(features).__name__}")
    for column in features.columns.values():
        if column.n_rows != n_rows:
            raise InputError(f"{what} has {column.n_rows} rows for {n_rows} {of}")
    if _known(features, "features"):
        return
    fault = features.fault(n_rows)
    if fault is not None:
        name, kind, part = fault.rsplit(":", 2)
        raise InputError(
            f"{what}: column {name!r}: {part} is not valid for a {kind}; jaxrec.data.features "
            "describes the valid form"
        )
    _remember(features, "features")


def _array(values: Any, what: str, length: int | None = None) -> np.ndarray:
    """Convert values to a one-dimensional array."""
    if isinstance(values, np.ma.MaskedArray) and np.ma.is_masked(values):
        raise InputError(f"{what}: a value is masked; leave rows with masked values out")
    if isinstance(values, np.ndarray):
        array = values
    else:
        try:
            # dtype object keeps the type of each value; NumPy would turn [1, "a"] into texts.
            array = np.asarray(values, dtype=object if isinstance(values, list | tuple) else None)
        except (TypeError, ValueError) as e:
            raise InputError(f"{what} must be a list or a one-dimensional array ({e})") from e
        if isinstance(values, list | tuple) and array.ndim == 1:
            plain = np.array(values) if all(type(x) in (int, float) for x in values) else array
            array = plain if plain.ndim == 1 else array
    if not array.ndim:
        raise InputError(
            f"{what} must be a list or a one-dimensional array, not {type(values).__name__}"
        )
    if array.ndim != 1:
        raise InputError(f"{what} must have one axis, but has {array.ndim}")
    if length is not None and len(array) != length:
        raise InputError(f"{what} has {len(array)} values for {length} pairs")
    return array


def _of_objects(values: list[Any], what: str) -> np.ndarray:
    """Convert texts and whole numbers of Python or NumPy to an int64 or unicode array."""
    made = []
    for place, value in enumerate(values):
        if isinstance(value, np.generic):
            value = value.item()
        if value is None or type(value).__name__ in _MISSING or value != value:
            raise InputError(
                f"{what}: the id at index {place} is missing; leave rows without an id out"
            )
        if isinstance(value, bytes):
            try:
                value = value.decode()
            except UnicodeDecodeError as e:
                raise InputError(f"{what}: the id at index {place} is not UTF-8 text") from e
        elif isinstance(value, float) and value.is_integer() and abs(value) <= WHOLE_FLOATS:
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, str | int):
            raise InputError(
                f"{what}: the id at index {place} is a {type(value).__name__}, neither a whole "
                "number nor a text; convert ids to texts first, for example by ids.astype(str)"
            )
        made.append(value)
    if all(isinstance(value, int) for value in made):
        low, high = min(made, default=0), max(made, default=0)
        if low >= -(2**63) and high < 2**63:
            return np.array(made, np.int64)
    return np.array([str(value) for value in made], np.str_)


def _shown(value: Any) -> str:
    return repr(value.item() if isinstance(value, np.generic) else value)


def _known(thing: Any, kind: str) -> bool:
    found = _sound.get((id(thing), kind))
    return found is not None and found() is thing


def _remember(thing: Any, kind: str) -> None:
    key = (id(thing), kind)

    def forget(_: Any) -> None:
        _sound.pop(key, None)

    _sound[key] = weakref.ref(thing, forget)


def refuse_foreign(data: Any, *ours: type, option: str = "data") -> None:
    """Raise InputError unless data is a path or of an accepted class.

    The message says how to convert the data.

    Args:
      ours: classes of data in memory that the caller accepts.
      option: the name of the argument, for messages. If it is ``path``, None is refused too.
    """
    if (data is None and option != "path") or isinstance(data, (str, os.PathLike, *ours)):
        return
    raise InputError(f"{option} must not be a {_name(data)}; {_way_in(data)}")


def taken_by(data: Any) -> str | None:
    """Return the name of the function that converts this kind of table; None if there is none."""
    room, _, name = _name(data).partition(".")
    function, ends = _FRAMES.get(room, ("", ()))
    return function if name.endswith(ends or ("\0",)) else None


def _name(data: Any) -> str:
    """Return a name such as pandas.DataFrame, without inner modules."""
    kind = type(data)
    return f"{kind.__module__.partition('.')[0]}.{kind.__qualname__}"


def _way_in(data: Any) -> str:
    """Explain how to convert another library's data."""
    function = taken_by(data)
    if function is not None:
        return f"jaxrec.{function}(...) converts it to a Dataset"
    return (
        "give a path, a table of pandas, polars, pyarrow or scipy, or "
        "jaxrec.from_numpy(users, items) of two columns of ids"
    )
