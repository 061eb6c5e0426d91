"""Test that splits partition the interactions, and that filters keep the pairs they should."""

import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxrec.config import Config, FilterConfig, SplitConfig
from jaxrec.data.dataset import TEST, TRAIN, Dataset, Exposed
from jaxrec.data.features import Features, Number
from jaxrec.data.saved_split import KeptSplit, hashes
from jaxrec.data.split import (
    SPREAD,
    TIED,
    Kept,
    Splits,
    apply_filter,
    draw,
    repeats,
    settled,
    split,
    taken,
)
from jaxrec.errors import InputError
from jaxrec.evaluation.user_runs import splits_of


def _data(pairs, **columns) -> Dataset:
    user, item = np.array(sorted(pairs), np.int32).reshape(-1, 2).T
    return Dataset(
        user=np.ascontiguousarray(user),
        item=np.ascontiguousarray(item),
        user_ids=np.arange(int(user.max()) + 1) * 10,
        item_ids=np.array([f"i{n:03}" for n in range(int(item.max()) + 1)]),
        **columns,
    )


def _random(seed, users=30, items=25, edges=300, **columns) -> Dataset:
    key = np.random.default_rng(seed).choice(users * items, edges, replace=False)
    return _data(np.stack(np.divmod(key, items), axis=1).tolist(), **columns)


def _pairs(data: Dataset) -> set[tuple[int, int]]:
    return set(zip(data.user.tolist(), data.item.tolist(), strict=True))


_configs = st.builds(
    SplitConfig,
    name=st.sampled_from(
        ["auto", "given", "random", "hashed", "leave-last-out", "temporal", "cold-items", "folds"]
    ),
    test=st.floats(0, 0.6),
    validation=st.floats(0, 0.6),
    per_user=st.booleans(),
)


@settings(max_examples=80)
@given(config=_configs, seed=st.integers(0, 2**32 - 1), shape=st.integers(0, 3))
def test_parts_are_disjoint_and_together_the_whole(config, seed, shape):
    rng = np.random.default_rng(shape)
    label = rng.choice([0, 2], 300, p=[0.8, 0.2]).astype(np.uint8)
    data = _random(shape, time=rng.integers(0, 20, 300).astype(np.float64), split=label)
    parts = split(data, config, seed)
    found = [_pairs(part) for part in parts]
    assert sum(map(len, found)) == sum(part.n_edges for part in parts) == data.n_edges
    assert set.union(*found) == _pairs(data)
    for part in parts:
        assert part.user_ids is data.user_ids
        assert part.item_ids is data.item_ids
        assert part.split is None
    within_users = config.per_user and config.name in ("random", "hashed", "temporal")
    if within_users or config.name == "leave-last-out":
        assert set(parts.train.user.tolist()) == set(data.user.tolist())
    again = split(data, config, seed)
    assert [part.fingerprint() for part in again] == [part.fingerprint() for part in parts]


@settings(max_examples=30)
@given(
    folds=st.integers(2, 8),
    per_user=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
    edges=st.integers(20, 300),
)
def test_every_pair_is_test_in_exactly_one_fold_of_even_size(folds, per_user, seed, edges):
    data = _random(seed % 7, edges=edges)
    config = SplitConfig("folds", folds=folds, per_user=per_user)
    parts = [split(data, replace(config, fold=fold), seed) for fold in range(folds)]
    tests = [_pairs(part.test) for part in parts]
    assert sum(map(len, tests)) == len(set.union(*tests)) == data.n_edges
    sizes = np.array([part.test.n_edges for part in parts])
    assert np.ptp(sizes) <= 1
    if per_user:
        of_user = np.array([part.test.user_counts() for part in parts])
        assert np.ptp(of_user, axis=0).max() <= 1
    for part in parts:
        assert _pairs(part.train) | _pairs(part.validation) == _pairs(data) - _pairs(part.test)


def test_folds_follow_the_seed_and_not_the_ids():
    data = _data([(u, 0) for u in range(400)] + [(0, i) for i in range(1, 20)])
    config = SplitConfig("folds", validation=0.0)
    tests = [_pairs(split(data, config, seed).test) for seed in range(2)]
    assert tests[0] != tests[1]
    # Most users have a single pair; the users of a fold are not every fifth of them.
    assert len({user % 5 for user, _ in tests[0]}) == 5


