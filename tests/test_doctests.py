"""The examples in docstrings of public names, run as they stand."""

import doctest
import importlib

import pytest

MODULES = ("graph.general", "evaluation.evaluator", "negatives", "graph.walks")


@pytest.mark.parametrize("module", MODULES)
def test_examples_give_what_they_say(module):
    found = doctest.testmod(importlib.import_module(f"jaxrec.{module}"))
    assert found.attempted > 0
    assert found.failed == 0
