"""Finds the role of each column of a table, such as user, item, or the first item of a pair."""

import dataclasses
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

import polars as pl

from jaxrec.data import times
from jaxrec.errors import InputError, nearest

_GUESSES = {
    "user": "user userid uid username reviewerid customerid customer visitorid member memberid "
    "account accountid profileid client clientid buyerid sessionid",
    "item": "item itemid iid movieid movie productid product parentasin asin sku articleid "
    "article bookid isbn businessid artistid songid trackid gameid appid venueid poi locationid "
    "recipeid newsid animeid itemname productname",
    "rating": "rating ratings stars score overall bookrating userrating reviewrating reviewscore "
    "ratingvalue",
    "time": "timestamp time ts unixtime unixreviewtime eventtime datetime date tdat dateadded "
    "createdat reviewdate orderdate purchasedate eventdate",
    "event": "event eventtype behavior behaviour action interaction type",
    "src": "src source from itema item1 asin1 productid1 itemid1 item query left head",
    "dst": "dst destination target to itemb item2 asin2 productid2 itemid2 neighbor neighbour "
    "similar right tail other",
    "weight": "weight weights count score value strength",
}
_COUNTS: str = "weight weights count counts plays playcount playcounts listens listencount"
"""Common names of a weight column in a table of interactions, where ``score`` is a rating."""
_MAYBE = set(_GUESSES["time"].split()[6:])
"""Names of columns that are used as times only if their cells are times."""
IDS = ("user", "item", "src", "dst")
"""Roles whose cells are ids: a table needs a user and an item, or both items of a pair."""
_BY_PLACE: dict[tuple[str, ...], tuple[str, ...]] = {
    ("user", "item"): ("user", "item", "rating", "time"),
    ("src", "dst"): ("src", "dst", "weight"),
}
"""Roles by position, for tables without a header."""
_WORDS = "nan NaN NAN null NULL Null none None NONE na NA n/a N/A <NA> nat NaT #N/A"
MISSING = frozenset(_WORDS.split())
"""Texts that programs write in place of a missing id."""
NUMBERS = ("rating", "time", "weight")
"""Roles whose cells are numbers."""


@dataclass(frozen=True)
class Roles:
    """The column of each role: a name in the header, or a number from 1.

    If it is None, the column is guessed; if it is an empty text, the column is left out.
    """

    @classmethod
    def roles(cls) -> tuple[str, ...]:
        """Return all roles, in the order of columns without a header."""
        return tuple(f.name for f in dataclasses.fields(cls))

    @classmethod
    def required(cls) -> tuple[str, ...]:
        """Return the roles that a table must have."""
        return tuple(role for role in cls.roles() if role in IDS)

    @classmethod
    def guesses(cls, role: str) -> list[str]:
        """Return the common names of a column of this role, the most likely first."""
        return _GUESSES[role].split()

    def given(self) -> dict[str, str]:
        """Return the columns that the caller named, by role."""
        named = {role: getattr(self, role) for role in self.roles()}
        return {role: name for role, name in named.items() if name}


@dataclass(frozen=True)
class Columns(Roles):
    """The column of each role: a name in the header, or a number from 1.

    If it is None, the column is guessed; if it is an empty text, the column is left out.
    """

    user: str | None = None
    item: str | None = None
    rating: str | None = None
    time: str | None = None
    event: str | None = None
    """Read only if event weights are given."""
    weight: str | None = None
    """A number of 0 or more, such as a count of plays; the weights of a repeated pair are summed.
    Not read if event weights are given."""

    @classmethod
    def guesses(cls, role: str) -> list[str]:
        """Return the common names of a column of this role, the most likely first."""
        names: str = _COUNTS if role == "weight" else _GUESSES[role]
        return names.split()


@dataclass(frozen=True)
class EdgeColumns(Roles):
    """The columns of a list of item pairs, given in the same way as :class:`Columns`."""

    src: str | None = None
    dst: str | None = None
    weight: str | None = None


def is_number(cell: str) -> bool:
    """Return whether the text is a number; infinity and NaN count as numbers."""
    try:
        float(cell)
    except ValueError:
        return False
    return "_" not in cell and cell.isascii()


def names_known(row: Sequence[str], *roles: str) -> bool:
    """Return whether a row has a common column name for every one of the roles."""
    plain = {_plain(cell) for cell in row}
    return all(plain & set(_GUESSES[role].split()) for role in roles)


def names_required(row: Sequence[str]) -> bool:
    """Return whether a row names the columns of a user and an item, or of both items of a pair."""
    return names_known(row, "user", "item") or names_known(row, "src", "dst")