@settings(max_examples=40)
@given(
    folds=st.integers(2, 6),
    test=st.floats(0.1, 0.8),
    validation=st.floats(0, 0.5),
    seed=st.integers(0, 20),
    tied=st.sampled_from([1, 8, 60]),
)
def test_a_window_is_trained_on_earlier_pairs_only(folds, test, validation, seed, tied):
    time = np.random.default_rng(seed).permutation(300) // tied * 1.0
    data = _random(seed, time=time)
    shown = Exposed(data.user[::3], (data.item[::3] + 1) % 25, time[::3])
    data = replace(data, exposed=shown)
    config = SplitConfig("windows", folds=folds, test=test, validation=validation)
    last, held_out = -np.inf, 0
    for fold in range(folds):
        parts = _window(data, replace(config, fold=fold))
        if parts is None:
            assert tied > 1
            return
        train, valid, tested = (part.time for part in parts)
        assert train.max() < tested.min()
        assert last < tested.min()
        if len(valid):
            assert train.max() < valid.min()
            assert valid.max() < tested.min()
        assert not len(parts.train.exposed.user) or parts.train.exposed.time.max() < tested.min()
        assert len(train) + len(valid) == (time < tested.min()).sum()
        last, held_out = tested.max(), held_out + len(tested)
        users = np.concatenate([part.user for part in parts])
        assert np.array_equal(np.unique(users), np.arange(parts.train.n_users))
    assert last == time.max()
    assert tied > 1 or held_out == round(300 * test)


def _window(data: Dataset, config: SplitConfig) -> Splits | None:
    """Return the parts of a window, or None if too few distinct times leave a part empty."""
    try:
        return split(data, config, 0)
    except InputError as e:
        if re.search("has no pair|leaves no train pair", str(e)) is None:
            raise
        return None


def test_folds_and_windows_that_do_not_exist_are_refused():
    for options, said in (
        ({"name": "folds", "folds": 3, "fold": 3}, "3 folds are numbered from 0 to 2"),
        ({"name": "random", "fold": 1}, "need split.name folds or windows, not random"),
        ({"name": "folds", "folds": 1}, "split.folds must be at least 2"),
    ):
        with pytest.raises(InputError, match=said):
            SplitConfig(**options)
    with pytest.raises(InputError, match="split windows needs a time column"):
        split(_random(0), SplitConfig("windows"), 0)


@pytest.mark.parametrize("name", ["random", "hashed"])
def test_another_seed_gives_another_random_split(name):
    data = _random(0)
    tests = [split(data, SplitConfig(name), seed).test.fingerprint() for seed in range(3)]
    assert len(set(tests)) == 3


@settings(max_examples=20)
@given(seed=st.integers(0, 2**32 - 1), per_user=st.booleans())
def test_a_hashed_split_of_some_users_is_that_of_all(seed, per_user):
    data, config = _random(1), SplitConfig("hashed", per_user=per_user)
    some = data.user % 3 == 1
    whole, alone = (draw(of, config, seed).label for of in (data, data.take(some)))
    np.testing.assert_array_equal(whole[some], alone)


def test_a_hashed_split_over_all_pairs_holds_out_about_the_share():
    data = _data([(u, i) for u in range(200) for i in range(50)])
    label = draw(data, SplitConfig("hashed", per_user=False, test=0.3, validation=0.5), 0).label
    count = np.bincount(label) / data.n_edges
    np.testing.assert_allclose(count, [0.35, 0.35, 0.3], atol=0.02)  # 4 standard deviations
    nothing = SplitConfig("hashed", per_user=False, test=0.0, validation=0.0)
    assert not draw(data, nothing, 0).label.any()


