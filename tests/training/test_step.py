import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import oracle
from jaxrec.config import (
    Config,
    EvalConfig,
    LossConfig,
    ModelConfig,
    NegativesConfig,
    OptimConfig,
    SplitConfig,
    TrainConfig,
)
from jaxrec.data import synthetic
from jaxrec.data.split import split
from jaxrec.errors import InputError
from jaxrec.rowwise import RowOptimizer
from jaxrec.training.batch import Batch
from jaxrec.training.problem import Problem
from jaxrec.training.step import SCAN_LENGTH, Feed

BASE = Config(
    split=SplitConfig(test=0.1, validation=0.1),
    model=ModelConfig(dim=6, layers=2),
    train=TrainConfig(batch_size=32, l2=0.01),
    optim=OptimConfig(learning_rate=0.05),
    eval=EvalConfig(k=(20,)),
)


def problem(**parts) -> Problem:
    config = dataclasses.replace(BASE, **parts)
    data = synthetic.make(30, 45, 300, communities=3, seed=3)
    if parts.get("seed") == 99:
        data = dataclasses.replace(data, weight=np.linspace(0.5, 2, 300, dtype=np.float32))
    return Problem.build(config, split(data, config.split, 0))


def in_data_order(p: Problem, params) -> np.ndarray:
    """Return the table in float64, with rows in the data set's order."""
    return np.asarray(p.data.graph.in_data_order(params["embedding"][...]), np.float64)


def by_hand(p: Problem, table_ND: np.ndarray, batch: Batch) -> float:
    """Compute the loss of a batch from its definition, in NumPy and plain Python."""
    config, n_users = p.config, p.stepper.n_users
    user, item, weight = (np.asarray(x) for x in batch.positives[:3])
    neg = np.broadcast_to(np.asarray(batch.neg), (len(user), batch.neg.shape[-1])) + n_users
    n_plain = neg.shape[1]
    if batch.hard_BH is not None:
        neg = np.concatenate([neg, np.asarray(batch.hard_BH) + n_users], axis=1)
    emb = oracle.lightgcn(p.splits.train, table_ND, config.model.layers)
    if config.model.score == "cosine":
        emb = emb / np.linalg.norm(emb, axis=1, keepdims=True)
    pos_score = (emb[user] * emb[item + n_users]).sum(-1) / config.loss.temperature
    neg_score = (emb[user][:, None] * emb[neg]).sum(-1) / config.loss.temperature
    valid = np.ones(neg.shape, bool) if batch.valid_BN is None else np.asarray(batch.valid_BN)
    if config.corrects:
        # Items are drawn by the batch's positives, or by a power of their counts.
        count = p.splits.train.item_counts().astype(np.float64)
        if config.negatives.name == "in-batch" and config.train.positives == "users":
            a_user = 1 / p.splits.train.user_counts()[p.splits.train.user]
            count = np.bincount(p.splits.train.item, a_user, len(count))
        mass = count ** (config.negatives.popularity or 1)
        log_q = np.log(np.maximum(mass, mass[mass > 0].min()) / mass.sum())
        pos_score, neg_score = pos_score - log_q[item], neg_score - log_q[neg - n_users]
    if config.negatives.candidates > 1:
        groups = np.where(valid, neg_score, -np.inf).reshape(
            len(user), -1, config.negatives.candidates
        )
        place = groups.argmax(-1) + np.arange(groups.shape[1]) * config.negatives.candidates
        neg, neg_score, valid = (np.take_along_axis(x, place, 1) for x in (neg, neg_score, valid))
    value = np.array(oracle.LOSSES[config.loss.name](pos_score, neg_score, valid))
    square = ((emb if config.train.l2_over == "embeddings" else table_ND) ** 2).sum(-1)
    rows = square[user] + square[item + n_users] + square[neg[:, :n_plain]].mean(-1)
    if batch.hard_BH is not None:
        hard = slice(n_plain, None)
        rows += (square[neg[:, hard]] * valid[:, hard]).sum(-1) / batch.hard_BH.shape[1]
    share = weight / weight.sum()
    if config.train.l2_over in ("tables", "parameters"):
        rows = (table_ND**2).sum()
    return float((share * (value + config.train.l2 / 2 * rows)).sum())


