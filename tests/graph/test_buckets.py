import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrec.graph import buckets


def random_rows(degrees, n_nodes=50, seed=0):
    rng = np.random.default_rng(seed)
    indptr = np.concatenate([[0], np.cumsum(degrees)])
    sender = rng.integers(0, n_nodes, indptr[-1]).astype(np.int32)
    weight = rng.normal(size=indptr[-1]).astype(np.float32)
    dense = np.zeros((len(degrees), n_nodes))
    np.add.at(dense, (np.repeat(np.arange(len(degrees)), degrees), sender), weight)
    return buckets.group_rows(indptr, sender, weight), dense


# The widest bucket has 32 entries; a row of 1,025 needs two levels of pieces, 40,000 three.
@pytest.mark.parametrize(
    "degrees",
    [
        *([0, 3, 4, 5, 31, 32, 0], [33, 1, 64, 65], [1025, 2, 1024, 0], [40_000, 7], [100]),
        *([0, 0], [0, 1]),
    ],
)
def test_rows_of_any_width_equal_the_dense_product(degrees):
    made, dense = random_rows(degrees)
    x = np.random.default_rng(1).normal(size=(50, 3)).astype(np.float32)
    y = jax.jit(buckets.product)(made, jnp.asarray(x))
    np.testing.assert_allclose(y, dense @ x, rtol=1e-4, atol=1e-3 if max(degrees) > 99 else 1e-5)


def test_a_renamed_product_reads_the_rows_by_their_names():
    made, dense = random_rows([40, 0, 5, 1100])
    name = np.random.default_rng(2).permutation(50).astype(np.int32)
    x = np.random.default_rng(1).normal(size=(50, 3)).astype(np.float32)
    moved = np.empty_like(x)
    moved[name] = x
    y = buckets.product(buckets.renamed(made, jnp.asarray(name)), jnp.asarray(moved))
    np.testing.assert_allclose(y, dense @ x, rtol=1e-4, atol=1e-4)


def test_no_more_than_half_of_the_slots_beyond_four_a_row_are_padding():
    degrees = np.random.default_rng(0).zipf(1.6, 500).clip(max=5000)
    made, _ = random_rows(degrees)
    rows = [*made.short, *([made.pieces] if made.pieces else [])]
    slots = sum(bucket.sender_RW.size for bucket in rows)
    most = 2 * degrees.sum() + 4 * len(degrees) + 32 * np.sum(degrees > 32)
    assert degrees.sum() <= slots <= most