@pytest.mark.parametrize("name", ["random", "hashed"])
def test_random_per_user_holds_out_the_share_of_each_user(name):
    data = _data([(u, i) for u in range(8) for i in range(10 * (u + 1))])
    parts = split(data, SplitConfig(name, test=0.3, validation=0.5), 1)
    degree = data.user_counts()
    held = np.floor(degree * 0.3 + 0.5)
    np.testing.assert_array_equal(parts.test.user_counts(), held)
    np.testing.assert_array_equal(
        parts.validation.user_counts(), np.floor((degree - held) * 0.5 + 0.5)
    )


def test_random_over_all_pairs_holds_out_the_share_of_the_whole():
    parts = split(_random(0), SplitConfig(test=0.25, validation=0.2, per_user=False), 1)
    assert [part.n_edges for part in parts] == [180, 45, 75]


def test_every_pair_of_a_user_is_as_likely_to_be_held_out():
    data = _data([(u, i) for u in range(2_000) for i in range(5)])
    test = split(data, SplitConfig(test=0.2, validation=0.0), 7).test
    assert abs(test.item_counts() / 2_000 - 0.2).max() < 0.04  # more than 4 standard deviations


def test_given_labels_are_kept_and_validation_is_carved_out_of_train():
    label = np.tile(np.array([0, 0, 0, 0, 2], np.uint8), 60)
    data = _random(1, split=label)
    parts = split(data, SplitConfig(), 0)
    assert _pairs(parts.test) == _pairs(data.take(label == 2))
    assert parts.validation.n_edges > 0
    assert _pairs(parts.train) | _pairs(parts.validation) == _pairs(data.take(label == 0))
    assert split(data, SplitConfig(validation=0.0), 0).validation.n_edges == 0


def test_given_validation_is_kept():
    label = np.tile(np.array([0, 0, 1, 0, 2], np.uint8), 60)
    data = _random(1, split=label)
    parts = split(data, SplitConfig(name="given", validation=0.5), 0)
    for part, number in zip(parts, range(3), strict=True):
        assert _pairs(part) == _pairs(data.take(label == number))


def test_cold_items_are_held_out_whole():
    data = _random(1, items=40, edges=400)
    parts = split(data, SplitConfig("cold-items", test=0.25, validation=0.1), 3)
    items = [set(part.item.tolist()) for part in parts]
    assert not items[0] & items[1] | items[1] & items[2] | items[0] & items[2]
    assert [len(held) for held in items] == [27, 3, 10]
    other = split(data, SplitConfig("cold-items", test=0.25, validation=0.1), 4)
    assert set(other.test.item.tolist()) != items[2]


def test_what_was_shown_is_cut_where_what_is_held_out_begins():
    pairs = [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]
    time = np.array([1, 2, 3, 11, 12, 13], np.float64)
    shown = Exposed(*np.array([[0, 0, 1, 1], [3, 4, 3, 4]], np.int32), np.array([2.5, 4, 2.5, 14]))
    data = _data([*pairs, (1, 4)], time=np.append(time, 12.5), exposed=shown)

    def left(config) -> list[tuple[int, int]]:
        found = split(data, config, 0).train.exposed
        assert found is not None
        return list(zip(found.user.tolist(), found.item.tolist(), strict=True))

    everything = [(0, 3), (0, 4), (1, 3), (1, 4)]
    assert left(SplitConfig("random")) == everything
    last = SplitConfig("leave-last-out", validation=0.0)  # item 3 of user 0, item 13 of user 1
    assert left(last) == [(0, 3), (1, 3)]
    cut = SplitConfig("temporal", test_time=2.6, validation=0.0, validation_time=None)
    assert left(cut) == [(0, 3), (1, 3)]
    per_user = SplitConfig("temporal", test=0.4, validation=0.0)
    assert left(per_user) == [(0, 3), (1, 3)]
    of_all = SplitConfig("temporal", test=0.7, validation=0.0, per_user=False)
    assert left(of_all) == [(0, 3), (1, 3)]
    cold = split(data, SplitConfig("cold-items", test=0.4, validation=0.0), 1)
    assert cold.train.exposed is not None
    assert not set(cold.train.exposed.item.tolist()) & set(cold.test.item.tolist())