VARIANTS = {
    "papers": {},
    "users": {"train": TrainConfig(batch_size=32, l2=0.01, positives="users")},
    "several": {"negatives": NegativesConfig("uniform", 4)},
    "shared": {"negatives": NegativesConfig("shared", 16), "loss": LossConfig("softmax")},
    "shared masked": {"negatives": NegativesConfig("shared", 16, reject_known=True)},
    "cosine": {
        "model": ModelConfig(dim=6, layers=1, score="cosine"),
        "loss": LossConfig("softmax", temperature=0.2),
        "negatives": NegativesConfig("shared", 8),
    },
    "binary": {"loss": LossConfig("bce"), "negatives": NegativesConfig("uniform", 2)},
    "mf": {"model": ModelConfig("mf", dim=6, layers=0)},
    "weighted": {"seed": 99},
    "popular": {"negatives": NegativesConfig("uniform", 3, popularity=0.75)},
    "popular shared": {
        "negatives": NegativesConfig("shared", 16, popularity=1.0, log_q=True),
        "loss": LossConfig("softmax"),
    },
    "in-batch": {"negatives": NegativesConfig("in-batch"), "loss": LossConfig("softmax")},
    "in-batch by users": {
        "negatives": NegativesConfig("in-batch", reject_known=True),
        "loss": LossConfig("softmax", temperature=0.5),
        "train": TrainConfig(batch_size=32, l2=0.01, positives="users"),
    },
    "in-batch bpr": {"negatives": NegativesConfig("in-batch")},
    "hard": {"negatives": NegativesConfig(hard=3, hard_ranks=(2, 9), hard_schedule=(2, 0, 3))},
    "hard shared": {
        "negatives": NegativesConfig("shared", 16, hard=2, hard_ranks=(2, 9), hard_schedule=(1,)),
        "loss": LossConfig("softmax"),
    },
    "triplet": {"loss": LossConfig("triplet", temperature=2.0)},
    "hinge, all items": {"loss": LossConfig("hinge"), "negatives": NegativesConfig("all")},
    "l2 over embeddings": {"train": TrainConfig(batch_size=32, l2=0.1, l2_over="embeddings")},
    "l2 over tables": {"train": TrainConfig(batch_size=32, l2=0.1, l2_over="tables")},
    "l2 over parameters": {"train": TrainConfig(batch_size=32, l2=0.1, l2_over="parameters")},
    "dynamic": {"negatives": NegativesConfig("uniform", 2, candidates=5)},
    "dynamic popular": {"negatives": NegativesConfig("uniform", 2, candidates=3, popularity=2.0)},
}


@pytest.mark.parametrize("name", VARIANTS)
def test_the_loss_of_a_batch_equals_its_definition(name):
    p = problem(**VARIANTS[name])
    state = p.initial_state()
    table = in_data_order(p, state.params) * 5
    params = jax.tree.map(lambda x: x * 5, state.params)
    draw, loss = jax.jit(p.stepper.batch), jax.jit(p.stepper.loss)
    for step in (0, 3, p.cadence.per_epoch - 1):
        batch = draw(p.data, jnp.int32(step))
        assert (batch.hard_BH is not None) == (p.config.negatives.hard > 0)
        ours, _ = loss(params, p.data.graph, Feed(batch, None, None))
        assert float(ours) == pytest.approx(by_hand(p, table, batch), rel=1e-4)


@pytest.mark.parametrize(
    "name",
    [
        *("papers", "shared", "cosine", "in-batch", "dynamic", "hard shared"),
        *("triplet", "l2 over embeddings", "l2 over tables"),
    ],
)
def test_the_gradient_equals_central_differences_of_the_definition(name):
    p = problem(**VARIANTS[name])
    params = p.initial_state().params
    batch = jax.jit(p.stepper.batch)(p.data, jnp.int32(1))
    gradient, _ = jax.jit(jax.grad(p.stepper.loss, has_aux=True))(
        params, p.data.graph, Feed(batch, None, None)
    )
    ours, table = in_data_order(p, gradient), in_data_order(p, params)
    rng = np.random.default_rng(0)
    for row, column in zip(rng.integers(0, 75, 12), rng.integers(0, 6, 12), strict=True):
        up, down = table.copy(), table.copy()
        up[row, column] += 1e-5
        down[row, column] -= 1e-5
        slope = (by_hand(p, up, batch) - by_hand(p, down, batch)) / 2e-5
        assert ours[row, column] == pytest.approx(slope, rel=1e-3, abs=1e-6)


