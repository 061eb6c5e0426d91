from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrec import presets
from jaxrec.config import Config, WalksConfig
from jaxrec.data import synthetic_items
from jaxrec.data.pair_split import split_pairs
from jaxrec.training.items.batch import Windows, stretches, windows
from jaxrec.training.items.problem import ItemProblem, visits

GRAPH = synthetic_items.make(60, 200, communities=4, seed=3, missing=0.3)


def config(preset: str = "skipgram", **sections) -> Config:
    base = presets.get(preset)
    base = replace(
        base,
        model=replace(base.model, dim=6, init_std=0.3),
        negatives=replace(base.negatives, count=3, groups=2),
        train=replace(base.train, batch_size=8),
        pairs=replace(base.pairs, validation=0.0),
    )
    made = {name: replace(getattr(base, name), **values) for name, values in sections.items()}
    return replace(base, **made)


def problem(made: Config) -> ItemProblem:
    return ItemProblem.build(made, split_pairs(GRAPH, made.pairs, 0))


def moved(of: ItemProblem):
    """Return tables in which no row is 0."""
    tables = of.initial_state().params
    keys = jax.random.split(jax.random.key(5), len(tables))
    made = {
        name: table + 0.3 * jax.random.normal(key, table.shape)
        for key, (name, table) in zip(keys, tables.items(), strict=True)
    }
    return of.stepper.init(made)


def batch_of(of: ItemProblem, step: int) -> Windows:
    drawn = stretches(of.config, of.data, jnp.array([step], jnp.int32))
    return windows(of.config, of.data, jax.tree.map(lambda x: x[0], drawn))


