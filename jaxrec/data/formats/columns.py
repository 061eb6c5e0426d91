"""Which column of a table is what: the user, the item, the rating; or both ends of a pair."""

import dataclasses
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
    "src": "src source from itema item1 asin1 productid1 itemid1 item query left head",
    "dst": "dst destination target to itemb item2 asin2 productid2 itemid2 neighbor neighbour "
    "similar right tail other",
    "weight": "weight weights count score value strength",
}
IDS = ("user", "item", "src", "dst")
"""Roles whose cells are ids, and that a table must have."""
NUMBERS = ("rating", "time", "weight")
"""Roles whose cells are numbers."""


@dataclass(frozen=True)
class Roles:
    """Column names as in the header, or numbers from 1; not given: guessed; empty: left out."""

    @classmethod
    def roles(cls) -> tuple[str, ...]:
        """What a column can be, in the order that they have without a header."""
        return tuple(f.name for f in dataclasses.fields(cls))

    @classmethod
    def required(cls) -> tuple[str, ...]:
        """What there must be."""
        return tuple(role for role in cls.roles() if role in IDS)

    def given(self) -> dict[str, str]:
        """Columns that are named, by role."""
        named = {role: getattr(self, role) for role in self.roles()}
        return {role: name for role, name in named.items() if name}


@dataclass(frozen=True)
class Columns(Roles):
    """Column names as in the header, or numbers from 1; not given: guessed; empty: left out."""

    user: str | None = None
    item: str | None = None
    rating: str | None = None
    time: str | None = None
    event: str | None = None
    """Read only together with event weights."""


@dataclass(frozen=True)
class EdgeColumns(Roles):
    """Columns of a list of pairs, as :class:`Columns` are of interactions."""

    src: str | None = None
    dst: str | None = None
    weight: str | None = None


def is_number(cell: str) -> bool:
    """Whether the text is a number, infinity and NaN among them."""
    try:
        float(cell)
    except ValueError:
        return False
    return "_" not in cell


def has_header(rows: Sequence[Sequence[str]], columns: Roles) -> bool:
    """Whether the first of the sample ``rows`` names the columns.

    It does where a column is asked for by name, where a cell is a common name, or where a
    column of numbers begins with a text.
    """
    if any(not name.isdigit() for name in columns.given().values()):
        return True
    first, rest = rows[0], rows[1:]
    guesses = " ".join(_GUESSES[role] for role in columns.roles())
    if {_plain(cell) for cell in first} & set(guesses.split()):
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
    columns: Roles,
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
    for role in columns.roles():
        if role == "event" and not event:
            continue
        name = getattr(columns, role)
        if name:
            at[role] = _place(where, header, name)
        elif name is None:
            found = [plain.index(guess) for guess in _GUESSES[role].split() if guess in plain]
            if found:
                at[role] = found[0]
        if role not in at and (role in IDS or role == "event"):
            raise InputError(
                f"{where}: no column looks like the {role}; it has {_listed(header)}; "
                f"name one: jaxrec data import ... --columns.{role} NAME"
            )
    _refuse_shared(where, at)
    return at


def locate_by_number(
    where: str, rows: Sequence[Sequence[str]], columns: Roles, *, event: bool
) -> dict[str, int]:
    """Place of each role's column, from 0, in a table without a header.

    Columns that are not given are taken in the order user, item, rating, time (or src, dst,
    weight); a third and last column of large numbers is a time.

    Raises:
      InputError: a number outside the table, or no usual order to go by.
    """
    width = len(rows[0])
    given = columns.given()
    if event and "event" not in given:
        raise InputError(f"{where}: no header, so name the event column: --columns.event NUMBER")
    ids = columns.required()
    usual = [role for role in columns.roles() if role != "event"]
    if given.keys() >= set(ids):
        at = {role: _number(where, name, width) for role, name in given.items()}
        if not event:
            at.pop("event", None)
    elif given or width > len(usual):
        named = " ".join(f"--columns.{role} {n}" for n, role in enumerate(ids, start=1))
        raise InputError(
            f"{where}: no header and {width} columns; say which are which: "
            f"jaxrec data import ... {named}"
        )
    else:
        roles = usual[:width]
        if roles[2:] == ["rating"] and all(
            is_number(r[2]) and float(r[2]) > 1e6 for r in rows if len(r) == 3
        ):
            roles[2] = "time"
        at = {role: place for place, role in enumerate(roles) if getattr(columns, role) != ""}
    _refuse_shared(where, at)
    return at


def names_pairs(header: Sequence[str]) -> bool:
    """Whether a header names both ends of a pair of items, and no user."""
    plain = {_plain(name) for name in header}
    ends = (plain & set(_GUESSES[role].split()) for role in EdgeColumns.roles()[:2])
    return all(ends) and not plain & set(_GUESSES["user"].split())


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
