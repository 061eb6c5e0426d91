"""Prints lines of text so that they fit a terminal."""

import shutil
import sys
import textwrap
from collections.abc import Iterable

_HANGING = 8


def print_lines(lines: Iterable[str]) -> None:
    """Print lines; on a terminal, break long ones between words and indent their continuation."""
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    for line in lines:
        if width is None or len(line) <= width:
            print(line)
            continue
        indent = " " * (len(line) - len(line.lstrip()) + _HANGING)
        wrapper = textwrap.TextWrapper(
            width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
        )
        print("\n".join(wrapper.wrap(line)))