def oracle(of: ItemProblem, tables, batch: Windows):
    """Return the loss and its gradient in every table, computed pair by pair in float64."""
    made = {name: np.asarray(table, np.float64) for name, table in tables.items()}
    gradient = {name: np.zeros_like(table) for name, table in made.items()}
    context = "context" if "context" in made else "embedding"
    item_BL, weight_BLL = np.asarray(batch.item_BL), np.asarray(batch.weight_BLL)
    target_BLL, neg_GS = np.asarray(batch.target_BLL), np.asarray(batch.neg_GS)
    n, count = len(item_BL), neg_GS.shape[1]
    loss = pairs = 0.0

    def one(a: int, b: int, weight: float, target: float, positive: bool) -> float:
        """Add the gradient of one pair of a centre and a context."""
        bias = made["bias"][a] + made["bias"][b] if "bias" in made else 0.0
        score = made["embedding"][a] @ made[context][b] + bias
        if of.config.loss.name == "weights":
            value, slope = (score - target) ** 2, 2 * (score - target)
        elif positive:
            value, slope = np.log1p(np.exp(-score)), -1 / (1 + np.exp(score))
        else:
            value, slope = np.log1p(np.exp(score)), 1 / (1 + np.exp(-score))
        gradient["embedding"][a] += weight * slope * made[context][b]
        gradient[context][b] += weight * slope * made["embedding"][a]
        if "bias" in made:
            gradient["bias"][a] += weight * slope
            gradient["bias"][b] += weight * slope
        return weight * value

    for b, items in enumerate(item_BL):
        for i, centre in enumerate(items):
            for j, other in enumerate(items):
                weight = weight_BLL[b, i, j]
                if weight:
                    loss += one(centre, other, weight, target_BLL[b, i, j], True)
                    pairs += weight
                    l2 = of.config.train.l2
                    for table, row in (("embedding", centre), (context, other)):
                        loss += weight * l2 / 2 * made[table][row] @ made[table][row]
                        gradient[table][row] += weight * l2 * made[table][row]
            share = weight_BLL[b, i].sum() * of.config.negatives.per_pair / count
            for neg in neg_GS[b * len(neg_GS) // n]:
                loss += one(centre, neg, share, 0.0, False)
    return loss, pairs, gradient


FORMS = {
    "skip-gram": {},
    "one table": {"model": {"tables": "one"}},
    "fixed window, subsampled": {"walks": {"dynamic": False, "subsample": 0.02}},
    "l2": {"train": {"l2": 0.1}},
    "biases on walks": {"model": {"name": "item-mf", "biases": True, "score": "dot"}},
    "pairs": {"model": {"name": "item-mf"}, "train": {"positives": "edges"}},
    "weights of pairs, biases": {
        "model": {"name": "item-mf", "tables": "one", "biases": True, "score": "dot"},
        "loss": {"name": "weights"},
        "train": {"positives": "edges"},
    },
}


@pytest.mark.parametrize("form", FORMS)
def test_loss_and_step_equal_the_float64_reference(form):
    of = problem(config(optim={"name": "sgd", "learning_rate": 0.01}, **FORMS[form]))
    state = moved(of)
    batch = batch_of(of, 2)
    loss, pairs, gradient = oracle(of, state.params, batch)
    rows = of.stepper.rows_of(state.params, of.data, batch)
    at = {name: state.params[name][row] for name, row in rows.items()}
    value, (_, weight) = of.stepper.loss(at, of.data, batch)
    np.testing.assert_allclose(value, loss, rtol=1e-5)
    np.testing.assert_allclose(weight, pairs, rtol=1e-6)
    scratch = {n: jnp.full(len(t), 10**6, jnp.int32) for n, t in state.params.items()}
    after, _ = of.stepper.step(state, scratch, of.data, batch)
    # Linear decay: the rate of step 0 is the peak.
    for name, table in state.params.items():
        expected = np.asarray(table) - 0.01 * gradient[name]
        np.testing.assert_allclose(after.params[name], expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(after.totals.loss, loss / pairs, rtol=1e-5)


@pytest.mark.parametrize("name", ["adagrad", "rowwise_adagrad", "adam"])
def test_repeated_rows_of_a_batch_are_updated_once_by_their_sum(name):
    of = problem(config(optim={"name": name, "learning_rate": 0.1}))
    state, batch = moved(of), batch_of(of, 1)
    _, _, gradient = oracle(of, state.params, batch)
    scratch = {n: jnp.zeros(len(t), jnp.int32) for n, t in state.params.items()}
    after, _ = of.stepper.step(state, scratch, of.data, batch)
    square = {"adagrad": np.square, "rowwise_adagrad": lambda g: np.mean(g**2, 1, keepdims=True)}
    for table, g in gradient.items():
        step = g / (np.abs(g) + 1e-8) if name == "adam" else g / np.sqrt(0.1 + square[name](g))
        expected = np.asarray(state.params[table]) - 0.1 * step
        touched = np.abs(g).max(axis=1) > 1e-3
        np.testing.assert_allclose(after.params[table][touched], expected[touched], atol=2e-3)
        untouched = (g == 0).all(axis=1)
        assert untouched.any()
        np.testing.assert_array_equal(
            after.params[table][untouched], state.params[table][untouched]
        )


@pytest.mark.parametrize("preset", ["skipgram", "node2vec", "skipgram-side", "mf-bias-pairs"])
def test_bits_do_not_depend_on_the_dispatches(preset):
    of = problem(config(preset))
    dispatch = jax.jit(of.stepper.dispatch)
    whole, totals = dispatch(of.initial_state(), of.data, jnp.int32(37))
    cut = of.initial_state()
    for n in (1, 16, 3, 17):
        cut, _ = dispatch(cut, of.data, jnp.int32(n))
    assert int(whole.step) == int(cut.step) == 37
    for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(cut), strict=True):
        np.testing.assert_array_equal(a, b)
    assert np.isfinite(totals.loss)


def test_each_epoch_starts_every_walk_once_and_draws_new_walks():
    of = problem(config(walks={"count": 3}))
    per_epoch = of.cadence.per_epoch
    drawn = stretches(of.config, of.data, jnp.arange(2 * per_epoch, dtype=jnp.int32))
    there = np.asarray(drawn.weight_B) > 0
    item = np.asarray(drawn.item_BL)
    first, second = (item[part][there[part]] for part in (slice(per_epoch), slice(per_epoch, None)))
    degree_I = of.splits.train.degree()
    expected = np.where(degree_I > 0, 3, 0)
    for epoch in (first, second):
        np.testing.assert_array_equal(np.bincount(epoch[:, 0], minlength=60), expected)
    both = {tuple(w) for w in first} & {tuple(w) for w in second}
    assert len(both) < 0.5 * len(first)


def test_windows_are_drawn_uniformly_up_to_the_largest():
    of = problem(config(walks={"window": 4, "length": 12}, train={"batch_size": 256}))
    batch = batch_of(of, 0)
    counts = np.asarray(batch.weight_BLL)[:, 6] > 0
    reach = counts.sum(axis=1) / 2  # in the middle of a walk, as many contexts lie on either side
    share = np.bincount(reach.astype(int), minlength=5)[1:] / len(reach)
    np.testing.assert_allclose(share, 0.25, atol=0.1)
    assert (np.asarray(batch.weight_BLL)[:, np.arange(12), np.arange(12)] == 0).all()


@pytest.mark.long
def test_frequent_items_are_subsampled_and_the_gaps_are_closed():
    of = problem(config(walks={"subsample": 0.005, "window": 2, "dynamic": False}))
    rare = problem(config(walks={"window": 2, "dynamic": False}))
    thinned = [np.asarray(batch_of(of, s).weight_BLL) for s in range(20)]
    whole = [np.asarray(batch_of(rare, s).weight_BLL) for s in range(20)]
    assert 0 < np.sum(thinned) < 0.8 * np.sum(whole)
    far = [w[:, i, j] for w in thinned for i in range(10) for j in range(10) if abs(i - j) > 2]
    assert np.max(far) > 0  # items between them were dropped


@pytest.mark.long
def test_expected_visits_are_those_of_walks():
    around = GRAPH.adjacency()
    start_A = np.arange(60, dtype=np.int32)
    found = visits(around.indptr, around.indices, around.weight, start_A, 5)
    of = ItemProblem.build(
        config(walks={"count": 400, "length": 5}, train={"batch_size": 400}),
        split_pairs(GRAPH, replace(presets.get("skipgram").pairs, test=0.0, validation=0.0), 0),
    )
    drawn = stretches(of.config, of.data, jnp.arange(of.cadence.per_epoch, dtype=jnp.int32))
    count_I = np.bincount(np.asarray(drawn.item_BL).ravel(), minlength=60)
    np.testing.assert_allclose(count_I / 400, found, rtol=0.1, atol=0.1)
    assert WalksConfig().length == 10
