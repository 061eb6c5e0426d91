"""``jaxrec recommend``: write top-K lists of users to a file."""

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
    """Write the top-K items of users to a file or to standard output."""

    run: Positional[str]
    """Run folder."""
    out: str = "-"
    """File to write: .parquet, .csv, .tsv, .json or .jsonl; - writes CSV to standard output."""
    users: tuple[str, ...] = ()
    """User ids, or a file with one user id per line or a column of users; by default all users."""
    history: tuple[str, ...] = ()
    """Items of a new user: item ids, or a file with one item id per line or a column of items. If
    the file also has a column of users, it gives several new users' items."""
    k: Annotated[int, Range(1, INT32), tyro.conf.arg(aliases=("-k",))] = 20
    """Number of items per user."""
    include_seen: bool = False
    """Also recommend items that the user has in the data or the history."""
    held_out: Literal["drop", "keep"] = "drop"
    """keep: also recommend items that the user has only in the test part."""
    allow: tuple[str, ...] = ()
    """Item ids, or a file of them: recommend only these."""
    deny: tuple[str, ...] = ()
    """Item ids, or a file of them: never recommend these."""
    new_items: str | None = None
    """File that `jaxrec embed` wrote: also rank these items, which were not in training."""
    unknown: Literal["skip", "fail", "popular"] = "skip"
    """What to do with unknown ids: skip and count them, fail, or recommend popular items to
    unknown users (and skip unknown items)."""
    titles: str | None = None
    """Table keyed by item id, with titles or other columns to write beside each item."""
    where: tuple[str, ...] = ()
    """Recommend only items that meet all conditions on columns of --titles, such as category=dvd,
    'price<20' or 'genres=drama|comedy'."""
    diversity: Annotated[float, Range(0, 1)] = 0.0
    """Weight of diversity. Above 0, each list is chosen from ten times as many items, by maximal
    marginal relevance."""
    quota: tuple[str, ...] = ()
    """Most items of a list with the same value in a column of --titles: with category=3, at most
    three items of each category."""
    noise: Annotated[float, Range(0, 1e6)] = 0.0
    """Strength of random noise for exploration, in standard deviations of the scores. Above 0, each
    list is chosen from ten times as many items, after noise is added to their scores."""
    seed: Annotated[int, Range(0, INT32)] = 0
    """Seed of the noise; a user's noise depends only on this seed and the user's id."""


def recommend(args: list[str]) -> None:
    """Write the top-K items of users to a file."""
    parsed = parse(Recommend, args, "jaxrec recommend")
    if parsed.users and parsed.history:
        raise InputError(
            "--users is for users of the run, and --history is for new users; give only one of them"
        )
    if parsed.history and parsed.held_out != "drop":
        raise InputError("--held-out is for users of the run; leave it out with --history")
    if parsed.history and parsed.unknown == "popular":
        raise InputError(
            "--unknown popular works only with --users; with --history give --unknown skip or fail"
        )
    if parsed.titles is None and (parsed.where or parsed.quota):
        option = "--where" if parsed.where else "--quota"
        raise InputError(f"{option} needs a table that describes items; give it with --titles")
    from jaxrec.list_files import STDOUT, check_suffix, given_ids, names_file, read_history, write
    from jaxrec.recommend import Recommender

    if parsed.out != STDOUT:
        check_suffix(parsed.out)
    users = given_ids(parsed.users, "user") if parsed.users else None
    allow = given_ids(parsed.allow, "item") if parsed.allow else None
    deny = given_ids(parsed.deny, "item", may_be_empty=True) if parsed.deny else None
    recommender = Recommender.load(parsed.run, new_items=parsed.new_items)
    own_process()
    catalogue = None
    if parsed.titles is not None:
        from jaxrec.catalogue import Catalogue

        catalogue = Catalogue.load(parsed.titles, recommender.item_ids)
        allow = _among(catalogue, parsed.where, allow)
    options = {"k": parsed.k, "include_seen": parsed.include_seen, "unknown": parsed.unknown}
    options |= {"allow": allow, "deny": deny, "rerank": _rerank(parsed, catalogue)}
    if parsed.history:
        named = names_file(parsed.history)
        history = read_history(parsed.history[0]) if named else list(parsed.history)
        source = parsed.history[0] if named else "--history"
        frames = [recommender.recommend_history(history, source=source, **options)]
        count = frames[0]["user"].n_unique()
    elif users is None:
        frames = recommender.recommend_all(held_out=parsed.held_out, **options)
        count = len(recommender.user_ids)
    else:
        frames = [recommender.recommend(users, held_out=parsed.held_out, **options)]
        count = frames[0]["user"].n_unique()
    if catalogue is not None:
        nested = parsed.out.lower().endswith((".parquet", ".json", ".jsonl"))
        shown = catalogue.joined if nested else catalogue.flat
        frames = (shown(frame) for frame in frames)
    write(frames, parsed.out)
    if parsed.out != STDOUT:
        print(f"{parsed.out}: {count:,} users")


def _among(
    catalogue: "Catalogue", conditions: tuple[str, ...], allow: list[str] | None
) -> list[str] | None:
    """Return the ids of the items that meet all conditions and are in ``allow``.

    As the argument ``allow`` and as the result, None means all items.

    Raises:
      InputError: no such item exists.
    """
    if not conditions:
        return allow
    fits_I = catalogue.where(conditions)
    if not fits_I.any():
        raise InputError(
            f"no item of the run meets --where {' '.join(conditions)}; relax a condition"
        )
    fitting = [str(item) for item, fits in zip(catalogue.item_ids, fits_I, strict=True) if fits]
    if allow is None:
        return fitting
    both = set(fitting) & set(allow)
    if not both:
        raise InputError(
            f"no item of --allow meets --where {' '.join(conditions)}; relax --where or extend "
            "--allow"
        )
    return [item for item in fitting if item in both]


def _rerank(parsed: Recommend, catalogue: "Catalogue | None") -> "Rerank":
    from jaxrec.rerank import Quota, Rerank

    quotas = []
    for text in parsed.quota:
        column, equals, most = text.rpartition("=")
        if not equals or not most.isdecimal() or int(most) < 1:
            raise InputError(f"--quota {text!r}: write COLUMN=N with N at least 1")
        assert catalogue is not None
        quotas.append(Quota(catalogue.codes(column), int(most)))
    return Rerank(parsed.diversity, tuple(quotas), parsed.noise, parsed.seed)
