"""Restore the settings of the calling process that imported libraries change."""

import logging
import random
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def root_logger_as_found() -> Iterator[None]:
    """Prevent libraries from adding a handler to a root logger without handlers.

    Orbax logs through absl while it is imported, and absl then calls ``basicConfig`` if the root
    logger has no handler; after that the program's own ``basicConfig`` has no effect. A temporary
    handler prevents this, and prints warnings to stderr as Python does without handlers.
    """
    temporary = None if logging.root.handlers else logging.lastResort
    if temporary is not None:
        logging.root.addHandler(temporary)
    try:
        yield
    finally:
        if temporary is not None:
            logging.root.removeHandler(temporary)


@contextmanager
def importing() -> Iterator[None]:
    """Preserve the root logger and the state of ``random`` while modules are imported.

    Flax draws from ``random`` when it is imported.
    """
    state = random.getstate()
    try:
        with root_logger_as_found():
            yield
    finally:
        random.setstate(state)
