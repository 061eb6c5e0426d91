"""Refuse to use JAX in a process forked after JAX started, since its threads are not inherited."""

import os
import sys

from jaxrec.errors import InputError

_forked_from: int | None = None
"""Number of the parent process if JAX had started in the parent before the fork; else None."""


def _jax_has_started() -> bool:
    """Return whether JAX has created its backends, and with them its threads, in this process."""
    # JAX has no public function that tells this without creating the backends.
    bridge = sys.modules.get("jax._src.xla_bridge")
    initialized = getattr(bridge, "backends_are_initialized", None)
    return initialized is not None and bool(initialized())


def _after_fork() -> None:
    global _forked_from
    if _forked_from is None and _jax_has_started():
        _forked_from = os.getppid()


def watch() -> None:
    """Record in every process forked from this one whether JAX had started before the fork."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_after_fork)


def check() -> None:
    """Raise InputError in a process that was forked after JAX started in its parent."""
    if _forked_from is not None:
        raise InputError(
            f"this process was forked from process {_forked_from} after JAX started there, and "
            "would hang; start workers with multiprocessing.get_context('spawn'), or fork before "
            "the first ranking"
        )
