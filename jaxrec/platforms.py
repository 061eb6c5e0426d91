"""The kind of device that programs are made for: the one that is here, or another."""

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

import jax

_target: ContextVar[str | None] = ContextVar("_target", default=None)


@contextlib.contextmanager
def compiled_for(platform: str) -> Iterator[None]:
    """Within it graphs are built and programs traced for devices of another kind than are here.

    JAX keeps what it has traced: a function that was traced outside is not traced anew.
    """
    before = _target.set(platform)
    try:
        yield
    finally:
        _target.reset(before)


def platform_of_programs() -> str:
    """Where programs are to run: "cpu", "gpu" or "tpu"."""
    return _target.get() or jax.default_backend()
