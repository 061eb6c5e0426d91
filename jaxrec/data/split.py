"""One Dataset to train, validation and test parts, and the filters that come before.

A split labels every interaction once, so the parts are disjoint and together are the whole.
"""

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from jaxrec.config import FilterConfig, SplitConfig
from jaxrec.data.dataset import TEST, TRAIN, VALIDATION, Csr, Dataset, Exposed
from jaxrec.errors import InputError


class Splits(NamedTuple):
    """Three parts with the same id tables; validation and test may be empty."""

    train: Dataset
    validation: Dataset
    test: Dataset


def split(data: Dataset, config: SplitConfig, seed: int) -> Splits:
    """Label every interaction as train, validation or test.

    ``given`` takes the data's own labels; ``random`` and ``temporal`` hold out the share
    ``config.test`` (temporal: the latest, or what is at or after a cut time), within each user
    or over all pairs; ``hashed`` is random too, by a hash of (seed, pair) that needs no other pair
    (over all pairs the share is then the chance of each); ``leave-last-out`` takes each user's
    last pair as test and the last but one as validation; ``cold-items`` takes whole items, the
    share ``config.test`` of those that have pairs, and ``config.validation`` of the others. Where
    the labels have no validation and ``config.validation`` is above 0, that share of train becomes
    validation, picked the same way (at random for ``given``). Equal times keep the order of the
    rows. Shares within a user are rounded to the nearest whole number of pairs and leave the user
    at least one train pair.

    Raises:
      InputError: the data lacks the labels or times that the split needs, holds a pair twice,
        or no train pair would be left.
    """
    name = config.name
    if name == "auto":
        name = "random" if data.split is None else "given"
    if name in ("leave-last-out", "temporal") and data.time is None:
        raise InputError(f"{data.name}: split {name} needs a time column; this data has none")
    if name == "given" and data.split is None:
        raise InputError(f"{data.name}: the data gives no split; choose --split.name random")
    _refuse_repeats(data)
    label = labels(data, replace(config, name=name), seed)
    if not (label == TRAIN).any():
        raise InputError(f"{data.name}: split {name} leaves no train pair; hold out less")
    bare = replace(data, split=None, exposed=_shown_before(data, label, config))
    return Splits(*(bare.take(label == part) for part in (TRAIN, VALIDATION, TEST)))


def labels(data: Dataset, config: SplitConfig, seed: int) -> np.ndarray:
    """TRAIN, VALIDATION or TEST for each interaction, [E] uint8: what :func:`split` goes by.

    The data has no pair twice and what the split of that name (not ``auto``) needs. But for
    ``random``, ``cold-items``, shares over all pairs and a validation part carved out of a given
    train part, a label depends on nothing but the user's own pairs.
    """
    name, rng = config.name, np.random.default_rng(seed)
    label = np.full(data.n_edges, TRAIN, np.uint8)
    if name == "given":
        assert data.split is not None
        label[:] = data.split
        if not (label == VALIDATION).any():
            _hold_out(label, data, config.validation, VALIDATION, config.per_user, rng)
    elif name == "random":
        _hold_out(label, data, config.test, TEST, config.per_user, rng)
        _hold_out(label, data, config.validation, VALIDATION, config.per_user, rng)
    elif name == "hashed":
        _hold_out_hashed(label, data, config.test, TEST, config.per_user, seed)
        _hold_out_hashed(label, data, config.validation, VALIDATION, config.per_user, seed)
    elif name == "cold-items":
        label = _cold_items(data, config, rng)
    elif name == "leave-last-out":
        label = _leave_last_out(data, config.validation > 0)
    else:
        _hold_out_late(label, data, config.test, config.test_time, TEST, config.per_user)
        _hold_out_late(
            label,
            data,
            config.validation,
            config.validation_time,
            VALIDATION,
            config.per_user,
        )
    return label


