"""Modules that are called like functions, so that ``jaxrec.train`` can be both.

``jaxrec.train(...)`` is the function that people want; ``jaxrec.train`` is also the package that
it lives in, and Python binds that name to the package whenever a module in it is imported.
"""

import importlib
import sys
from types import ModuleType
from typing import Any


def make_callable(module: str, home: str, function: str) -> None:
    """Let the module be called as ``function`` of the module ``home``, imported at the call."""

    class Callable(ModuleType):
        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            return getattr(importlib.import_module(home), function)(*args, **kwargs)

    sys.modules[module].__class__ = Callable
