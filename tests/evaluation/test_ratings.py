import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

import oracle
from jaxrec.data import synthetic
from jaxrec.data.dataset import Dataset
from jaxrec.errors import InputError
from jaxrec.evaluation import ratings
from jaxrec.evaluation.ratings import RatingEvaluator
from jaxrec.evaluation.scorers import PAIRS, scorer_of


def rated(seed: int = 0) -> tuple[Dataset, Dataset]:
    """Return train and held-out ratings from 1 to 5; no train rating is 5."""
    rng = np.random.default_rng(seed)
    data = synthetic.make(30, 40, 290, seed=seed)
    data = dataclasses.replace(data, rating=rng.integers(1, 6, 290).astype(np.float32))
    mask = rng.random(290) < 0.3
    assert data.rating is not None
    return data.take(~mask & (data.rating < 5)), data.take(mask)


def learned(kind: str, seed: int = 1) -> dict[str, np.ndarray]:
    """Return arrays of a run that predicts ratings in the way that ``kind`` names."""
    rng = np.random.default_rng(seed)

    def normal(*shape: int) -> np.ndarray:
        return rng.normal(size=shape).astype(np.float32)

    found = {"user": normal(30, 4), "item": normal(40, 4)}
    if kind == "decoder":
        level = np.array([1, 2, 3, 4], np.float32)
        parts = {"basis_SDD": normal(2, 4, 4), "share_RS": normal(4, 2), "level_R": level}
        return found | {f"decoder_{name}": x for name, x in parts.items()}
    found |= {"user_bias": normal(30), "item_bias": normal(40)}
    found |= {"rating_mean": np.float32(2.7) * np.ones(()), "rating_scale": np.array(1.5)}
    if kind == "mlp":
        names = ("product_D", "user_DH", "item_DH", "bias_H", "out_H")
        shapes = ((4,), (4, 3), (4, 3), (3,), (3,))
        found |= {f"score_{n}": normal(*shape) for n, shape in zip(names, shapes, strict=True)}
    return {name: np.asarray(x, np.float32) for name, x in found.items()}


@pytest.mark.parametrize("kind", ["dot", "mlp", "decoder"])
def test_pairs_score_as_they_do_among_all_items(kind):
    scorer, users = scorer_of(learned(kind)), jnp.arange(30)
    whole = scorer.fn(scorer.params, users)
    user, item = (jnp.asarray(x) for x in np.divmod(np.arange(0, 1200, 7), 40))
    found = PAIRS[scorer.fn](scorer.params, user, item)
    np.testing.assert_allclose(found, whole[user, item], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["dot", "mlp", "decoder"])
@pytest.mark.parametrize("block", [7, 8192])
def test_errors_are_those_of_a_loop_with_predictions_clipped_to_the_train_range(
    kind, block, monkeypatch
):
    monkeypatch.setattr(ratings, "_BLOCK", block)
    train, held_out = rated()
    assert train.rating is not None
    assert held_out.rating is not None
    scorer = scorer_of(learned(kind))
    score = np.asarray(scorer.fn(scorer.params, jnp.arange(30)))
    predicted = [
        min(max(float(score[u, i]), float(train.rating.min())), float(train.rating.max()))
        for u, i in zip(held_out.user, held_out.item, strict=True)
    ]
    expected = oracle.rating_errors(predicted, held_out.rating.tolist())
    assert RatingEvaluator(held_out, train)(scorer) == pytest.approx(expected, rel=1e-5)


def test_the_baselines_are_those_of_their_definitions():
    train, held_out = rated(2)
    assert train.rating is not None
    assert held_out.rating is not None
    mean = float(np.mean(train.rating.astype(float)))
    item_bias, user_bias = {}, {}
    for i in range(40):
        mine = train.item == i
        item_bias[i] = sum(r - mean for r in train.rating[mine]) / (25 + mine.sum())
    for u in range(30):
        mine = train.user == u
        rest = [
            r - mean - item_bias[i]
            for r, i in zip(train.rating[mine], train.item[mine], strict=True)
        ]
        user_bias[u] = sum(rest) / (10 + mine.sum())
    pairs = list(zip(held_out.user, held_out.item, strict=True))
    expected = {
        "mean": [mean for _ in pairs],
        "biases": [mean + user_bias[u] + item_bias[i] for u, i in pairs],
    }
    found = RatingEvaluator(held_out, train).baselines
    assert list(found) == ["mean", "biases"]
    for name, predicted in expected.items():
        errors = oracle.rating_errors(predicted, held_out.rating.tolist())
        assert found[name] == pytest.approx(errors, rel=1e-5)


def test_data_without_ratings_is_refused():
    train, held_out = rated()
    with pytest.raises(InputError, match="need ratings"):
        RatingEvaluator(held_out, dataclasses.replace(train, rating=None))
