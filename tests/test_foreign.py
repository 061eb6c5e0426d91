"""Tables of other libraries given as data: refused in one line that says how to get them in."""

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy import sparse

import jaxrec
from jaxrec.diagnosis.diagnose import diagnose
from jaxrec.embedding import embed
from jaxrec.errors import InputError
from jaxrec.evaluation.run import evaluate
from jaxrec.training.run import resume, train

FRAME = pl.DataFrame({"user": ["a", "b"], "item": ["x", "y"]})


class Dataset:
    """Another library's, of the same name as ours."""


FOREIGN: dict[str, tuple[Callable[[], Any], str]] = {
    "polars": (lambda: FRAME, r"polars.DataFrame, .*: write it with frame.write_parquet\("),
    "lazy": (FRAME.lazy, r"polars.LazyFrame, .*: write it with frame.sink_parquet\("),
    "pandas": (
        lambda: pytest.importorskip("pandas").DataFrame({"user": [1], "item": [2]}),
        r"pandas.DataFrame, .*: write it with frame.to_parquet\(",
    ),
    "arrow": (
        lambda: pytest.importorskip("pyarrow").table({"user": [1], "item": [2]}),
        r"pyarrow.Table, .*: write it with pyarrow.parquet.write_table\(",
    ),
    "csr matrix": (lambda: sparse.csr_matrix(np.eye(3)), r"scipy.csr_matrix, .*matrix.tocoo\(\)"),
    "coo array": (lambda: sparse.coo_array(np.eye(3)), r"scipy.coo_array, .*matrix.tocoo\(\)"),
    "numpy": (lambda: np.zeros((5, 2)), r"numpy.ndarray, .*jaxrec.Dataset\(user, item"),
    "list": (lambda: [("a", "x")], r"builtins.list, .*jaxrec.Dataset\(user, item"),
    "namesake": (Dataset, r"Dataset, .*jaxrec.Dataset\(user, item"),
}


def plain(function: Callable[..., Any]) -> Callable[..., Any]:
    """Without the test run's own look at types, which users do not have."""
    return inspect.unwrap(function)


@pytest.mark.parametrize("name", FOREIGN)
def test_a_table_of_another_library_is_refused_with_the_way_in(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make, said = FOREIGN[name]
    data = make()
    calls = {
        "train": lambda: plain(train)(preset="mf", data=data, run="run", quiet=True),
        "train by itself": lambda: plain(train)(data=data),
        "resume": lambda: plain(resume)("run", data=data),
        "evaluate": lambda: plain(evaluate)("run", data=data),
        "read": lambda: plain(jaxrec.read)(data),
        "read_items": lambda: plain(jaxrec.read_items)(data),
        "doctor": lambda: plain(diagnose)("run", data),
        "embed": lambda: plain(embed)("run", data),
        "embed edges": lambda: plain(embed)("run", "new.csv", edges=data),
        "embed data": lambda: plain(embed)("run", "new.csv", data=data),
    }
    for call in calls.values():
        with pytest.raises(InputError, match=said) as caught:
            call()
        assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_the_way_that_is_named_works_for_a_sparse_matrix(tmp_path):
    matrix = sparse.random_array((9, 8), density=0.5, rng=np.random.default_rng(0)).tocsr()
    users, items = [f"u{n}" for n in range(9)], np.arange(8)
    c = matrix.tocoo()
    data = object.__new__(jaxrec.Dataset)
    plain(jaxrec.Dataset.__init__)(data, c.row, c.col, users, items, weight=c.data)
    np.testing.assert_allclose(
        sparse.coo_array((data.weight, (data.user, data.item)), matrix.shape).toarray(),
        matrix.toarray().astype(np.float32),
    )
