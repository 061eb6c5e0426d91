"""Errors for users: one or two plain lines and an exit status."""

import re
from collections.abc import Iterable

_LONGEST = 600  # the largest number of characters of a line


class JaxrecError(Exception):
    """Base of every error that jaxrec raises on purpose; ``str(e)`` is the whole message.

    The message is one or two lines: unprintable characters are escaped, and long lines are
    shortened in the middle.

    >>> import jaxrec
    >>> try:
    ...     jaxrec.preset("lightgcm")
    ... except jaxrec.JaxrecError as e:
    ...     print(e)
    no preset 'lightgcm' (did you mean 'lightgcn'?); `jaxrec presets` lists them
    """

    exit_status = 1

    def __init__(self, message: str) -> None:
        first, *more = message.split("\n")
        lines = [first, " ".join(more)] if more else [first]
        super().__init__("\n".join(map(_plain, lines)))


class InputError(JaxrecError):
    """Bad usage, configuration or data: the message names the file, the line and the fix.

    >>> import jaxrec
    >>> try:
    ...     jaxrec.read("no-such-file.csv")
    ... except jaxrec.InputError as e:
    ...     print(e.exit_status, e)
    2 no-such-file.csv: no such file or folder
    """

    exit_status = 2


class RunError(JaxrecError):
    """A failed run: NaN loss, full disk, or no usable checkpoint.

    >>> import jaxrec
    >>> jaxrec.RunError("the loss is NaN at step 12").exit_status
    1
    """

    exit_status = 1


class Interrupted(JaxrecError, KeyboardInterrupt):
    """A run ended by SIGINT or SIGTERM after its checkpoint was written (status 128 + signal).

    It is also a KeyboardInterrupt, so that programs that stop at Ctrl-C stop at this error too.

    >>> import signal
    >>> import jaxrec
    >>> jaxrec.Interrupted("runs/mine: stopped; resume it", signal.SIGTERM).exit_status
    143
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


def short(text: str) -> str:
    """Cut a text that a message quotes after 40 characters."""
    return text if len(text) <= 40 else f"{text[:40]}..."


def nearest(name: str, names: Iterable[str]) -> str:
    """Return `` (did you mean 'x'?)``, where x is the likely intended name, or an empty text.

    x is the only one of ``names`` with the same last part (``--model.dim`` for ``--dim``), the only
    one that begins with ``name``, or the one with the fewest typing mistakes (:func:`_mistakes`).
    Names of up to 2 letters may have no mistake, names of up to 5 letters 1 mistake, names of up to
    9 letters 2 mistakes, and longer names 3 mistakes.
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
        # Compare without the section if both names have the same one.
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
    """Count the typing mistakes from ``a`` to ``b``; None if there are more than ``most``.

    A mistake is an inserted, missing, replaced or transposed letter. Other case, ``-`` instead of
    ``_``, leading zeros and doubled digits are no mistakes. If the digits differ, the result is
    None: 1998 is no typo of 1997.
    """
    a, b = (_TWICE.sub(r"\1", _ZEROS.sub("", x.lower().replace("_", "-"))) for x in (a, b))
    if re.findall(r"\d+", a) != re.findall(r"\d+", b) or abs(len(a) - len(b)) > most:
        return 0 if a == b else None
    if len(set(a) ^ set(b)) > 2 * most:
        return None
    # Optimal string alignment (Boytsov, "Indexing methods for approximate dictionary searching",
    # 2011), one table row at a time.
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
