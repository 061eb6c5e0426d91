"""Test the plan against the arrays and operations of real programs."""

import dataclasses
import gc
import math

import jax
import numpy as np
import polars as pl
import pytest
from processes import jaxrec

from bench.mesh_traffic import moved
from jaxrec import plan as plans
from jaxrec.config import Config, MeshConfig, ModelConfig, NegativesConfig, OptimConfig, TrainConfig
from jaxrec.data.dataset import Dataset
from jaxrec.data.split import Splits
from jaxrec.errors import InputError
from jaxrec.parted.write import partition_data
from jaxrec.training.placement.host_table import HostProblem
from jaxrec.training.placement.mesh import MeshProblem

CONFIG = Config(model=ModelConfig(dim=16, layers=2), train=TrainConfig(batch_size=256))
MF = ModelConfig("mf", dim=16, layers=0)


def random_splits(users: int, items: int, edges: int) -> Splits:
    """Return random pairs, which is what the plan assumes."""
    rng = np.random.default_rng(0)
    pair = np.sort(rng.choice(users * items, edges, replace=False))
    user, item = (x.astype(np.int32) for x in np.divmod(pair, items))
    train = Dataset(user, item, np.arange(users), np.arange(items))
    none = dataclasses.replace(train, user=user[:0], item=item[:0])
    return Splits(train, none, none)


def built(edges: int, mesh: tuple[int, int], **changes) -> MeshProblem:
    config = dataclasses.replace(CONFIG, mesh=MeshConfig(*mesh, order="data"), **changes)
    return MeshProblem.build(config, random_splits(2000, 1500, edges))


def on_one_device(tree) -> int:
    """Return the bytes of a tree on one device."""

    def one(x) -> int:
        x = jax.random.key_data(x) if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key) else x
        return math.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize

    return sum(map(one, jax.tree.leaves(tree)))


def test_a_host_reads_of_a_part_what_the_plan_says(tmp_path):
    train = random_splits(300, 200, 9000).train
    frame = pl.DataFrame({"user": train.user, "item": train.item})
    frame.write_parquet(tmp_path / "pairs.parquet")
    manifest = partition_data(tmp_path / "pairs.parquet", tmp_path / "parts", 4)
    read = sum(np.empty(shape, kind).nbytes for kind, shape in manifest["arrays"].values())
    sizes = plans.Sizes(300, 200, manifest["pairs"]["train"], table=4, parted=True)
    assert plans.plan(sizes).host["pairs"] == pytest.approx(read, rel=0.1)


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_arrays_take_the_memory_that_the_plan_says(optimizer):
    made = built(30000, (2, 4), optim=OptimConfig(optimizer))
    device = made.plan().device
    state = made.initial_state()
    assert on_one_device(state) == pytest.approx(device["table and optimizer"], rel=0.1)
    shard = made.data.shard.graph
    assert on_one_device(shard) == pytest.approx(device["graph"], rel=0.1)
    pairs = made.data.pairs, made.data.known, made.data.users
    assert on_one_device(pairs) == pytest.approx(device["pairs"], rel=0.1)
    assert on_one_device(made.data.place_N) == device["places"]


@pytest.mark.parametrize(
    ("edges", "mesh", "changes"),
    [
        (4000, (1, 4), {}),  # few rows are needed
        (60000, (2, 4), {}),  # nearly all rows are needed
        (30000, (2, 2), {"negatives": NegativesConfig("shared", 64)}),
        (30000, (2, 4), {"model": MF}),
        (30000, (2, 4), {"model": MF, "optim": OptimConfig(sparse=True)}),
    ],
    ids=["few", "most", "shared", "mf", "mf-rows"],
)
def test_a_step_moves_the_bytes_that_the_plan_says(edges, mesh, changes):
    made = built(edges, mesh, **changes)
    state = made.initial_state()
    counted = moved(made.mesh, made.stepper.dispatch, state, made.data, made.number(1))
    total = sum(counted.values())
    assert made.plan().step_bytes == pytest.approx(total, rel=0.1)
    # The plan does not need the split graph either: the degrees of the nodes are enough.
    assert made.plan(counted=False).step_bytes == pytest.approx(total, rel=0.1)


