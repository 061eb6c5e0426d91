"""Forked processes: a child has none of JAX's threads, and would wait for them for ever."""

import os
import sys

from jaxrec.errors import InputError

_forked_from: int | None = None
"""The process that this one was forked from, where JAX had begun there."""


def _jax_has_begun() -> bool:
    """Whether JAX has made its backends, and with them its threads, in this process."""
    # JAX has no public way to ask without making them.
    bridge = sys.modules.get("jax._src.xla_bridge")
    begun = getattr(bridge, "backends_are_initialized", None)
    return begun is not None and bool(begun())


def _after_fork() -> None:
    global _forked_from
    if _forked_from is None and _jax_has_begun():
        _forked_from = os.getppid()


def watch() -> None:
    """Look, in every process that is forked from this one, whether JAX had begun before."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_after_fork)


def check() -> None:
    """Raise InputError in a process that was forked after JAX had begun in its parent."""
    if _forked_from is not None:
        raise InputError(
            f"this process was forked from process {_forked_from} after JAX had begun there, and "
            "would wait for ever; fork before the first ranking, rank in the workers alone, or "
            "start them with multiprocessing.get_context('spawn')"
        )
