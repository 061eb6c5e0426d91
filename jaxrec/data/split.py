"""Filters a Dataset and splits it into train, validation and test parts.

A split gives every interaction one label, so the parts do not overlap. They cover the data, except
in the split ``windows``, which leaves out the pairs after its test window.
"""

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from jaxrec.config import FilterConfig, SplitConfig
from jaxrec.data.dataset import REPEATED, TEST, TRAIN, VALIDATION, Csr, Dataset, Exposed
from jaxrec.data.pair_keys import id_hashes, mixed, pair_hashes, pair_keys
from jaxrec.errors import InputError

BY_TIME = ("leave-last-out", "temporal", "windows")
"""Splits that hold out the latest pairs."""
LATER = 3
"""The label of pairs after the test window of the split ``windows``; they are in no part."""


class Splits(NamedTuple):
    """The three parts of a data set, with the same id tables; validation and test may be empty."""

    train: Dataset
    validation: Dataset
    test: Dataset


class Kept(NamedTuple):
    """Labels from an earlier run's split, for a split that continues it.

    Attributes:
      part: [E] int8, the part of each pair in the earlier split; -1 for new pairs.
      trained: [E] bool, whether the parameters of the earlier run were trained on the pair.
      seed: the seed of the earlier split; it orders pairs with equal times as before.
    """

    part: np.ndarray
    trained: np.ndarray
    seed: int


class Drawn(NamedTuple):
    """A split of E pairs.

    Attributes:
      label: [E] uint8, TRAIN, VALIDATION, TEST or LATER.
      notes: counts of pairs or users that the split treats as exceptions.
    """

    label: np.ndarray
    notes: dict[str, int]


TIED = "users whose held-out pairs were drawn among pairs of equal time"
SPREAD = "{} pairs drawn from all users at once, since every user's share is less than half a pair"
MOVED = "pairs kept in train that the split would hold out, since the starting run trained on them"


def split(data: Dataset, config: SplitConfig, seed: int) -> Splits:
    """Split a data set into train, validation and test parts.

    Raises:
      InputError: :func:`settled`, :func:`draw` or :func:`taken` refuses the data.
    """
    config = resolved(data, config)
    data, _ = settled(data, config)
    return taken(data, draw(data, config, seed).label, config)


def resolved(data: Dataset, config: SplitConfig) -> SplitConfig:
    """Return ``config`` with ``auto`` replaced by ``given``, or by ``random`` without a split."""
    if config.name != "auto":
        return config
    return replace(config, name="random" if data.split is None else "given")


def repeats(data: Dataset) -> np.ndarray:
    """Return which pairs are also in an earlier part of the data's own split, [E] bool."""
    later = np.zeros(data.n_edges, bool)
    key = data.keys()
    if data.split is None or (key[1:] > key[:-1]).all():
        return later
    order = np.lexsort((data.split, key))
    key, part = key[order], data.split[order]
    again = (key[1:] == key[:-1]) & (part[1:] > part[:-1])
    later[order[1:][again]] = True
    return later


def settled(data: Dataset, config: SplitConfig) -> tuple[Dataset, dict[str, int]]:
    """Apply ``config.repeats`` to pairs that occur in several parts of the data's own split.

    Splits other than ``given`` merge such a pair: they keep the latest time and its rating, and sum
    the weights.

    Args:
      config: the settings of the split, as :func:`resolved` returns them.

    Returns:
      The data and, if the split is ``given``, a note that counts such pairs.

    Raises:
      InputError: such pairs exist, and ``config.repeats`` is ``refuse``.
    """
    later = repeats(data)
    count = int(later.sum())
    if not count:
        return data, {}
    if config.name != "given":
        return once(data), {}
    if config.repeats == "refuse":
        row = int(np.flatnonzero(later)[0])
        assert data.split is not None
        raise InputError(
            f"{data.name}: {count:,} {REPEATED}, such as user {data.user_ids[data.user[row]]} and "
            f"item {data.item_ids[data.item[row]]} of {_NAMES[int(data.split[row])]}; remove "
            "them from the later part, or set --split.repeats drop or keep"
        )
    if config.repeats == "keep":
        return data, {f"{REPEATED}, kept (and masked unless eval.repeatable is set)": count}
    return data.take(~later), {f"{REPEATED}, left out (split.repeats)": count}


