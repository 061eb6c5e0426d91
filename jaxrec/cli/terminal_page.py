"""Format a guide page for a terminal; links to other pages become the commands that show them."""

import re
from collections.abc import Iterator
from importlib.resources import files
from typing import Any

from rich.console import Console, ConsoleOptions, RenderResult
from rich.markdown import CodeBlock, Markdown, TableElement
from rich.measure import Measurement
from rich.padding import Padding
from rich.table import Column, Table
from rich.text import Text

from jaxrec import guides

_LINK = re.compile(r"!?\[(?P<text>[^\]]*)\]\((?P<target>[^)#\s]+)(?:#[^)\s]*)?\)")


class _Unwrapped(CodeBlock):
    """A block of code whose lines are not wrapped, so that they can be copied."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield Text(str(self.text).rstrip(), style="cyan", no_wrap=True, overflow="ignore")


class _Table(TableElement):
    """A table, or a list of its rows if the terminal is too narrow for its longest words."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        unlimited = options.update(max_width=10_000)
        for table in super().__rich_console__(console, options):
            assert isinstance(table, Table)
            columns = [
                [Measurement.get(console, unlimited, text) for text in _texts(column)]
                for column in table.columns
            ]
            words = [max(cell.minimum for cell in cells) for cells in columns]
            lines = [max(cell.maximum for cell in cells) for cells in columns]
            frame = Measurement.get(console, unlimited, table).maximum - sum(lines)
            spare = options.max_width - frame - sum(words)
            if spare < 0:
                yield from _rows(table)
                continue
            wanted = max(sum(lines) - sum(words), 1)
            for column, word, line in zip(table.columns, words, lines, strict=True):
                column.width = min(line, word + spare * (line - word) // wanted)
            yield table


def _texts(column: Column) -> list[Any]:
    """Return the header of a column and its cells, as instances of Text."""
    return [column.header, *column.cells]


def _rows(table: Table) -> Iterator[Text | Padding]:
    """Yield each row as a list: the first cell, then a line "column name: cell" per other cell."""
    (_, *headers), *rows = zip(*map(_texts, table.columns), strict=True)
    for name, *cells in rows:
        yield Text()
        yield Text.assemble(name, style="bold")
        for header, cell in zip(headers, cells, strict=True):
            if cell:
                yield Padding(Text.assemble(header, ": ", cell, overflow="fold"), (0, 0, 0, 2))


class Page(Markdown):
    """The Markdown of a guide page, as a renderable of rich."""

    elements = Markdown.elements | {
        "fence": _Unwrapped,
        "code_block": _Unwrapped,
        "table_open": _Table,
    }

    def __init__(self, markdown: str) -> None:
        super().__init__(_LINK.sub(_reached, markdown), hyperlinks=False)


def _reached(link: re.Match[str]) -> str:
    """Return the text that replaces a link: a command, a path, or, for a URL, the link itself."""
    target = link["target"]
    if target.startswith("http"):
        return link[0]
    if target.endswith(".svg"):
        return f"{link['text']}: `{files(guides) / target}`"
    if target.startswith("../../"):
        return f"`{target.removeprefix('../../')}` of the repository"
    return f"`jaxrec guide {target.removesuffix('.md')}`"