def test_rejected_negatives_never_meet_their_own_user():
    for negatives in (
        NegativesConfig(),
        NegativesConfig("shared", 40, reject_known=True),
        NegativesConfig("uniform", 3, popularity=1.0),
    ):
        p = problem(negatives=negatives)
        liked = [set() for _ in range(30)]
        for user, item in zip(p.splits.train.user, p.splits.train.item, strict=True):
            liked[user].add(int(item))
        draw = jax.jit(p.stepper.batch)
        for step in range(4):
            batch = draw(p.data, jnp.int32(step))
            users = np.asarray(batch.positives.user_B)
            neg = np.broadcast_to(np.asarray(batch.neg), (32, batch.neg.shape[-1]))
            valid = np.ones(neg.shape, bool) if batch.valid_BN is None else batch.valid_BN
            for user, row, used in zip(users, neg, np.asarray(valid), strict=True):
                assert not liked[user] & set(row[used].tolist())
                assert liked[user] >= set(row[~used].tolist())


def test_what_fills_an_epochs_last_batch_is_no_in_batch_negative():
    p = problem(**VARIANTS["in-batch"])
    batch = jax.jit(p.stepper.batch)(p.data, jnp.int32(p.cadence.per_epoch - 1))
    real = np.asarray(batch.positives.weight_B) > 0
    assert 0 < real.sum() < 32
    valid, items = np.asarray(batch.valid_BN), np.asarray(batch.positives.item_B)
    assert not valid[:, ~real].any()
    np.testing.assert_array_equal(valid[:, real], items[:, None] != items[real])


def test_hard_negatives_come_from_their_ranks_and_as_many_as_the_epoch_has():
    p = problem(negatives=NegativesConfig(hard=3, hard_ranks=(2, 9)))
    window, per_epoch = p.data.window, p.cadence.per_epoch
    assert window is not None
    draw = jax.jit(p.stepper.batch)
    for step, expected in ((0, 0), (per_epoch, 1), (2 * per_epoch, 2), (9 * per_epoch, 3)):
        batch = draw(p.data, jnp.int32(step))
        users = np.asarray(batch.positives.user_B)
        for user, row in zip(users, np.asarray(batch.hard_BH), strict=True):
            ranked = np.asarray(window.item_UW)[user, : window.count_U[user]]
            assert set(row) <= set(ranked)
        valid = np.asarray(batch.valid_BN)
        assert valid[:, :1].all()
        assert set(valid[:, 1:].sum(1).tolist()) == {expected}
    again = Problem.build(p.config, p.splits, window=window)
    assert again.data.window is window
    assert again.window_seconds is None


@pytest.mark.parametrize("ranks", [(45, 60), (2, 46)])
def test_a_window_beyond_the_catalogue_is_refused_by_name(ranks):
    said = r"negatives.hard_ranks {} {} reaches past the 45 items of .*; set ranks of at most 45"
    with pytest.raises(InputError, match=said.format(*ranks)):
        problem(negatives=NegativesConfig(hard=1, hard_ranks=ranks))
    problem(negatives=NegativesConfig(hard=1, hard_ranks=(44, 45)))


def test_the_bits_do_not_depend_on_how_a_run_is_cut_into_dispatches():
    p = problem()
    run = jax.jit(p.stepper.dispatch)

    def trained(cuts: list[int]) -> np.ndarray:
        state = p.initial_state()
        for n in cuts:
            state, _ = run(state, p.data, jnp.int32(n))
        assert int(state.step) == sum(cuts)
        return np.asarray(state.params["embedding"][...])

    whole = trained([30])
    np.testing.assert_array_equal(whole, trained([1, 7, 2, 20]))
    np.testing.assert_array_equal(whole, trained([10, 10, 0, 10]))
    assert not np.array_equal(whole, trained([29]))
    assert run._cache_size() == 1


def test_a_dispatch_holds_no_more_than_its_scan():
    p = problem()
    state, totals = jax.jit(p.stepper.dispatch)(p.initial_state(), p.data, jnp.int32(10**6))
    assert int(state.step) == int(totals.steps) == SCAN_LENGTH


def test_training_lowers_the_loss_and_totals_are_its_sums():
    p = problem()
    run = jax.jit(p.stepper.dispatch)
    state, first = run(p.initial_state(), p.data, jnp.int32(10))
    state, _ = run(state, p.data, jnp.int32(100))
    before = float(state.totals.loss)
    state, last = run(state, p.data, jnp.int32(10))
    assert (float(last.loss) - before) / 10 < 0.7 * float(first.loss) / 10
    assert int(last.steps) == 120
    assert int(last.bad_step) == -1


