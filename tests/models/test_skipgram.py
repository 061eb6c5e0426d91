import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrec.config import from_dict
from jaxrec.data.features import Bag, Category, Features, Number
from jaxrec.data.schema import fit
from jaxrec.models import skipgram
from jaxrec.models.skipgram import Side
from jaxrec.training.items import side_information as sides

FEATURES = Features(
    {
        "brand": Category(np.array([1, 0, 2, 1], np.int32), np.array(["", "a", "b"])),
        "tags": Bag(
            np.array([0, 2, 2, 3, 3], np.int32),
            np.array([1, 2, 2], np.int32),
            np.array(["", "x", "y"]),
        ),
        "price": Number(np.array([1.0, np.nan, 3.0, np.nan], np.float32)),
    }
)


def side() -> Side:
    return Side(*map(jnp.asarray, sides.encoded(FEATURES, fit(FEATURES, np.arange(4)))))


def tables(side_form: str = "weighted") -> dict[str, jax.Array]:
    made = skipgram.new_tables(
        from_dict(
            {
                "model": {"name": "skipgram", "layers": 0, "dim": 3, "side": side_form},
                "loss": {"name": "sgns"},
                "negatives": {"name": "shared"},
                "train": {"positives": "walks"},
            }
        ).model,
        4,
        jax.random.key(0),
        8,
        3,
    )
    return {
        name: jax.random.normal(jax.random.key(i), x.shape)
        for i, (name, x) in enumerate(made.items())
    }


def by_hand(of: dict[str, jax.Array], logits: np.ndarray, item: int, own: bool) -> np.ndarray:
    """Compute the weighted average over an item's features; columns are price, brand and tags."""
    table = np.asarray(of["feature"])  # rows 0 and 1: price; 2 + code: brand; 5 + code: tags
    price = {0: -1.0, 2: 1.0}  # standardised: mean 2, deviation 1
    parts, weights = [], []
    if own:
        parts.append(np.asarray(of["embedding"])[item])
        weights.append(np.exp(logits[0]))
    if item in price:
        parts.append(price[item] * table[0] + table[1])
        weights.append(np.exp(logits[1]))
    brand = FEATURES.columns["brand"].code[item]
    if brand:
        parts.append(table[2 + brand])
        weights.append(np.exp(logits[2]))
    tags = {0: [1, 2], 2: [2]}.get(item)
    if tags:
        parts.append(np.mean([table[5 + tag] for tag in tags], axis=0))
        weights.append(np.exp(logits[3]))
    if not parts:
        return np.zeros(3)
    return np.average(parts, axis=0, weights=weights) * (len(parts) if own else 1)


@pytest.mark.parametrize("form", ["average", "weighted"])
def test_a_centre_is_the_average_of_what_the_item_has(form):
    of, x = tables(form), side()
    share = of.get("share")
    made = skipgram.centres(of["embedding"], x, of["feature"][x.code_IK], share)
    for item in range(4):
        logits = np.zeros(4) if share is None else np.asarray(share)[item]
        np.testing.assert_allclose(made[item], by_hand(of, logits, item, True), atol=1e-5)


def test_an_item_without_features_is_what_it_would_be_without_side_information():
    of, x = tables(), side()
    made = skipgram.centres(of["embedding"], x, of["feature"][x.code_IK], of["share"])
    np.testing.assert_array_equal(made[1], of["embedding"][1])


def test_what_is_missing_has_no_gradient():
    of, x = tables(), side()

    def total(feature, share):
        made = skipgram.centres(of["embedding"], x, feature[x.code_IK], share)
        return jnp.sum(made * jnp.arange(12.0).reshape(4, 3))

    of_feature, of_share = jax.grad(total, (0, 1))(of["feature"], of["share"])
    np.testing.assert_array_equal(of_feature[jnp.array([2, 5])], 0)  # the rows of "missing"
    there = np.concatenate([np.ones((4, 1), bool), np.asarray(x.there_IC)], axis=1)
    assert (np.asarray(of_share)[~there] == 0).all()
    assert np.isfinite(of_share).all()
    assert (np.asarray(of_share)[0] != 0).all()


@pytest.mark.parametrize("logits", [None, [9.0, 0.3, -1.0, 2.0]])
def test_a_cold_item_is_the_average_of_its_features_alone(logits):
    of, x = tables(), side()
    given = None if logits is None else jnp.asarray(logits)
    made = skipgram.cold(of, x, given)
    for item in range(4):
        weights = np.zeros(4) if logits is None else np.array(logits)
        np.testing.assert_allclose(made[item], by_hand(of, weights, item, False), atol=1e-5)
    np.testing.assert_array_equal(made[1], 0)


def test_products_have_the_gradient_of_the_plain_einsum():
    x, y, g = (
        jax.random.normal(jax.random.key(i), s)
        for i, s in enumerate([(5, 4, 3), (5, 6, 3), (5, 4, 6)])
    )
    _, ours = jax.vjp(skipgram.products, x, y)
    plain, theirs = jax.vjp(lambda x, y: jnp.einsum("bid,bjd->bij", x, y), x, y)
    np.testing.assert_allclose(skipgram.products(x, y), plain, rtol=1e-6)
    for a, b in zip(ours(g), theirs(g), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
