"""Parses the part of YAML that files of settings use: texts, lists and mappings.

Numbers and flags stay texts; ``~``, ``null`` and empty values are None. Anchors, tags, texts over
several lines, and files of several documents are refused. No Python object is ever constructed.
"""

import re
from pathlib import Path
from typing import Any

import yaml

from jaxrec.errors import InputError

_DEEPEST = 20
_NULL = "tag:yaml.org,2002:null"


class _Loader(yaml.BaseLoader):
    """Constructs texts, lists and mappings, and None for a plain null."""


_Loader.add_implicit_resolver(_NULL, re.compile(r"(?:~|null|Null|NULL|)$"), ["~", "n", "N", ""])
_Loader.add_constructor(_NULL, lambda loader, node: None)


def parse(path: Path, text: str) -> dict[str, Any]:
    """Return the keys and values of a document; a value is a text, a list, a mapping or None.

    Args:
      path: the name of the document in messages.

    Raises:
      InputError: the text is not in the part of YAML that is read; the message names its line.
    """
    text = text.removeprefix("\ufeff")
    try:
        line = _refused(text)
        if line is None:
            made = yaml.load(text, Loader=_Loader)
            if made is None:
                return {}
            if isinstance(made, dict):
                return made
            line = yaml.compose(text, Loader=_Loader).start_mark.line
    except yaml.YAMLError as e:
        marks = (getattr(e, name, None) for name in ("context_mark", "problem_mark"))
        line = next((mark.line for mark in marks if mark is not None), 0)
    raise InputError(
        f"{path}:{line + 1}: not a key with a text, a list or a mapping, which is the YAML that is "
        "read here; write the line so, or leave it out"
    )


def _refused(text: str) -> int | None:
    """Return the line, from 0, of the first construct that is not read, or None."""
    depth = documents = 0
    for event in yaml.parse(text, Loader=_Loader):
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        documents += isinstance(event, yaml.DocumentStartEvent)
        first, last = event.start_mark.line, event.end_mark.line
        named = getattr(event, "anchor", None) or getattr(event, "tag", None)
        if named or depth > _DEEPEST or documents > 1:
            return first
        if isinstance(event, yaml.ScalarEvent) and (event.style in ("|", ">") or first < last):
            return first + (event.style is None)  # a plain text goes on in the next line
    return None
