"""``jaxrec plan``: what a run would need, for machines that are not here."""

import re
from dataclasses import dataclass
from typing import Annotated, Literal

from jaxrec import plan as plans
from jaxrec.cli.arguments import parse
from jaxrec.cli.plan_compile import compiled, number_of
from jaxrec.config.checks import Range
from jaxrec.errors import InputError, nearest

GIGABYTES = {"A100": 80, "H100": 80, "H200": 141, "B200": 180, "L4": 24, "V5E": 16, "V5P": 95}
"""Memory of a device by name, in GB."""
_MOST = 10**12
"""Gigabytes that are planned for."""


@dataclass(frozen=True)
class Mesh:
    """Parts of the batch and of the table, and whose memory has them."""

    data: Annotated[int, Range(1, 2**20)] = 1
    table: Annotated[int | None, Range(1, 2**20)] = None
    """All devices that `data` leaves, where not given."""
    memory: Literal["device", "host"] = "device"
    """Where the table lies: on the devices, or in the memory of the host of one."""


@dataclass(frozen=True)
class Arguments:
    """Memory, bytes moved a step and size of a checkpoint of a run on many devices.

    ``jaxrec plan --compile TARGET [PRESET] [options of train]`` compiles the program itself for a
    machine that is not here; ``jaxrec plan --compile help`` tells more."""

    users: str
    """How many, with K, M or B behind the number."""
    items: str
    edges: str
    """Pairs of a user and an item."""
    devices: str
    """COUNTxNAME, such as 64xH200, or COUNTxMEMORY, such as 8x80GB."""
    dim: Annotated[int, Range(1, 2**16)] = 64
    layers: Annotated[int, Range(0, 64)] = 3
    """0 is matrix factorisation."""
    batch_size: Annotated[int, Range(1, 2**26)] = 2048
    negatives: Annotated[int, Range(0, 2**24)] = 1
    """Negatives a pair."""
    optimizer: Literal["adam", "adamw", "adagrad", "rowwise_adagrad", "sgd"] = "adam"
    mesh: Mesh = Mesh()
    parted: bool = False
    """The data lies in parts on disk, as `jaxrec data partition` writes it."""
    host_memory: str | None = None
    """Memory of a host, such as 2000GB, to be checked too."""


def _memory(text: str, name: str) -> int:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)GB", text.upper())
    if found is not None:
        if not 0 < float(found[1]) <= _MOST:
            raise InputError(f"--{name} {text}: a memory above 0 is needed, such as 80GB")
        return max(round(float(found[1]) * 1e9), 1)
    if text.upper() not in GIGABYTES:
        hint = nearest(text.upper(), GIGABYTES)
        raise InputError(f"--{name}: no memory is known of {text!r}{hint}; give it, such as 80GB")
    return GIGABYTES[text.upper()] * 10**9


def _check_host(made: Arguments, devices: int) -> None:
    """Raise InputError for what has no table in the host's memory."""
    if made.layers > 0:
        raise InputError(
            "--mesh.memory host is for --layers 0: layers of propagation read the whole table"
        )
    if made.optimizer == "adamw":
        raise InputError("--mesh.memory host updates rows, and adamw all of them; take adam")
    if devices > 1:
        raise InputError(f"--mesh.memory host is for one device, not for {devices}")


def plan(args: list[str]) -> None:
    """Say what a run on many devices would need, before there are any."""
    if any(arg.partition("=")[0] == "--compile" for arg in args):
        compiled(args)
        return
    made = parse(Arguments, args, "jaxrec plan")
    count, _, kind = made.devices.partition("x")
    if not re.fullmatch(r"[1-9]\d{0,6}", count) or not kind:
        raise InputError(f"--devices {made.devices}: COUNTxNAME is needed, such as 64xH200")
    memory, devices, data = _memory(kind, "devices"), int(count), made.mesh.data
    by_host = made.mesh.memory == "host"
    if by_host:
        _check_host(made, devices)
    table = made.mesh.table or max(devices // max(data, 1), 1)
    if data * table > devices:
        raise InputError(f"--mesh.data {data} x --mesh.table {table} is not within {devices}")
    sizes = plans.Sizes(
        *(number_of(getattr(made, name), name) for name in ("users", "items", "edges")),
        dim=made.dim,
        layers=made.layers,
        batch=made.batch_size,
        negatives=made.negatives,
        data=data,
        table=table,
        optimizer=made.optimizer,
        parted=made.parted,
        buckets=True,  # the kernel of accelerators
        sparse=by_host or made.optimizer == "rowwise_adagrad",
        host=by_host,
    )
    found = plans.plan(sizes)
    print("\n".join(found.lines()))
    if sizes.edges > plans.MOST_PAIRS:
        print(
            f"  beyond this release: pairs are numbered by int32, {plans.MOST_PAIRS:,} at most; "
            "the figures are those of the devices"
        )
    host = None if made.host_memory is None else _memory(made.host_memory, "host-memory")
    plans.check(found, memory, host)
    print(f"  fits {devices} x {kind}: {found.device_bytes / memory:.0%} of a device's memory")
