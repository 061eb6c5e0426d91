"""A configuration to JSON and back."""

import dataclasses
import json
import os
import types
import typing
from pathlib import Path
from typing import Any, Literal

from jaxrec.config.whole import Config
from jaxrec.errors import InputError, nearest
from jaxrec.files import parse_json


def to_dict(config: Config) -> dict[str, Any]:
    """The configuration as JSON-ready nested dictionaries."""
    return json.loads(json.dumps(dataclasses.asdict(config)))


def _convert(kind: Any, value: Any, where: str) -> Any:
    """``value`` from JSON as ``kind``, or an InputError that names the field."""
    origin = typing.get_origin(kind)
    if origin is Literal:
        options = typing.get_args(kind)
        if value not in options:
            hint = nearest(str(value), [str(o) for o in options])
            listed = ", ".join(map(str, options))
            raise InputError(f"{where}: {value!r} is none of {listed}{hint}")
        return value
    if origin in (types.UnionType, typing.Union):
        if value is None:
            return None
        (inner,) = [a for a in typing.get_args(kind) if a is not type(None)]
        return _convert(inner, value, where)
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise InputError(f"{where}: a list is needed, not {value!r}")
        inner = typing.get_args(kind)
        if inner[-1] is not Ellipsis and len(value) != len(inner):
            raise InputError(f"{where}: a list of {len(inner)} is needed, not {value!r}")
        return tuple(_convert(inner[0], v, where) for v in value)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if kind is str and isinstance(value, str) and not _is_text(value):
        raise InputError(f"{where}: {value!r} holds what is no character")
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise InputError(f"{where}: a value of type {kind.__name__} is needed, not {value!r}")
    return value


def _is_text(value: str) -> bool:
    """Whether a file could have such a name: JSON may hold what is no text."""
    try:
        return b"\0" not in os.fsencode(value)
    except UnicodeEncodeError:
        return False


def _build(cls: Any, values: Any, where: str) -> Any:
    if not isinstance(values, dict):
        raise InputError(f"{where or 'the configuration'}: an object is needed, not {values!r}")
    hints = typing.get_type_hints(cls)
    made = {}
    for name, value in values.items():
        if name not in hints:
            raise InputError(f"unknown field {where}{name!r}{nearest(name, hints)}")
        kind = hints[name]
        if dataclasses.is_dataclass(kind):
            made[name] = _build(kind, value, f"{where}{name}.")
        else:
            made[name] = _convert(kind, value, f"{where}{name}")
    return cls(**made)


def from_dict(values: Any) -> Config:
    """The inverse of :func:`to_dict`; unknown names and wrong types raise InputError."""
    return _build(Config, values, "")


def load(path: str | Path) -> Config:
    """Read a ``config.json``. Raises InputError naming the file where it cannot be used."""
    try:
        values = parse_json(Path(path).read_text(encoding="utf-8"))
    except OSError as e:
        raise InputError(f"{path}: cannot be read ({e.strerror or e})") from e
    except ValueError as e:
        line = f":{e.lineno}" if isinstance(e, json.JSONDecodeError) else ""
        raise InputError(f"{path}{line}: not a JSON file; `jaxrec train` writes one") from e
    try:
        return from_dict(values)
    except InputError as e:
        raise InputError(f"{path}: {e}") from e
