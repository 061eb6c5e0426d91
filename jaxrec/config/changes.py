"""A configuration with some fields changed, by their dotted names or by the last part of these."""

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar

from jaxrec.errors import InputError, nearest

T = TypeVar("T")


def names(config: Any) -> list[str]:
    """All fields by their dotted names, as options have them: ``optim.learning_rate``."""
    found = []
    for f in dataclasses.fields(config):
        value = getattr(config, f.name)
        inner = dataclasses.is_dataclass(value)
        found += [f"{f.name}.{n}" for n in names(value)] if inner else [f.name]
    return found


def changed(config: T, changes: Mapping[str, Any]) -> T:
    """The configuration with other values, checked together.

    Args:
      changes: by dotted name; whole sections by their own.

    Raises:
      InputError: an unknown name (the nearest one is named), or values that cannot be.
    """
    known = names(config)
    sections: dict[str, dict[str, Any]] = {}
    own: dict[str, Any] = {}
    whole = {f.name for f in dataclasses.fields(config)}  # pyright: ignore[reportArgumentType]
    for name, value in changes.items():
        section, dot, field = name.partition(".")
        if name not in known and name not in whole:
            raise InputError(f"no field {name!r} of the configuration{nearest(name, known)}")
        if dot:
            sections.setdefault(section, {})[field] = value
        else:
            own[name] = value
    for section, fields in sections.items():
        base = own.get(section, getattr(config, section))
        own[section] = dataclasses.replace(base, **fields)
    return dataclasses.replace(config, **own)  # pyright: ignore[reportArgumentType]


def dotted(config: Any, options: Mapping[str, Any]) -> dict[str, Any]:
    """Changes by dotted name, from keywords: ``epochs`` is ``train.epochs``.

    Raises:
      InputError: no field is called so, or several are.
    """
    known, made = names(config), {}
    for option, value in options.items():
        fits = [name for name in known if name.rpartition(".")[2] == option]
        if option in known:
            fits = [option]
        if len(fits) > 1:
            raise InputError(
                f"{option} may be {' or '.join(fits)}; say which by config.replace"
                f"({{{fits[0]!r}: ...}})"
            )
        if not fits:
            last = [name.rpartition(".")[2] for name in known]
            raise InputError(f"no option {option!r}{nearest(option, last)}")
        made[fits[0]] = value
    return made