@pytest.mark.long_but("sgd")
@pytest.mark.parametrize("optimizer", ["adam", "adagrad", "rowwise_adagrad", "sgd"])
def test_a_table_on_the_host_takes_and_moves_what_the_plan_says(optimizer):
    config = dataclasses.replace(
        CONFIG,
        model=MF,
        optim=OptimConfig(optimizer),
        negatives=NegativesConfig("uniform", 2),
        train=TrainConfig(batch_size=251, steps=40),
        mesh=MeshConfig(memory="host"),
    )
    made = HostProblem.build(config, random_splits(2000, 1500, 4000))
    plan, state = made.plan(), made.initial_state()
    host = sum(x.nbytes for x in jax.tree.leaves(state) if isinstance(x, np.ndarray))
    assert host == plan.host["table and optimizer"] == plan.checkpoint

    def of_batches() -> int:
        gc.collect()
        there = [x for x in jax.live_arrays() if x.shape[:1] == (4 * 251,)]
        return sum({x.unsafe_buffer_pointer(): x.nbytes for x in there}.values())

    before = of_batches()
    dispatch = made.fed_by_host(state, 0)
    state, _ = dispatch(state, made.data, made.number(10))
    assert dispatch.moved == plan.step_bytes
    # Between two steps, the rows of the next step have not been allocated yet.
    rows = of_batches() - before + plan.step["rows from the host"]
    assert rows == pytest.approx(plan.device["rows of batches"], rel=0.1)
    dispatch.close()


def test_equal_degrees_move_the_most():
    equal = plans.Sizes(1000, 1000, 4000, table=8)
    uneven = dataclasses.replace(equal, degrees=[(1, 900), (31, 100), (4, 1000)])
    assert uneven.got_rows() < equal.got_rows() <= 7 * equal.rows
    assert plans.Sizes(1000, 1000, 4000, table=1).got_rows() == 0


def test_what_cannot_fit_is_refused_with_the_smallest_mesh_that_would():
    sizes = plans.Sizes(10**8, 10**7, 10**9, table=2)
    with pytest.raises(InputError, match=r"--mesh\.table (\d+)") as caught:
        plans.check(plans.plan(sizes), 24 * 10**9)
    named = int(str(caught.value).split("--mesh.table ")[1])
    for table, fits in ((named, True), (named // 2, False)):
        needs = plans.plan(dataclasses.replace(sizes, table=table)).device_bytes
        assert (needs <= 0.9 * 24e9) == fits
    with pytest.raises(InputError, match="a host would need"):
        plans.check(plans.plan(dataclasses.replace(sizes, table=named)), 24 * 10**9, 10**9)


def test_where_a_device_lacks_room_the_host_is_named_too():
    sizes = plans.Sizes(10**8, 10**7, 10**9, layers=0, sparse=True)
    with pytest.raises(InputError, match=r"table 8, or one device with --mesh\.memory host"):
        plans.check(plans.plan(sizes), 40 * 10**9)
    on_host = plans.plan(dataclasses.replace(sizes, host=True))
    plans.check(on_host, 40 * 10**9, 340 * 10**9)
    with pytest.raises(InputError, match=r"the host would need 298 GB .* mesh\.memory device"):
        plans.check(on_host, 40 * 10**9, 300 * 10**9)
    for lacks in ({"layers": 2}, {"optimizer": "adamw"}):
        with pytest.raises(InputError) as caught:
            plans.check(plans.plan(dataclasses.replace(sizes, **lacks)), 40 * 10**9)
        assert "memory host" not in str(caught.value)


def test_the_command_plans_for_machines_that_are_not_here():
    size = ("--users", "100M", "--items", "10M", "--edges", "10B", "--dim", "64")
    done = jaxrec("plan", *size, "--devices", "64xH200")
    assert done.returncode == 0, done.stderr
    for words in ("memory of a device", "received by a device per step", "a checkpoint", "int32"):
        assert words in done.stdout
    done = jaxrec("plan", *size, "--devices", "2x24GB")
    assert done.returncode == 2
    assert "the smallest mesh that fits is --mesh.data 1 --mesh.table" in done.stderr
    by_host = *size[:4], "--edges", "1B", "--devices", "1x40GB", "--mesh.memory", "host"
    done = jaxrec("plan", *by_host, "--layers", "0")
    assert done.returncode == 0, done.stderr
    assert "rows from the host" in done.stdout
    done = jaxrec("plan", *by_host)
    assert (done.returncode, "needs --layers 0" in done.stderr) == (2, True)
    for wrong, words in (("64", "COUNTxNAME"), ("8xH20", "'H200'"), ("0xH100", "COUNTxNAME")):
        done = jaxrec("plan", *size, "--devices", wrong)
        assert (done.returncode, words in done.stderr) == (2, True), done.stderr