def has_header(
    where: str, rows: Sequence[Sequence[str]], columns: Roles, *, more: Sequence[str] = ()
) -> bool:
    """Return whether the first of the sample ``rows`` is a header.

    The row is a header if the caller gives columns by name, if its cells are common names, or if a
    column of numbers or dates starts with a text. It is a row of data if a cell is a number or a
    date, occurs again below, or looks like the ids below it.

    Args:
      where: file and line, for messages.
      more: the names of constant columns, which the file does not hold.

    Raises:
      InputError: the row could be a header or a row of data.
    """
    if any(not name.isdigit() and name not in more for name in columns.given().values()):
        return True
    lacking = [role for role in columns.required() if not names_known(more, role)]
    headed = first_names(rows, lacking or columns.required(), columns.roles())
    if headed is None:
        options = " ".join(f"--columns.{role} NAME" for role in columns.required())
        raise InputError(
            f"{where}: {_listed(rows[0])!r} could be a header or a row of data; if a header, name "
            f"its columns ({options}); if data, give --no-header"
        )
    return headed


def first_names(
    rows: Sequence[Sequence[str]], required: Sequence[str], roles: Sequence[str]
) -> bool | None:
    """Return whether the first of the ``rows`` is a header; None if that is not clear.

    Args:
      required: roles; a row that names a column for each of them is a header.
      roles: all possible roles.
    """
    first, rest = rows[0], rows[1:]
    if names_known(first, *required):
        return True
    below = [[row[place] for row in rest if place < len(row)] for place in range(len(first))]
    columns = [(cell, cells) for cell, cells in zip(first, below, strict=True) if cell]
    valued = any(_is_value(cell) for cell in first)
    above = any(
        cells and not _is_value(cell) and all(map(_is_value, cells)) for cell, cells in columns
    )
    again = any(cell in cells for cell, cells in columns)
    if above:
        return None if valued or again else True
    if valued or again:
        return False
    guesses = {guess for role in roles for guess in _GUESSES[role].split()}
    guesses |= set(_COUNTS.split()) if "weight" in roles else set()
    if {_plain(cell) for cell in first} & guesses:
        return True
    return False if any(_is_like(cell, cells) for cell, cells in columns) else None


def _is_value(cell: str) -> bool:
    return is_number(cell) or times.is_moment(cell) or times.is_unordered(cell)


def _is_like(cell: str, others: Sequence[str]) -> bool:
    """Return whether a cell looks like the ids below it, and not like the name of a column."""
    if "@" in cell or "://" in cell:
        return True
    digits = sum(letter.isdigit() for letter in cell)
    numbered = [other for other in others if any(letter.isdigit() for letter in other)]
    if not digits or not numbered:
        return False
    stems = {re.sub(r"\d", "", other) for other in numbered}
    if re.sub(r"\d", "", cell) in stems:
        return True
    return digits >= 3 or (len(cell) >= 8 and len(cell) in {len(other) for other in numbered})


def locate(
    where: str,
    header: Sequence[str],
    columns: Roles,
    *,
    event: bool,
    rows: Sequence[Sequence[str]] = (),
    form: str | None = None,
    orders: Mapping[int, str] = MappingProxyType({}),
) -> dict[str, int]:
    """Return the position of each role's column, from 0, in a table with a header.

    Args:
      where: file, and the line if known, for messages.
      event: whether an event column is needed; otherwise it is ignored.
      rows: some rows below the header.
      form: the format of times, if given.
      orders: the result of :func:`date_orders`.

    Raises:
      InputError: a column is missing, its name occurs twice, or it cannot be guessed.
    """
    plain = [_plain(name) for name in header]
    at = {}
    for role in columns.roles():
        if role == ("weight" if event else "event"):
            continue
        name = getattr(columns, role)
        if name:
            at[role] = _place(where, header, name)
            if name in header and list(header).count(name) > 1:
                raise _twice(where, role, name)
        elif name is None:
            places = [plain.index(guess) for guess in columns.guesses(role) if guess in plain]
            places = places or _dotted(header, columns.guesses(role))
            places = [
                place
                for place in places
                if plain[place] not in _MAYBE
                or form
                or _holds_times(rows, place, orders.get(place)) is not False
            ]
            if places:
                at[role] = places[0]
                if plain.count(plain[places[0]]) > 1:
                    raise _twice(where, role, header[places[0]])
        if role not in at and (role in IDS or role == "event"):
            raise InputError(
                f"{where}: no column looks like the {role}; it has {_listed(header)}; "
                f"name one: jaxrec data import ... --columns.{role} NAME"
            )
    _refuse_shared(where, at)
    return at


