"""Test the programs that are compiled for other machines, without a compiler."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import jax
import pytest

from jaxrec import presets
from jaxrec.aot import programs
from jaxrec.aot.shapes import array
from jaxrec.data import synthetic, synthetic_items
from jaxrec.platforms import compiled_for

SMALL = {"communities": 4, "seed": 0, "features": True}


def equations(jaxpr: Any) -> Iterator[Any]:
    """Yield all equations of a jaxpr and of the functions that it calls."""
    for one in jaxpr.eqns:
        yield one
        for inner in jax.tree.leaves(
            list(one.params.values()), is_leaf=lambda x: hasattr(x, "eqns") or hasattr(x, "jaxpr")
        ):
            inner = getattr(inner, "jaxpr", inner)
            if hasattr(inner, "eqns"):
                yield from equations(inner)


@pytest.mark.parametrize(
    ("preset", "changes"),
    [
        ("gcmc", {"train": {"l2": 0.1}}),
        ("two-tower", {}),
        ("triplet", {"negatives": {"candidates": 2, "pick": "semi-hard"}}),
        ("gcmc-ratings", {}),
        ("skipgram-side", {}),
        ("node2vec", {"train": {"batch_size": 512}}),
    ],
)
def test_a_step_for_a_gpu_adds_without_atomics(preset, changes):
    config = presets.get(preset)
    changes = {"train": {"batch_size": 64}} | changes
    for section, values in changes.items():
        made = dataclasses.replace(getattr(config, section), **values)
        config = dataclasses.replace(config, **{section: made})
    if config.objective.users:
        data: Any = synthetic.make(60, 50, 600, **SMALL)
        if config.objective.reads:
            data = synthetic.rated(data, synthetic.truth(60, 50, communities=4, seed=0))
    else:
        data = synthetic_items.make(80, 300, communities=4, missing=0.5)
    with compiled_for("gpu"):
        problem = programs.of_data(config, data, None)
        step = jax.make_jaxpr(problem.stepper.dispatch)(problem.state, problem.data, array())
    found = list(equations(step.jaxpr))
    assert any(one.primitive.name == "sort" for one in found)  # so inner functions are seen
    adding = [one for one in found if one.primitive.name in ("scatter-add", "scatter_add")]
    assert not [one for one in adding if not one.params["unique_indices"]]
