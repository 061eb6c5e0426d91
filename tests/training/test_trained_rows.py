"""Test which rows count as trained: by train pairs, by features, or by a warm start."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made_run import ids, write_embeddings, write_seen

from jaxrec.config import Config, ModelConfig
from jaxrec.data import synthetic
from jaxrec.data.dataset import Dataset
from jaxrec.data.split import filtered
from jaxrec.training.device_data import Inputs, inputs
from jaxrec.training.trained_rows import embeds_unseen, learnt


def dataset() -> Dataset:
    """Return pairs of users u0 to u3 and items i0 to i4; neither u3 nor i4 has a pair."""
    user, item = np.array([[0, 0], [0, 1], [1, 2], [2, 3]], np.int32).T.copy()
    return Dataset(user, item, ids("u", 4), ids("i", 5))


MODELS = {
    "mf": (ModelConfig("mf", layers=0), False),
    "lightgcn": (ModelConfig(), False),
    "two-tower": (ModelConfig("two-tower", layers=0), True),
    "gcmc": (ModelConfig("gcmc", layers=1), True),
    "pinsage": (ModelConfig("pinsage", layers=2), False),
    "pinsage without ids": (ModelConfig("pinsage", layers=2, ids=False), True),
}


@pytest.mark.parametrize("name", MODELS)
def test_features_stand_for_pairs_where_the_model_goes_by_them(name: str) -> None:
    model, by_features = MODELS[name]
    data = synthetic.make(40, 30, 200, features=True)
    config = replace(Config(), model=ModelConfig("two-tower", layers=0))
    schema = inputs(config, data).item
    assert schema is not None
    assert embeds_unseen(model, schema) is by_features
    assert embeds_unseen(model, None) is False
    has_U, has_I = learnt(replace(Config(), model=model), dataset(), Inputs(item=schema))
    assert has_U.tolist() == [True, True, True, False]
    assert has_I.tolist() == [True] * 4 + [by_features]


def test_what_the_run_to_start_from_has_learnt_is_learnt(tmp_path: Path) -> None:
    run = write_embeddings(tmp_path / "run", np.ones((4, 2)), np.ones((5, 2)))
    nothing = [[] for _ in range(4)]
    for user, item in ((True, False), (False, True)):
        write_seen(run, nothing, nothing, [False] * 3 + [user], [False] * 4 + [item])
        config = replace(Config(), warm_start=str(run))
        has_U, has_I = learnt(config, dataset(), Inputs())
        assert has_U.tolist() == [True, True, True, user]
        assert has_I.tolist() == [True] * 4 + [item]


def test_pairs_that_a_filter_left_out_are_found_by_their_ids() -> None:
    whole = replace(dataset(), user_ids=np.array(["d", "a", "c", "b"]))
    left = Dataset(
        np.array([0], np.int32), np.array([1], np.int32), np.array(["c", "d"]), whole.item_ids[:2]
    )
    found = filtered(whole, left, left.csr())
    assert found is not None
    # In the whole data, user d has i0 and i1, and c has neither; user a is not left.
    assert [found.take(np.array([u])).indices.tolist() for u in (0, 1)] == [[], [0, 1]]
    assert filtered(left, left, left.csr()) is None
