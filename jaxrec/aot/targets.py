"""Machines to compile for, such as ``h200``, ``2x8xH200``, ``v5e``, ``v5e-16`` or ``v5e:4x4``."""

import re
from dataclasses import dataclass, replace
from typing import Literal

from jaxrec.errors import InputError, nearest

_GPU = """
gpu_device_info {{
  threads_per_block_limit: 1024 threads_per_warp: 32
  shared_memory_per_block: 49152 shared_memory_per_core: {per_core}
  shared_memory_per_block_optin: {optin} threads_per_core_limit: 2048
  core_count: {cores} fpus_per_core: {fpus}
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
  memory_bandwidth: {bandwidth} l2_cache_size: {l2} clock_rate_ghz: {clock}
  device_memory_size: {memory}
  registers_per_core_limit: 65536 registers_per_block_limit: 65536
  cuda_compute_capability {{ major: {major} }}
}}
platform_name: "CUDA"
dnn_version_info {{ major: 9 minor: 10 }}
device_description_str: "NVIDIA {name}"
"""


@dataclass(frozen=True)
class Device:
    """An accelerator, with figures from its vendor's data sheet.

    Attributes:
      name: common name.
      vendor: "cuda" or "tpu".
      memory: memory in bytes.
      bandwidth: memory bandwidth in bytes per second.
      clock: clock of the cores in GHz.
      row_cycles: cycles per row when a TPU gathers or scatters rows one after another; assumed,
        not measured.
      shape: for a GPU: number of cores, units per core, shared memory per core (bytes), limit of
        shared memory per block (bytes), level-2 cache (bytes), and major compute capability.
    """

    name: str
    vendor: str
    memory: int
    bandwidth: int
    clock: float
    row_cycles: int = 0
    shape: tuple[int, int, int, int, int, int] = (0, 0, 0, 0, 0, 0)

    @property
    def platform(self) -> Literal["gpu", "tpu"]:
        """JAX's name of the platform."""
        return "gpu" if self.vendor == "cuda" else "tpu"

    def text(self) -> str:
        """Describe a GPU as XLA's ``GpuTargetConfigProto``, in text form."""
        cores, fpus, per_core, optin, l2, major = self.shape
        return _GPU.format(
            cores=cores,
            fpus=fpus,
            per_core=per_core,
            optin=optin,
            l2=l2,
            major=major,
            bandwidth=self.bandwidth,
            clock=self.clock,
            memory=self.memory,
            name=self.name,
        )


_AMPERE = 108, 64, 167936, 166912, 41943040, 8
_HOPPER = 132, 128, 233472, 232448, 52428800, 9
_BLACKWELL = 148, 128, 233472, 232448, 132644864, 10
DEVICES = {
    device.name.lower(): device
    for device in (
        Device("A100", "cuda", 80 * 10**9, 2039 * 10**9, 1.41, 0, _AMPERE),
        Device("H100", "cuda", 80 * 10**9, 3350 * 10**9, 1.98, 0, _HOPPER),
        Device("H200", "cuda", 141 * 10**9, 4800 * 10**9, 1.98, 0, _HOPPER),
        Device("B200", "cuda", 180 * 10**9, 8000 * 10**9, 1.97, 0, _BLACKWELL),
        Device("v5e", "tpu", 16 * 2**30, 819 * 10**9, 1.5, 8),
        Device("v5p", "tpu", 95 * 2**30, 2765 * 10**9, 1.75, 8),
        Device("v6e", "tpu", 32 * 2**30, 1640 * 10**9, 1.75, 8),
    )
}
# Two-dimensional TPU topologies by the log2 of the number of chips.
_PLANES = {n: f"{2 ** (n // 2)}x{2 ** (n - n // 2)}" for n in range(2, 9)}


@dataclass(frozen=True)
class Target:
    """A machine with one or more accelerators of one kind.

    Attributes:
      topology: XLA's name of how the accelerators are connected; a single TPU has the topology of
        its host.
      devices: number of devices to compile for.
    """

    device: Device
    topology: str
    devices: int

    @property
    def name(self) -> str:
        """The usual name, such as ``8xH200`` or ``v5e-16``."""
        device = self.device
        if self.devices == 1:
            return device.name
        if device.vendor == "tpu":
            return f"{device.name}-{self.devices}"
        return f"{self.devices}x{device.name}"

    @property
    def name_of_topology(self) -> str:
        """A name for which :func:`target` returns exactly this topology."""
        if self.devices == 1:
            return self.device.name
        if self.device.vendor == "tpu":
            return f"{self.device.name}:{self.topology}"
        _, hosts, each = self.topology.split("x")
        return f"{hosts}x{each}x{self.device.name}"

    def sized(self, devices: int) -> "Target":
        """Return a target with ``devices`` (a power of two) devices of the same kind.

        Raises:
          InputError: no topology has this number of devices.
        """
        if self.device.vendor == "tpu":
            return target(f"{self.device.name}-{devices}")
        hosts = -(-devices // 8)
        return replace(self, topology=f"1x{hosts}x{devices // hosts}", devices=devices)


def target(text: str) -> Target:
    """Look up a machine by name.

    Raises:
      InputError: the name is unknown; the message suggests the nearest one.
    """
    low = text.lower()
    if low in DEVICES:
        device = DEVICES[low]
        topology = "1x1x1" if device.vendor == "cuda" else ("2x2x1" if low == "v5p" else "2x2")
        return Target(device, topology, 1)
    gpu = re.fullmatch(r"(?:([1-9]\d{0,3})x)?([1-9]\d{0,3})x([a-z]\w*)", low)
    if gpu and gpu[3] in DEVICES and DEVICES[gpu[3]].vendor == "cuda":
        hosts, each = int(gpu[1] or 1), int(gpu[2])
        if gpu[1] is None and each > 8:
            if each % 8:
                raise InputError(
                    f"{text}: a number of GPUs above 8 must be a multiple of 8, because a host "
                    f"has 8 GPUs; for other hosts give HOSTSxGPUSx{gpu[3]}"
                )
            hosts, each = each // 8, 8
        return Target(DEVICES[gpu[3]], f"1x{hosts}x{each}", hosts * each)
    tpu = re.fullmatch(r"(v\d\w)(?:-([1-9]\d*)|:(\d+(?:x\d+){1,2}))", low)
    if tpu and tpu[1] in DEVICES:
        device = DEVICES[tpu[1]]
        if tpu[3]:
            return Target(device, tpu[3], _product(tpu[3]))
        chips = int(tpu[2])
        power = chips.bit_length() - 1
        if chips == 1:
            return target(tpu[1])
        if 2**power == chips and power in _PLANES:
            plane = _PLANES[power]
            return Target(device, plane if low[:3] != "v5p" else _solid(power), chips)
        raise InputError(
            f"{text}: the number of chips must be 4, 8, 16 ... 256; or give a topology such as "
            f"{tpu[1]}:4x8"
        )
    singles = [device.name for device in DEVICES.values()]
    known = [*singles, "8xH200", "2x8xH200", "v5e-16", "v5e:4x4"]
    hint = nearest(text, known)
    raise InputError(f"unknown machine {text!r}{hint}; give a name such as {', '.join(known)}")


def _product(topology: str) -> int:
    total = 1
    for side in topology.split("x"):
        total *= int(side)
    return total


def _solid(power: int) -> str:
    """Return a three-dimensional topology of 2^power chips, built of whole hosts of 2 x 2 x 1."""
    sides = [2, 2, 1]
    for n in range(power - 2):
        sides[(2, 1, 0)[n % 3]] *= 2
    return "x".join(map(str, sorted(sides, reverse=sides[2] == 1)))
