import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import oracle
from jaxrec.data.cooccurrence import of_interactions
from jaxrec.data.dataset import Dataset
from jaxrec.data.itemgraph import ItemGraph
from jaxrec.errors import InputError

SEEN = st.sets(st.tuples(st.integers(0, 5), st.integers(0, 7)), max_size=30)


def made(seen: set[tuple[int, int]], time: list[float] | None = None) -> Dataset:
    rows = sorted(seen)
    user, item = (np.array([row[n] for row in rows], np.int32) for n in range(2))
    when = None if time is None else np.array(time[: len(rows)])
    return Dataset(user, item, np.arange(6), np.arange(8), time=when)


def told(graph: ItemGraph) -> dict[tuple[int, int], float]:
    ends = zip(graph.src.tolist(), graph.dst.tolist(), strict=True)
    return dict(zip(ends, graph.weight.tolist(), strict=True))


@given(SEEN, st.sampled_from([1, 3, 1 << 20]))
def test_pairs_weigh_as_many_users_as_have_both(seen, block):
    data = made(seen)
    expected = oracle.pairs_of_baskets(data.user.tolist(), data.item.tolist())
    assert told(of_interactions(data, block=block)) == expected


@given(
    SEEN,
    st.lists(st.integers(0, 9).map(float), min_size=30, max_size=30),
    st.integers(0, 9).map(float),
    st.sampled_from([1, 4, 1 << 20]),
)
def test_a_window_leaves_out_what_is_further_apart(seen, time, window, block):
    data = made(seen, time)
    expected = oracle.pairs_of_baskets(data.user.tolist(), data.item.tolist(), time, window)
    assert told(of_interactions(data, window=window, block=block)) == expected


def test_long_histories_count_with_their_latest_items():
    data = made({(0, i) for i in range(8)}, [5, 1, 7, 3, 8, 2, 6, 4])
    graph = of_interactions(data, history=3)
    assert set(told(graph)) == {(2, 4), (2, 6), (4, 6)}
    assert graph.notes == {"users whose items were cut to the last 3": 1}


def test_without_times_long_histories_are_cut_at_random_and_always_alike():
    data = made({(u, i) for u in range(6) for i in range(8)})
    one, two = (of_interactions(data, history=4) for _ in range(2))
    assert told(one) == told(two)
    assert sum(told(one).values()) == 6 * 6
    assert len(told(one)) > 6 + 6  # more items than if the same ones were taken from every user


def test_a_window_needs_times():
    with pytest.raises(InputError, match=r"pairs\.window needs a time column"):
        of_interactions(made({(0, 1), (0, 2)}), window=3.0)
