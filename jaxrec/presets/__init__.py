"""Named configurations. Each docstring: what it is, the command, and what to expect of it.

Expected figures are medians of committed benchmark lines (``bench/results``), on two CPU cores.
"""

from collections.abc import Callable

from jaxrec.config import Config
from jaxrec.errors import InputError, nearest
from jaxrec.presets import cases, graphs, items, ratings, towers

PRESETS: dict[str, Callable[[], Config]] = {
    **graphs.PRESETS,
    **ratings.PRESETS,
    **items.PRESETS,
    **towers.PRESETS,
    **cases.PRESETS,
}


def get(name: str) -> Config:
    """The configuration of a preset. Raises InputError naming the nearest for an unknown one."""
    if name not in PRESETS:
        raise InputError(f"no preset {name!r}{nearest(name, PRESETS)}; `jaxrec presets` lists them")
    return PRESETS[name]()
