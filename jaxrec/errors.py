"""Errors that a user can cause or must hear of: one or two plain lines and an exit status."""

import re
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


class Interrupted(JaxrecError, KeyboardInterrupt):
    """A run ended by SIGINT or SIGTERM after its checkpoint was written (status 128 + signal).

    A KeyboardInterrupt besides, so that a program that stops at Ctrl-C stops at this as well.
    """

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
    """`` (did you mean 'x'?)`` for the one of ``names`` that was probably meant, or nothing.

    That is the one name that ends as a dotted name does (``--dim`` for ``--model.dim``), the one
    that goes on where the name ends, or the nearest one by mistakes of typing
    (:func:`_mistakes`): none in 2 letters, 1 in up to 5, 2 in up to 9, 3 in more.
    """
    names = list(names)
    last = [n for n in names if "." in n and n.rpartition(".")[2] == name.lstrip("-")]
    longer = [n for n in names if n.lower().startswith(name.lower())]
    if len(longer) == 1 and not last and len(name) > 2 and not name.isdigit():
        last = longer
    if len(last) == 1:
        return f" (did you mean {last[0]!r}?)"
    best, fewest = None, 4
    for other in names if name and not name.isdigit() else ():
        if fewest == 0:
            break
        # A part that both have says nothing of how alike the rest is.
        prefix, dot, rest = other.rpartition(".")
        own = name
        if dot and name.startswith(f"{prefix}."):
            own, other_rest = name[len(prefix) + 1 :], rest
        else:
            own, other_rest = name.lstrip("-"), other.lstrip("-")
        longest = max(len(own), len(other_rest))
        most = min(fewest - 1, (longest > 2) + (longest > 5) + (longest > 9))
        found = _mistakes(own, other_rest, most)
        if found is not None:
            best, fewest = other, found
    return "" if best is None else f" (did you mean {best!r}?)"


_TWICE = re.compile(r"(\d)\1+")
_ZEROS = re.compile(r"(?<!\d)0+(?=\d)")


def _mistakes(a: str, b: str, most: int) -> int | None:
    """How many mistakes of typing lead from ``a`` to ``b``; None where more than ``most``.

    A mistake is a letter too many, too few or another, or two that changed places. Capitals,
    ``-`` for ``_``, zeros before a number and a digit that is typed twice do not count. Another
    digit is no mistake: 1998 is not meant where 1997 stands.
    """
    a, b = (_TWICE.sub(r"\1", _ZEROS.sub("", x.lower().replace("_", "-"))) for x in (a, b))
    if re.findall(r"\d+", a) != re.findall(r"\d+", b) or abs(len(a) - len(b)) > most:
        return 0 if a == b else None
    if len(set(a) ^ set(b)) > 2 * most:
        return None
    # Optimal string alignment (Boytsov, "Indexing methods for approximate dictionary searching",
    # 2011), a row of the table at a time.
    before, row = [], list(range(len(b) + 1))
    for i, x in enumerate(a):
        last, before, row = before, row, [i + 1]
        for j, y in enumerate(b):
            cost = min(before[j] + (x != y), before[j + 1] + 1, row[j] + 1)
            if i and j and x == b[j - 1] and y == a[i - 1]:
                cost = min(cost, last[j - 1] + 1)
            row.append(cost)
        if min(row) > most:
            return None
    return row[-1] if row[-1] <= most else None
