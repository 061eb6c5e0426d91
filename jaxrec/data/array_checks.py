"""Validate callers' arrays and convert them to the dtypes of data sets.

A column of the right dtype is kept, memory-mapped or not; its check only needs minimum and maximum.
Id tables and features, whose checks cost more, are checked once per object.
"""

import os
import weakref
from typing import Any

import numpy as np

from jaxrec.data.features import Features
from jaxrec.errors import InputError

LARGEST = float(np.finfo(np.float32).max)
SMALLEST = float(np.finfo(np.float32).tiny)
"""Least positive number that devices do not flush to 0."""
WHOLE_FLOATS = 2**53
"""Largest integer up to which float64 is exact."""
_MISSING = ("NAType", "NaTType")
_FRAMES = {
    "pandas": ("from_pandas", ("DataFrame",)),
    "polars": ("from_polars", ("DataFrame", "LazyFrame")),
    "pyarrow": ("from_arrow", ("Table", "RecordBatch")),
    "scipy": ("from_scipy", ("matrix", "array")),
}
"""Tables of other libraries, by the end of their names, and the functions that read them."""
_sound: dict[tuple[int, str], weakref.ref[Any]] = {}


def id_table(ids: Any, what: str) -> np.ndarray:
    """Convert ids to an id table: int64 or unicode, one-dimensional, unique.

    Texts and whole numbers are taken in whatever holds them: lists, NumPy's own strings, bytes
    (UTF-8) and objects, columns and categories of pandas and polars. Floats are taken where all
    are whole numbers. Whole numbers among texts, and such beyond int64, become texts.

    Args:
      what: names the ids in messages.

    Raises:
      InputError: an id is missing, empty, there twice, or neither a whole number nor a text.
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
        # Floats that a text stands beside became texts of floats: nothing is left to tell by.
        whole = np.isfinite(array) & (array == np.round(array)) & (np.abs(array) <= WHOLE_FLOATS)
        if not whole.all():
            place = int(np.argmin(whole))
            fault = "is missing" if np.isnan(array[place]) else "is not a whole number up to 2^53"
            raise InputError(
                f"{what}: {array[place]} at place {place} {fault}; ids are whole numbers or texts"
            )
        return array.astype(np.int64)
    if kind in "iu":
        beyond = kind == "u" and array.size and int(array.max()) > np.iinfo(np.int64).max
        return array.astype(np.str_) if beyond else array.astype(np.int64, copy=False)
    if kind == "S":
        kind, array = "O", array.astype(object)
    elif kind == "T":  # numpy.dtypes.StringDtype
        kind, array = "O", np.array(array.tolist(), dtype=object)
    if kind == "O":
        array = _of_objects(array.tolist(), what)
    elif kind == "U":
        array = array.astype(array.dtype.newbyteorder("="), copy=False)
    elif array.size:
        raise InputError(
            f"{what}: ids of dtype {array.dtype} are neither whole numbers nor texts; make them "
            "texts first, such as ids.astype(str)"
        )
    else:
        array = np.zeros(0, np.int64)
    if array.dtype.kind == "U":
        empty = array == ""
        if empty.any():
            raise InputError(f"{what}: the id at place {int(np.argmax(empty))} is empty")
    return array


def id_texts(ids: Any, what: str) -> list[str]:
    """One id or several, in whatever :func:`id_table` takes, as the texts that they print as.

    Raises:
      InputError: an id is missing, empty, or neither a whole number nor a text.
    """
    if taken_by(ids) is not None:
        raise InputError(
            f"{what}: a {_name(ids)} is no list of ids; give one of its columns as a list (users "
            "with their items go in as a polars.DataFrame: polars.from_pandas makes one)"
        )
    if isinstance(ids, str | bytes | int | float | np.generic):
        ids = [ids]
    elif isinstance(ids, np.ndarray):
        ids = ids.reshape(-1) if not ids.ndim else ids
    elif not hasattr(ids, "__array__"):  # a set, a generator, a list
        ids = list(ids)
    if isinstance(ids, list) and all(type(name) is str for name in ids):
        return ids
    return [str(name) for name in id_array(ids, what).tolist()]


def without_point(name: str) -> str:
    """Write an id such as 1.0 as 1, since tables with gaps turn integers into floats."""
    whole, point, rest = name.partition(".")
    digits = whole.removeprefix("-")
    pointed = point and rest and not rest.strip("0") and digits.isascii() and digits.isdigit()
    return whole if pointed else name


def rows(values: Any, n_rows: int, what: str, of: str, length: int | None = None) -> np.ndarray:
    """Row numbers into an id table, [n] int32.

    Args:
      n_rows: how long the table is.
      of: whose table it is, for messages.
      length: how many there must be.

    Raises:
      InputError: they are not integers, their number is wrong, or one is out of range.
    """
    array = _array(values, what, length)
    if array.size and array.dtype.kind not in "iu":
        raise InputError(
            f"{what} holds {array.dtype} and needs row numbers into the {of}, from 0 "
            "(numpy.unique with return_inverse=True gives a table and row numbers)"
        )
    if array.size:
        low, high = int(array.min()), int(array.max())
        if low < 0 or high >= n_rows:
            odd = low if low < 0 else high
            raise InputError(
                f"{what}: a row number outside the id table: {odd}, and there are {n_rows} {of}; "
                "rows count from 0 (numpy.unique with return_inverse=True gives them)"
            )
    return array.astype(np.int32, copy=False)


def numbers(values: Any, what: str, length: int, dtype: Any = np.float32) -> np.ndarray:
    """Finite numbers, [n] float32 or float64; dates become seconds since 1970 in float64.

    Raises:
      InputError: they are not finite numbers, their number is wrong, or they are dates for float32.
    """
    array = _array(values, what, length)
    if array.dtype.kind == "M":
        if dtype is not np.float64:
            raise InputError(f"{what} must be numbers, not dates; give dates as time=")
        lacking = np.isnat(array)
        if lacking.any():
            raise InputError(f"{what} is missing at place {int(np.argmax(lacking))}")
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
        raise InputError(f"{what} holds {array[place]} at place {place}; give finite numbers")
    return made


def times(values: Any, what: str, length: int) -> np.ndarray:
    """:func:`numbers` as float64."""
    return numbers(values, what, length, np.float64)


def weights(values: Any, what: str, length: int) -> np.ndarray:
    """Positive finite numbers whose sum float32 holds, [n] float32.

    Raises:
      InputError: they are not so.
    """
    made = numbers(values, what, length)
    if made.size and made.min() < SMALLEST:
        place = int(np.argmin(made))
        raise InputError(
            f"{what} holds {made[place]:g} at place {place}; weights must be positive; leave "
            "out pairs of weight 0"
        )
    if made.size and made.sum(dtype=np.float64) > LARGEST:
        raise InputError(
            f"{what} sums up to more than float32 holds; divide all by one number, which does not "
            "change the result"
        )
    return made


def labels(values: Any, what: str, length: int) -> np.ndarray:
    """Parts of a split, [n] uint8: 0 train, 1 validation, 2 test.

    Raises:
      InputError: something else is among them.
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
            f"{what}: column {name!r}: {part} is not as jaxrec.data.features says of a {kind}"
        )
    _remember(features, "features")