def once(data: Dataset) -> Dataset:
    """Merge repeated pairs: keep the latest time and its rating, and sum the weights."""
    key = data.keys()
    order = np.lexsort((key,) if data.time is None else (data.time, key))
    key = key[order]
    first = np.append(True, key[1:] != key[:-1])
    last = np.append(first[1:], True)
    merged = data.take(order[last])
    if data.weight is None:
        return merged
    return replace(merged, weight=np.add.reduceat(data.weight[order], np.flatnonzero(first)))


def taken(data: Dataset, label: np.ndarray, config: SplitConfig) -> Splits:
    """Divide a data set into parts by the labels of its pairs.

    Pairs labelled LATER are left out, and so are users and items that have no other pairs.

    Args:
      label: [E] TRAIN, VALIDATION, TEST or LATER.
      config: the settings of the split, as :func:`resolved` returns them.

    Raises:
      InputError: a pair occurs twice, no train pair is left, or a cut time holds out nothing.
    """
    _refuse_repeats(data, label, config)
    refuse_empty_cut(
        data.name, data.time, config, *((label == part).any() for part in (VALIDATION, TEST))
    )
    if not (label == TRAIN).any():
        raise InputError(
            f"{data.name}: split {config.name} leaves no train pair; hold out less"
            f"{_span(data.time) if config.name == 'temporal' else ''}"
        )
    bare = replace(data, split=None, exposed=_shown_before(data, label, config))
    if (label == LATER).any():
        kept = label != LATER
        users, items = (
            (np.bincount(rows[kept], minlength=n) > 0) | (np.bincount(rows, minlength=n) == 0)
            for rows, n in ((data.user, data.n_users), (data.item, data.n_items))
        )
        bare, label = _narrowed(bare.take(kept), users, items), label[kept]
    return Splits(*(bare.take(label == part) for part in (TRAIN, VALIDATION, TEST)))


def draw(
    data: Dataset,
    config: SplitConfig,
    seed: int,
    kept: Kept | None = None,
    *,
    hashes: tuple[np.ndarray, np.ndarray] | None = None,
    plain: bool = False,
) -> Drawn:
    """Label every interaction as train, validation or test, or as later than the test window.

    * ``given`` uses the data's own labels.
    * ``random`` and ``temporal`` hold out the share ``config.test``, within each user or over all
      pairs; ``temporal`` takes the latest pairs, or all pairs at or after a cut time.
    * ``hashed`` holds out the pairs of each user with the highest hashes of the seed and the pair.
      If shares are over all pairs, each pair is instead held out with the share as its probability,
      independently of all other pairs.
    * ``leave-last-out`` labels each user's last pair as test and the pair before it as validation.
    * ``cold-items`` holds out whole items: the share ``config.test`` of all items with pairs, and
      then the share ``config.validation`` of the remaining items.
    * ``folds`` assigns the pairs to ``config.folds`` folds of equal size, at random within each
      user or over all pairs, and holds out the fold ``config.fold`` as test. With the same seed,
      each pair is test in exactly one fold.
    * ``windows`` divides the latest share ``config.test`` of all pairs by time into
      ``config.folds`` windows of about equal size, and holds out the window ``config.fold`` as
      test. Of the pairs before the window, the latest are validation and all others train. Pairs
      with equal times stay together, so each part is strictly earlier than the next. Pairs after
      the window are labelled LATER.

    If these rules label no pair as validation and ``config.validation`` is above 0, that share of
    the train pairs is moved to validation by the same rule (at random for ``given`` and ``folds``).
    Pairs with equal times are ordered by a hash of the seed and the pair's ids.

    Shares within a user are rounded to the nearest whole number of pairs, and leave the user at
    least one train pair. If this rounding would hold out less than half of the pairs that a random
    split asks for, they are drawn from the pairs of all users together instead; each user still
    keeps one train pair.

    A label depends only on the user's own pairs, except in ``random``, ``cold-items``, ``folds``
    and ``windows``, in ``temporal`` with a share over all pairs, and in ``given`` if validation
    pairs are drawn from train.

    If ``kept`` is given, earlier pairs keep their part, and new pairs are held out until the shares
    of all pairs are reached. Splits by time are drawn again, but no pair on which the earlier run
    was trained becomes test, and none of its train pairs becomes validation.

    Args:
      data: the data that :func:`settled` returned.
      config: the settings of the split, as :func:`resolved` returns them.
      kept: labels of an earlier split with the same rule.
      hashes: the result of :func:`pair_id_hashes` for the id tables, if already computed.
      plain: follow the rule of old runs, which stored no split: pairs with equal times are ordered
        by row, and a share within users is never drawn from the pairs of all users together.

    Raises:
      InputError: the data lacks the labels or times that the split needs, or a window is empty.
    """
    config = resolved(data, config)
    name, rng = config.name, np.random.default_rng(seed)
    if name in BY_TIME and data.time is None:
        raise InputError(
            f"{data.name}: split {name} needs a time column, and this data has none; name one: "
            "jaxrec data import ... --columns.time NAME, or choose --split.name random"
        )
    if name == "given" and data.split is None:
        raise InputError(f"{data.name}: the data has no split; choose --split.name random")
    labels = _Labels(data, config, kept, hashes, plain)
    if name == "given":
        assert data.split is not None
        labels.give(data.split)
        if not (data.split == VALIDATION).any():
            labels.by_chance(config.validation, VALIDATION, rng)
    elif name == "random":
        labels.keep()
        labels.by_chance(config.test, TEST, rng)
        labels.by_chance(config.validation, VALIDATION, rng)
    elif name == "hashed":
        labels.keep()
        labels.by_hash(config.test, TEST, seed)
        labels.by_hash(config.validation, VALIDATION, seed)
    elif name == "cold-items":
        labels.cold_items(rng)
    elif name == "folds":
        labels.keep()
        labels.by_fold(rng)
        labels.by_chance(config.validation, VALIDATION, rng)
    else:
        labels.by_time(seed if kept is None else kept.seed)
    return Drawn(labels.label, {note: count for note, count in labels.notes.items() if count})


