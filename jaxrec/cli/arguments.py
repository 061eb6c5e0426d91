"""Arguments to dataclasses by tyro, with every mistake told in one plain line."""

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
    """The dataclass that a command would have parsed its arguments into."""

    def __init__(self, kind: Any) -> None:
        self.kind = kind


_ASKING: ContextVar[bool] = ContextVar("asking", default=False)


def options_of(command: Callable[[list[str]], Any]) -> dict[str, tuple[str, ...]]:
    """The options of a command, each with the values it has to choose from (mostly none listed).

    The command is called, and stopped where it would parse its arguments.
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
    """Arguments as an instance of the dataclass ``kind``.

    tyro does the parsing; its boxes become one plain line.

    Args:
      aliases: short names by the options that they stand for.
      help_by: the option that lists all options.

    Raises:
      InputError: an unknown option (the nearest one is named), an unusable value, a number out of
        the range that stands beside the option, or an option by both of its names.
    """
    if _ASKING.get():
        raise _Asked(kind)
    short = {alias: name for name, alias in (aliases or {}).items()}
    heard = io.StringIO()
    try:
        with contextlib.redirect_stderr(heard):
            made, unknown = tyro.cli(
                kind, args=_by_full_names(args, short), prog=prog, return_unknown_args=True
            )
    except SystemExit as e:
        if e.code != 2:  # help that was given, or a signal meanwhile
            raise
        raise InputError(_plain(heard.getvalue(), f"{prog} {help_by}")) from e
    if unknown:
        name = unknown[0].split("=")[0]
        what = f"unknown option {name}" if name.startswith("-") else f"unexpected {name!r}"
        hint = nearest(name.replace("_", "-"), [*_options(kind), *short])
        raise InputError(f"{what}{hint}; `{prog} {help_by}` lists the options")
    check_options(made)
    return made


def _by_full_names(args: Sequence[str], short: Mapping[str, str]) -> list[str]:
    """Arguments with short names of options replaced by the full ones.

    Raises:
      InputError: an option is given by both of its names.
    """
    given = {arg.partition("=")[0].replace("_", "-") for arg in args if arg.startswith("--")}
    for alias, name in short.items():
        if {alias, name} <= given:
            raise InputError(f"{alias} and {name} are the same option; give it once")
    made = []
    for arg in args:
        name, equals, value = arg.partition("=")
        made.append(short.get(name.replace("_", "-"), name) + equals + value)
    return made


def with_moments(args: Sequence[str], options: Sequence[str]) -> list[str]:
    """Arguments in which the values of some options, where they are dates, are seconds since 1970.

    Raises:
      InputError: such a value is neither a number nor a date.
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
                raise InputError(f"{option}: {e}, or as a number like the data's times") from e
        return text

    made = list(args)
    for n, arg in enumerate(made):
        name, equals, text = arg.partition("=")
        name = name.replace("_", "-")
        if name not in options:
            continue
        if equals:
            made[n] = f"{name}={value(name, text)}"
        elif n + 1 < len(made):
            made[n + 1] = value(name, made[n + 1])
    return made


CUT_TIMES = (
    *("--split.test-time", "--split.validation-time"),
    *("--filter.since", "--filter.until"),
)
"""Options of ``train`` and ``data partition`` that take dates too."""


def _plain(box: str, help_by: str) -> str:
    """The first message inside a tyro error box, as one line."""
    lines = [re.sub(r"\x1b\[[0-9;]*m", "", line).strip(" │|") for line in box.splitlines()]
    message = []
    for line in lines:
        if not line or line[0] in "╭╰+":
            continue
        if set(line) <= {"─", "-"}:
            break
        message.append(line)
    text = " ".join(message).rstrip(".") or "unusable arguments"
    choice = re.match(r"invalid choice '(.*)' for argument .* Expected one of \((.*)\)", text)
    hint = nearest(choice[1], re.findall(r"'([^']*)'", choice[2])) if choice else ""
    return f"{text}{hint}; `{help_by}` lists the options"


def _options(kind: Any, prefix: str = "--") -> dict[str, tuple[str, ...]]:
    """Every option of a dataclass, nested ones by dotted names, and the values it chooses from."""
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
    """The literal values in a type, those inside unions and tuples too."""
    if typing.get_origin(hint) is Literal:
        return tuple(map(str, typing.get_args(hint)))
    inner = typing.get_args(hint)
    return tuple(value for one in inner for value in _choices(one))
