"""Read the blocks of code and the figures of README and guides."""

import json
import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "jaxrec" / "guides").glob("*.md"))]
STUDIES = sorted((ROOT / "bench").glob("*.md"))
RESULTS = ROOT / "bench" / "results"


class Block(NamedTuple):
    """A fenced block: its language, text and line, and the reason if it is shown but not run."""

    language: str
    text: str
    line: int
    shown: str


_FENCE = re.compile(r"(?:<!-- shown: (.*?) -->\n)?^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    found = []
    for match in _FENCE.finditer(text):
        line = text.count("\n", 0, match.start(3))
        found.append(Block(match[2], match[3], line, match[1] or ""))
    return found


def commands(text: str) -> Iterator[list[str]]:
    """Yield the words of each command of a shell block, with loops over words unrolled."""
    lines = text.replace("\\\n", " ").splitlines()
    loop: tuple[str, list[str]] | None = None
    for line in lines:
        words = shlex.split(line, comments=True)
        if not words:
            continue
        if words[0] == "for":
            loop = (words[1], [word.rstrip(";") for word in words[3:] if word != "do"])
            body: list[str] = []
        elif words[0] == "done" and loop is not None:
            name, values = loop
            loop = None
            for value in values:
                for inner in body:
                    yield shlex.split(inner.replace(f"${name}", value), comments=True)
        elif loop is not None:
            body.append(line)
        else:
            yield words


class Figure(NamedTuple):
    """A number as a page shows it, and the line of a result that it comes from."""

    written: str
    case: str
    lines: tuple[int, ...]
    field: str
    factor: float
    place: str


_NUMBER = r"(-?\d[\d,]*(?:\.\d+)?)"
_LINK = re.compile(
    r"\[" + _NUMBER + r"\]\((?:\.\./)*(?:bench/)?results/([\w-]+)\.jsonl#L(\d+)\)(?!<!--)"
)
_MARK = re.compile(
    _NUMBER + r"(?:\]\([^)]*\))?<!-- ([\w-]+) L(\d+)(?:/L(\d+))?(?: (\w+))?(?: ([*/])(\d+))? -->"
)


def figures(page: Path) -> list[Figure]:
    """Return every number of a page that names its line by a link or by a comment behind it."""
    found = []
    for number, text in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        place = f"{page.name}:{number}"
        for match in _LINK.finditer(text):
            found.append(Figure(match[1], match[2], (int(match[3]),), "median", 1.0, place))
        for match in _MARK.finditer(text):
            written, case, first, second, field, sign, by = match.groups()
            factor = 1.0 if by is None else float(by) if sign == "*" else 1 / float(by)
            lines = (int(first),) if second is None else (int(first), int(second))
            found.append(Figure(written, case, lines, field or "median", factor, place))
    return found


@cache
def results(case: str) -> list[dict]:
    text = (RESULTS / f"{case}.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def value(figure: Figure) -> float:
    """Return the value of the figure's line, or the ratio of two lines.

    Raises:
      KeyError, IndexError, FileNotFoundError: there is no such line or field.
    """
    read = [float(results(figure.case)[line - 1][figure.field]) for line in figure.lines]
    return (read[0] / read[1] if len(read) == 2 else read[0]) * figure.factor


def agrees(figure: Figure) -> bool:
    """Return whether the number is the result, rounded to the digits that the page shows."""
    text = figure.written.replace(",", "")
    digits = len(text.partition(".")[2])
    return abs(float(text) - value(figure)) <= 0.5 * 10**-digits * (1 + 1e-9)


_SAID = re.compile(r"<!-- (published|arithmetic|given|read off)\b.*?-->")
_UNIT = r"(?= (?:ms|s|GB|MB|seconds|minutes|%)(?!\w))"
_MEASURED = re.compile(
    rf"(?<![\w.$-])(?<!Python )\d+\.\d{{2,}}(?![\w.])|(?<![\w.$-])\d[\d,.]*{_UNIT}"
)


def unmarked(page: Path) -> list[str]:
    """Return numbers in prose and tables that look measured but name no line of a result.

    A cell or sentence may state another source of its numbers: `<!-- published -->` (by other
    authors), `<!-- arithmetic -->`, or `<!-- given -->` (a setting).
    """
    text = page.read_text(encoding="utf-8")
    text = _FENCE.sub(lambda match: "\n" * match[0].count("\n"), text)
    text = re.sub(r"`[^`\n]*`", "``", text)
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        for cell in line.split("|"):
            if _SAID.search(cell):
                continue
            rest = _LINK.sub("", _MARK.sub("", cell))
            found += [f"{page.name}:{number}: {match[0]}" for match in _MEASURED.finditer(rest)]
    return found