def test_the_first_step_without_a_finite_loss_is_named():
    p = problem(optim=OptimConfig("sgd", learning_rate=1e30))
    state, totals = jax.jit(p.stepper.dispatch)(p.initial_state(), p.data, jnp.int32(10))
    assert 0 < int(totals.bad_step) < 10
    assert int(state.step) == 10


def test_the_step_moves_nothing_between_host_and_device():
    p = problem()
    state, n = p.initial_state(), jax.device_put(np.int32(5))
    run = jax.jit(p.stepper.dispatch)
    run(state, p.data, n)
    with jax.transfer_guard("disallow"):
        state, totals = run(state, p.data, n)
    assert int(totals.steps) == 5


@pytest.mark.long_but("cosine-negatives1-adagrad", "dot-negatives1-sgd", "dot-negatives0-adagrad")
@pytest.mark.parametrize("name", ["adam", "adagrad", "sgd"])
@pytest.mark.parametrize("negatives", [NegativesConfig("uniform", 2), NegativesConfig("shared", 8)])
@pytest.mark.parametrize("score", ["dot", "cosine"])
def test_training_with_sparse_updates_equals_training_with_dense_ones(name, negatives, score):
    def trained(sparse: bool) -> tuple[np.ndarray, float]:
        p = problem(
            model=ModelConfig("mf", dim=6, layers=0, score=score),
            negatives=negatives,
            optim=OptimConfig(name, learning_rate=0.02, schedule="linear", sparse=sparse),
            train=TrainConfig(batch_size=4, l2=0.01, epochs=3),
        )
        assert isinstance(p.stepper.tx, RowOptimizer) == sparse
        state, totals = jax.jit(p.stepper.dispatch)(p.initial_state(), p.data, jnp.int32(120))
        return np.concatenate([np.asarray(x) for x in p.embeddings(state)]), float(totals.loss)

    (ours, loss), (dense, dense_loss) = trained(True), trained(False)
    np.testing.assert_allclose(ours, dense, atol=2e-5)
    assert loss == pytest.approx(dense_loss, rel=1e-5)


def test_sparse_updates_are_the_default_where_a_step_has_few_of_the_rows():
    few = TrainConfig(batch_size=1)
    mf = ModelConfig("mf", dim=4, layers=0)
    assert isinstance(problem(model=mf, train=few).stepper.tx, RowOptimizer)
    for parts in (
        {"model": mf, "train": TrainConfig(batch_size=32)},
        {"model": ModelConfig(dim=4), "train": few},
        {"model": mf, "train": few, "optim": OptimConfig("adamw")},
        {"model": mf, "train": few, "optim": OptimConfig("sgd", momentum=0.5)},
        {"model": mf, "train": few, "optim": OptimConfig(sparse=False)},
    ):
        assert not isinstance(problem(**parts).stepper.tx, RowOptimizer)
    rowwise = OptimConfig("rowwise_adagrad")
    p = problem(model=mf, train=TrainConfig(batch_size=32), optim=rowwise)
    assert isinstance(p.stepper.tx, RowOptimizer)
    for config in (
        {"model": ModelConfig(dim=4), "optim": rowwise},
        {"optim": OptimConfig(sparse=True)},
    ):
        with pytest.raises(InputError, match="layers 0"):
            problem(**config)
    with pytest.raises(InputError, match="sparse"):
        OptimConfig("adamw", sparse=True)
    with pytest.raises(InputError, match="take adagrad"):
        OptimConfig("rowwise_adagrad", sparse=False)


@pytest.mark.parametrize("layers", [0, 2])
def test_a_spectral_table_ranks_well_before_the_first_step(layers):
    data = synthetic.make(200, 150, 3000, communities=6, seed=1)

    def recall(init) -> float:
        name = "lightgcn" if layers else "mf"
        config = dataclasses.replace(BASE, model=ModelConfig(name, 16, layers, init=init))
        p = Problem.build(config, split(data, config.split, 0))
        evaluator = p.evaluator("test")
        assert evaluator is not None
        return evaluator(p.scorer(p.initial_state()))["recall@20"]

    assert recall("spectral") > 2 * recall("normal")
