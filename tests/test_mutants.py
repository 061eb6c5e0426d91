"""Test that each mutant of mutants.py fits the source, and that the tests named for it exist."""

import ast

import pytest
from mutants import MUTANTS, ROOT


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: f"{mutant.file}: {mutant.new}")
def test_a_mutant_changes_one_place_and_names_tests_that_exist(mutant):
    source = (ROOT / "jaxrec" / mutant.file).read_text()
    assert source.count(mutant.old) == 1
    ast.parse(source.replace(mutant.old, mutant.new))
    for killer in mutant.killers:
        file, _, name = killer.partition("::")
        text = (ROOT / "tests" / file).read_text()
        assert not name or f"\ndef {name}(" in text