def apply_filter(data: Dataset, config: FilterConfig) -> Dataset:
    """Apply the filters one after another, and drop users and items without pairs.

    Without filters, the data is returned unchanged.

    Raises:
      InputError: a filter needs ratings or times that the data lacks, or nothing is left.
    """
    if config == FilterConfig():
        return data
    keep = np.ones(data.n_edges, bool)
    if config.min_rating is not None:
        if data.rating is None:
            raise InputError(
                f"{data.name}: filter.min_rating needs ratings, and this data has none; leave it "
                "out"
            )
        keep &= data.rating >= config.min_rating
    keep &= _in_window(data, config)
    if config.drop_most_active:
        degree_U = np.bincount(data.user[keep], minlength=data.n_users)
        most = np.quantile(degree_U[degree_U > 0], 1 - config.drop_most_active, method="lower")
        keep &= degree_U[data.user] <= most
    keep &= _counts(data.item, keep) >= config.min_item_count
    keep &= _counts(data.user, keep) >= config.min_user_count
    user_core, item_core = config.user_core or config.k_core, config.item_core or config.k_core
    while user_core or item_core:
        inner = keep & (_counts(data.user, keep) >= user_core)
        inner &= _counts(data.item, inner) >= item_core
        if (inner == keep).all():
            break
        keep = inner
    if not keep.any():
        raise InputError(f"{data.name}: no pair passes the filter; loosen it")
    left = data.take(keep)
    return _narrowed(left, left.user_counts() > 0, left.item_counts() > 0)


def _narrowed(data: Dataset, user_U: np.ndarray, item_I: np.ndarray) -> Dataset:
    """Return the data with only the users and items in the masks, renumbered.

    Users and items outside the masks must have no interactions; their exposed pairs are dropped.
    """
    users, items = np.flatnonzero(user_U), np.flatnonzero(item_I)
    row_U = (np.cumsum(user_U) - 1).astype(np.int32)
    row_I = (np.cumsum(item_I) - 1).astype(np.int32)
    shown = data.exposed
    if shown is not None:
        shown = shown.take(user_U[shown.user] & item_I[shown.item])
        shown = shown._replace(user=row_U[shown.user], item=row_I[shown.item])
    return replace(
        data,
        exposed=shown,
        user=row_U[data.user],
        item=row_I[data.item],
        user_ids=np.array(data.user_ids[users]),
        item_ids=np.array(data.item_ids[items]),
        user_features=data.user_features and data.user_features.take(users),
        item_features=data.item_features and data.item_features.take(items),
    )


