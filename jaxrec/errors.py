"""Errors that a user can cause or must hear of: one or two plain lines and an exit status."""

import difflib
from collections.abc import Iterable

_LONGEST = 600  # characters of a line


class JaxrecError(Exception):
    """Base of every error that jaxrec raises on purpose; ``str(e)`` is the whole message.

    It is one or two lines, whatever it quotes: what cannot be printed is escaped, and a long line
    loses its middle.
    """

    exit_status = 1

    def __init__(self, message: str) -> None:
        first, *more = message.split("\n")
        lines = [first, " ".join(more)] if more else [first]
        super().__init__("\n".join(map(_plain, lines)))


class InputError(JaxrecError):
    """Bad usage, configuration or data: the message names the file, the line and the mend."""

    exit_status = 2


class RunError(JaxrecError):
    """A run that failed while running: NaN loss, full disk, no good checkpoint left."""

    exit_status = 1


class Interrupted(JaxrecError):
    """A run ended by SIGINT or SIGTERM after its checkpoint was written (status 128 + signal)."""

    def __init__(self, message: str, signum: int) -> None:
        super().__init__(message)
        self.exit_status = 128 + signum


def _plain(line: str) -> str:
    if not line.isprintable():
        line = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in line)
    if len(line) <= _LONGEST:
        return line
    return f"{line[: _LONGEST // 2]} [...] {line[-_LONGEST // 2 :]}"


def nearest(name: str, names: Iterable[str]) -> str:
    """`` (did you mean 'x'?)`` for the closest of ``names``, or an empty string."""
    close = difflib.get_close_matches(name, list(names), n=1, cutoff=0.5)
    return f" (did you mean {close[0]!r}?)" if close else ""
