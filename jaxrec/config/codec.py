"""Convert a configuration to JSON and back."""

import dataclasses
import json
import typing
from pathlib import Path
from typing import Any

from jaxrec.config.checks import conform
from jaxrec.config.config import Config
from jaxrec.errors import InputError, nearest
from jaxrec.files import parse_json


def to_dict(config: Config) -> dict[str, Any]:
    """Convert the configuration to nested dictionaries for JSON."""
    return json.loads(json.dumps(dataclasses.asdict(config)))


def _build(cls: Any, values: Any, where: str) -> Any:
    if not isinstance(values, dict):
        raise InputError(f"{where or 'the configuration'} must be an object, not {values!r}")
    hints = typing.get_type_hints(cls, include_extras=True)
    fields = {}
    for name, value in values.items():
        if name not in hints:
            raise InputError(f"unknown field {where}{name!r}{nearest(name, hints)}")
        kind = hints[name]
        if dataclasses.is_dataclass(kind):
            fields[name] = _build(kind, value, f"{where}{name}.")
        else:
            fields[name] = conform(kind, value, f"{where}{name}")
    return cls(**fields)


def from_dict(values: Any) -> Config:
    """Build a configuration from the dictionaries that :func:`to_dict` returns.

    Raises:
      InputError: a name is unknown, or a value is invalid.
    """
    return _build(Config, values, "")


def load(path: str | Path) -> Config:
    """Read a ``config.json``.

    Raises:
      InputError: the file cannot be read or is invalid; the message names it.
    """
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
