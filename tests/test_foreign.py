"""Test tables of other libraries: accepted as data, and elsewhere refused with advice."""

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
    """A class of another library that has the same name as jaxrec's Dataset."""


TABLES: dict[str, tuple[Callable[[], Any], str]] = {
    "polars": (lambda: FRAME, r"polars.DataFrame; jaxrec.from_polars\("),
    "lazy": (FRAME.lazy, r"polars.LazyFrame; jaxrec.from_polars\("),
    "pandas": (
        lambda: pytest.importorskip("pandas").DataFrame({"user": [1], "item": [2]}),
        r"pandas.DataFrame; jaxrec.from_pandas\(",
    ),
    "arrow": (
        lambda: pytest.importorskip("pyarrow").table({"user": [1], "item": [2]}),
        r"pyarrow.Table; jaxrec.from_arrow\(",
    ),
    "csr matrix": (lambda: sparse.csr_matrix(np.eye(3)), r"scipy.csr_matrix; .*from_scipy\("),
    "coo array": (lambda: sparse.coo_array(np.eye(3)), r"scipy.coo_array; .*from_scipy\("),
}
FOREIGN: dict[str, tuple[Callable[[], Any], str]] = {
    "numpy": (lambda: np.zeros((5, 2)), r"numpy.ndarray; .*jaxrec.from_numpy\(users, items\)"),
    "list": (lambda: [("a", "x")], r"builtins.list; .*jaxrec.from_numpy\(users, items\)"),
    "namesake": (Dataset, r"Dataset; .*jaxrec.from_numpy\(users, items\)"),
}


def plain(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function without the type checks of the test run, which users do not have."""
    return inspect.unwrap(function)


@pytest.mark.parametrize("name", [*TABLES, *FOREIGN])
def test_what_is_not_taken_is_refused_with_the_way_in(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make, said = (TABLES | FOREIGN)[name]
    data = make()
    calls = {
        "read": lambda: plain(jaxrec.read)(data),
        "read_items": lambda: plain(jaxrec.read_items)(data),
        "doctor": lambda: plain(diagnose)("run", data),
        "embed": lambda: plain(embed)("run", data),
        "embed edges": lambda: plain(embed)("run", "new.csv", edges=data),
    }
    taking = {
        "train": lambda: plain(train)(preset="mf", data=data, run="run", quiet=True),
        "train by itself": lambda: plain(train)(data=data),
        "resume": lambda: plain(resume)("run", data=data),
        "evaluate": lambda: plain(evaluate)("run", data=data),
        "embed data": lambda: plain(embed)("run", "new.csv", data=data),
    }
    for call in (calls if name in TABLES else calls | taking).values():
        with pytest.raises(InputError, match=said) as caught:
            call()
        assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []
