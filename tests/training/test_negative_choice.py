"""Test that the picked negative is the one that a loop over the candidates finds."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrec.config import Config, EvalConfig, ModelConfig, NegativesConfig, TrainConfig
from jaxrec.data import synthetic
from jaxrec.data.features import Features
from jaxrec.data.split import split
from jaxrec.errors import InputError
from jaxrec.training import negative_choice
from jaxrec.training.problem import Problem

DATA = synthetic.make(30, 45, 300, communities=3, seed=3, features=True)
BASE = Config(
    model=ModelConfig("mf", dim=6, layers=0, biases=True, init_std=1.0),
    train=TrainConfig(batch_size=32),
    eval=EvalConfig(k=(20,)),
)


def problem(negatives: NegativesConfig, data=DATA, **parts) -> Problem:
    config = dataclasses.replace(BASE, negatives=negatives, **parts)
    return Problem.build(config, split(data, config.split, 0))


def expected(how: str, user, pos, neg, biases, valid) -> int:
    """Return the place of the negative to pick."""
    score = [float(user @ n + b) for n, b in zip(neg, biases[1:], strict=True)]
    if how == "similar":
        score = [float(pos @ n / np.linalg.norm(pos) / np.linalg.norm(n)) for n in neg]
    of_pos = float(user @ pos + biases[0])
    may = [c for c in range(len(neg)) if valid[c]]
    if how == "semi-hard":
        below = [c for c in may if score[c] < of_pos]
        return max(below, key=lambda c: score[c]) if below else min(may, key=lambda c: score[c])
    return max(may, key=lambda c: score[c])


@pytest.mark.parametrize("how", ["hardest", "semi-hard", "similar"])
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("uniform", {"count": 2, "candidates": 5}),
        *(("shared", {"count": 20}), ("in-batch", {}), ("all", {})),
    ],
)
def test_the_picked_negative_is_that_of_a_loop(how, name, options):
    p = problem(NegativesConfig(name, pick=how, **options))
    params = p.initial_state().params
    rng = np.random.default_rng(0)
    params["bias"][...] = jnp.asarray(rng.normal(size=75), jnp.float32)
    batch = jax.jit(p.stepper.batch)(p.data, jnp.int32(1))

    @jax.jit
    def picked(params, batch):
        rows = p.stepper.rows_of(params, p.data.graph, batch)
        return negative_choice.by_embeddings(p.config, rows, batch, None)

    rows, kept = picked(params, batch)
    count = options["count"] if name == "uniform" else 1
    assert kept.neg.shape == (32, count)
    table = np.asarray(p.data.graph.in_data_order(params["embedding"][...]), np.float64)
    bias = np.asarray(params["bias"][...], np.float64)
    users, items = (np.asarray(x) for x in batch.positives[:2])
    candidates = np.broadcast_to(np.asarray(batch.neg), (32, batch.neg.shape[-1]))
    valid = np.ones(candidates.shape, bool)
    if batch.valid_BN is not None:
        valid = np.broadcast_to(np.asarray(batch.valid_BN), candidates.shape)
    groups = candidates.reshape(32, count, -1), valid.reshape(32, count, -1)
    known = [set() for _ in range(30)]
    for u, i in zip(p.splits.train.user, p.splits.train.item, strict=True):
        known[u].add(int(i))
    for b, (u, i) in enumerate(zip(users, items, strict=True)):
        for n in range(count):
            row, may = groups[0][b, n], groups[1][b, n]
            if not may.any():
                assert not np.asarray(kept.valid_BN)[b, n]
                continue
            of_row = np.concatenate([[bias[30 + i]], bias[30 + row]])
            place = expected(how, table[u], table[30 + i], table[30 + row], of_row, may)
            assert int(kept.neg[b, n]) == row[place]
            assert int(kept.neg[b, n]) not in known[u]
    # The rows after the pairs are those of the picked negatives.
    at = np.asarray(kept.neg).reshape(-1)
    np.testing.assert_allclose(rows.emb_ND[64:, :6], table[30 + at], rtol=1e-5)


@pytest.mark.parametrize("name", ["uniform", "all"])
def test_of_raw_features_the_nearest_is_taken(name):
    options = {"candidates": 7} if name == "uniform" else {}
    p = problem(NegativesConfig(name, pick="same-features", **options))
    features = p.data.alike_IF
    assert features is not None
    unit = np.asarray(features, np.float64)
    np.testing.assert_allclose((unit**2).sum(1), 1, rtol=1e-5)
    batch = jax.jit(p.stepper.batch)(p.data, jnp.int32(2))
    assert batch.neg.shape == (32, 1)
    if name == "all":
        known = p.splits.train.csr()
        for u, i, n in zip(*(np.asarray(x) for x in batch.positives[:2]), batch.neg, strict=True):
            like = unit @ unit[i]
            like[known.indices[known.indptr[u] : known.indptr[u + 1]]] = -np.inf
            assert like[int(n[0])] == pytest.approx(like.max(), abs=1e-6)


def test_raw_features_are_needed_where_they_are_asked_for():
    how = NegativesConfig("all", pick="same-features")
    with pytest.raises(InputError, match=r"same-features needs features of items"):
        problem(how, dataclasses.replace(DATA, item_features=None))
    bare = dataclasses.replace(DATA, item_features=Features({}))
    with pytest.raises(InputError, match=r"features"):
        problem(how, bare)


def test_all_items_but_the_pairs_own_stand_against_it():
    p = problem(NegativesConfig("all"))
    batch = jax.jit(p.stepper.batch)(p.data, jnp.int32(0))
    np.testing.assert_array_equal(batch.neg, np.arange(45))
    own = np.asarray(batch.positives.item_B)[:, None]
    np.testing.assert_array_equal(batch.valid_BN, np.arange(45) != own)
