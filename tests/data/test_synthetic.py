"""Test that synthetic data has the requested sizes and planted structure, and is reproducible."""

from dataclasses import replace

import numpy as np
import pytest

import oracle
from jaxrec.config import SplitConfig
from jaxrec.data import synthetic
from jaxrec.data.features import Bag, Category, Number
from jaxrec.data.split import split
from jaxrec.errors import InputError


def _by_user(data):
    sets = [set() for _ in range(data.n_users)]
    for user, item in zip(data.user.tolist(), data.item.tolist(), strict=True):
        sets[user].add(item)
    return sets


def test_exact_counts_no_repeats_and_sorted_ids():
    data = synthetic.make(120, 90, 1_000, communities=5, seed=3)
    assert (data.n_users, data.n_items, data.n_edges) == (120, 90, 1_000)
    assert len(set(zip(data.user.tolist(), data.item.tolist(), strict=True))) == 1_000
    assert data.user_counts().min() >= 1
    assert data.user_ids[[0, 119]].tolist() == ["u001", "u120"]
    assert data.item_ids[[0, 89]].tolist() == ["i01", "i90"]
    assert sorted(data.user_ids.tolist()) == data.user_ids.tolist()
    assert (data.user.dtype, data.item.dtype) == (np.int32, np.int32)


def test_the_seed_is_honoured():
    same = [synthetic.make(50, 40, 200, seed=seed).fingerprint() for seed in (1, 1, 2)]
    assert same[0] == same[1] != same[2]


def test_embedded_is_fixed():
    data = synthetic.embedded()
    assert (data.n_users, data.n_items, data.n_edges) == (2_000, 1_500, 60_000)
    assert data.fingerprint() == synthetic.embedded().fingerprint()
    # If this value changed, runs of `quickstart` could not be compared with earlier ones.
    assert int((data.user.astype(np.int64) * 31 + data.item).sum()) == 1_911_896_896


def test_features_tell_the_planted_structure_and_leave_the_pairs_as_they_are():
    data, again = (
        synthetic.make(400, 300, 4_000, communities=6, seed=3, features=True) for _ in range(2)
    )
    plain = synthetic.make(400, 300, 4_000, communities=6, seed=3)
    planted = synthetic.truth(400, 300, communities=6, seed=3)
    bare = replace(data, user_features=None, item_features=None)
    assert bare.fingerprint() == plain.fingerprint() != data.fingerprint()
    assert data.fingerprint() == again.fingerprint()
    assert synthetic.embedded().features() == {}
    for features, community, share in (
        (data.user_features, planted.user_community, planted.activity),
        (data.item_features, planted.item_community, planted.popularity),
    ):
        assert features is not None
        assert features.fault(len(community)) is None
        group, tags, level = features.columns.values()
        assert isinstance(group, Category)
        assert isinstance(tags, Bag)
        assert isinstance(level, Number)
        for column in (group, tags, level):
            assert 0 < column.missing().mean() < 0.12
        there = ~group.missing()
        assert 0.75 < (group.code[there] - 1 == community[there]).mean() < 0.92
        degree = np.diff(tags.indptr)
        assert set(degree.tolist()) == {0, 1, 2, 3}
        assert 0.75 < ((tags.code - 1) // 4 == np.repeat(community, degree)).mean() < 0.92
        there = ~level.missing()
        assert np.corrcoef(level.value[there], np.log(share[there]))[0, 1] > 0.7


def test_communities_hold_the_planted_share_of_the_pairs():
    data, planted = synthetic.embedded(), synthetic.embedded_truth()
    own = planted.user_community[data.user] == planted.item_community[data.item]
    expected = synthetic.LOYALTY + (1 - synthetic.LOYALTY) / 12
    # Repeated pairs are drawn again. Repeats are likelier within a community, so the share is a
    # little below the expected one.
    assert expected - 0.12 < own.mean() < expected + 0.01


def test_popularity_and_activity_follow_the_planted_power_law():
    data, planted = synthetic.embedded(), synthetic.embedded_truth()
    assert np.corrcoef(data.item_counts(), planted.popularity)[0, 1] > 0.8
    assert np.corrcoef(data.user_counts(), planted.activity)[0, 1] > 0.8


def test_scores_are_probabilities():
    planted = synthetic.truth(30, 20, communities=4, seed=1)
    score_CI = planted.scores()
    assert score_CI.shape == (4, 20)
    np.testing.assert_allclose(score_CI.sum(axis=1), 1)
    own = planted.item_community == 2
    assert score_CI[2, own].sum() > synthetic.LOYALTY


def test_ceiling_equals_the_slow_oracle():
    planted = synthetic.truth(60, 50, communities=4, seed=5)
    data = synthetic.make(60, 50, 600, communities=4, seed=5)
    parts = split(data, SplitConfig(), 0)
    score_UI = planted.scores()[planted.user_community]
    seen = [a | b for a, b in zip(*map(_by_user, parts[:2]), strict=True)]
    truth = oracle.ranking_metrics(score_UI, _by_user(parts.test), seen, [10])
    found = synthetic.ceiling(planted, parts[:2], parts.test, k=10)
    assert found == pytest.approx(truth["recall@10"], abs=1e-12)


def test_the_ceiling_is_three_times_popularity():
    parts = split(synthetic.embedded(), SplitConfig(), 0)
    planted = synthetic.embedded_truth()
    best = synthetic.ceiling(planted, parts[:2], parts.test)
    flat = planted._replace(
        user_community=np.zeros_like(planted.user_community),
        item_community=np.zeros_like(planted.item_community),
        popularity=parts.train.item_counts() / parts.train.n_edges,
    )
    popularity = synthetic.ceiling(flat, parts[:2], parts.test)
    assert 0.3 < best < 0.5
    assert best > 3 * popularity > 0


@pytest.mark.parametrize("sizes", [(10, 10, 9), (10, 10, 26), (3, 40, 30), (40, 3, 30)])
def test_impossible_sizes_are_refused(sizes):
    with pytest.raises(InputError, match="must be in"):
        synthetic.make(*sizes, communities=4)


def test_dense_data_is_made_too():
    assert synthetic.make(40, 40, 400, communities=4).n_edges == 400
