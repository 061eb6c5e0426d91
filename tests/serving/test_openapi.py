"""Test requests that schemathesis generates from the server's OpenAPI description."""

from typing import Any

import numpy as np
import pytest
from made_run import write_embeddings

pytest.importorskip("fastapi", reason="the server needs the extra `serve`")
schemathesis = pytest.importorskip("schemathesis", reason="makes requests of a description")

from hypothesis import HealthCheck, given, settings

from jaxrec.serving.app import create
from jaxrec.serving.limits import Limits


@pytest.fixture(scope="module")
def described(tmp_path_factory: pytest.TempPathFactory) -> Any:
    run = write_embeddings(tmp_path_factory.mktemp("api") / "run", np.eye(2), np.ones((3, 2)))
    app = create(run, limits=Limits(k=100))
    yield schemathesis.openapi.from_asgi("/openapi.json", app)
    app.state.current.close()


def test_answers_are_as_described(described: Any) -> None:
    asked = 0
    for found in described.get_all_operations():
        operation = found.ok()

        @given(case=operation.as_strategy())
        @settings(max_examples=8, suppress_health_check=list(HealthCheck))
        def check(case: Any) -> None:
            case.call_and_validate()

        check()
        asked += 1
    assert asked == 8
