"""Parses the part of YAML that files of settings use: texts, lists and mappings.

Numbers and booleans stay texts; ``~``, ``null`` and empty values are None. Anchors, tags, texts
over several lines, and files of several documents are refused. No Python object is ever
constructed.

Source: YAML 1.2.2, chapters 6 to 8.
"""

import re
from collections import deque
from pathlib import Path
from typing import Any, NamedTuple

from jaxrec.errors import InputError

_DEEPEST = 20
_QUOTED = r""""(?:\\.|[^"\\])*"|'(?:''|[^'])*'"""
_KEY = re.compile(rf"({_QUOTED}|[^\s\[\]{{}},\"'#&*!|>%@`-][^\[\]{{}}\"']*?)\s*:(?:\s+(.*))?")
_INNER = re.compile(rf"{_QUOTED}|(?:[^\[\]{{}},:\"'\s]|:(?!\s))(?:[^\[\]{{}},:]|:(?!\s))*")
_ESCAPES = {"t": "\t", "n": "\n", "r": "\r", "0": "\0", '"': '"', "\\": "\\", "/": "/"}


class _Line(NamedTuple):
    number: int
    indent: int
    text: str


def parse(path: Path, text: str) -> dict[str, Any]:
    """Return the keys and values of a document; a value is a text, a list, a mapping or None.

    Args:
      path: the name of the document in messages.

    Raises:
      InputError: the text is not in the part of YAML that is read; the message names its line.
    """
    lines: deque[_Line] = deque()
    for number, line in enumerate(text.removeprefix("\ufeff").splitlines(), start=1):
        content = _without_comment(line)
        if content.strip() and not (content == "---" and not lines):
            lines.append(_Line(number, len(content) - len(content.lstrip()), content.strip()))
    number = lines[0].number if lines else 1
    try:
        made = _block(lines) if lines else {}
        if lines or not isinstance(made, dict):
            raise ValueError
    except ValueError as e:
        number = e.args[0] if e.args else lines[0].number if lines else number
        raise InputError(
            f"{path}:{number}: not a key with a text, a list or a mapping as its value, the only "
            "YAML that is read here; rewrite the line, or leave it out"
        ) from e
    return made


def _without_comment(line: str) -> str:
    """Return a line up to its comment, which begins with ``#`` after a space."""
    quote, before = "", " "
    for place, letter in enumerate(line):
        if quote:
            quote = "" if letter == quote and before != "\\" else quote
        elif letter in "'\"" and before in " [{,":
            quote = letter
        elif letter == "#" and before.isspace():
            return line[:place].rstrip()
        before = letter
    return line.rstrip()


def _block(lines: deque[_Line], depth: int = 0) -> Any:
    """Parse a list or mapping at the start of ``lines``, and remove its lines.

    Raises:
      ValueError: a line is wrong; the argument of the error is the number of the line.
    """
    indent, made = lines[0].indent, {}
    if depth > _DEEPEST:
        raise ValueError(lines[0].number)
    if _is_entry(lines[0]):
        entries = []
        while lines and lines[0].indent == indent and _is_entry(lines[0]):
            entries.append(_value(lines.popleft(), 1))
        return entries
    while lines and lines[0].indent == indent:
        line = lines.popleft()
        match = _KEY.fullmatch(line.text)
        if match is None:
            raise ValueError(line.number)
        value = None
        if match[2]:
            value = _value(line, match.start(2))
        elif lines and lines[0].indent >= indent + (not _is_entry(lines[0])):
            value = _block(lines, depth + 1)
        made[_scalar(match[1])] = value
    if lines and lines[0].indent > indent:
        raise ValueError(lines[0].number)
    return made


def _is_entry(line: _Line) -> bool:
    return line.text == "-" or line.text.startswith("- ")


def _value(line: _Line, start: int) -> Any:
    """Return the value that begins at the position ``start`` of a line."""
    text = line.text[start:].strip()
    try:
        if text[:1] in ("[", "{"):
            value, end = _collection(text, 0, 0)
            if text[end:].strip():
                raise ValueError
            return value
        if text[:1] in ('"', "'") and not re.fullmatch(_QUOTED, text):
            raise ValueError
        if text[:1] and text[0] in "&*!|>%@`":
            raise ValueError
    except ValueError as e:
        raise ValueError(line.number) from e
    return _scalar(text)


def _collection(text: str, at: int, depth: int) -> tuple[Any, int]:
    """Return the list or mapping in brackets that begins at ``at``, and the position of its end."""
    close = {"[": "]", "{": "}"}[text[at]]
    values, keys, at = [], [], at + 1
    if depth > _DEEPEST:
        raise ValueError
    while True:
        at = _after_spaces(text, at)
        if text[at : at + 1] == close:
            made = values if close == "]" else dict(zip(keys, values, strict=True))
            return made, at + 1
        if close == "}":
            key, at = _inner(text, at)
            at = _after_spaces(text, at)
            if text[at : at + 1] != ":":
                raise ValueError
            keys.append(key)
            at = _after_spaces(text, at + 1)
        if text[at : at + 1] in ("[", "{"):
            value, at = _collection(text, at, depth + 1)
        else:
            value, at = _inner(text, at)
        values.append(value)
        at = _after_spaces(text, at)
        if text[at : at + 1] == ",":
            at += 1
        elif text[at : at + 1] != close:
            raise ValueError


def _after_spaces(text: str, at: int) -> int:
    while text[at : at + 1].isspace():
        at += 1
    return at


def _inner(text: str, at: int) -> tuple[str | None, int]:
    match = _INNER.match(text, at)
    if match is None:
        raise ValueError
    return _scalar(match[0].strip()), match.end()


def _scalar(text: str) -> str | None:
    if text[:1] == '"':
        return re.sub(r"\\(.)", lambda match: _ESCAPES.get(match[1], match[0]), text[1:-1])
    if text[:1] == "'":
        return text[1:-1].replace("''", "'")
    return None if text in ("", "~", "null", "Null", "NULL") else text