def apply_filter(data: Dataset, config: FilterConfig) -> Dataset:
    """Keep what the filter allows; users and items left without a pair leave, features too.

    In this order: the rating threshold, the item count, the user count, the k-core. Without
    any of them the data is returned as it is.

    Raises:
      InputError: a rating threshold on data without ratings, or nothing left.
    """
    if config == FilterConfig():
        return data
    keep = np.ones(data.n_edges, bool)
    if config.min_rating is not None:
        if data.rating is None:
            raise InputError(f"{data.name}: filter.min_rating needs ratings; this data has none")
        keep &= data.rating >= config.min_rating
    keep &= _counts(data.item, keep) >= config.min_item_count
    keep &= _counts(data.user, keep) >= config.min_user_count
    while config.k_core:
        inner = keep & (_counts(data.user, keep) >= config.k_core)
        inner &= _counts(data.item, inner) >= config.k_core
        if (inner == keep).all():
            break
        keep = inner
    if not keep.any():
        raise InputError(f"{data.name}: the filter leaves no pair; ask for less")
    left = data.take(keep)
    users, user = np.unique(left.user, return_inverse=True)
    items, item = np.unique(left.item, return_inverse=True)
    shown = data.exposed
    if shown is not None:
        shown = shown.take(np.isin(shown.user, users) & np.isin(shown.item, items))
        shown = shown._replace(
            user=np.searchsorted(users, shown.user).astype(np.int32),
            item=np.searchsorted(items, shown.item).astype(np.int32),
        )
    return replace(
        left,
        exposed=shown,
        user=user.astype(np.int32),
        item=item.astype(np.int32),
        user_ids=np.array(data.user_ids[users]),
        item_ids=np.array(data.item_ids[items]),
        user_features=data.user_features and data.user_features.take(users),
        item_features=data.item_features and data.item_features.take(items),
    )


