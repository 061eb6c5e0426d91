"""The report's examples: some users' items beside the items recommended to them."""

from pathlib import Path

import numpy as np

from jaxrec.catalogue import Catalogue
from jaxrec.reporting.markup import Html, join, number, tag
from jaxrec.reporting.run_records import Run
from jaxrec.runfolder import Embeddings, Seen, read_embeddings, read_seen

_USERS = (0.9, 0.7, 0.5, 0.3, 0.1)
"""Quantiles, by number of items, of the users that are shown."""
_SHOWN = 10


def examples(run: Run, titles: str | Path | None = None) -> Html:
    """Show five users with their items and recommendations; empty for an unfinished run.

    Recommended items that were held out as test are marked.

    Args:
      titles: table of items, whose titles are shown instead of ids.

    Raises:
      InputError: the table of items cannot be used, or a file of the run is damaged.
    """
    needed = [run.folder / name for name in ("embeddings.npz", "seen.npz")]
    if not all(path.is_file() for path in needed) or (run.folder / "filter.npz").is_file():
        return Html()
    table = read_embeddings(run.folder)
    learned = table.score_bias_H is not None or table.decoder_level_R is not None
    if learned or not len(table.user_ids):
        return Html()
    seen = read_seen(run.folder, len(table.user_ids), len(table.item_ids))
    names = table.item_ids.tolist()
    if titles is not None:
        found = Catalogue.load(titles, names).titles()
        names = [title or name for title, name in zip(found, names, strict=True)]
    chosen = _chosen(seen)
    if not len(chosen):
        return Html()
    users = [_user(table, seen, names, int(user)) for user in chosen]
    held_out = seen.test is not None and len(seen.test.indices) > 0
    bold = " Bold items were held out as test." if held_out else ""
    lead = "Users at fixed quantiles by number of items, from many to few." + bold
    return join((tag("h3", "Five users"), tag("p", lead, class_="lead"), *users))


def _chosen(seen: Seen) -> np.ndarray:
    """Choose the users at the quantiles ``_USERS`` by number of items."""
    degree_U = seen.known.degree
    able = np.flatnonzero((degree_U > 0) & seen.learnt_users())
    order = able[np.argsort(degree_U[able], kind="stable")]
    places = [int(share * (len(order) - 1)) for share in _USERS] if len(order) else []
    return order[list(dict.fromkeys(places))]


def _user(table: Embeddings, seen: Seen, names: list[str], user: int) -> Html:
    row = np.array([user])
    own = seen.known.take(row).indices
    score_I = table.item @ table.user[user]
    if table.item_bias is not None:
        score_I = score_I + table.item_bias
    score_I = np.where(seen.learnt_items(len(names)), score_I, -np.inf)
    for part in (seen.known, seen.filtered):
        if part is not None:
            score_I[part.take(row).indices] = -np.inf
    best = np.argsort(-score_I, kind="stable")[:_SHOWN]
    held_out = set() if seen.test is None else set(seen.test.take(row).indices.tolist())
    items = []
    for item in best[np.isfinite(score_I[best])].tolist():
        name = tag("strong", names[item]) if item in held_out else names[item]
        items.append(tag("li", name))
    more = f" ({_SHOWN} of {len(own):,})" if len(own) > _SHOWN else ""
    shown = [tag("li", names[item]) for item in own[:_SHOWN].tolist()]
    return tag(
        "section",
        tag("h4", "User ", str(table.user_ids[user]), ", ", number(len(own)), " items"),
        tag(
            "div",
            tag("div", tag("p", "Items in the data", more, class_="lead"), tag("ul", *shown)),
            tag("div", tag("p", "Recommended items", class_="lead"), tag("ol", *items)),
            class_="halves",
        ),
        class_="example",
    )
