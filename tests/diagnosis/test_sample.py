"""Test the sample: reproducible, spread over the data, with an unknown item beside each pair."""

import jax
import numpy as np

from jaxrec.data import synthetic
from jaxrec.diagnosis.sample import of_data

DATA = synthetic.make(80, 60, 1150, seed=1)  # nearly as dense as synthetic data can be


def test_the_other_item_of_a_pair_is_one_that_its_user_does_not_know():
    sample = of_data(DATA, None)
    assert sample.train is not None
    known = {(u, i) for u, i in zip(DATA.user.tolist(), DATA.item.tolist(), strict=True)}
    user, item, other = sample.train[:3]
    assert {(u, i) for u, i in zip(user.tolist(), item.tolist(), strict=True)} <= known
    assert not {(u, i) for u, i in zip(user.tolist(), other.tolist(), strict=True)} & known
    assert len(np.unique(other)) > 40


def test_it_is_a_function_of_the_data():
    first, again = (of_data(DATA, DATA) for _ in range(2))
    jax.tree.map(np.testing.assert_array_equal, first, again)


def test_users_and_items_without_train_pairs_are_left_out():
    kept = DATA.take((DATA.user % 2 == 0) & (DATA.item % 3 == 0))
    sample = of_data(kept, None)
    assert set(sample.user_n.tolist()) == set(kept.user.tolist())
    assert set(sample.item_m.tolist()) == set(kept.item.tolist())
    most = np.argsort(-kept.item_counts(), kind="stable")[:20]
    assert sample.popular_K.tolist() == most.tolist()