def _dotted(header: Sequence[str], guesses: Sequence[str]) -> list[int]:
    """Return the positions of names such as ``item.sku``: their first and last word are guesses."""
    ends = [(name.split(".")[0], name.rpartition(".")[2]) for name in header]
    return [
        place
        for place, (first, last) in enumerate(ends)
        if first != header[place] and _plain(first) in guesses and _plain(last) in guesses
    ]


def _holds_times(
    rows: Sequence[Sequence[str]], place: int, order: str | None = None
) -> bool | None:
    """Return whether any cell of a column is a number or a date; None if all are empty."""
    cells = cells_at(rows, place)
    return any(is_number(cell) or _is_date(cell, order) for cell in cells) if cells else None


def _is_date(cell: str, order: str | None) -> bool:
    return times.is_moment(cell, order if order in times.ORDERS else None)


def date_orders(
    names: Sequence[str] | None,
    columns: Roles,
    rows: Sequence[Sequence[str]],
    texts: Callable[[int], Iterable[pl.LazyFrame]],
) -> dict[int, str]:
    """Return the order of day and month in columns of dates such as 1/4/2014, by their position.

    The order is one of ``times.ORDERS`` or, if it is not clear, the reason. Only columns that may
    be times are looked at. Dates with points, such as 1.4.2014, always have the day first.

    Args:
      names: the header, if there is one.
      rows: some rows below the header.
      texts: returns all cells of the column at a position, as :func:`times.order` takes them.
    """
    given, orders = getattr(columns, "time", ""), {}
    for place in range(len(rows[0]) if rows and given != "" else 0):
        name = str(place + 1) if names is None else names[place]
        if given is not None and given not in (name, str(place + 1)):
            continue
        last = _plain(name.rpartition(".")[2])
        if given is None and names is not None and last not in columns.guesses("time"):
            continue
        cells = cells_at(rows, place)
        if any(map(times.is_unordered, cells)):
            orders[place] = times.order(texts(place))
        elif any(map(times.has_points, cells)):
            orders[place] = times.DAY_FIRST
    return orders


class Located(NamedTuple):
    """The roles that were found in a table.

    Attributes:
      at: the position of each role's column, from 0.
      reading: a line that says which column has which role.
      form: the form of times; None for numbers and the forms that are known without it.
    """

    at: dict[str, int]
    reading: str
    form: str | None


def located(
    where: str,
    names: Sequence[str],
    columns: Roles,
    *,
    event: bool,
    rows: Sequence[Sequence[str]],
    form: str | None,
    texts: Callable[[int], Iterable[pl.LazyFrame]],
) -> Located:
    """Find the roles in a table whose columns all have names, and the form of its times.

    Args:
      where, event, rows, form: as of :func:`locate`.
      texts: as of :func:`date_orders`.

    Raises:
      InputError: a column is missing, its name occurs twice, or it cannot be guessed.
    """
    orders = date_orders(names, columns, rows, texts) if form is None else {}
    at = locate(where, names, columns, event=event, rows=rows, form=form, orders=orders)
    reading = described(at, len(names), names, rows=rows, columns=columns, orders=orders)
    return Located(at, reading, form_of(at, form, orders))


def form_of(at: Mapping[str, int], form: str | None, orders: Mapping[int, str]) -> str | None:
    """Return the form of the column of times: the given one, or the order of its dates if clear."""
    found = orders.get(at.get("time", -1))
    return found if form is None and found in times.ORDERS else form


def cells_at(rows: Sequence[Sequence[str]], place: int) -> list[str]:
    """Return the cells of a column that are not empty."""
    return [row[place] for row in rows if place < len(row) and row[place]]


def _twice(where: str, role: str, name: str) -> InputError:
    return InputError(
        f"{where}: two columns are named {name!r}; choose one by its number, such as "
        f"--columns.{role} 2"
    )


