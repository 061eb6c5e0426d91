"""The guides: Markdown pages that ship with the package, shown by ``jaxrec guide``."""

import re
from importlib.resources import files

from jaxrec.errors import InputError, nearest

ORDER = (
    *("your-data", "which-model", "honest-evaluation", "production", "run-folder"),
    *("item-graphs", "two-towers", "from-python", "extending", "searches-and-statistics"),
    *("doctor", "long-runs", "many-devices", "reproducing-papers", "coming-from"),
    *("how-it-is-built", "glossary", "questions"),
    *("changelog", "citation", "security", "contributing"),
)
"""The order in which pages are listed; pages that are not named here come last."""

_COMMENT = re.compile(r"[ \t]*<!--.*?-->", re.DOTALL)


def names() -> list[str]:
    """Return the names of all pages, in reading order."""
    found = {
        entry.name.removesuffix(".md")
        for entry in files(__name__).iterdir()
        if entry.name.endswith(".md")
    }
    return [name for name in ORDER if name in found] + sorted(found - {*ORDER})


def read(name: str) -> str:
    """Return a page's Markdown without its HTML comments, which name the sources of figures.

    Raises:
      InputError: there is no such page; the message suggests the nearest name.
    """
    known = names()
    name = name.removesuffix(".md")
    if name not in known:
        raise InputError(f"no guide {name!r}{nearest(name, known)}; `jaxrec guide` lists them")
    text = files(__name__).joinpath(f"{name}.md").read_text(encoding="utf-8")
    return re.sub(r"\n{3,}", "\n\n", _COMMENT.sub("", text))


def summary(name: str) -> str:
    """Return the summary of a page: the first line under its heading."""
    body = read(name).split("\n", 1)[1].strip()
    return body.split("\n", 1)[0]
