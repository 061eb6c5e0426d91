"""Manners inside somebody else's process: what the libraries below us change is put back."""

import logging
import random
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def root_logger_as_found() -> Iterator[None]:
    """Leave the root logger without handlers where it has none.

    A message of absl, which Orbax logs even while it is imported, calls ``basicConfig`` where the
    root logger has no handler, and a host's own ``basicConfig`` then does nothing. Meanwhile
    warnings go where they go without handlers: to stderr.
    """
    own = None if logging.root.handlers else logging.lastResort
    if own is not None:
        logging.root.addHandler(own)
    try:
        yield
    finally:
        if own is not None:
            logging.root.removeHandler(own)


@contextmanager
def importing() -> Iterator[None]:
    """Import modules of ours: the root logger stays as it is, and so does ``random``'s state, from
    which flax draws while it is imported."""
    drawn = random.getstate()
    try:
        with root_logger_as_found():
            yield
    finally:
        random.setstate(drawn)
