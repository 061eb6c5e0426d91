"""Test the estimator as scikit-learn uses it."""

from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import coo_array, csr_array

from jaxrec import GraphRecommender
from jaxrec.data import synthetic
from jaxrec.errors import InputError

OPTIONS = {"dim": 8, "layers": 1, "epochs": 2, "batch_size": 256, "learning_rate": 0.02}


@pytest.fixture(scope="module")
def matrix() -> csr_array:
    data = synthetic.make(60, 60, 800, communities=4, seed=1)
    entries = (np.ones(data.n_edges), (data.user, data.item))
    return coo_array(entries, shape=(61, 60)).tocsr()  # the last row is empty


@pytest.fixture(scope="module")
def fitted(matrix: csr_array) -> GraphRecommender:
    return GraphRecommender("lightgcn", **OPTIONS).fit(matrix)


def test_lists_are_columns_that_the_row_has_not(
    fitted: GraphRecommender, matrix: csr_array
) -> None:
    items, scores = fitted.recommend([3, 60, 3], 5)
    assert items.shape == scores.shape == (3, 5)
    assert not set(items[0].tolist()) & set(matrix[[3]].indices.tolist())
    assert (items[0] == items[2]).all()
    popular = np.argsort(-matrix.sum(axis=0), kind="stable")[:5]
    assert (items[1] == popular).all()  # for a row without entries
    near, cosine = fitted.similar_items([0, 1], 4)
    assert near.shape == (2, 4)
    assert (np.diff(cosine, axis=1) <= 0).all()


@pytest.mark.long
def test_lists_are_padded_where_few_items_are_left(matrix: csr_array) -> None:
    tall = matrix[:, :12]
    few = GraphRecommender(**OPTIONS).fit(tall)
    user = int(np.argmax(np.diff(tall.indptr)))
    items, scores = few.recommend([user, 0], 12)
    had = int(np.diff(tall.indptr)[user])
    assert (items[0] == -1).sum() == had
    assert np.isneginf(scores[0][items[0] == -1]).all()


def test_score_is_recall(fitted: GraphRecommender, matrix: csr_array) -> None:
    items, _ = fitted.recommend([5], 20)
    held_out = coo_array(
        (np.ones(2), ([5, 5], [items[0, 0], matrix[[5]].indices[0]])), matrix.shape
    )
    assert fitted.score(held_out.tocsr()) == 0.5


def test_scikit_learn_clones_it(tmp_path: Path) -> None:
    base = pytest.importorskip("sklearn.base", reason="scikit-learn's own clone")
    model = GraphRecommender("mf", run=tmp_path, epochs=3)
    copy = base.clone(model).set_params(epochs=4, preset="lightgcn")
    assert copy.get_params() == {"preset": "lightgcn", "run": tmp_path, "epochs": 4}
    assert model.get_params()["epochs"] == 3
    with pytest.raises(InputError, match="has not been fitted"):
        copy.recommend([1])
