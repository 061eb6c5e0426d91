"""Find the tests that start processes, by the names in their code and in that of their fixtures.

Tests are found by names rather than listed by hand, so that no new test is forgotten. The search
follows functions and fixtures of this folder through the global names that they use.
"""

import inspect
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

_HERE = str(Path(__file__).parent)
_STARTERS = {"subprocess", "multiprocessing", "processes"}


def starts_processes(item: pytest.Item) -> bool:
    """Return whether a test, one of its fixtures or one of its parameters starts a process."""
    if not isinstance(item, pytest.Function):
        return False
    fixtures = item._fixtureinfo.name2fixturedefs
    roots = [item.function, *(made.func for defs in fixtures.values() for made in defs)]
    if hasattr(item, "callspec"):
        roots += item.callspec.params.values()
    return may_start(tuple(roots))


def may_start(value: Any) -> bool:
    """Return whether a function, or any in a tuple, names something that starts a process."""
    return _starts(value, set())


def _starts(value: Any, seen: set[int]) -> bool:
    if isinstance(value, types.ModuleType):
        return value.__name__ in _STARTERS
    if isinstance(value, tuple):  # a tuple of parameters
        return any(_starts(part, seen) for part in value)
    if not inspect.isfunction(value) or id(value) in seen:
        return False
    if value.__module__ in _STARTERS:
        return True
    seen.add(id(value))
    value = inspect.unwrap(value)
    value = getattr(getattr(value, "hypothesis", None), "inner_test", value)
    if not value.__code__.co_filename.startswith(_HERE):
        return False
    named = {name: value.__globals__.get(name) for name in _names(value.__code__)}
    return not _STARTERS.isdisjoint(named) or any(_starts(it, seen) for it in named.values())


def _names(code: types.CodeType) -> Iterator[str]:
    """Yield the names that code uses, including those in its inner functions."""
    yield from code.co_names
    for inner in code.co_consts:
        if isinstance(inner, types.CodeType):
            yield from _names(inner)
