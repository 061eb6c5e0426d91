import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from jaxrec.data.pair_keys import distinct, summed


@given(st.lists(st.integers(-5, 5), max_size=20))
def test_distinct_and_summed_are_those_of_numpy(numbers):
    key = np.array(numbers, np.int64)
    np.testing.assert_array_equal(distinct(key), np.unique(key))
    found, total = summed(key, np.ones(len(key), np.float32))
    expected, count = np.unique(key, return_counts=True)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(total, count)
