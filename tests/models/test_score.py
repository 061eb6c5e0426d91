import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxrec
import oracle
from jaxrec import losses
from jaxrec.config import Config, ModelConfig, TrainConfig
from jaxrec.data import synthetic
from jaxrec.data.split import split
from jaxrec.errors import InputError
from jaxrec.evaluation import topk
from jaxrec.evaluation.scorers import scorer_of
from jaxrec.models.score import NeuralScore, PairWeights, all_scores, pair_scores
from jaxrec.runfolder import read_embeddings
from jaxrec.training.problem import Problem

DIM, WIDTH = 5, 4


def weights(seed: int = 0) -> PairWeights:
    rng = np.random.default_rng(seed)
    shapes = [(DIM,), (DIM, WIDTH), (DIM, WIDTH), (WIDTH,), (WIDTH,)]
    return PairWeights(*(jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in shapes))


def rows(*shape: int, seed: int = 1) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).normal(size=(*shape, DIM)), jnp.float32)


def by_hand(w: PairWeights, user: np.ndarray, item: np.ndarray) -> float:
    """Compute g · (u ∘ v) + w · ReLU(A u + C v + b), number by number."""
    product, of_user, of_item, bias, out = (np.asarray(part, np.float64) for part in w)
    total = sum(product[d] * user[d] * item[d] for d in range(len(user)))
    for h in range(len(bias)):
        into = sum(of_user[d, h] * user[d] + of_item[d, h] * item[d] for d in range(len(user)))
        total += out[h] * max(into + bias[h], 0)
    return float(total)


def test_scores_of_pairs_and_of_all_items_are_those_of_the_equation():
    w, user, shared, own = weights(), rows(3), rows(6, seed=2), rows(3, 2, seed=3)
    of_all = [[by_hand(w, u, v) for v in np.asarray(shared)] for u in np.asarray(user)]
    for found in (pair_scores(w, user, shared), all_scores(w, user, shared)):
        np.testing.assert_allclose(found, of_all, rtol=1e-5, atol=1e-5)
    of_own = [
        [by_hand(w, u, v) for v in mine]
        for u, mine in zip(np.asarray(user), np.asarray(own), strict=True)
    ]
    np.testing.assert_allclose(pair_scores(w, user, own), of_own, rtol=1e-5, atol=1e-5)


def test_the_score_begins_as_the_dot_product_and_a_part_that_learns():
    made = NeuralScore(DIM, WIDTH, nnx.Rngs(params=0)).weights
    user, item = rows(3), rows(6, seed=2)
    without = made._replace(out_H=jnp.zeros(WIDTH))
    np.testing.assert_allclose(pair_scores(without, user, item), user @ item.T, rtol=1e-5)
    gradient = jax.grad(lambda w: jnp.sum(jnp.sin(pair_scores(w, user, item))))(made)
    assert all(bool(jnp.any(part != 0)) for part in gradient)


@pytest.mark.parametrize("size", [7, 700])
@pytest.mark.parametrize("name", ["bpr", "softmax"])
def test_the_loss_in_blocks_has_the_value_and_gradient_of_the_plain_one(name, size):
    rng = np.random.default_rng(size)
    given = weights(), rows(size), rows(size, seed=2), rows(9, seed=3), rows(size, 2, seed=4)
    share = jnp.asarray(rng.random(size), jnp.float32)
    valid = jnp.asarray(rng.random((size, 11)) < 0.8)

    def ours(w, user, pos, neg, own):
        form = {"temperature": 0.7, "pairs": pair_scores, "weights": w}
        return losses.mean(name, user, pos, neg, share, valid, None, own, **form)

    def plain(w, user, pos, neg, own):
        into_B = user @ w.user_DH + w.bias_H

        def scores(item_BND):
            hidden = jax.nn.relu(into_B[:, None] + item_BND @ w.item_DH)
            products = jnp.sum((user * w.product_D)[:, None] * item_BND, axis=-1)
            return (products + jnp.sum(hidden * w.out_H, axis=-1)) / 0.7

        all_neg = jnp.concatenate([jnp.broadcast_to(neg, (size, 9, DIM)), own], axis=1)
        loss_B = losses.LOSSES[name](scores(pos[:, None])[:, 0], scores(all_neg), valid)
        return jnp.sum(share * loss_B)

    (a, g), (b, h) = (
        jax.jit(jax.value_and_grad(f, tuple(range(5))))(*given) for f in (ours, plain)
    )
    np.testing.assert_allclose([a, ours(*given)], [b, b], rtol=1e-5)
    for x, y in zip(jax.tree.leaves(g), jax.tree.leaves(h), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-3, atol=2e-4)


