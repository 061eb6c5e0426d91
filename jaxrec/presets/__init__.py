"""Named configurations. Each docstring gives the model, the command and the expected results.

The expected figures come from committed benchmark lines (``bench/results``), on two CPU cores.
"""

from collections.abc import Callable

from jaxrec import registry
from jaxrec.config import Config
from jaxrec.errors import InputError, nearest
from jaxrec.presets import cases, filters, graphs, items, ratings, towers

PRESETS: dict[str, Callable[[], Config]] = {
    **graphs.PRESETS,
    **filters.PRESETS,
    **ratings.PRESETS,
    **items.PRESETS,
    **towers.PRESETS,
    **cases.PRESETS,
}

registry.PRESETS.builtin = tuple(PRESETS)


def get(name: str) -> Config:
    """Return the configuration of a preset.

    Raises:
      InputError: no preset has this name; the message suggests the nearest one.

    >>> import jaxrec
    >>> jaxrec.preset("lightgcn").model.name
    'lightgcn'
    """
    known = all_presets()
    if name not in known:
        raise InputError(f"no preset {name!r}{nearest(name, known)}; `jaxrec presets` lists them")
    return known[name]()


def all_presets() -> dict[str, Callable[[], Config]]:
    """Return all presets by name, user-registered ones last."""
    return PRESETS | registry.PRESETS.registered()