def locate_by_number(
    where: str,
    rows: Sequence[Sequence[str]],
    columns: Roles,
    *,
    event: bool,
    more: Mapping[str, str] = MappingProxyType({}),
    orders: Mapping[int, str] = MappingProxyType({}),
) -> dict[str, int]:
    """Return the position of each role's column, from 0, in a table without a header.

    Without numbers from the caller, columns are taken in the order user, item, rating, time (or
    src, dst, weight), if their cells allow it. If the third column is the last and holds large
    numbers or dates, it is a time. The first two columns are swapped if their ids have the forms of
    Amazon's ratings of 2018, in which the product comes before the user.

    Args:
      more: constant columns, which have names and come after those of the file.
      orders: the result of :func:`date_orders`.

    Raises:
      InputError: a number is outside the table, or the usual order does not fit.
    """
    width = len(rows[0])
    given = columns.given()
    named = _constants(where, columns, event=event, width=width, more=more)
    if event and "event" not in given and "event" not in named:
        raise InputError(
            f"{where}: there is no header to find the event column in; give its number: "
            "--columns.event NUMBER"
        )
    ids = columns.required()
    usual = _BY_PLACE[ids]
    if given.keys() >= set(ids):
        at = {
            role: named[role] if role in named else _number(where, name, width)
            for role, name in given.items()
        }
        at.pop("weight" if event else "event", None)
    else:
        doubt = (
            f"{width} columns"
            if given or width > len(usual)
            else _doubt(rows, usual[:width], orders)
        )
        if doubt:
            named = " ".join(f"--columns.{role} {n}" for n, role in enumerate(ids, start=1))
            raise InputError(
                f"{where}: no header and {doubt}; give the columns by number: "
                f"jaxrec data import ... {named}"
            )
        roles = list(usual[:width])
        if roles[2:] == ["rating"] and _kind(rows, 2, orders) not in ("numbers", "fractions"):
            roles[2] = "time"
        if roles[:2] == ["user", "item"] and _item_first(rows):
            roles[:2] = ["item", "user"]
        at = {role: place for place, role in enumerate(roles) if getattr(columns, role) != ""}
    at |= {role: place for role, place in named.items() if role not in at}
    _refuse_shared(where, at)
    return at


def _constants(
    where: str, columns: Roles, *, event: bool, width: int, more: Mapping[str, str]
) -> dict[str, int]:
    """Return the positions of the roles that constant columns have, in a table without a header.

    Raises:
      InputError: a constant column has the name of an id, and the caller names no column for it.
    """
    names, rows = list(more), [list(more.values())]
    plain = [_plain(name) for name in names]
    at = {}
    for role in columns.roles():
        name = getattr(columns, role)
        if name == "" or role == ("weight" if event else "event"):
            continue
        known = (plain.index(guess) for guess in columns.guesses(role) if guess in plain)
        place = next(known, None) if name is None else None
        if place is not None and role in IDS:
            raise InputError(
                f"{where}: no header, and a folder gives the {role} ({names[place]}=...); name "
                f"all columns: --columns.{role} {names[place]}, and those of the file by number"
            )
        if name is not None and name in more:
            place = names.index(name)
        elif role == "time" and place is not None and not _holds_times(rows, place):
            place = None
        if place is not None:
            at[role] = width + place
    return at


def _item_first(rows: Sequence[Sequence[str]]) -> bool:
    """Return whether the first two columns hold Amazon's ids of products and of reviewers."""
    forms = (r"B[0-9A-Z]{9}|[0-9]{9}[0-9X]", r"A[0-9A-Z]{9,}")
    columns = (cells_at(rows, place) for place in (0, 1))
    return all(
        cells and all(re.fullmatch(form, cell) for cell in cells)
        for form, cells in zip(forms, columns, strict=True)
    )


def _doubt(
    rows: Sequence[Sequence[str]], roles: Sequence[str], orders: Mapping[int, str]
) -> str | None:
    """Return why columns cannot have these roles in this order, or None if they can."""
    kinds = [_kind(rows, place, orders) for place in range(len(roles))]
    timed = any(kind in ("dates", "times", "large numbers") for kind in kinds[2:])
    for place, (role, kind) in enumerate(zip(roles, kinds, strict=True)):
        if role in IDS:
            # Ids of ten digits look like times. Such a column can hold ids if another column can
            # be the time.
            wrong = kind in ("dates", "fractions") or (
                kind == "times" and len(roles) > 2 and not timed
            )
        elif role == "rating":
            wrong = kind == "texts" or (len(roles) > 3 and kind not in ("numbers", "fractions"))
        else:
            wrong = kind == "texts" or (role == "weight" and kind == "dates")
        if wrong:
            return f"{len(rows[0])} columns, of which column {place + 1} holds {kind}"
    return None


