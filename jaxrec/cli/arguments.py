"""Parse command-line arguments to dataclasses with tyro, and report mistakes in one plain line."""

import contextlib
import dataclasses
import io
import re
import typing
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from typing import Any, Literal

import tyro

from jaxrec.config.checks import check_options
from jaxrec.errors import InputError, nearest


class _Asked(Exception):
    """Raised by :func:`parse` to give the dataclass of a command to :func:`options_of`."""

    def __init__(self, kind: Any) -> None:
        self.kind = kind


_ASKING: ContextVar[bool] = ContextVar("asking", default=False)


def options_of(command: Callable[[list[str]], Any]) -> dict[str, tuple[str, ...]]:
    """Return a dictionary from each option of a command to the values that the option accepts.

    The tuple is empty for an option that accepts any value, and for one that accepts no value. To
    find the options, the command is called, and :func:`parse` raises an exception instead of
    parsing arguments.
    """
    token = _ASKING.set(True)
    try:
        command(["--help-all"])
    except _Asked as e:
        return _options(e.kind)
    except InputError:  # a command without options
        return {}
    finally:
        _ASKING.reset(token)
    return {}


def parse(
    kind: Any,
    args: Sequence[str],
    prog: str,
    *,
    aliases: Mapping[str, str] | None = None,
    help_by: str = "--help",
) -> Any:
    """Parse arguments to an instance of the dataclass ``kind``.

    Args:
      aliases: short names of options by full name, such as {"--train.epochs": "--epochs"}.
      help_by: the option that lists all options; messages refer to it.

    Raises:
      InputError: an option is unknown, an option is given by both its full and its short name, or a
        value is invalid or out of range.
    """
    if _ASKING.get():
        raise _Asked(kind)
    short = {alias: name for name, alias in (aliases or {}).items()}
    stderr = io.StringIO()
    try:
        with contextlib.redirect_stderr(stderr):
            parsed, unknown = tyro.cli(
                kind, args=_by_full_names(args, short), prog=prog, return_unknown_args=True
            )
    except SystemExit as e:
        if e.code != 2:  # tyro printed the help, or a signal arrived
            raise
        raise InputError(_plain(stderr.getvalue(), f"{prog} {help_by}")) from e
    if unknown:
        name = unknown[0].split("=")[0]
        mistake = f"unknown option {name}" if name.startswith("-") else f"unexpected {name!r}"
        hint = nearest(name.replace("_", "-"), [*_options(kind), *short])
        raise InputError(f"{mistake}{hint}; `{prog} {help_by}` lists the options")
    check_options(parsed)
    return parsed


def _by_full_names(args: Sequence[str], short: Mapping[str, str]) -> list[str]:
    """Replace short names of options by full names.

    Args:
      short: full names by short name.

    Raises:
      InputError: an option is given by both its full and its short name.
    """
    given = {arg.partition("=")[0].replace("_", "-") for arg in args if arg.startswith("--")}
    for alias, name in short.items():
        if {alias, name} <= given:
            raise InputError(f"{alias} and {name} are the same option; give it once")
    replaced = []
    for arg in args:
        name, equals, value = arg.partition("=")
        replaced.append(short.get(name.replace("_", "-"), name) + equals + value)
    return replaced


def with_moments(args: Sequence[str], options: Sequence[str]) -> list[str]:
    """Replace dates in the values of ``options`` with seconds since 1970; numbers are not changed.

    Raises:
      InputError: a value is neither a number nor a date.
    """
    from jaxrec.data.times import parse as moment

    def value(option: str, text: str) -> str:
        try:
            float(text)
        except ValueError:
            if text == "None":
                return text
            try:
                return repr(moment(text))
            except InputError as e:
                raise InputError(
                    f"{option}: {e}, or as a number in the unit of the data's times"
                ) from e
        return text

    replaced = list(args)
    for n, arg in enumerate(replaced):
        name, equals, text = arg.partition("=")
        name = name.replace("_", "-")
        if name not in options:
            continue
        if equals:
            replaced[n] = f"{name}={value(name, text)}"
        elif n + 1 < len(replaced):
            replaced[n + 1] = value(name, replaced[n + 1])
    return replaced


CUT_TIMES = (
    *("--split.test-time", "--split.validation-time"),
    *("--filter.since", "--filter.until"),
)
"""Options of ``train``, ``data split`` and ``data partition`` that accept a number or a date."""


def _plain(box: str, help_by: str) -> str:
    """Return the first message inside a tyro error box as one line."""
    lines = [re.sub(r"\x1b\[[0-9;]*m", "", line).strip(" │|") for line in box.splitlines()]
    message = []
    for line in lines:
        if not line or line[0] in "╭╰+":
            continue
        if set(line) <= {"─", "-"}:
            break
        message.append(line)
    text = " ".join(message).rstrip(".") or "invalid arguments"
    choice = re.match(r"invalid choice '(.*)' for argument .* Expected one of \((.*)\)", text)
    hint = nearest(choice[1], re.findall(r"'([^']*)'", choice[2])) if choice else ""
    return f"{text}{hint}; `{help_by}` lists the options"


def _options(kind: Any, prefix: str = "--") -> dict[str, tuple[str, ...]]:
    """Return the choices of each option of a dataclass; names of nested options have dots."""
    hints = typing.get_type_hints(kind, include_extras=True)
    options: dict[str, tuple[str, ...]] = {}
    for f in dataclasses.fields(kind):
        hint, name = hints[f.name], f.name.replace("_", "-")
        inner = f.default_factory if dataclasses.is_dataclass(f.default_factory) else hint
        if dataclasses.is_dataclass(inner):
            options |= _options(inner, f"{prefix}{name}.")
        elif tyro.conf.Positional not in getattr(hint, "__metadata__", ()):
            options[prefix + name] = _choices(hint)
            if hint is bool:
                options[f"{prefix}no-{name}"] = ()
    return options


def _choices(hint: Any) -> tuple[str, ...]:
    """Return the literal values in a type, including those inside unions and tuples."""
    if typing.get_origin(hint) is Literal:
        return tuple(map(str, typing.get_args(hint)))
    return tuple(value for inner in typing.get_args(hint) for value in _choices(inner))
