"""``jaxrec guide``: show the guides in the terminal."""

import sys

from jaxrec import guides
from jaxrec.errors import InputError

USAGE = "usage: jaxrec guide [NAME]"


def guide(args: list[str]) -> None:
    """Show a guide page, or list the pages if no name is given."""
    if args in (["-h"], ["--help"]):
        print(f"{USAGE}\n\n{guide.__doc__}\n")
        args = []
    if not args:
        print(_listing())
        return
    if len(args) > 1:
        raise InputError(f"give only one page; {USAGE}")
    text = guides.read(args[0])
    if not sys.stdout.isatty():
        print(text.rstrip())
        return
    from rich.console import Console

    from jaxrec.cli.terminal_page import Page

    console = Console()
    console.print(Page(text), width=min(console.width, 100), crop=False)


def _listing() -> str:
    names = guides.names()
    width = max(map(len, names)) + 2
    lines = [f"{name:{width}}{guides.summary(name)}" for name in names]
    return "\n".join([*lines, "", "`jaxrec guide NAME` shows a page."])