def test_a_filter_renumbers_what_was_shown():
    shown = Exposed(*np.array([[0, 1, 2, 2], [3, 0, 1, 2]], np.int32))
    data = _data([(0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (2, 3)], exposed=shown)
    left = apply_filter(data, FilterConfig(min_item_count=2, min_user_count=1))
    assert left.item_ids.tolist() == ["i000", "i001"]
    assert left.exposed is not None
    assert left.exposed.user.tolist() == [1, 2]
    assert left.exposed.item.tolist() == [0, 1]
    assert left.exposed.item.dtype == np.int32


def test_leave_last_out_takes_the_last_and_the_last_but_one():
    pairs = [(0, 0), (0, 1), (0, 2), (0, 3), (1, 0), (1, 1), (2, 4)]
    time = np.array([5, 9, 7, 9, 2, 1, 3], np.float64)
    data = _data(pairs, time=time)
    parts = split(data, SplitConfig(name="leave-last-out"), 0)
    assert _pairs(parts.test) | _pairs(parts.validation) == {(0, 1), (0, 3), (1, 0)}
    assert parts.validation.n_edges == 1  # a user with two pairs keeps one to train on
    assert _pairs(parts.train) == {(0, 0), (0, 2), (1, 1), (2, 4)}
    bare = split(data, SplitConfig(name="leave-last-out", validation=0.0), 0)
    assert bare.validation.n_edges == 0
    assert _pairs(bare.test) == _pairs(parts.test)
    plain = draw(data, SplitConfig(name="leave-last-out"), 0, plain=True)  # the last row is last
    assert _pairs(data.take(plain.label == TEST)) == {(0, 3), (1, 0)}


LATE = [
    SplitConfig("leave-last-out"),
    SplitConfig("temporal", test=0.3, validation=0.2),
    SplitConfig("temporal", test=0.3, validation=0.2, per_user=False),
]


def _days(users: int, items: int, seed: int = 0) -> Dataset:
    """Give every user all items, two per day, in an order that does not depend on popularity."""
    pairs = [(u, i) for u in range(users) for i in range(items)]
    order = np.random.default_rng(seed).permuted(np.tile(np.arange(items), (users, 1)), axis=1)
    return _data(pairs, time=(order // 2).astype(np.float64).ravel())


@pytest.mark.parametrize("config", LATE, ids=lambda c: f"{c.name}-{c.per_user}")
def test_of_equal_times_any_item_may_be_last(config):
    data = _days(400, 10)
    label = draw(data, config, 0).label
    rank = data.item[label == TEST].mean()  # 4.5 if the order of items does not matter
    assert abs(rank - 4.5) < 0.5
    assert draw(data, config, 0, plain=True).label.tolist() != label.tolist()


@pytest.mark.parametrize("config", LATE, ids=lambda c: f"{c.name}-{c.per_user}")
def test_ties_in_time_are_broken_by_seed_and_ids_and_counted(config):
    data = _days(60, 10)
    drawn = draw(data, config, 3)
    assert drawn.label.tolist() == draw(data, config, 3).label.tolist()
    assert drawn.label.tolist() != draw(data, config, 4).label.tolist()
    truth = 0
    for user in range(60):
        whole = {}
        for time, part in zip(
            data.time[data.user == user].tolist() if data.time is not None else [],
            drawn.label[data.user == user].tolist(),
            strict=True,
        ):
            whole.setdefault(time, set()).add(part)
        truth += any(len(parts) > 1 for parts in whole.values())
    if config.per_user:
        assert drawn.notes == {TIED: truth} != {TIED: 0}
    # The same ids get other row numbers, because new users and items sort before all others.
    moved = replace(
        data,
        user=data.user + 1,
        item=data.item + 1,
        user_ids=np.append(-1, data.user_ids),
        item_ids=np.append("a", data.item_ids),
    )
    assert draw(moved, config, 3).label.tolist() == drawn.label.tolist()


@pytest.mark.parametrize("config", LATE, ids=lambda c: f"{c.name}-{c.per_user}")
def test_without_ties_the_latest_are_held_out_whatever_the_seed(config):
    data = _random(2, time=np.random.default_rng(0).permutation(300).astype(np.float64))
    drawn = [draw(data, config, seed) for seed in range(2)]
    assert drawn[0].notes == {}
    assert drawn[0].label.tolist() == drawn[1].label.tolist()
    assert drawn[0].label.tolist() == draw(data, config, 0, plain=True).label.tolist()


def test_shares_that_round_to_nothing_within_users_are_held_out_over_all_pairs():
    data = _data([(u, (u * 7 + i * 11) % 90) for u in range(300) for i in range(1 + u % 4)])
    drawn = draw(data, SplitConfig(), 0)
    parts = split(data, SplitConfig(), 0)
    assert drawn.notes == {SPREAD.format("validation"): parts.validation.n_edges}
    left = parts.train.n_edges + parts.validation.n_edges
    assert parts.validation.n_edges == round(0.1 * left)
    assert (parts.train.user_counts() > 0).all()
    assert draw(data, SplitConfig(), 0, plain=True).notes == {}
    # No user can spare a pair, so nothing is held out; --split.no-per-user would hold out pairs.
    single = _data([(u, u % 5) for u in range(60)])
    assert split(single, SplitConfig(), 0).test.n_edges == 0
    assert split(single, SplitConfig(per_user=False), 0).test.n_edges == 12


def test_given_train_parts_with_few_pairs_a_user_give_up_validation_too():
    label = np.tile(np.array([0, 0, 2], np.uint8), 100)
    data = _data([(u, (u + 13 * i) % 50) for u in range(100) for i in range(3)], split=label)
    parts = split(data, SplitConfig(), 0)
    assert [part.n_edges for part in parts] == [180, 20, 100]
    assert (parts.train.user_counts() > 0).all()


def test_cut_times_that_hold_nothing_out_are_refused_with_the_span_of_the_data():
    data = _random(0, time=np.arange(300.0) + 1e9)
    late = SplitConfig("temporal", test_time=1.4e9)
    with pytest.raises(
        InputError, match=r"at or after split\.test_time 1400000000; its times are 1"
    ):
        split(data, late, 0)
    between = SplitConfig("temporal", test_time=1e9 + 10, validation_time=1e9 + 9.5)
    with pytest.raises(InputError, match=r"validation_time .* and before split\.test_time; its"):
        split(data, between, 0)
    with pytest.raises(InputError, match="no train pair; hold out less; its times are"):
        split(data, SplitConfig("temporal", test_time=5.0), 0)


KEPT = [
    SplitConfig("random"),
    SplitConfig("random", per_user=False),
    SplitConfig("hashed"),
    SplitConfig("hashed", per_user=False),
    SplitConfig("cold-items"),
    SplitConfig("given"),
    *LATE,
]


def _known(data: Dataset, label: np.ndarray, of: Dataset, seed: int) -> Kept:
    """Return the split that a run on ``of`` saved, looked up for the pairs of ``data``."""
    kept = KeptSplit.of(hashes(of), label, {}, seed)
    return kept.of_pairs(hashes(data))


@pytest.mark.parametrize("config", KEPT, ids=lambda c: f"{c.name}-{c.per_user}")
def test_a_split_that_goes_on_holds_out_nothing_that_was_trained_on(config):
    rng = np.random.default_rng(5)
    given_label = rng.choice([0, 2], 700, p=[0.8, 0.2]).astype(np.uint8)
    data = _random(3, users=40, items=45, edges=700, time=rng.integers(0, 30, 700).astype(float))
    data = replace(data, split=given_label if config.name == "given" else None)
    assert data.time is not None
    old = data.take(data.time < 20) if config.name != "random" else data.take(data.item < 33)
    was = draw(old, config, 1).label
    known = _known(data, was, old, 1)
    drawn = draw(data, config, 2, known)
    assert ((known.part == TRAIN) <= (drawn.label == TRAIN)).all()
    if config.name not in ("temporal", "leave-last-out"):
        held = known.part >= 0
        assert drawn.label[held].tolist() == known.part[held].tolist()
    share = (drawn.label == TEST).mean()
    assert 0.5 < share / (draw(data, config, 2).label == TEST).mean() < 2
    assert TEST in drawn.label[known.part < 0]
    # With the same data and another seed, the split stays the same.
    again = draw(old, config, 7, _known(old, was, old, 1))
    assert again.label.tolist() == was.tolist()
    if config.name == "cold-items":
        parts = taken(data, drawn.label, config)
        assert not set(parts.train.item.tolist()) & set(parts.test.item.tolist())


def test_temporal_by_cut_times():
    data = _data([(u, i) for u in range(4) for i in range(5)], time=np.arange(20.0))
    config = SplitConfig(name="temporal", validation_time=10.0, test_time=15.0)
    train, validation, test = split(data, config, 0)
    assert train.time is not None
    assert train.time.tolist() == list(range(10))
    assert validation.time is not None
    assert validation.time.tolist() == [10, 11, 12, 13, 14]
    assert test.time is not None
    assert test.time.tolist() == [15, 16, 17, 18, 19]


@pytest.mark.parametrize("per_user", [True, False])
def test_temporal_by_share_never_trains_on_what_is_later(per_user):
    time = np.random.default_rng(0).permutation(300).astype(np.float64)
    data = _random(2, time=time)
    train, validation, test = split(data, SplitConfig(name="temporal", per_user=per_user), 0)
    groups = range(data.n_users) if per_user else [None]
    for user in groups:
        of = [p.take(p.user == user) if per_user else p for p in (train, validation, test)]
        latest = -1.0
        for part in of:
            if part.n_edges and part.time is not None:
                assert part.time.min() > latest
                latest = float(part.time.max())


@pytest.mark.parametrize("name", ["temporal", "leave-last-out"])
def test_without_times_there_is_no_split_by_time(name):
    with pytest.raises(InputError, match="time column"):
        split(_random(0), SplitConfig(name=name), 0)


def test_given_needs_labels():
    with pytest.raises(InputError, match="has no split"):
        split(_random(0), SplitConfig(name="given"), 0)


def test_a_split_without_train_pairs_is_refused():
    data = _data([(0, 0), (1, 1)], time=np.array([1.0, 2.0]))
    with pytest.raises(InputError, match="no train pair"):
        split(data, SplitConfig(name="temporal", test_time=0.0), 0)


def test_a_repeated_pair_is_refused_by_its_ids():
    data = _random(0)
    twice = data.take(np.array([3, 5, 3]))
    user, item = data.user_ids[data.user[3]], data.item_ids[data.item[3]]
    with pytest.raises(InputError, match=f"user {user} and item {item} are paired twice"):
        split(twice, SplitConfig(), 0)


def test_no_filter_returns_the_data_itself():
    data = _random(0)
    assert apply_filter(data, FilterConfig()) is data


def test_min_rating_keeps_the_threshold_and_drops_who_falls_away():
    data = _data([(0, 0), (0, 1), (1, 2), (2, 0)], rating=np.array([4, 3, 2, 5], np.float32))
    kept = apply_filter(data, FilterConfig(min_rating=4.0))
    assert kept.user_ids.tolist() == [0, 20]
    assert kept.item_ids.tolist() == ["i000"]
    assert _pairs(kept) == {(0, 0), (1, 0)}
    assert kept.rating is not None
    assert kept.rating.tolist() == [4, 5]
    assert (kept.user.dtype, kept.item.dtype) == (np.int32, np.int32)


def test_items_are_counted_before_users_are_dropped():
    # Without user 2, item 1 has fewer than two pairs; without item 2, user 1 has one pair left.
    data = _data([(0, 0), (0, 1), (1, 0), (1, 2), (2, 1)])
    kept = apply_filter(data, FilterConfig(min_item_count=2, min_user_count=2))
    assert kept.user_ids.tolist() == [0]
    assert kept.item_ids.tolist() == ["i000", "i001"]


def _slow_core(pairs: set[tuple[int, int]], k: int) -> set[tuple[int, int]]:
    while True:
        users = [u for u, _ in pairs]
        items = [i for _, i in pairs]
        inner = {(u, i) for u, i in pairs if users.count(u) >= k and items.count(i) >= k}
        if inner == pairs:
            return pairs
        pairs = inner


@pytest.mark.parametrize("k", [2, 3, 4])
@pytest.mark.parametrize("seed", range(4))
def test_k_core_equals_the_slow_truth(k, seed):
    data = _random(seed, users=25, items=25, edges=110)
    truth = _slow_core(_pairs(data), k)
    if not truth:
        with pytest.raises(InputError, match="no pair passes"):
            apply_filter(data, FilterConfig(k_core=k))
        return
    kept = apply_filter(data, FilterConfig(k_core=k))
    by_id = {(int(kept.user_ids[u]) // 10, int(str(kept.item_ids[i])[1:])) for u, i in _pairs(kept)}
    assert by_id == truth
    assert kept.user_counts().min() >= k
    assert kept.item_counts().min() >= k


def test_a_rating_threshold_needs_ratings():
    with pytest.raises(InputError, match="needs ratings"):
        apply_filter(_random(0), FilterConfig(min_rating=3.0))


def _featured(data: Dataset) -> Dataset:
    """Give each user and item its row number as a feature."""
    sides = [
        Features({"row": Number(np.arange(size, dtype=np.float32))})
        for size in (data.n_users, data.n_items)
    ]
    return replace(data, user_features=sides[0], item_features=sides[1])


def test_parts_keep_the_features():
    data = _featured(_random(0))
    for part in split(data, SplitConfig(), 0):
        assert part.user_features is data.user_features
        assert part.item_features is data.item_features


def test_a_filter_takes_the_features_of_what_is_left():
    data = _featured(_random(1, edges=200))
    left = apply_filter(data, FilterConfig(min_item_count=8))
    assert 0 < left.n_items < data.n_items
    for features, ids, all_ids in (
        (left.user_features, left.user_ids, data.user_ids),
        (left.item_features, left.item_ids, data.item_ids),
    ):
        assert features is not None
        row = features.arrays()["row:number:value"].astype(int)
        assert all_ids[row].tolist() == ids.tolist()


def _again() -> Dataset:
    """Return pairs of which some repeat.

    User 0 has item 0 in train and test. User 1 has item 1 in all three parts, and item 2 in the
    last two.
    """
    pairs = [(0, 0), (0, 0), (0, 1), (1, 0), (1, 1), (1, 1), (1, 1), (1, 2), (1, 2)]
    return _data(
        pairs,
        split=np.array([0, 2, 2, 0, 0, 1, 2, 1, 2], np.uint8),
        time=np.array([1, 9, 3, 1, 2, 7, 8, 5, 6], np.float64),
        weight=np.arange(1, 10, dtype=np.float32),
    )


def test_repeats_of_a_given_split_are_left_out_kept_or_refused():
    data = _again()
    assert repeats(data).tolist() == [False, True, False, False, False, True, True, False, True]
    dropped = split(data, SplitConfig(), 0)
    assert [_pairs(part) for part in dropped] == [{(0, 0), (1, 0), (1, 1)}, {(1, 2)}, {(0, 1)}]
    kept = split(data, SplitConfig(repeats="keep"), 0)
    assert [_pairs(part) for part in kept] == [
        {(0, 0), (1, 0), (1, 1)},
        {(1, 1), (1, 2)},
        {(0, 0), (0, 1), (1, 1), (1, 2)},
    ]
    assert [part.n_edges for part in kept] == [3, 2, 4]
    with pytest.raises(
        InputError, match=r"4 held-out pairs .* such as user 0 and item i000 of test"
    ):
        split(data, SplitConfig(repeats="refuse"), 0)
    with pytest.raises(InputError, match=r"split\.repeats needs split\.name given"):
        SplitConfig("random", repeats="keep")
    _, notes = settled(data, SplitConfig("given"))
    assert list(notes.values()) == [4]
    twice = _data([(0, 0), (0, 0), (1, 1)], split=np.array([0, 0, 2], np.uint8))
    with pytest.raises(InputError, match="paired twice"):
        split(twice, SplitConfig(), 0)


@pytest.mark.parametrize("name", ["random", "temporal", "hashed"])
def test_other_splits_take_what_given_parts_repeat_once(name):
    parts = split(_again(), SplitConfig(name, test=0.3, validation=0.0), 0)
    found = [pair for part in parts for pair in zip(part.user, part.item, strict=True)]
    assert sorted(found) == [(0, 0), (0, 1), (1, 0), (1, 1), (1, 2)]
    assert sum(float(part.weight.sum()) for part in parts if part.weight is not None) == 45
    times = {
        (int(u), int(i)): t
        for part in parts
        if part.time is not None
        for u, i, t in zip(part.user, part.item, part.time.tolist(), strict=True)
    }
    assert times == {(0, 0): 9, (0, 1): 3, (1, 0): 1, (1, 1): 8, (1, 2): 6}


def _timed() -> Dataset:
    pairs = [(0, 0), (0, 1), (0, 2), (0, 3), (1, 0), (1, 1), (2, 2)]
    return _data(pairs, time=np.array([4, 1, 3, 2, 9, 8, 5], np.float64))


@pytest.mark.parametrize(
    ("asked", "left"),
    [
        ({"since": 3.0}, {(0, 0), (0, 2), (1, 0), (1, 1), (2, 2)}),
        ({"until": 3.0}, {(0, 1), (0, 3)}),
        ({"since": 0.0, "until": 5.0}, {(0, 0), (0, 1), (0, 2), (0, 3)}),
        ({"first": 1}, {(0, 1), (1, 1), (2, 2)}),
        ({"last": 2}, {(0, 0), (0, 2), (1, 0), (1, 1), (2, 2)}),
        ({"last": 1, "since": 5.0}, {(1, 0), (2, 2)}),
        ({"drop_most_active": 0.3}, {(1, 0), (1, 1), (2, 2)}),
        ({"user_core": 2}, {(0, 0), (0, 1), (0, 2), (0, 3), (1, 0), (1, 1)}),
        ({"item_core": 2}, {(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (2, 2)}),
        ({"user_core": 2, "item_core": 2}, {(0, 0), (0, 1), (1, 0), (1, 1)}),
    ],
)
def test_filters_by_time_activity_and_cores_of_each_side(asked, left):
    data = apply_filter(_timed(), FilterConfig(**asked))
    ids = data.user_ids[data.user].tolist(), data.item_ids[data.item].tolist()
    found = {(int(user) // 10, int(item[1:])) for user, item in zip(*ids, strict=True)}
    assert found == left


def test_of_equal_times_a_filter_takes_any_and_always_the_same():
    data = _random(3, edges=400)
    tied = replace(data, time=np.zeros(data.n_edges))
    last, again = (apply_filter(tied, FilterConfig(last=2)) for _ in range(2))
    assert last.fingerprint() == again.fingerprint()
    assert last.user_counts().max() == 2
    first = apply_filter(tied, FilterConfig(first=2))
    assert len({part.fingerprint() for part in (first, last)}) == 2
    # The items kept are neither only those with the lowest ids nor only those with the highest.
    place = [
        np.mean([int(name[1:]) for name in part.item_ids[part.item]]) for part in (first, last)
    ]
    middle = np.mean([int(name[1:]) for name in data.item_ids[data.item]])
    assert place == pytest.approx([middle] * 2, rel=0.25)


@pytest.mark.parametrize("name", ["since", "until", "first", "last"])
def test_filters_by_time_need_times_and_agree_with_each_other(name):
    with pytest.raises(InputError, match=rf"filter\.{name} needs times, and this data has none"):
        apply_filter(_random(0), FilterConfig(**{name: 1 if name in ("first", "last") else 1.0}))
    for clash, said in (
        ({"first": 1, "last": 1}, "give only one of filter.first and filter.last"),
        ({"since": 2.0, "until": 2.0}, r"filter\.since must be before"),
        ({"k_core": 2, "user_core": 3}, "covers users and items"),
    ):
        with pytest.raises(InputError, match=said):
            FilterConfig(**clash)


def test_the_seed_of_a_split_is_apart_from_that_of_the_run():
    data = _random(3, edges=400)
    config = Config(seed=1)
    own = [splits_of(replace(config, seed=seed), data) for seed in (1, 2)]
    assert _pairs(own[0].test) != _pairs(own[1].test)
    fixed = replace(config, split=SplitConfig(seed=1))
    for seed in (1, 2):
        assert _pairs(splits_of(replace(fixed, seed=seed), data).test) == _pairs(own[0].test)