def _kind(rows: Sequence[Sequence[str]], place: int, orders: Mapping[int, str]) -> str:
    """Return whether cells look like dates, texts, times, numbers, fractions or large numbers."""
    cells = cells_at(rows, place)
    if not all(map(is_number, cells)):
        dates = all(_is_date(cell, orders.get(place)) for cell in cells)
        return "dates" if dates else "texts"
    numbers = pl.Series("n", [float(cell) for cell in cells], dtype=pl.Float64)
    if all(times.EPOCH[0] <= n < times.EPOCH[1] for n in times.of_numbers(numbers).seconds):
        return "times"
    if all(n > 1e6 for n in numbers):
        return "large numbers"
    return "numbers" if all(n.is_integer() for n in numbers) else "fractions"


def order_found(at: Mapping[str, int], columns: Roles) -> str:
    """Return why the first two columns were swapped; empty if they were not."""
    swapped = at.get("item", 1) < at.get("user", 0) and not columns.given()
    return "the first column is the item, by the form of Amazon's ids" if swapped else ""


def described(
    at: Mapping[str, int],
    width: int,
    header: Sequence[str] | None,
    *,
    rows: Sequence[Sequence[str]] = (),
    columns: Roles | None = None,
    more: Sequence[str] = (),
    orders: Mapping[int, str] = MappingProxyType({}),
) -> str:
    """Return a line such as ``user <- `customer`, item <- column 2; not used: price``.

    Args:
      rows: some rows of the table. They show why a column with the name of a time is not used.
      columns: the columns that the caller gave.
      more: the names of constant columns, which come after those of the file.
      orders: the result of :func:`date_orders`.
    """

    def name(place: int) -> str:
        if header is None:
            return f"column {place + 1}" if place < width else f"`{more[place - width]}`"
        return f"`{header[place]}`"

    used = ", ".join(
        f"{role} <- {name(place)}"
        + (f" ({orders[place]})" if role == "time" and orders.get(place) in times.ORDERS else "")
        for role, place in at.items()
    )
    replaced = {place for place, text in enumerate((header or ())[:width]) if text in more}
    taken = {*at.values(), *replaced}
    left = [place for place in range(width + len(more)) if place not in taken]
    numbers = [*(str(place + 1) for place in range(width)), *more]
    names = [(header or numbers)[place] for place in left]
    if header is not None:
        may_be_time = "time" not in at and getattr(columns, "time", "") is None
        names = [
            (text or f"column {place + 1}")
            + (
                _no_times(rows, place, orders.get(place))
                if may_be_time and _plain(text) in _MAYBE
                else ""
            )
            for text, place in zip(names, left, strict=True)
        ]
    if not names:
        return used
    if header is None and left[0] < width:
        several = len(left) > 1 and left[1] < width
        names[0] = f"column{'s' * several} {names[0]}"
    return f"{used}; not used: {_listed(names)}"


def _no_times(rows: Sequence[Sequence[str]], place: int, order: str | None) -> str:
    """Return why a column with the name of a time is not a time; empty if it has no cells."""
    cells = cells_at(rows, place)
    if not cells:
        return ""
    if order is not None:
        either = " or ".join(f"--time-format '{known}'" for known in times.ORDERS)
        return f" ({cells[0]!r}: {order}; {either} settles it)"
    forms = " or ".join(f"--time-format '{form}'" for form in times.fitting(cells))
    return f" ({cells[0]!r} is not in a known form of a time{forms and f'; {forms} reads it'})"


def names_pairs(header: Sequence[str]) -> bool:
    """Return whether a header names both items of a pair, and no user."""
    plain = {_plain(name) for name in header}
    ends = (plain & set(_GUESSES[role].split()) for role in EdgeColumns.roles()[:2])
    return all(ends) and not plain & set(_GUESSES["user"].split())


def locate_id(header: Sequence[str], role: str) -> int:
    """Return the position of the id column in a table keyed by user or item, from 0.

    It is the column that :func:`known_place` finds, or else the first column.
    """
    return known_place(header, role) or 0


def known_place(header: Sequence[str], role: str) -> int | None:
    """Return the position of the column with a common name of a role, from 0, or None.

    If several columns have such names, the most specific name wins.
    """
    plain = [_plain(name) for name in header]
    return next((plain.index(guess) for guess in _GUESSES[role].split() if guess in plain), None)


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
        raise InputError(f"{where}: there is no column {name!r}; give a number from 1 to {width}")
    return int(name) - 1


def _refuse_shared(where: str, at: dict[str, int]) -> None:
    if len(set(at.values())) < len(at):
        roles = ", ".join(f"{role}: {place + 1}" for role, place in at.items())
        twice = [role for role, place in at.items() if list(at.values()).count(place) > 1]
        raise InputError(
            f"{where}: one column cannot have two roles ({roles}); name another: "
            f"jaxrec data import ... --columns.{twice[-1]} NAME"
        )
