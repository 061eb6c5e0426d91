"""Test that the plan of a step agrees with the memory of its program, as XLA compiles it.

The committed lines of the bench case ``compiled-plan`` hold the compilers' figures. ``pytest -m
compile`` compares with the compilers themselves.
"""

import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bench.common import RESULTS
from bench.compiled_plan import CASES, GOWALLA, Case, compile_case, machine
from jaxrec import plan as plans
from jaxrec import plan_arrays, rowwise
from jaxrec.aot import hlo, programs, shapes
from jaxrec.aot.parent import installed
from jaxrec.aot.targets import target
from jaxrec.cli.train import configured
from jaxrec.config import OptimConfig
from jaxrec.graph import buckets
from jaxrec.platforms import compiled_for
from jaxrec.training.memory import Counts

NAMES = ("h200", "v5e")
WITHIN, FLOOR = 0.05, 8e6
FARTHER = {("pinsage, Gowalla's size", "h200"): 0.08, ("pinsage", "v5e"): 0.13}
"""The allowed relative difference where it is above WITHIN; FLOOR is in bytes.

PinSAGE at Gowalla's size on an H200: 400 MB planned, 431 compiled, of which at most 382 are in use
at once; XLA packs the temporary arrays with gaps. PinSAGE at ten times this size on a v5e: 2,463 MB
planned, 2,187 compiled; XLA keeps parts of the block in VMEM.
"""


def planned(label: str, name: str) -> dict[str, int]:
    case = CASES[label]
    config, counts = configured([case.preset, *case.options]).config, Counts(*case.sizes)
    with compiled_for(target(name).device.platform):
        got = None
        if case.devices > 1 and config.model.layers:
            got = shapes.received(shapes.mesh_data(config, counts)[0].shard, case.devices)
        sparse = config.sparse_updates(counts.n_users + counts.n_items)
        return programs.of_step(config, counts, shapes.degrees(counts), sparse, got)


def committed(label: str, name: str) -> dict[str, Any]:
    text = (RESULTS / "compiled-plan.jsonl").read_text(encoding="utf-8")
    lines = [json.loads(line) for line in text.splitlines()]
    on = machine(name, CASES[label].devices)
    return [line for line in lines if (line["impl"], line["target"]) == (label, on)][-1]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("label", CASES)
def test_the_plan_agrees_with_the_committed_figures(label, name):
    line, parts = committed(label, name), planned(label, name)
    assert tuple(line["sizes"]) == CASES[label].sizes
    within = FARTHER.get((label, name), WITHIN)
    assert sum(parts.values()) == pytest.approx(line["value"], rel=within, abs=FLOOR), parts


@pytest.mark.compile
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("label", CASES)
def test_the_plan_agrees_with_the_compiler(label, name):
    if not installed(target(name).device.vendor):
        pytest.skip(f"the compiler for {name} is not installed (the extra `compile`)")
    found = compile_case(CASES[label], name)
    assert found["planned"] == planned(label, name)
    within = FARTHER.get((label, name), WITHIN)
    assert sum(found["planned"].values()) == pytest.approx(found["memory"], rel=within, abs=FLOOR)


@pytest.mark.compile
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("schedule", "most"), [("constant", 4e6), ("linear", 28e6)])
def test_a_million_steps_add_small_constants(schedule, most, name, tmp_path):
    if not installed(target(name).device.vendor):
        pytest.skip(f"the compiler for {name} is not installed (the extra `compile`)")
    options = ("--optim.sparse", "True", "--train.steps", "1000000", "--optim.schedule", schedule)
    compile_case(Case("mf", options, GOWALLA), name, str(tmp_path))
    (text,) = tmp_path.glob("*.hlo")
    module = hlo.parse(text.read_text(encoding="utf-8"))
    made = [one for part in module.computations.values() for one in part.instructions.values()]
    constants = [shape for one in made if one.opcode == "constant" for shape in one.shapes]
    assert 0.1e6 < sum(shape.padded for shape in constants) < most


def test_sizes_of_buckets_are_those_of_real_buckets():
    degree = np.random.default_rng(0).geometric(1 / 40, 5000) ** 2
    found = plan_arrays.bucket_sizes(zip(*np.unique(degree, return_counts=True), strict=True))
    made = jax.tree.leaves(buckets.of_sizes(buckets.sizes(degree)))
    assert found.entries == sum(x.size for x in made if x.ndim == 2) / 2
    assert found.places == sum(x.size for x in made if x.ndim == 1)


@pytest.mark.parametrize("shape", [(1000, 64), (1000, 128), (10, 6), (7, 5, 64)])
def test_arrays_are_padded_as_in_the_text_of_a_compiled_program(shape):
    by_rows = plan_arrays.by_rows("tpu", *shape)
    order = ",".join(str(n) for n in reversed(range(len(shape))))
    assert by_rows == hlo.Shape("f32", shape, f"{order}:T(8,128)").padded
    if len(shape) == 2:
        columns = hlo.Shape("f32", shape, "0,1:T(8,128)").padded
        assert plan_arrays.least("tpu", *shape) == min(by_rows, columns)


@pytest.mark.parametrize("steps", [100, 5000, 10**6])
@pytest.mark.parametrize(
    "optim",
    [
        OptimConfig("adam"),
        OptimConfig("adam", warmup_steps=2000),
        OptimConfig("adam", schedule="cosine"),
    ],
    ids=["constant", "warm-up", "cosine"],
)
def test_learning_rate_sums_take_what_the_constants_of_a_program_take(optim, steps):
    optimizer, x = rowwise.make_optimizer(optim, steps), jnp.zeros((5, 2))
    read = jax.make_jaxpr(optimizer.read)(x, optimizer.init(x), jnp.arange(3))
    made = sum(const.nbytes for const in read.consts)
    varied = optim.warmup_steps if optim.schedule == "constant" else steps
    planned = plan_arrays.learning_rate_sums("gpu", steps, varied)
    assert planned == pytest.approx(made, rel=0.01, abs=24 * 200)


def test_a_tpu_needs_more_where_rows_are_padded():
    narrow, wide = (plans.Sizes(10**7, 10**6, 10**8, dim=dim, platform="tpu") for dim in (64, 128))
    found, other = plans.plan(narrow).device, plans.plan(wide).device
    assert "copies by rows" not in other
    assert found["copies by rows"] == pytest.approx(2 * found["table and optimizer"], rel=0.01)


def test_a_gpu_without_buckets_still_holds_two_layers():
    sizes = plans.Sizes(10**6, 10**6, 10**7, platform="gpu")
    table = 4 * sizes.nodes * sizes.dim
    assert plans.plan(sizes).device["gradient and layers"] == 3 * table
