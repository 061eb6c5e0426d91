"""Counts the bytes that a program moves between devices, from its own operations."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

_SUMS = ("psum", "psum_invariant", "psum2", "pmax", "pmin")


def moved(mesh: Mesh, fn: Callable, *args: Any) -> dict[str, int]:
    """Return the bytes that a device gets from others in one call, by operation.

    Every collective is counted by the shapes in the program: a sum over n devices as 2 (n - 1) / n
    of its size, as a ring moves; a gather as n - 1 parts; an exchange as the (n - 1) / n of it that
    is not the device's own. The most expensive branch counts, and a loop's body counts once.
    """
    found: dict[str, float] = {}
    _walk(jax.make_jaxpr(fn)(*args).jaxpr, dict(mesh.shape), found)
    return {name: round(value) for name, value in found.items() if value}


def _walk(jaxpr: Any, sizes: dict[str, int], found: dict[str, float]) -> None:
    for eqn in jaxpr.eqns:
        name = eqn.primitive.name
        axes = eqn.params.get("axes", eqn.params.get("axis_name", ()))
        axes = axes if isinstance(axes, tuple) else (axes,)
        n = int(np.prod([sizes[a] for a in axes if isinstance(a, str) and a in sizes]))
        size = sum(v.aval.size * v.aval.dtype.itemsize for v in eqn.invars if hasattr(v, "aval"))
        share = {
            "all_gather": float(n - 1),
            "all_to_all": (n - 1) / n,
            "ppermute": 1.0,
            **dict.fromkeys(_SUMS, 2 * (n - 1) / n),
        }
        if name in share and n > 1:
            found[name] = found.get(name, 0) + share[name] * size
        branches = eqn.params.get("branches")
        if branches is not None:
            each = []
            for branch in branches:
                inner: dict[str, float] = {}
                _walk(branch.jaxpr, sizes, inner)
                each.append(inner)
            for key, value in max(each, key=lambda of: sum(of.values())).items():
                found[key] = found.get(key, 0) + value
            continue
        for inner in jax.tree.leaves(tuple(eqn.params.values()), is_leaf=_is_jaxpr):
            if _is_jaxpr(inner):
                _walk(getattr(inner, "jaxpr", inner), sizes, found)


def _is_jaxpr(x: Any) -> bool:
    return hasattr(x, "eqns") or hasattr(getattr(x, "jaxpr", None), "eqns")
