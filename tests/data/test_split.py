"""Splits partition the interactions; filters keep what they say."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxrec.config import FilterConfig, SplitConfig
from jaxrec.data.dataset import Dataset, Exposed
from jaxrec.data.features import Features, Number
from jaxrec.data.split import apply_filter, labels, split
from jaxrec.errors import InputError


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
        ["auto", "given", "random", "hashed", "leave-last-out", "temporal", "cold-items"]
    ),
    test=st.floats(0, 0.6),
    validation=st.floats(0, 0.6),
    per_user=st.booleans(),
)


@settings(max_examples=80, deadline=None)
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


@pytest.mark.parametrize("name", ["random", "hashed"])
def test_another_seed_gives_another_random_split(name):
    data = _random(0)
    tests = [split(data, SplitConfig(name), seed).test.fingerprint() for seed in range(3)]
    assert len(set(tests)) == 3


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), per_user=st.booleans())
def test_a_hashed_split_of_some_users_is_that_of_all(seed, per_user):
    data, config = _random(1), SplitConfig("hashed", per_user=per_user)
    some = data.user % 3 == 1
    whole, alone = (labels(of, config, seed) for of in (data, data.take(some)))
    np.testing.assert_array_equal(whole[some], alone)


def test_a_hashed_split_over_all_pairs_holds_out_about_the_share():
    data = _data([(u, i) for u in range(200) for i in range(50)])
    label = labels(data, SplitConfig("hashed", per_user=False, test=0.3, validation=0.5), 0)
    count = np.bincount(label) / data.n_edges
    np.testing.assert_allclose(count, [0.35, 0.35, 0.3], atol=0.02)  # 4 standard deviations
    nothing = SplitConfig("hashed", per_user=False, test=0.0, validation=0.0)
    assert not labels(data, nothing, 0).any()


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
    last = SplitConfig("leave-last-out", validation=0.0)  # held out: 3 of user 0, 13 of user 1
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
    assert _pairs(parts.test) == {(0, 3), (1, 0)}  # of equal times the later row
    assert _pairs(parts.validation) == {(0, 1)}  # a user of two keeps one to train on
    assert _pairs(parts.train) == {(0, 0), (0, 2), (1, 1), (2, 4)}
    bare = split(data, SplitConfig(name="leave-last-out", validation=0.0), 0)
    assert bare.validation.n_edges == 0
    assert _pairs(bare.test) == {(0, 3), (1, 0)}


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
    with pytest.raises(InputError, match="gives no split"):
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
    # Item 1 has two pairs only while user 2 is there; user 1 has one left without item 2.
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
        with pytest.raises(InputError, match="leaves no pair"):
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
    """Each id's own row number as its feature."""
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
