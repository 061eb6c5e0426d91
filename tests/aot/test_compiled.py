"""Compile real programs for other machines; ``pytest -m compile`` selects these tests.

Continuous integration runs only the tests with ``short`` in their names.
"""

import dataclasses
import math
from typing import Any

import pytest

from bench.compiled import GOWALLA, sizes_of, trained
from jaxrec import config as configs
from jaxrec import presets
from jaxrec.aot.parent import compile_for, installed
from jaxrec.aot.targets import target
from jaxrec.errors import InputError

pytestmark = pytest.mark.compile


def made(preset: str, name: str, program: str = "step", sizes: Any = None) -> dict[str, Any]:
    """Compile a program of a preset for a machine, and return the result."""
    to, config = target(name), presets.get(preset)
    if not installed(to.device.vendor):
        pytest.skip(f"the compiler for {name} is not installed (the extra `compile`)")
    if to.devices > 1:
        mesh = dataclasses.replace(config.mesh, table=to.devices)
        config = dataclasses.replace(config, mesh=mesh)
    values = configs.to_dict(config)
    return compile_for(to, values, sizes=sizes, programs=(program,))[0]


def holds(found: dict[str, Any]) -> None:
    """Check what must be true of the compiled program of every step."""
    read = found["reading"]
    assert found["alias"] >= found["state"], "the state is not updated in place"
    assert found["aliases"] >= 5
    assert read["transfers"] == 0
    assert not read["float64"]
    if target(found["target"]).device.vendor == "cuda":
        assert read["atomics"] == 0


@pytest.mark.parametrize("name", ["h200", "v5e"])
def test_short_matrix_factorisation(name):
    found = made("mf", name, sizes=(2000, 1500, 60_000))
    holds(found)
    if name == "h200":
        assert found["reading"]["usual_kernels"] <= 60


@pytest.mark.parametrize("name", ["h200", "v5e"])
def test_short_lightgcn_gowalla(name):
    found = made("lightgcn", name, sizes=GOWALLA)
    holds(found)
    read = found["reading"]
    floor = 6 * 2 * GOWALLA[2] * 64 * 4  # six products gather a row of 64 numbers for each edge
    assert floor <= read["n_bytes"] <= 5e9
    if name == "h200":
        assert read["usual_kernels"] <= 60
        assert read["loops"] <= 1


@pytest.mark.parametrize("name", ["h200", "v5e"])
@pytest.mark.parametrize("preset", ["mf", "lightgcn"])
def test_runs_that_are_trained_together(preset, name):
    found = made(preset, name, "together", (2000, 1500, 60_000))
    holds(found)
    # The runs share one step number of 4 bytes.
    assert found["alias"] >= 4 * (found["state"] - 4), "four states are updated in place"
    if name == "h200":
        assert found["reading"]["atomics"] == 0
        assert found["reading"]["usual_kernels"] <= 120


@pytest.mark.parametrize("name", ["8xH200", "v5e-16"])
def test_short_mesh(name):
    found = made("mf", name, sizes=(200_000, 150_000, 6_000_000))
    holds(found)
    assert sum(found["reading"]["collectives"].values()) > 0


@pytest.mark.parametrize("name", ["8xH200", "v5e-16"])
def test_lightgcn_on_a_mesh(name):
    found = made("lightgcn", name, sizes=GOWALLA)
    holds(found)
    devices = target(name).devices
    assert found["memory"] < 2 * 3 * 4 * 64 * sum(GOWALLA[:2])  # so the table is sharded
    assert found["state"] == pytest.approx(3 * 4 * 64 * sum(GOWALLA[:2]) / devices, rel=0.05)


@pytest.mark.parametrize("name", ["h200", "v5e"])
@pytest.mark.parametrize("preset", trained())
def test_every_preset(preset, name):
    config = presets.get(preset)
    found = made(preset, name, sizes=sizes_of(config))
    holds(found)
    floor = 2 * config.train.batch_size * config.model.dim * 4  # a pair reads two rows
    if config.model.layers and not config.model.sampled:
        # Each layer gathers a row for each edge, and so does its gradient.
        floor += 2 * config.model.layers * 2 * found["sizes"][2] * config.model.dim * 4
    assert found["reading"]["n_bytes"] >= floor


@pytest.mark.parametrize("name", ["h200", "v5e"])
@pytest.mark.parametrize("program", ["embed", "rank", "start", "pagerank"])
def test_what_runs_between_steps(program, name):
    found = made("lightgcn", name, program, GOWALLA)
    assert found["reading"]["transfers"] == 0
    assert not found["reading"]["float64"]


@pytest.mark.parametrize("name", ["8xH200", "v5e:16x16"])
def test_what_is_larger_than_any_machine_here(name):
    sizes = 20_000_000, 2_000_000, 10**9
    found = made("lightgcn", name, sizes=sizes)
    holds(found)
    assert found["memory"] < 0.9 * target(name).device.memory
    assert found["host"] < 8 * 2**30
    moved = sum(found["reading"]["collectives"].values())
    rows = sum(sizes[:2]) * 64 * 4
    assert moved < 7 * rows * math.log2(target(name).devices)


def test_what_is_not_there_on_a_mesh_is_refused_by_name():
    with pytest.raises(InputError, match="not on a mesh"):
        made("ngcf", "8xH200")
