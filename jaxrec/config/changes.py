"""Change fields of a configuration, given by their dotted names or by the last part of a name."""

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar

from jaxrec.errors import InputError, nearest

T = TypeVar("T")


def names(config: Any) -> list[str]:
    """Return the dotted names of all fields, such as ``optim.learning_rate``."""
    dotted_names = []
    for f in dataclasses.fields(config):
        value = getattr(config, f.name)
        inner = dataclasses.is_dataclass(value)
        dotted_names += [f"{f.name}.{n}" for n in names(value)] if inner else [f.name]
    return dotted_names


def changed(config: T, changes: Mapping[str, Any]) -> T:
    """Return the configuration with some values changed; the result is checked as a whole.

    Args:
      changes: new values by dotted name; a whole section may be given by the section's name.

    Raises:
      InputError: a name is unknown (the message suggests the nearest one), or values are invalid.
    """
    known = names(config)
    sections: dict[str, dict[str, Any]] = {}
    top_level: dict[str, Any] = {}
    whole = {f.name for f in dataclasses.fields(config)}  # pyright: ignore[reportArgumentType]
    for name, value in changes.items():
        section, dot, field = name.partition(".")
        if name not in known and name not in whole:
            raise InputError(f"the configuration has no field {name!r}{nearest(name, known)}")
        if dot:
            sections.setdefault(section, {})[field] = value
        else:
            top_level[name] = value
    for section, fields in sections.items():
        base = top_level.get(section, getattr(config, section))
        top_level[section] = dataclasses.replace(base, **fields)
    return dataclasses.replace(config, **top_level)  # pyright: ignore[reportArgumentType]


def dotted(config: Any, options: Mapping[str, Any]) -> dict[str, Any]:
    """Replace each keyword by the dotted name of its field: ``epochs`` becomes ``train.epochs``.

    Raises:
      InputError: a keyword is the name of no field, or of several fields.
    """
    known, changes = names(config), {}
    for option, value in options.items():
        fits = [name for name in known if name.rpartition(".")[2] == option]
        if option in known:
            fits = [option]
        if len(fits) > 1:
            raise InputError(
                f"{option} is ambiguous: {' or '.join(fits)}; choose one by config.replace"
                f"({{{fits[0]!r}: ...}})"
            )
        if not fits:
            last = [name.rpartition(".")[2] for name in known]
            raise InputError(f"there is no option {option!r}{nearest(option, last)}")
        changes[fits[0]] = value
    return changes
