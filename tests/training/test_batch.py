import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxrec.training import batch
from jaxrec.training.batch import Pairs

LIKED = [[0, 1, 2, 3, 4, 5], [], [2], [0, 5], [], [1, 2, 4]]


def pairs(weight: bool = False) -> Pairs:
    user = np.repeat(np.arange(len(LIKED)), [len(x) for x in LIKED])
    item = np.array([i for x in LIKED for i in x])
    indptr = np.concatenate([[0], np.cumsum([len(x) for x in LIKED])])
    return Pairs(
        jnp.asarray(user, jnp.int32),
        jnp.asarray(item, jnp.int32),
        jnp.arange(1, len(user) + 1, dtype=jnp.float32) if weight else None,
        jnp.asarray(indptr, jnp.int32),
        jnp.array([0, 2, 3, 5], jnp.int32),
    )


@settings(max_examples=15)
@given(st.integers(1, 3000), st.integers(0, 2**31 - 1))
def test_permute_is_a_permutation(size, seed):
    permute = jax.jit(batch.permute, static_argnums=2)
    out = permute(jax.random.key(seed), jnp.arange(size, dtype=jnp.uint32), size)
    np.testing.assert_array_equal(np.sort(np.asarray(out)), np.arange(size))


def test_permute_differs_by_key_and_shows_no_order():
    index = jnp.arange(5000, dtype=jnp.uint32)
    first = np.asarray(batch.permute(jax.random.key(0), index, 5000), np.int64)
    second = np.asarray(batch.permute(jax.random.key(1), index, 5000), np.int64)
    assert (first == second).mean() < 0.01
    assert abs(np.corrcoef(first, np.arange(5000))[0, 1]) < 0.05
    assert abs(np.corrcoef(first[1:], first[:-1])[0, 1]) < 0.05


@pytest.mark.parametrize("batch_size", [1, 5, 12, 50])
def test_an_epoch_by_edges_holds_every_pair_once_and_epochs_differ(batch_size):
    p = pairs()
    steps = batch.steps_per_epoch(p.size, batch_size)

    def epoch(number: int) -> list[tuple[int, int]]:
        seen = []
        for step in range(number * steps, (number + 1) * steps):
            b = batch.by_edges(jax.random.key(7), jnp.int32(step), p, batch_size)
            real = np.asarray(b.weight_B) > 0
            seen += zip(b.user_B[real].tolist(), b.item_B[real].tolist(), strict=True)
        return seen

    everything = sorted((u, i) for u, liked in enumerate(LIKED) for i in liked)
    assert sorted(epoch(0)) == everything
    assert sorted(epoch(1)) == everything
    assert epoch(0) != epoch(1)


def test_by_users_draws_users_evenly_and_only_their_own_items():
    p, counts = pairs(), np.zeros(len(LIKED))
    for step in range(60):
        b = batch.by_users(jax.random.key(3), jnp.int32(step), p, 12)
        for user, item in zip(b.user_B.tolist(), b.item_B.tolist(), strict=True):
            assert item in LIKED[user]
            counts[user] += 1
    assert counts[[1, 4]].sum() == 0
    assert counts.sum() == 720
    assert np.abs(counts[[0, 2, 3, 5]] - 180).max() < 60


def test_an_epoch_by_users_has_as_many_draws_as_pairs():
    weights = [
        batch.by_users(jax.random.key(0), jnp.int32(step), pairs(), 5).weight_B for step in range(3)
    ]
    assert [int(w.sum()) for w in weights] == [5, 5, 2]


@pytest.mark.parametrize("draw", [batch.by_edges, batch.by_users])
def test_event_weights_travel_with_their_pairs(draw):
    p = pairs(weight=True)
    b = draw(jax.random.key(1), jnp.int32(0), p, 12)
    columns = (p.user_E.tolist(), p.item_E.tolist(), p.weight_E.tolist())
    assert set(zip(*(x.tolist() for x in b[:3]), strict=True)) <= set(zip(*columns, strict=True))


def test_a_batch_is_a_function_of_key_and_step_alone():
    p = pairs()
    one = batch.by_edges(jax.random.key(0), jnp.int32(5), p, 4)
    jitted = jax.jit(batch.by_edges, static_argnums=3)
    again = jitted(jax.random.key(0), jnp.int32(5), p, 4)
    for a, b in zip(one, again, strict=True):
        np.testing.assert_array_equal(a, b)