def test_ranking_by_it_in_tiles_equals_ranking_whole(monkeypatch):
    user, item, w = rows(6), rows(25, seed=2), weights()
    learned = {f"score_{name}": x for name, x in w._asdict().items()}
    scorer = scorer_of({"user": user, "item": item} | learned)
    seen = [{0, 24}, set(), {3, 4, 5}, set(range(22)), {9}, {24}]
    indptr = np.cumsum([0, *map(len, seen)]).astype(np.int32)
    given = topk.Rows(indptr, np.array([i for of in seen for i in sorted(of)], np.int32))
    users = jnp.arange(6, dtype=jnp.int32)
    whole = topk.rank(scorer.fn, 4, scorer.params, users, given)
    monkeypatch.setattr(topk, "_WHOLE", 10)
    monkeypatch.setattr(topk, "_TILE", 7)
    tiles = topk.rank(scorer.fn, 4, scorer.params, users, given)
    score_UI = np.array([[by_hand(w, u, v) for v in np.asarray(item)] for u in np.asarray(user)])
    for n in range(6):
        expected = oracle.top_list(score_UI[n], seen[n], 4)
        expected += [-1] * (4 - len(expected))
        assert whole.item_BK[n].tolist() == tiles.item_BK[n].tolist() == expected


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    data = synthetic.make(40, 50, 400, communities=4, seed=1)
    config = Config(
        model=ModelConfig("mf", dim=4, layers=0, score="mlp", score_width=3),
        train=TrainConfig(epochs=2, batch_size=64),
    )
    folder = tmp_path_factory.mktemp("learned")
    data.save(folder / "data")
    run = jaxrec.train(config, data=folder / "data", run=folder / "run", quiet=True)
    return run


def test_a_run_ranks_recommends_and_is_stored_by_the_learned_score(trained):
    table = read_embeddings(trained.folder)
    w = PairWeights(*(jnp.asarray(getattr(table, f"score_{n}")) for n in PairWeights._fields))
    assert not np.allclose(np.linalg.norm(table.user, axis=1), 1, atol=1e-2)
    again = jaxrec.evaluate(trained.folder, "test", (20,))
    assert again["metrics"]["recall@20"] == pytest.approx(trained.metrics["recall@20"], abs=1e-6)
    users = [3, 17]
    lists = jaxrec.Recommender.load(trained.folder).recommend(
        [str(table.user_ids[user]) for user in users], k=5, include_seen=True
    )
    for place, user in enumerate(users):
        score_I = np.array([by_hand(w, table.user[user], v) for v in table.item])
        mine = lists[5 * place : 5 * place + 5]
        expected = oracle.top_list(score_I, set(), 5)
        assert mine["item"].to_list() == [str(table.item_ids[i]) for i in expected]
        assert mine["score"].to_list() == pytest.approx(score_I[expected], abs=1e-5)


@pytest.mark.parametrize("gone", ["score_bias_H", "score_out_H"])
def test_a_learned_score_that_lacks_a_part_is_refused(trained, gone, tmp_path):
    with np.load(trained.folder / "embeddings.npz") as stored:
        kept = {name: stored[name] for name in stored.files if name != gone}
    np.savez(tmp_path / "embeddings.npz", **kept)
    (tmp_path / "config.json").write_bytes((trained.folder / "config.json").read_bytes())
    with pytest.raises(InputError, match=f"{gone} missing"):
        read_embeddings(tmp_path)


def test_only_a_cosine_has_embeddings_of_length_one():
    data = synthetic.make(30, 45, 300, communities=3, seed=3)
    parts = split(data, Config().split, 0)
    for score in ("dot", "mlp", "cosine"):
        model = ModelConfig("mf", dim=4, layers=0, score=score)
        p = Problem.build(dataclasses.replace(Config(), model=model), parts)
        user_UD, _ = p.embeddings(p.initial_state())
        assert np.allclose(np.linalg.norm(user_UD, axis=1), 1, atol=1e-5) == (score == "cosine")
