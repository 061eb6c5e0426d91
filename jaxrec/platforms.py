"""The platform that programs are compiled for: this machine's, or another machine's."""

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

import jax

_target: ContextVar[str | None] = ContextVar("_target", default=None)


@contextlib.contextmanager
def compiled_for(platform: str) -> Iterator[None]:
    """Build graphs and trace programs for another platform within this context.

    JAX caches traces: a function that was traced before the context is not traced again in it.
    """
    before = _target.set(platform)
    try:
        yield
    finally:
        _target.reset(before)


def platform_of_programs() -> str:
    """Return the platform that programs will run on: "cpu", "gpu" or "tpu"."""
    return _target.get() or jax.default_backend()
