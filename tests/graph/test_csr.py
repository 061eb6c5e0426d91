import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrec import negatives
from jaxrec.graph.csr import DeviceCsr, contains, count_prefix
from jaxrec.platforms import compiled_for

N_ITEMS = 12
LIKED = [[], [0], [11], [0, 1, 2, 9], list(range(12)), list(range(0, 12, 2)), [5, 6, 7]]


def rows(padding: int = 0) -> DeviceCsr:
    indptr = np.concatenate([[0], np.cumsum([len(x) for x in LIKED])])
    flat = np.array([i for x in LIKED for i in x] + [3] * padding, np.int32)
    return DeviceCsr(jnp.asarray(indptr, jnp.int32), jnp.asarray(flat, jnp.int32))


@pytest.fixture(params=["cpu", "gpu"], autouse=True)
def platform(request):
    """Run each test as if compiling for a CPU, and as if for a GPU."""
    with compiled_for(request.param):
        yield


def test_contains_equals_set_membership_whatever_lies_beyond_the_last_row():
    row = jnp.arange(len(LIKED))
    item = jnp.broadcast_to(jnp.arange(N_ITEMS), (len(LIKED), N_ITEMS))
    expected = [[i in liked for i in range(N_ITEMS)] for liked in LIKED]
    for padding in (0, 5):
        np.testing.assert_array_equal(contains(rows(padding), row, item), expected)


def test_count_prefix_counts_what_holds():
    row = jnp.arange(len(LIKED))
    below = count_prefix(rows(), row, lambda item, rank: item < 6)
    np.testing.assert_array_equal(below, [sum(i < 6 for i in liked) for liked in LIKED])
    ranks = count_prefix(rows(), row, lambda item, rank: rank < 2)
    np.testing.assert_array_equal(ranks, [min(2, len(liked)) for liked in LIKED])


def test_nobody_knows_anything():
    empty = DeviceCsr(jnp.zeros(3, jnp.int32), jnp.zeros(0, jnp.int32))
    assert not np.asarray(contains(empty, jnp.arange(2), jnp.zeros((2, 3), int))).any()
    drawn = negatives.uniform(jax.random.key(0), 4, 5, jnp.arange(2), empty)
    assert drawn.shape == (2, 4)
