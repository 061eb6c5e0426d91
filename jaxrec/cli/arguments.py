"""Arguments to dataclasses by tyro, with every mistake told in one plain line."""

import contextlib
import dataclasses
import io
import re
from collections.abc import Sequence
from typing import Any

import tyro

from jaxrec.config.checks import check_options
from jaxrec.errors import InputError, nearest


def parse(kind: Any, args: Sequence[str], prog: str, default: Any = None) -> Any:
    """Arguments as an instance of the dataclass ``kind``.

    tyro does the parsing; its boxes become one plain line.

    Raises:
      InputError: an unknown option (the nearest one is named), an unusable value, or a number out
        of the range that stands beside the option.
    """
    options = {} if default is None else {"default": default}
    heard = io.StringIO()
    try:
        with contextlib.redirect_stderr(heard):
            made, unknown = tyro.cli(
                kind, args=list(args), prog=prog, return_unknown_args=True, **options
            )
    except SystemExit as e:
        if e.code != 2:  # help that was given, or a signal meanwhile
            raise
        raise InputError(_plain(heard.getvalue(), prog)) from e
    if unknown:
        name = unknown[0].split("=")[0]
        known = _option_names(kind)
        what = f"unknown option {name}" if name.startswith("-") else f"unexpected {name!r}"
        hint = nearest(name.replace("_", "-"), known)
        raise InputError(f"{what}{hint}; `{prog} --help` lists the options")
    check_options(made)
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


def _plain(box: str, prog: str) -> str:
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
    return f"{text}{hint}; `{prog} --help` lists the options"


def _option_names(kind: Any, prefix: str = "--") -> list[str]:
    """Every option of a dataclass, nested ones by their dotted names."""
    names = []
    for f in dataclasses.fields(kind):
        name = prefix + f.name.replace("_", "-")
        inner = f.default_factory if dataclasses.is_dataclass(f.default_factory) else f.type
        if dataclasses.is_dataclass(inner):
            names += _option_names(inner, f"{name}.")
        else:
            names.append(name)
    return names