def _array(values: Any, what: str, length: int | None = None) -> np.ndarray:
    """Convert values to a one-dimensional array."""
    if isinstance(values, np.ma.MaskedArray) and np.ma.is_masked(values):
        raise InputError(f"{what}: a value is masked; leave such rows out")
    if isinstance(values, np.ndarray):
        array = values
    else:
        try:
            # Each thing in a list keeps its type: NumPy would make texts of [1, "a"].
            array = np.asarray(values, dtype=object if isinstance(values, list | tuple) else None)
        except (TypeError, ValueError) as e:
            raise InputError(f"{what}: no array of one axis ({e})") from e
        if isinstance(values, list | tuple) and array.ndim == 1:
            plain = np.array(values) if all(type(x) in (int, float) for x in values) else array
            array = plain if plain.ndim == 1 else array
    if not array.ndim:
        raise InputError(
            f"{what} must be a list or a one-dimensional array, not {type(values).__name__}"
        )
    if array.ndim != 1:
        raise InputError(f"{what} must have one axis, not {array.ndim}")
    if length is not None and len(array) != length:
        raise InputError(f"{what} has {len(array)} values for {length} pairs")
    return array


def _of_objects(values: list[Any], what: str) -> np.ndarray:
    """Python's and NumPy's own texts and whole numbers as int64 or unicode."""
    made = []
    for place, value in enumerate(values):
        if isinstance(value, np.generic):
            value = value.item()
        if value is None or type(value).__name__ in _MISSING or value != value:
            raise InputError(f"{what}: the id at place {place} is missing; leave such rows out")
        if isinstance(value, bytes):
            try:
                value = value.decode()
            except UnicodeDecodeError as e:
                raise InputError(f"{what}: the id at place {place} is not UTF-8 text") from e
        elif isinstance(value, float) and value.is_integer() and abs(value) <= WHOLE_FLOATS:
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, str | int):
            raise InputError(
                f"{what}: the id at place {place} is a {type(value).__name__}, neither a whole "
                "number nor a text; make ids texts first, such as ids.astype(str)"
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
    """Raise InputError where data is neither a path nor of our kinds, with the way in.

    Args:
      ours: kinds of data in memory that the caller takes.
      option: what the caller calls the data, for the message; a path must be given.
    """
    if (data is None and option != "path") or isinstance(data, (str, os.PathLike, *ours)):
        return
    raise InputError(f"{option} is a {_name(data)}, which is not taken as it is: {_way_in(data)}")


def taken_by(data: Any) -> str | None:
    """The function of ours that makes a Dataset of a table of another library; None for others."""
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
        return f"jaxrec.{function}(...) makes a Dataset of it"
    return (
        "give a path, a table of pandas, polars, pyarrow or scipy, or "
        "jaxrec.from_numpy(users, items) of two columns of ids"
    )