def filtered(data: Dataset, left: Dataset, *parts: Csr) -> Csr | None:
    """Items by user, in the rows of ``left``, of the pairs of ``data`` that are in no part.

    Those are the pairs that a filter left out, of users and items of which others are left; None
    where there are none.

    Args:
      data: all pairs.
      left: has the id tables of what the filters left.
      parts: items by user of what the filters left.
    """
    users = _rows_in(left.user_ids, data.user_ids)
    items = _rows_in(left.item_ids, data.item_ids)
    user, item, n_items = users[data.user], items[data.item], max(left.n_items, 1)
    key = (user * n_items + item)[(user >= 0) & (item >= 0)]
    had = [np.repeat(np.arange(left.n_users), p.degree) * n_items + p.indices for p in parts]
    key = np.setdiff1d(key, np.concatenate([np.zeros(0, np.int64), *had]))
    if not len(key):
        return None
    indptr = np.searchsorted(key // n_items, np.arange(left.n_users + 1))
    return Csr(indptr.astype(np.int32), (key % n_items).astype(np.int32))


def _rows_in(ids: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """The row of each asked id among ``ids``; -1 where it is not there. int64."""
    order = np.argsort(ids)
    row = order[np.searchsorted(ids, asked, sorter=order).clip(max=len(ids) - 1)]
    return np.where(ids[row] == asked, row, -1).astype(np.int64)


def _counts(column: np.ndarray, keep: np.ndarray) -> np.ndarray:
    """For every interaction, how many kept ones share its value."""
    if not len(column):
        return np.zeros(0, np.int64)
    return np.bincount(column[keep], minlength=int(column.max()) + 1)[column]


def _refuse_repeats(data: Dataset) -> None:
    key = data.user.astype(np.int64) * data.n_items + data.item
    if (key[1:] > key[:-1]).all():
        return
    key.sort()
    same = np.flatnonzero(key[1:] == key[:-1])
    if len(same):
        user, item = divmod(int(key[same[0]]), data.n_items)
        raise InputError(
            f"{data.name}: user {data.user_ids[user]} and item {data.item_ids[item]} are paired "
            "twice, so parts would overlap; merge repeated pairs"
        )


def _hold_out(
    label: np.ndarray,
    data: Dataset,
    share: float,
    part: int,
    per_user: bool,
    rng: np.random.Generator,
) -> None:
    """Relabel a random share of the train pairs, in place."""
    rows = np.flatnonzero(label == TRAIN)
    rows = rows[rng.permutation(len(rows))]
    _relabel_last(label, data.user, rows, share, part, per_user)


def _hold_out_hashed(
    label: np.ndarray, data: Dataset, share: float, part: int, per_user: bool, seed: int
) -> None:
    """Relabel train pairs by the hash of (seed, part, pair), in place: the highest of each user,
    or what is above 1 - share."""
    rows = np.flatnonzero(label == TRAIN)
    key = data.user[rows].astype(np.uint64) * np.uint64(data.n_items)
    key += data.item[rows].astype(np.uint64)
    draw = _mixed(key + _mixed(np.array([2 * seed + part], np.uint64)))
    if per_user:
        rows = rows[np.argsort(draw, kind="stable")]
        _relabel_last(label, data.user, rows, share, part, per_user)
    else:
        label[rows[(draw >> np.uint64(11)) * 2.0**-53 >= 1 - share]] = part


def _mixed(x: np.ndarray) -> np.ndarray:
    """The finaliser of SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number
    generators", 2014), of its next state."""
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _hold_out_late(
    label: np.ndarray,
    data: Dataset,
    share: float,
    cut: float | None,
    part: int,
    per_user: bool,
) -> None:
    """Relabel the latest train pairs: at or after the cut time, or the last share; in place."""
    assert data.time is not None
    if cut is not None:
        label[(label == TRAIN) & (data.time >= cut)] = part
        return
    rows = np.flatnonzero(label == TRAIN)
    rows = rows[np.argsort(data.time[rows], kind="stable")]
    _relabel_last(label, data.user, rows, share, part, per_user)


def _relabel_last(
    label: np.ndarray,
    user: np.ndarray,
    rows: np.ndarray,
    share: float,
    part: int,
    per_user: bool,
) -> None:
    """Relabel the last share of ``rows``, over all of them or within each user; in place."""
    if per_user:
        rows, left, degree = _from_last(user, rows)
        held = np.minimum(np.floor(degree * share + 0.5), degree - 1)
        label[rows[left < held]] = part
    else:
        label[rows[len(rows) - round(len(rows) * share) :]] = part


def _shown_before(data: Dataset, label: np.ndarray, config: SplitConfig) -> Exposed | None:
    """What was shown before what is held out, where a split goes by time: of all users, or of each
    where every user's last pairs are held out. Nothing of items that are held out."""
    shown = data.exposed
    if shown is not None and config.name == "cold-items":
        return shown.take(~np.isin(shown.item, data.item[label != TRAIN]))
    by_time = config.name in ("temporal", "leave-last-out")
    if shown is None or shown.time is None or data.time is None or not by_time:
        return shown
    held = label != TRAIN
    first_U = np.full(data.n_users, np.inf)
    np.minimum.at(first_U, data.user[held], data.time[held])
    of_all = config.name == "temporal" and not (config.per_user and config.test_time is None)
    if of_all:
        first_U[:] = first_U.min(initial=np.inf)
    return shown.take(shown.time < first_U[shown.user])


def _cold_items(data: Dataset, config: SplitConfig, rng: np.random.Generator) -> np.ndarray:
    there = rng.permutation(np.flatnonzero(data.item_counts()))
    n_test = round(len(there) * config.test)
    n_held = n_test + round((len(there) - n_test) * config.validation)
    label_I = np.full(data.n_items, TRAIN, np.uint8)
    label_I[there[:n_test]] = TEST
    label_I[there[n_test:n_held]] = VALIDATION
    return label_I[data.item]


def _leave_last_out(data: Dataset, validation: bool) -> np.ndarray:
    assert data.time is not None
    rows, left, degree = _from_last(data.user, np.argsort(data.time, kind="stable"))
    label = np.full(data.n_edges, TRAIN, np.uint8)
    label[rows[(left == 0) & (degree >= 2)]] = TEST
    if validation:
        label[rows[(left == 1) & (degree >= 3)]] = VALIDATION
    return label


def _from_last(user: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows grouped by user in their given order, how many of the user's follow, and degrees."""
    rows = rows[np.argsort(user[rows], kind="stable")]
    degree_U = np.bincount(user[rows])
    degree = np.repeat(degree_U, degree_U)
    end = np.repeat(np.cumsum(degree_U), degree_U)
    return rows, end - 1 - np.arange(len(rows)), degree


def merged(splits: Splits) -> Splits:
    """Train and validation together as train, and an empty validation: what a refit trains on."""
    train, validation = splits.train, splits.validation
    columns = {
        name: np.concatenate([column, getattr(validation, name)])
        for name, column in train.columns().items()
    }
    return splits._replace(
        train=replace(train, **columns), validation=validation.take(np.arange(0))
    )
