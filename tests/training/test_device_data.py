import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrec.config import Config, ModelConfig
from jaxrec.data import schema, synthetic
from jaxrec.data.dataset import Dataset
from jaxrec.data.features import Category, Features, Number
from jaxrec.errors import InputError
from jaxrec.graph import neighbors
from jaxrec.graph.csr import DeviceCsr
from jaxrec.training.device_data import inputs, train_data

PLAIN = synthetic.make(30, 45, 300, communities=3, seed=3)
FULL = synthetic.make(30, 45, 300, communities=3, seed=3, features=True)
HALF = dataclasses.replace(FULL, user_features=None)
RATED = dataclasses.replace(PLAIN, rating=(np.arange(300) % 3).astype(np.float32))


def takes(data: Dataset, name: Any = "gcmc", **options):
    return inputs(Config(model=ModelConfig(name, **options)), data)


def test_a_model_takes_what_features_and_ratings_there_are_unless_told_otherwise():
    assert takes(PLAIN).sizes == (None, None)
    assert takes(RATED).levels == 3
    assert takes(RATED, levels=False).levels == 1
    assert takes(RATED, "pinsage").levels == 1
    for name in ("gcmc", "pinsage"):
        user, item = takes(FULL, name).sizes
        assert user is not None
        assert item is not None
        assert user.numbers == 2  # a value, and whether it is missing
        assert len(item.categories) == len(item.bags) == 1
        assert takes(FULL, name, features=False).sizes == (None, None)
        half = takes(HALF, name, features=True)
        assert half.user is None
        assert half.item is not None
    assert takes(FULL, "ngcf").sizes == (None, None)


@pytest.mark.parametrize(
    ("data", "options", "said"),
    [
        (PLAIN, {"features": True}, "model.features needs features, and this data has none"),
        (PLAIN, {"ids": False}, "without model.ids users need features"),
        (HALF, {"ids": False}, "without model.ids users need features"),
        (PLAIN, {"levels": True}, "model.levels needs ratings"),
    ],
)
def test_what_the_data_lacks_is_refused_by_name(data, options, said):
    with pytest.raises(InputError, match=f"^synthetic.*{said}"):
        takes(data, **options)


@pytest.mark.parametrize("name", ["gcmc", "pinsage"])
def test_features_stand_in_the_order_of_the_graphs_rows(name):
    config = Config(model=ModelConfig(name, layers=1))
    wants = inputs(config, FULL)
    graph = train_data(config, FULL, wants, jax.random.key(0)).graph
    assert (graph.place_N is not None) == (name == "gcmc")
    assert graph.features is not None
    place = np.asarray(graph.places(jnp.arange(75)))
    for side, of, first, last in (("user", wants.user, 0, 30), ("item", wants.item, 30, 75)):
        given = getattr(FULL, f"{side}_features")
        assert of is not None
        expected, ours = schema.encode(given, of), getattr(graph.features, side)
        for x, y in zip(jax.tree.leaves(ours), jax.tree.leaves(expected), strict=True):
            np.testing.assert_array_equal(np.asarray(x)[place[first:last] - first], y)


def test_schemas_are_of_the_nodes_that_training_sees():
    columns = {
        "size": Number(np.array([1, 3, 500], np.float32)),
        "kind": Category(np.array([1, 2, 3], np.int32), np.array(["", "a", "b", "c"])),
    }
    pairs = np.array([0, 1, 1], np.int32)
    data = Dataset(pairs, pairs, np.arange(2), np.arange(3), item_features=Features(columns))
    item = takes(data).item
    assert item is not None
    assert item.numbers["size"] == (2, 1)
    assert item.categories["kind"] == ("", "a", "b")


def test_neighbours_of_importance_are_made_once_as_wide_as_the_widest_hop():
    model = ModelConfig("pinsage", layers=2, fan_outs=(2, 5), walks=6, walk_length=3)
    config = Config(model=model)
    key = jax.random.key(0)
    graph = train_data(config, PLAIN, inputs(config, PLAIN), key).graph
    assert graph.neighbors is not None
    assert graph.neighbors.node_RF.shape == (75, 5)
    csr = DeviceCsr(graph.indptr, graph.senders)
    how = {"walks": 6, "length": 3, "key": jax.random.fold_in(key, 4)}
    expected = neighbors.all_most_visited(csr, 5, **how)
    np.testing.assert_array_equal(graph.neighbors.node_RF, expected.node_RF)
    uniform = Config(model=ModelConfig("pinsage", neighbors="uniform"))
    assert train_data(uniform, PLAIN, inputs(uniform, PLAIN), key).graph.neighbors is None
