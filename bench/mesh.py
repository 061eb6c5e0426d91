"""Weak scaling on a mesh: bytes moved to a device a step, planned and counted, 1 to 8 devices.

LightGCN of 3 layers at D = 64 on virtual CPU devices; users, items and pairs grow with the devices.
Pairs fall at random on items of power-law popularity, so that no order brings neighbours near each
other: the worst case of the partition. The plan sees the degrees of the nodes, not the cut graph.
The count is of the collectives in the compiled step's program.
"""

import os

os.environ["JAX_NUM_CPU_DEVICES"] = "8"  # must be set before jax is imported

import argparse
from dataclasses import replace

import jax
import numpy as np

from bench.common import record
from bench.mesh_traffic import moved
from jaxrec import presets
from jaxrec.config import MeshConfig
from jaxrec.data.dataset import Dataset
from jaxrec.data.split import Splits
from jaxrec.training.placement.mesh import MeshProblem

COMMAND = "python -m bench mesh"
USERS, ITEMS, PAIRS = 3000, 2000, 20_000  # pairs per device
MESHES = ((1, 1), (1, 2), (1, 4), (1, 8), (2, 1), (2, 2), (2, 4), (8, 1))


def random_pairs(times: int) -> Splits:
    """Return distinct pairs of uniform users and items of power-law popularity."""
    rng = np.random.default_rng(times)
    users, items, pairs = USERS * times, ITEMS * times, PAIRS * times
    weight = (1 + np.arange(items)) ** -0.7
    share = weight / weight.sum()
    item = rng.permutation(items)[rng.choice(items, 2 * pairs, p=share)]
    key = np.unique(rng.integers(0, users, 2 * pairs) * items + item)
    key = np.sort(rng.permutation(key)[:pairs])
    user, item = (x.astype(np.int32) for x in np.divmod(key, items))
    train = Dataset(user, item, np.arange(users), np.arange(items))
    nothing = train.take(np.zeros(0, np.int64))
    return Splits(train, nothing, nothing)


def measure(mesh: tuple[int, int]) -> None:
    """Measure one mesh: planned and counted bytes."""
    config = presets.get("lightgcn")
    config = replace(config, mesh=MeshConfig(*mesh, order="data"))
    made = MeshProblem.build(config, random_pairs(mesh[0] * mesh[1]))
    state = made.initial_state()
    counted = moved(made.mesh, made.stepper.dispatch, state, made.data, made.number(1))
    planned = made.plan(counted=False)
    total = sum(counted.values())
    what = f"moved to a device a step, {mesh[0]} x {mesh[1]} devices"
    about = {
        "what": what,
        "mesh": mesh,
        "pairs": made.splits.train.n_edges,
        "exchange": made.partition.exchange,
        "edge_cut": made.partition.traffic.edge_cut,
    }
    record("mesh", "counted", [total / 1e6], "MB", COMMAND, parts=counted, **about)
    off = planned.step_bytes / total - 1 if total else 0.0
    step = {"parts": planned.step, "off": off}
    record("mesh", "planned", [planned.step_bytes / 1e6], "MB", COMMAND, **step, **about)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.parse_args()
    assert len(jax.devices()) == 8
    for mesh in MESHES:
        measure(mesh)


if __name__ == "__main__":
    main()
