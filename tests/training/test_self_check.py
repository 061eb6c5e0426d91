"""Test the check of kernels on the current device."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrec.errors import RunError
from jaxrec.platforms import compiled_for
from jaxrec.training import self_check


@pytest.mark.parametrize("platform", ["cpu", "gpu", "tpu"])
def test_the_kernels_of_each_platform_give_known_answers(platform):
    with compiled_for(platform):
        found = self_check.check()
    assert [one.line() for one in found if not one.well] == []
    assert len(found) == 8


def test_a_wrong_kernel_is_named_and_refused_on_a_gpu(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    calls = []

    def wrong(graph, x, *rest):
        calls.append(1)
        return jnp.zeros_like(x)

    self_check.once()
    assert not calls  # a CPU needs no check
    monkeypatch.setattr(self_check, "propagate", wrong)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    with pytest.raises(RunError, match=r"product .* is wrong .*--model\.kernel segment_sum"):
        self_check.once()
    monkeypatch.undo()


def test_what_passed_is_not_asked_again(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    asked = []
    monkeypatch.setattr(self_check, "check", lambda: asked.append(1) or [])
    self_check.once()
    self_check.once()
    assert len(asked) == 1


def test_bits_that_differ_are_told():
    assert "NOT the same bits" in self_check.Finding("sum", 0.0, 0.0, False).line()
    assert not self_check.Finding("sum", np.inf, 1.0, True).well
