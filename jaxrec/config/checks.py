"""Checks shared by all sections of a configuration."""

import dataclasses
import math
import numbers
import operator
import types
import typing
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Literal

from jaxrec.errors import InputError, nearest
from jaxrec.files import check_path

INT32 = 2**31 - 1
"""The largest int32."""
LONGEST = 4096
"""The largest number of entries that a list may have."""


@dataclass(frozen=True)
class Range:
    """The range of a numeric field, or of each entry of a tuple.

    An annotation such as ``Annotated[int, Range(1, 100)]`` gives a field its range, which
    :func:`check_fields` checks. NaN and infinities are out of every range.

    Attributes:
      below: whether ``most`` itself is excluded.
    """

    least: int | float
    most: int | float
    below: bool = False

    def check(self, value: int | float, where: str) -> None:
        """Raise InputError if the value is out of range; the message names the allowed range."""
        if isinstance(value, int) and value.bit_length() > 200:  # too long to print
            raise InputError(f"{where} is too large: a number of {value.bit_length():,} bits")
        if isinstance(value, float) and not math.isfinite(value):
            raise InputError(f"{where} must be a finite number, not {value}")
        low = value < self.least
        if not low and not (value >= self.most if self.below else value > self.most):
            return
        if (self.least, self.most, self.below) == (0, 1, True):
            raise InputError(f"{where} must be a share in [0, 1), not {value}")
        if value <= 0 < self.least < 0.01:
            raise InputError(f"{where} must be positive, not {value}")
        if low and self.least == 0:
            raise InputError(f"{where} must be at least 0, not {value}")
        if low:
            raise InputError(f"{where} must be at least {_figure(self.least)}, not {value}")
        most = f"below {_figure(self.most)}" if self.below else f"at most {_figure(self.most)}"
        raise InputError(f"{where} must be {most}, not {value}")


def _figure(value: int | float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"


Share = Annotated[float, Range(0, 1, below=True)]
"""A share of at least 0 and below 1."""
Count = Annotated[int, Range(0, INT32)]
"""A count of at least 0."""
Number = Annotated[int, Range(1, INT32)]
"""A positive count."""
Seed = Annotated[int, Range(0, 2**32 - 1)]
"""A random seed."""
FINITE = Range(-1e300, 1e300)
"""Any finite number, such as a time or a rating."""
POSITIVE = Range(1e-30, 1e30)
"""A positive factor whose square and inverse fit into float32."""


def check(ok: bool, message: str) -> None:
    """Raise InputError with the message unless ``ok``."""
    if not ok:
        raise InputError(message)


def check_options(options: Any, prefix: str = "--") -> None:
    """Check a command's options, and the options of nested sections, by their annotated ranges.

    Strings are checked as paths, except in nested sections.

    Raises:
      InputError: an option is out of range or not a valid path; the message names it.
    """
    for field, kind in _kinds(type(options)).items():
        value, option = getattr(options, field), prefix + field.replace("_", "-")
        if dataclasses.is_dataclass(value):
            check_options(value, f"{option}.")
        elif prefix == "--" and isinstance(value, str):
            check_path(value, option)
        elif any(isinstance(x, Range) for x in getattr(kind, "__metadata__", ())):
            conform(kind, value, option)


def check_fields(section: Any, name: str = "") -> None:
    """Check each field of a dataclass by its type and annotated range.

    Lists become tuples and NumPy numbers become Python's, so that sections can be compared and
    written as JSON.

    Args:
      name: prefix of the fields in messages, such as "model"; may be empty.

    Raises:
      InputError: a field is out of range, has another type, or is an invalid string; the message
        names the first such field.
    """
    for field, kind in _kinds(type(section)).items():
        if dataclasses.is_dataclass(kind):
            continue
        value = getattr(section, field)
        converted = conform(kind, value, f"{name}.{field}" if name else field)
        if converted is not value:
            object.__setattr__(section, field, converted)


@cache
def _kinds(cls: type) -> dict[str, Any]:
    return typing.get_type_hints(cls, include_extras=True)


def conform(kind: Any, value: Any, where: str) -> Any:
    """Convert ``value`` to ``kind``, a field's annotation.

    Raises:
      InputError: the value has another type, is out of range, is not one of the choices, or is an
        invalid string.
    """
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin is Annotated:
        value = conform(args[0], value, where)
        for allowed in (r for r in args[1:] if isinstance(r, Range)):
            for each in value if isinstance(value, tuple) else (value,):
                if each is not None:
                    allowed.check(each, where)
        return value
    if origin is Literal:
        if value not in args or isinstance(value, bool):
            hint = nearest(str(value), [str(o) for o in args])
            listed = ", ".join(map(str, args))
            raise InputError(f"{where}: {value!r} is not one of {listed}{hint}")
        return value
    if origin in (types.UnionType, typing.Union):
        if value is None:
            return None
        (inner,) = [a for a in args if a is not type(None)]
        return conform(inner, value, where)
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise InputError(f"{where} must be a list, not {value!r}")
        if args[-1] is not Ellipsis and len(value) != len(args):
            raise InputError(f"{where} must be a list of {len(args)} values, not {value!r}")
        if len(value) > LONGEST:
            raise InputError(f"{where} has {len(value):,} values, but may have {LONGEST:,} at most")
        converted = tuple(conform(args[0], v, where) for v in value)
        same = isinstance(value, tuple) and all(map(operator.is_, converted, value))
        return value if same else converted
    return _plain(kind, value, where)


def _plain(kind: Any, value: Any, where: str) -> Any:
    """Convert ``value`` to a bool, int, float or str."""
    if kind in (int, float) and type(value) is not kind and not isinstance(value, bool):
        if isinstance(value, numbers.Integral):
            value = int(value)
        elif kind is float and isinstance(value, numbers.Real):
            value = float(value)
        if kind is float and isinstance(value, int):
            check(
                value.bit_length() < 1024,
                f"{where} is too large: a number of {value.bit_length():,} bits",
            )
            value = float(value)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise InputError(f"{where} must be of type {kind.__name__}, not {value!r}")
    if isinstance(value, str):
        check_path(value, where)
    return value


def check_cutoffs(ks: Sequence[int], n_items: int | None = None, where: str = "eval.k") -> None:
    """Raise InputError unless ``ks`` are one or more distinct cut-offs of at least 1.

    Args:
      n_items: number of items, if known. Larger cut-offs are refused, but cut-offs up to 50 (the
        largest default) are always allowed.
    """
    listed = " ".join(map(str, ks))
    check(
        len(ks) > 0 and all(k >= 1 for k in ks),
        f"{where} must be one or more cut-offs of at least 1, not ({listed})",
    )
    check(len(set(ks)) == len(ks), f"{where} has a cut-off twice: {listed}")
    most = INT32 if n_items is None else max(n_items, 50)
    catalogue = "" if n_items is None else f", and there are {n_items:,}"
    check(max(ks) <= most, f"{where} {max(ks)}: lists hold at most {most:,} items{catalogue}")


def shown_cutoff(ks: Sequence[int]) -> int:
    """Return the cut-off to show in short tables: 20 if it is in ``ks``, or else the largest."""
    return 20 if 20 in ks else max(ks)
