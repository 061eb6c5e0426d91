"""Named configurations. Each docstring: what it is, the command, and what to expect of it.

Expected figures are medians of committed benchmark lines (``bench/results``), on two CPU cores.
"""

from collections.abc import Callable

from jaxrec import registry
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

registry.PRESETS.builtin = tuple(PRESETS)


def get(name: str) -> Config:
    """The configuration of a preset. Raises InputError naming the nearest for an unknown one."""
    if name in registry.PRESETS:
        return registry.PRESETS.get(name)()
    if name not in PRESETS:
        close = nearest(name, registry.PRESETS.names())
        raise InputError(f"no preset {name!r}{close}; `jaxrec presets` lists them")
    return PRESETS[name]()


def all_presets() -> dict[str, Callable[[], Config]]:
    """By name what makes each preset, those that users have registered last."""
    return PRESETS | {name: registry.PRESETS.get(name) for name in registry.PRESETS.registered()}
