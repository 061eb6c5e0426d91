"""``jaxrec recommend``."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

import tyro
from tyro.conf import Positional

from jaxrec.cli.arguments import parse
from jaxrec.cli.process_settings import own_process
from jaxrec.config.checks import INT32, Range
from jaxrec.errors import InputError

if TYPE_CHECKING:
    from jaxrec.catalogue import Catalogue
    from jaxrec.rerank import Rerank


@dataclass(frozen=True)
class Recommend:
    """Top-K items by user, to a file or to standard output."""

    run: Positional[str]
    """Run folder."""
    out: str
    """Where to: .parquet, .csv, .tsv, .json or .jsonl; - is standard output, as CSV."""
    users: tuple[str, ...] = ()
    """Ids; or a file with a user id a line, or a table with a column of users. Everyone by
    default."""
    history: tuple[str, ...] = ()
    """For users that the run has not met: item ids of one; or a file with an item id a line, or a
    table with a column of items, of one; with a column of users too, of many."""
    k: Annotated[int, Range(1, INT32), tyro.conf.arg(aliases=("-k",))] = 20
    """Items a user."""
    include_seen: bool = False
    """Also items that the user has in the data, or in the history."""
    held_out: Literal["drop", "keep"] = "drop"
    """keep: rank again what users have in the test part alone."""
    allow: tuple[str, ...] = ()
    """Item ids, or a file of them: only these."""
    deny: tuple[str, ...] = ()
    """Item ids, or a file of them: never these."""
    unknown: Literal["skip", "fail", "popular"] = "skip"
    """Ids that the run does not know: skip and count them, fail, or recommend popular items to
    such users (and skip items)."""
    titles: str | None = None
    """Table keyed by item id, such as titles: its columns stand beside each item."""
    where: tuple[str, ...] = ()
    """Only items of --titles for which all of these hold, such as category=dvd, 'price<20' or
    'genres=drama|comedy'."""
    diversity: Annotated[float, Range(0, 1)] = 0.0
    """Weight of diversity when a list is chosen among ten times as many items, by maximal marginal
    relevance."""
    quota: tuple[str, ...] = ()
    """At most so many items of a value of a column of --titles in a list, such as category=3."""
    noise: Annotated[float, Range(0, 1e6)] = 0.0
    """Exploration: noise on the scores of ten times as many items, in their standard deviations."""
    seed: Annotated[int, Range(0, INT32)] = 0
    """Of the noise; a user's draw depends on their id and on this alone."""


def recommend(args: list[str]) -> None:
    """Write the top-K items of users to a file."""
    made = parse(Recommend, args, "jaxrec recommend")
    if made.users and made.history:
        raise InputError("--users names users of the run, --history brings new ones; give one")
    if made.history and made.held_out != "drop":
        raise InputError("--held-out is of users of the run, and --history brings new ones")
    if made.history and made.unknown == "popular":
        raise InputError("--unknown popular is for --users; of a history unknown items are skipped")
    if made.titles is None and (made.where or made.quota):
        option = "--where" if made.where else "--quota"
        raise InputError(f"{option} asks for columns of items: give their table by --titles")
    from jaxrec.list_files import STDOUT, check_suffix, given_ids, names_file, read_history, write
    from jaxrec.recommend import Recommender

    if made.out != STDOUT:
        check_suffix(made.out)
    users = given_ids(made.users, "user") if made.users else None
    allow = given_ids(made.allow, "item") if made.allow else None
    deny = given_ids(made.deny, "item", may_be_empty=True) if made.deny else None
    recommender = Recommender.load(made.run)
    own_process()
    catalogue = None
    if made.titles is not None:
        from jaxrec.catalogue import Catalogue

        catalogue = Catalogue.load(made.titles, recommender.item_ids)
        allow = _among(catalogue, made.where, allow)
    options = {"k": made.k, "include_seen": made.include_seen, "unknown": made.unknown}
    options |= {"allow": allow, "deny": deny, "rerank": _rerank(made, catalogue)}
    if made.history:
        named = names_file(made.history)
        history = read_history(made.history[0]) if named else list(made.history)
        source = made.history[0] if named else "--history"
        frames = [recommender.recommend_history(history, source=source, **options)]
        count = frames[0]["user"].n_unique()
    elif users is None:
        frames = recommender.recommend_all(held_out=made.held_out, **options)
        count = len(recommender.user_ids)
    else:
        frames = [recommender.recommend(users, held_out=made.held_out, **options)]
        count = frames[0]["user"].n_unique()
    if catalogue is not None:
        nested = made.out.lower().endswith((".parquet", ".json", ".jsonl"))
        shown = catalogue.joined if nested else catalogue.flat
        frames = (shown(frame) for frame in frames)
    write(frames, made.out)
    if made.out != STDOUT:
        print(f"{made.out}: {count:,} users")


def _among(
    catalogue: "Catalogue", conditions: tuple[str, ...], allow: list[str] | None
) -> list[str] | None:
    """The items of ``allow``, or of all, for which the conditions hold."""
    if not conditions:
        return allow
    fits_I = catalogue.where(conditions)
    if not fits_I.any():
        raise InputError(f"no item of the run fits --where {' '.join(conditions)}")
    found = [str(item) for item, fits in zip(catalogue.item_ids, fits_I, strict=True) if fits]
    if allow is None:
        return found
    both = set(found) & set(allow)
    if not both:
        raise InputError(f"no item of --allow fits --where {' '.join(conditions)}")
    return [item for item in found if item in both]


def _rerank(made: Recommend, catalogue: "Catalogue | None") -> "Rerank":
    from jaxrec.rerank import Quota, Rerank

    quotas = []
    for text in made.quota:
        column, equals, most = text.rpartition("=")
        if not equals or not most.isdecimal() or int(most) < 1:
            raise InputError(f"--quota {text!r} is not column=N, with N at least 1")
        assert catalogue is not None
        quotas.append(Quota(catalogue.codes(column), int(most)))
    return Rerank(made.diversity, tuple(quotas), made.noise, made.seed)
