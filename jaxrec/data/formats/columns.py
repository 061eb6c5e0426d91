"""Which column of a table is the user, the item, the rating, the time and the event."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from jaxrec.errors import InputError, nearest

_GUESSES = {
    "user": "user userid uid username reviewerid customerid customer visitorid member memberid "
    "account accountid profileid sessionid",
    "item": "item itemid iid movieid movie productid product asin parentasin sku articleid "
    "article bookid isbn businessid artistid songid trackid gameid venueid poi locationid",
    "rating": "rating ratings stars score overall",
    "time": "timestamp time ts unixtime unixreviewtime eventtime",
    "event": "event eventtype behavior behaviour action interaction type",
}
_REQUIRED = ("user", "item")


@dataclass(frozen=True)
class Columns:
    """Column names as in the header, or numbers from 1; not given: guessed; empty: left out."""

    user: str | None = None
    item: str | None = None
    rating: str | None = None
    time: str | None = None
    event: str | None = None
    """Read only together with event weights."""

    def given(self) -> dict[str, str]:
        """Columns that are named, by role."""
        named = {role: getattr(self, role) for role in _GUESSES}
        return {role: name for role, name in named.items() if name}


def is_number(cell: str) -> bool:
    """Whether the text is a number, infinity and NaN among them."""
    try:
        float(cell)
    except ValueError:
        return False
    return "_" not in cell


def has_header(rows: Sequence[Sequence[str]], columns: Columns) -> bool:
    """Whether the first of the sample ``rows`` names the columns.

    It does where a column is asked for by name, where a cell is a common name, or where a
    column of numbers begins with a text.
    """
    if any(not name.isdigit() for name in columns.given().values()):
        return True
    first, rest = rows[0], rows[1:]
    if {_plain(cell) for cell in first} & set(" ".join(_GUESSES.values()).split()):
        return True
    return any(
        bool(rest)
        and not is_number(cell)
        and all(place < len(row) and is_number(row[place]) for row in rest)
        for place, cell in enumerate(first)
    )


def locate(
    where: str,
    header: Sequence[str],
    columns: Columns,
    *,
    event: bool,
) -> dict[str, int]:
    """Place of each role's column, from 0, in a table with a header.

    Args:
      where: file, and line where there is one, for messages.
      event: whether an event column is needed; otherwise none is looked for.

    Raises:
      InputError: a column is not there or cannot be guessed.
    """
    plain = [_plain(name) for name in header]
    at = {}
    for role, guesses in _GUESSES.items():
        if role == "event" and not event:
            continue
        name = getattr(columns, role)
        if name:
            at[role] = _place(where, header, name)
        elif name is None:
            found = [plain.index(guess) for guess in guesses.split() if guess in plain]
            if found:
                at[role] = found[0]
        if role not in at and (role in _REQUIRED or role == "event"):
            raise InputError(
                f"{where}: no column looks like the {role}; it has {_listed(header)}; "
                f"name one: jaxrec data import ... --columns.{role} NAME"
            )
    _refuse_shared(where, at)
    return at


def locate_by_number(
    where: str, rows: Sequence[Sequence[str]], columns: Columns, *, event: bool
) -> dict[str, int]:
    """Place of each role's column, from 0, in a table without a header.

    Columns that are not given are taken in the order user, item, rating, time; a third and
    last column of large numbers is a time.

    Raises:
      InputError: a number outside the table, or no usual order to go by.
    """
    width = len(rows[0])
    given = columns.given()
    if event and "event" not in given:
        raise InputError(f"{where}: no header, so name the event column: --columns.event NUMBER")
    if "user" in given and "item" in given:
        at = {role: _number(where, name, width) for role, name in given.items()}
        if not event:
            at.pop("event", None)
    elif given or width > 4:
        raise InputError(
            f"{where}: no header and {width} columns; say which are which: "
            "jaxrec data import ... --columns.user 1 --columns.item 2"
        )
    else:
        roles = ["user", "item", "rating", "time"][:width]
        if width == 3 and all(is_number(r[2]) and float(r[2]) > 1e6 for r in rows if len(r) == 3):
            roles[2] = "time"
        at = {role: place for place, role in enumerate(roles) if getattr(columns, role) != ""}
    _refuse_shared(where, at)
    return at


def locate_id(header: Sequence[str], role: str) -> int:
    """Place of the column that holds the ids of a table keyed by user or item, from 0.

    It is the first with a common name, else the first.
    """
    plain = [_plain(name) for name in header]
    return next((n for n, name in enumerate(plain) if name in _GUESSES[role].split()), 0)


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _listed(header: Sequence[str]) -> str:
    return ", ".join(header[:12]) + (", ..." if len(header) > 12 else "")


def _place(where: str, header: Sequence[str], name: str) -> int:
    if name in header:
        return list(header).index(name)
    if name.isdigit():
        return _number(where, name, len(header))
    raise InputError(
        f"{where}: no column {name!r}; it has {_listed(header)}{nearest(name, header)}"
    )


def _number(where: str, name: str, width: int) -> int:
    if not name.isdigit() or not 1 <= int(name) <= width:
        raise InputError(f"{where}: column {name!r} is none of 1 to {width}")
    return int(name) - 1


def _refuse_shared(where: str, at: dict[str, int]) -> None:
    if len(set(at.values())) < len(at):
        roles = ", ".join(f"{role}: {place + 1}" for role, place in at.items())
        raise InputError(f"{where}: one column cannot be two things ({roles})")