def _in_window(data: Dataset, config: FilterConfig) -> np.ndarray:
    """Return which pairs pass the filters since, until, first and last, [E] bool."""
    asked = [name for name in ("since", "until") if getattr(config, name) is not None]
    asked += [name for name in ("first", "last") if getattr(config, name)]
    keep = np.ones(data.n_edges, bool)
    if not asked:
        return keep
    if data.time is None:
        raise InputError(
            f"{data.name}: filter.{asked[0]} needs times, and this data has none; leave it out"
        )
    if config.since is not None:
        keep &= data.time >= config.since
    if config.until is not None:
        keep &= data.time < config.until
    most = config.first or config.last
    if most:
        rows = np.flatnonzero(keep)
        user, item = pair_id_hashes(data.user_ids, data.item_ids)
        chance = pair_hashes(user[data.user[rows]], item[data.item[rows]])
        rows = rows[np.lexsort((chance, data.time[rows]))]
        grouped, left, _ = _from_last(data.user, rows[::-1] if config.first else rows)
        keep[grouped[left >= most]] = False
    return keep


def filtered(data: Dataset, left: Dataset, *parts: Csr) -> Csr | None:
    """Return the pairs that filters removed, with the row numbers of the filtered data.

    Only pairs whose user and item remain are included; the result is None if there are none.

    Args:
      data: the data before filtering.
      left: the filtered data, whose id tables give the row numbers.
      parts: the items of each user in each part of the filtered data.
    """
    users = _rows_in(left.user_ids, data.user_ids)
    items = _rows_in(left.item_ids, data.item_ids)
    user, item, n_items = users[data.user], items[data.item], max(left.n_items, 1)
    key = pair_keys(user, item, n_items)[(user >= 0) & (item >= 0)]
    had = [p.keys(n_items) for p in parts]
    key = np.setdiff1d(key, np.concatenate([np.zeros(0, np.int64), *had]))
    if not len(key):
        return None
    indptr = np.searchsorted(key // n_items, np.arange(left.n_users + 1))
    return Csr(indptr.astype(np.int32), (key % n_items).astype(np.int32))


def _rows_in(ids: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """Return the row in ``ids`` of each id in ``asked``, int64; -1 for absent ids."""
    order = np.argsort(ids)
    row = order[np.searchsorted(ids, asked, sorter=order).clip(max=len(ids) - 1)]
    return np.where(ids[row] == asked, row, -1).astype(np.int64)


def _counts(column: np.ndarray, keep: np.ndarray) -> np.ndarray:
    """Count, for every interaction, the kept interactions with the same value in ``column``."""
    if not len(column):
        return np.zeros(0, np.int64)
    return np.bincount(column[keep], minlength=int(column.max()) + 1)[column]


def refuse_empty_cut(
    name: str, time: np.ndarray | None, config: SplitConfig, validation: Any, test: Any
) -> None:
    """Raise InputError if a cut time holds out no pair, as happens with a wrong unit of time.

    Args:
      name: name of the data, for messages.
      time: times of the pairs, for messages; None if not available.
      validation, test: whether these parts have pairs.
    """
    for part, has_pairs in (("test", test), ("validation", validation)):
        cut = getattr(config, f"{part}_time")
        if cut is None or has_pairs:
            continue
        until = "" if part == "test" or config.test_time is None else " and before split.test_time"
        raise InputError(
            f"{name}: no pair is at or after split.{part}_time {cut:.15g}{until}{_span(time)}"
        )


def _span(time: np.ndarray | None) -> str:
    """Format the range of times for an error message."""
    if time is None or not len(time):
        return ""
    return f"; its times are {time.min():.15g} to {time.max():.15g}"


def _refuse_repeats(data: Dataset, label: np.ndarray, config: SplitConfig) -> None:
    """Raise InputError if a pair occurs twice, unless in different parts of a given split."""
    key = data.keys()
    if (key[1:] > key[:-1]).all():
        return
    if config.name == "given":
        key = key * 3 + label
    key.sort()
    same = np.flatnonzero(key[1:] == key[:-1])
    if len(same):
        pair = int(key[same[0]]) // (3 if config.name == "given" else 1)
        user, item = divmod(pair, data.n_items)
        raise InputError(
            f"{data.name}: user {data.user_ids[user]} and item {data.item_ids[item]} are paired "
            "twice, so parts would overlap; merge repeated pairs"
        )


def _shown_before(data: Dataset, label: np.ndarray, config: SplitConfig) -> Exposed | None:
    """Return the exposed pairs that training may use.

    Splits by time keep the exposed pairs that are earlier than all held-out pairs of the same user
    or, if one cut time applies to all users, of all users. ``cold-items`` keeps the exposed pairs
    of items that are not held out. Other splits keep all exposed pairs.
    """
    shown = data.exposed
    if shown is not None and config.name == "cold-items":
        return shown.take(~np.isin(shown.item, data.item[label != TRAIN]))
    by_time = config.name in BY_TIME
    if shown is None or shown.time is None or data.time is None or not by_time:
        return shown
    held = label != TRAIN
    first_U = np.full(data.n_users, np.inf)
    np.minimum.at(first_U, data.user[held], data.time[held])
    of_all = config.name == "temporal" and not (config.per_user and config.test_time is None)
    if of_all or config.name == "windows":
        first_U[:] = first_U.min(initial=np.inf)
    return shown.take(shown.time < first_U[shown.user])


class _Labels:
    """The labels of a data set's pairs while a split is being drawn."""

    def __init__(
        self,
        data: Dataset,
        config: SplitConfig,
        kept: Kept | None,
        hashes: tuple[np.ndarray, np.ndarray] | None,
        plain: bool,
    ) -> None:
        self.data, self.config, self.kept, self.plain = data, config, kept, plain
        self.label = np.full(data.n_edges, TRAIN, np.uint8)
        self.free = np.ones(data.n_edges, bool)  # pairs whose label may still change
        self.notes: dict[str, int] = {}
        self._hashes = hashes
        self._order: np.ndarray | None = None

    def give(self, label: np.ndarray) -> None:
        """Set the given labels.

        If there is an earlier split and no given label is VALIDATION, pairs with the given label
        TRAIN get their label in the earlier split, unless that is TEST.
        """
        self.label[:] = label
        if self.kept is not None and not (label == VALIDATION).any():
            among = (label == TRAIN) & (self.kept.part >= 0) & (self.kept.part != TEST)
            self.label[among] = self.kept.part[among]
            self.free[among] = False

    def keep(self) -> None:
        """Set the labels of the earlier split, if there is one; they no longer change."""
        if self.kept is not None:
            self.free = self.kept.part < 0
            self.label[~self.free] = self.kept.part[~self.free]

    def by_chance(self, share: float, part: int, rng: np.random.Generator) -> None:
        """Relabel a random share of the TRAIN pairs as ``part``."""
        rows = np.flatnonzero((self.label == TRAIN) & self.free)
        self._relabel_last(rows[rng.permutation(len(rows))], share, part, spread=not self.plain)

    def by_fold(self, rng: np.random.Generator) -> None:
        """Assign the free pairs to folds in turn, and relabel the fold ``config.fold`` as TEST."""
        rows = np.flatnonzero(self.free)
        rows = rows[rng.permutation(len(rows))]
        if self.config.per_user:  # group by user, with users in random order
            order_U = rng.permutation(self.data.n_users)
            rows = rows[np.argsort(order_U[self.data.user[rows]], kind="stable")]
        self.label[rows[self.config.fold :: self.config.folds]] = TEST

    def by_hash(self, share: float, part: int, seed: int) -> None:
        """Relabel TRAIN pairs by a hash of seed, part and pair, scaled to [0, 1).

        If shares are within users, each user's pairs with the highest hashes are relabelled,
        otherwise all pairs with a hash of at least 1 - share.
        """
        data = self.data
        rows = np.flatnonzero((self.label == TRAIN) & self.free)
        key = data.user[rows].astype(np.uint64) * np.uint64(data.n_items)
        key += data.item[rows].astype(np.uint64)
        draw = mixed(key + mixed(np.array([2 * seed + part], np.uint64)))
        if self.config.per_user:
            self._relabel_last(rows[np.argsort(draw, kind="stable")], share, part)
        else:
            self.label[rows[(draw >> np.uint64(11)) * 2.0**-53 >= 1 - share]] = part

    def cold_items(self, rng: np.random.Generator) -> None:
        """Hold out whole items; items of an earlier split keep their part."""
        data, config = self.data, self.config
        label_I = np.full(data.n_items, TRAIN, np.uint8)
        items = np.flatnonzero(data.item_counts())
        n_test = round(len(items) * config.test)
        n_validation = round((len(items) - n_test) * config.validation)
        if self.kept is not None:
            known = self.kept.part >= 0
            for part in (TEST, VALIDATION, TRAIN):  # an item with any train pair is a train item
                label_I[data.item[known & (self.kept.part == part)]] = part
            known_I = np.isin(items, data.item[known])
            n_test = max(n_test - int((label_I[items] == TEST).sum()), 0)
            n_validation = max(n_validation - int((label_I[items] == VALIDATION).sum()), 0)
            items = items[~known_I]
        items = rng.permutation(items)
        label_I[items[:n_test]] = TEST
        label_I[items[n_test : n_test + n_validation]] = VALIDATION
        self.label = label_I[data.item]

    def by_time(self, seed: int) -> None:
        """Hold out the latest pairs: ``leave-last-out``, ``temporal`` and ``windows``."""
        config = self.config
        if config.name == "leave-last-out":
            rows, left, degree = _from_last(self.data.user, self._in_time(seed))
            self.label[rows[(left == 0) & (degree >= 2)]] = TEST
            if config.validation > 0:
                self.label[rows[(left == 1) & (degree >= 3)]] = VALIDATION
        elif config.name == "windows":
            self._window()
        else:
            self._late(config.test, config.test_time, TEST, seed)
            self._late(config.validation, config.validation_time, VALIDATION, seed)
        if self._order is not None:
            self.notes[TIED] = self._tied_users(self._order)
        if self.kept is not None:
            moved = self.kept.trained & (self.label == TEST)
            moved |= (self.kept.part == TRAIN) & (self.label == VALIDATION)
            self.label[moved] = TRAIN
            self.notes[MOVED] = int(moved.sum())

    def _window(self) -> None:
        """Relabel the pairs of the window as TEST, all later pairs as LATER, and the latest of the
        earlier pairs as VALIDATION."""
        data, config, time = self.data, self.config, self.data.time
        assert time is not None
        ordered = np.sort(time)
        n_held = round(len(time) * config.test)
        first, end = (
            len(time) - n_held + n_held * number // config.folds
            for number in (config.fold, config.fold + 1)
        )
        window = time >= ordered[first] if first < end else np.zeros(len(time), bool)
        if end < len(time):
            window &= time < ordered[end]
        if not window.any():
            raise InputError(
                f"{data.name}: window {config.fold} of {config.folds} has no pair, as there are "
                f"few distinct times in the last {config.test:.3g} of the pairs; set "
                "--split.folds lower or --split.test higher"
            )
        before = time < ordered[first]
        n_before = int(before.sum())
        n_validation = round(n_before * config.validation)
        self.label[~before] = LATER
        self.label[window] = TEST
        if n_validation:
            self.label[before & (time >= ordered[n_before - n_validation])] = VALIDATION

    def _late(self, share: float, cut: float | None, part: int, seed: int) -> None:
        """Relabel the latest TRAIN pairs as ``part``: all pairs at or after the time ``cut`` if it
        is given, else the share ``share``."""
        assert self.data.time is not None
        if cut is not None:
            self.label[(self.label == TRAIN) & (self.data.time >= cut)] = part
            return
        rows = self._in_time(seed)
        self._relabel_last(rows[self.label[rows] == TRAIN], share, part)

    @property
    def _within_users(self) -> bool:
        return self.config.per_user or self.config.name == "leave-last-out"

    def _in_time(self, seed: int) -> np.ndarray:
        """Return rows sorted by time, and by user first if shares are within users.

        A hash of the pair's ids breaks ties.
        """
        if self._order is None:
            data, keys = self.data, self._time_keys()
            self._order = np.lexsort(keys)
            same = self._same(self._order)
            if same.any() and not self.plain:
                tied = np.append(same, False) | np.append(False, same)
                among = self._order[tied]
                user, item = self._hashes or pair_id_hashes(data.user_ids, data.item_ids)
                hash_n = pair_hashes(user[data.user[among]], item[data.item[among]])
                chance = np.zeros(data.n_edges, np.uint64)
                chance[among] = mixed(hash_n + mixed(np.array([seed], np.uint64)))
                self._order = np.lexsort((chance, *keys))
        return self._order

    def _time_keys(self) -> tuple[np.ndarray, ...]:
        """Return the sort keys of rows, the most important last."""
        assert self.data.time is not None
        return (self.data.time, self.data.user) if self._within_users else (self.data.time,)

    def _same(self, rows: np.ndarray) -> np.ndarray:
        """Return whether each sorted row and the next have the same sort keys, [n - 1] bool."""
        columns = [column[rows] for column in self._time_keys()]
        return np.logical_and.reduce([column[1:] == column[:-1] for column in columns])

    def _tied_users(self, rows: np.ndarray) -> int:
        """Count users with a pair whose label differs from that of another pair of equal time."""
        if not len(rows):
            return 0
        run = np.cumsum(np.append(False, ~self._same(rows)))
        parts = np.zeros((run[-1] + 1, 3), bool)
        parts[run, self.label[rows]] = True
        decided = parts.sum(axis=1) > 1
        return len(np.unique(self.data.user[rows[decided[run]]]))

    def _relabel_last(
        self, rows: np.ndarray, share: float, part: int, *, spread: bool = False
    ) -> None:
        """Relabel the last of ``rows`` until ``part`` has its share of all pairs or of each user's.

        Args:
          spread: if rounding within users would hold out less than half of the share, draw from the
            pairs of all users together, and leave each user one train pair.
        """
        user = self.data.user
        # Pairs that the earlier split held out count towards the share.
        pool = np.ones(len(self.label), bool) if part == TEST else self.label != TEST
        if self.config.name == "given":
            pool = self.label != TEST
        held = self.label == part
        wanted = round(int(pool.sum()) * share) - int(held.sum())
        if not self.config.per_user:
            self.label[rows[len(rows) - min(max(wanted, 0), len(rows)) :]] = part
            return
        pool_U, held_U, train_U = (
            np.bincount(user[mask], minlength=self.data.n_users)
            for mask in (pool, held, self.label == TRAIN)
        )
        more_U = np.minimum(np.floor(pool_U * share + 0.5), pool_U - 1) - held_U
        more_U = np.minimum(more_U, train_U - 1)
        grouped, left, _ = _from_last(user, rows)
        chosen = left < more_U[user[grouped]]
        if spread and 2 * int(chosen.sum()) < wanted:
            self._relabel_spread(rows, grouped, left, wanted, share, part, train_U)
        else:
            self.label[grouped[chosen]] = part

    def _relabel_spread(
        self,
        rows: np.ndarray,
        grouped: np.ndarray,
        left: np.ndarray,
        wanted: int,
        share: float,
        part: int,
        train_U: np.ndarray,
    ) -> None:
        """Relabel the last ``wanted`` of ``rows``, except one train pair of each user."""
        user = self.data.user
        may = np.zeros(len(self.label), bool)
        may[grouped[left < train_U[user[grouped]] - 1]] = True
        rows = rows[may[rows]]
        # Limit the number so that, if most users have one pair, the other users keep several.
        n_held = min(wanted, round(len(rows) * max(share, 0.5)))
        self.label[rows[len(rows) - n_held :]] = part
        self.notes[SPREAD.format(_NAMES[part])] = n_held


_NAMES = {VALIDATION: "validation", TEST: "test"}


def pair_id_hashes(user_ids: np.ndarray, item_ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return hashes of the user ids, [U], and of the item ids, [I]."""
    return id_hashes(user_ids, 1), id_hashes(item_ids, 2)


def _from_last(user: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Group rows by user, in their order.

    Returns:
      The grouped rows; for each of them, the number of rows of its user that come after it; and
      the number of all rows of its user.
    """
    rows = rows[np.argsort(user[rows], kind="stable")]
    degree_U = np.bincount(user[rows])
    degree = np.repeat(degree_U, degree_U)
    end = np.repeat(np.cumsum(degree_U), degree_U)
    return rows, end - 1 - np.arange(len(rows)), degree


def refit_splits(splits: Splits) -> Splits:
    """Move the validation pairs to the train part, for a refit."""
    train, validation = splits.train, splits.validation
    return splits._replace(
        train=replace(train, **_joined(train, validation)),
        validation=validation.take(np.arange(0)),
    )


def labelled(splits: Splits) -> Dataset:
    """Join the parts into one Dataset, whose ``split`` column gives this split."""
    label = np.repeat((TRAIN, VALIDATION, TEST), [part.n_edges for part in splits])
    return replace(splits.train, **_joined(*splits), split=label.astype(np.uint8))


def _joined(*parts: Dataset) -> dict[str, Any]:
    """Concatenate the columns of the parts."""
    return {
        name: np.concatenate([getattr(part, name) for part in parts]) for name in parts[0].columns()
    }
