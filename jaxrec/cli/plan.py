"""``jaxrec plan``: estimate the memory and traffic of a run on other machines."""

import re
from dataclasses import dataclass
from typing import Annotated, Literal

from jaxrec import plan as plans
from jaxrec.aot.targets import DEVICES
from jaxrec.cli.arguments import parse
from jaxrec.cli.console import print_lines
from jaxrec.cli.plan_compile import compiled, number_of
from jaxrec.config.checks import Range
from jaxrec.errors import InputError, nearest

GIGABYTES = {"A100": 80, "H100": 80, "H200": 141, "B200": 180, "L4": 24, "V5E": 16, "V5P": 95}
"""Memory of devices by name, in GB."""
_MOST = 10**12
"""Largest memory that may be given, in GB."""


@dataclass(frozen=True)
class Mesh:
    """The numbers of parts of the batch and of the table, and the memory that holds the table."""

    data: Annotated[int, Range(1, 2**20)] = 1
    """Number of parts of the batch."""
    table: Annotated[int | None, Range(1, 2**20)] = None
    """Number of parts of the table; by default as many as the devices allow."""
    memory: Literal["device", "host"] = "device"
    """Memory that holds the table: device memory, or host memory (with a single device)."""


@dataclass(frozen=True)
class Arguments:
    """Estimate the memory, the traffic per step and the checkpoint size of a run on many devices.

    ``jaxrec plan --compile TARGET [PRESET] [options of train]`` instead compiles the programs of a
    run for another machine; see ``jaxrec plan --compile help``."""

    users: str
    """Number of users, such as 100M; it may end in K, M or B."""
    items: str
    """Number of items."""
    edges: str
    """Number of pairs of a user and an item."""
    devices: str
    """Devices as COUNTxNAME, such as 64xH200, or COUNTxMEMORY, such as 8x80GB."""
    dim: Annotated[int, Range(1, 2**16)] = 64
    """Width of the embeddings."""
    layers: Annotated[int, Range(0, 64)] = 3
    """Number of layers; 0 is matrix factorisation."""
    batch_size: Annotated[int, Range(1, 2**26)] = 2048
    """Number of pairs in a batch."""
    negatives: Annotated[int, Range(0, 2**24)] = 1
    """Number of negatives per pair."""
    optimizer: Literal["adam", "adamw", "adagrad", "rowwise_adagrad", "sgd"] = "adam"
    """Optimizer; the size of the state per row depends on it."""
    mesh: Mesh = Mesh()
    parted: bool = False
    """The data is partitioned on disk by `jaxrec data partition`."""
    host_memory: str | None = None
    """Memory of a host, such as 2000GB, to check that the run fits."""


def _memory(text: str, name: str) -> int:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)GB", text.upper())
    if found is not None:
        if not 0 < float(found[1]) <= _MOST:
            raise InputError(f"--{name} {text}: give a memory size above 0, such as 80GB")
        return max(round(float(found[1]) * 1e9), 1)
    if text.upper() not in GIGABYTES:
        hint = nearest(text.upper(), GIGABYTES)
        raise InputError(
            f"--{name}: the memory size of {text!r} is unknown{hint}; give the size instead, such "
            "as 80GB"
        )
    return GIGABYTES[text.upper()] * 10**9


def _check_host(parsed: Arguments, devices: int) -> None:
    """Raise InputError if the run cannot keep its table in host memory."""
    if parsed.layers > 0:
        raise InputError("--mesh.memory host needs --layers 0, because layers read the whole table")
    if parsed.optimizer == "adamw":
        raise InputError(
            "--mesh.memory host needs an optimizer that updates only the rows of a batch, but "
            "adamw updates all; use --optimizer adam"
        )
    if devices > 1:
        raise InputError(f"--mesh.memory host needs a single device, not {devices}")


def plan(args: list[str]) -> None:
    """Estimate the memory and traffic of a run on many devices, without those devices."""
    if any(arg.partition("=")[0] == "--compile" for arg in args):
        compiled(args)
        return
    parsed = parse(Arguments, args, "jaxrec plan")
    count, _, kind = parsed.devices.partition("x")
    if not re.fullmatch(r"[1-9]\d{0,6}", count) or not kind:
        raise InputError(f"--devices {parsed.devices}: give COUNTxNAME, such as 64xH200")
    memory, devices, data = _memory(kind, "devices"), int(count), parsed.mesh.data
    by_host = parsed.mesh.memory == "host"
    if by_host:
        _check_host(parsed, devices)
    table = parsed.mesh.table or max(devices // max(data, 1), 1)
    if data * table > devices:
        raise InputError(
            f"--mesh.data {data} x --mesh.table {table} needs {data * table} devices, but "
            f"--devices gives {devices}"
        )
    sizes = plans.Sizes(
        *(number_of(getattr(parsed, name), name) for name in ("users", "items", "edges")),
        dim=parsed.dim,
        layers=parsed.layers,
        batch=parsed.batch_size,
        negatives=parsed.negatives,
        data=data,
        table=table,
        optimizer=parsed.optimizer,
        parted=parsed.parted,
        buckets=True,  # accelerators use the buckets kernel
        sparse=by_host or parsed.optimizer == "rowwise_adagrad",
        host=by_host,
        platform=named.platform if (named := DEVICES.get(kind.lower())) else "gpu",
    )
    found = plans.plan(sizes)
    print_lines(found.lines())
    if sizes.edges > plans.MOST_PAIRS:
        print(
            f"  not supported by this release: pairs are numbered by int32, so there can be at "
            f"most {plans.MOST_PAIRS:,}"
        )
    host = None if parsed.host_memory is None else _memory(parsed.host_memory, "host-memory")
    plans.check(found, memory, host)
    print(f"  fits {devices} x {kind}: {found.device_bytes / memory:.0%} of a device's memory")
