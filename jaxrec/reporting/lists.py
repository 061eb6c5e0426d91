"""The report's examples: some users' items beside the items recommended to them."""

import numpy as np

from jaxrec.reporting.learned import Learned
from jaxrec.reporting.markup import Html, join, tag
from jaxrec.runfolder import Seen

_PLACES = (0.9, 0.7, 0.5, 0.3, 0.1)
"""Quantiles of the number of items of a user; the report shows the users at these quantiles."""
_SHOWN = 10


def examples(learned: Learned) -> Html:
    """Show five users with their items and recommendations.

    For a model without users, show five items with their nearest items. Recommended items that were
    held out as test are marked.
    """
    of_users = len(learned.table.user_ids) > 0
    asked = _chosen(learned.seen) if of_users else _spread(np.flatnonzero(learned.learnt_I))
    if not len(asked):
        return Html()
    lists = learned.lists(asked, _SHOWN)
    named = zip(asked.tolist(), lists.tolist(), strict=True)
    words = ""
    if learned.source is not None:
        words = f" Titles are from {learned.source.name}."
    if not of_users:
        shown = [
            _card(learned.names[item], None, [tag("li", learned.names[i]) for i in found if i >= 0])
            for item, found in named
        ]
        lead = f"Items at fixed places of the id table.{words}"
        title = "Five items and their nearest neighbours"
    else:
        shown = [_user(learned, user, found) for user, found in named]
        test = learned.seen.test
        if test is not None and len(test.indices):
            words += " Items marked ✓ were held out as test."
        lead = f"Users at fixed quantiles by number of items, from many to few.{words}"
        title = "Five users and their recommendations"
    return join(
        (tag("h3", title), tag("p", lead, class_="lead"), tag("div", *shown, class_="cards"))
    )


def _chosen(seen: Seen) -> np.ndarray:
    """Choose the users at the quantiles ``_PLACES`` by number of items."""
    degree_U = seen.known.degree
    able = np.flatnonzero((degree_U > 0) & seen.learnt_users())
    return _spread(able[np.argsort(degree_U[able], kind="stable")])


def _spread(order: np.ndarray) -> np.ndarray:
    places = [int(share * (len(order) - 1)) for share in _PLACES] if len(order) else []
    return order[list(dict.fromkeys(places))]


def _user(learned: Learned, user: int, found: list[int]) -> Html:
    names, row = learned.names, np.array([user])
    own = learned.seen.known.take(row).indices
    test = learned.seen.test
    held_out = set() if test is None else set(test.take(row).indices.tolist())
    items = []
    for item in found:
        if item in held_out:
            items.append(tag("li", tag("strong", names[item]), tag("span", " ✓", class_="hit")))
        elif item >= 0:
            items.append(tag("li", names[item]))
    more = [tag("p", f"and {len(own) - _SHOWN:,} more", class_="lead")] if len(own) > _SHOWN else []
    has = tag("ul", *(tag("li", names[item]) for item in own[:_SHOWN].tolist()))
    count = f"{len(own):,} item{'' if len(own) == 1 else 's'}"
    history = tag("details", tag("summary", f"Has {count}"), has, *more, open="")
    return _card(f"User {learned.table.user_ids[user]}", history, items)


def _card(title: str, history: Html | None, items: list[Html]) -> Html:
    said = "Recommended" if history is not None else "Nearest"
    parts = [tag("div", history)] if history is not None else []
    parts.append(tag("div", tag("p", said, class_="said"), tag("ol", *items)))
    return tag("section", tag("h4", title), tag("div", *parts, class_="pair"), class_="example")
