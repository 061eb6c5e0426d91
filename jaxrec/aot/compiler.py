"""Compile programs with XLA's compilers for other machines."""

import os
import resource
import time
from dataclasses import asdict, dataclass
from typing import Any

import jax
from jax.experimental import topologies

from jaxrec.aot import hlo
from jaxrec.aot.programs import Program
from jaxrec.aot.targets import Target, target
from jaxrec.errors import InputError

OPTIONS: dict[str, dict[str, Any]] = {"cuda": {"xla_gpu_autotune_level": 0}, "tpu": {}}
"""Compiler options by vendor. Autotuning is off, since it is impossible without a device."""


@dataclass(frozen=True)
class Compiled:
    """The memory, compile time and analysis of a compiled program.

    Attributes:
      arguments, temporary, output, alias, code: bytes of device memory, as XLA counts them.
      peak: most bytes in use at any moment, with constants, as XLA counts them.
      aliases: number of outputs that reuse the buffers of arguments.
      seconds: time to trace and compile.
      host: peak memory of this process so far in bytes.
      reading: analysis of the program's text; see :class:`hlo.Reading`.
    """

    program: str
    target: str
    arguments: int
    temporary: int
    output: int
    alias: int
    aliases: int
    code: int
    peak: int
    seconds: float
    host: int
    reading: dict[str, Any]

    @property
    def memory(self) -> int:
        """Bytes of device memory while the program runs.

        The temporary arrays are counted as one block. On a GPU, ``peak`` is larger if there are
        constants. On a TPU, the block has gaps and parts that XLA does not need if memory is
        short; XLA then compares ``peak`` with the device's memory. But ``peak`` also counts arrays
        in VMEM, so the smaller number is right.
        """
        block = self.arguments + self.temporary + self.output - self.alias + self.code
        least = target(self.target).device.vendor == "tpu"
        return min(block, self.peak) if least else max(block, self.peak)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as a dict for JSON."""
        return asdict(self) | {"memory": self.memory}


def devices_of(target: Target) -> Any:
    """Return the devices of another machine, for compiling only.

    Raises:
      InputError: the machine's compiler is not installed, or does not know the topology.
    """
    options: dict[str, Any] = {"platform": target.device.vendor}
    if target.device.vendor == "cuda":
        sides = target.topology.split("x")
        options |= {"topology_name": target.topology, "topology": " x ".join(sides)}
        options["target_config"] = target.device.text()
    else:
        options["topology_name"] = f"{target.device.name}:{target.topology}"
    try:
        return topologies.get_topology_desc(**options).devices
    except Exception as e:
        text = str(e).strip().splitlines() or [type(e).__name__]
        missing = ("nknown backend", "not found", "No module", "no PJRT plugin", "not registered")
        if any(words in str(e) for words in missing) or isinstance(e, ImportError | KeyError):
            raise InputError(
                f"the compiler for {target.name} is not installed: pip install 'jaxrec[compile]'"
            ) from e
        raise InputError(f"{target.name} ({target.topology}): {text[0][:300]}") from e


def compiled(program: Program, to: Target, keep: str | None = None) -> Compiled:
    """Compile a program whose arguments have shardings, and analyse the result.

    Args:
      keep: file to write the compiled text to.

    Raises:
      InputError: the program does not fit or cannot be compiled; the message quotes XLA.
    """
    began = time.perf_counter()
    jitted = jax.jit(program.fn, donate_argnums=0 if program.donated else ())
    try:
        executable = jitted.lower(*program.args).compile(
            compiler_options=OPTIONS[to.device.vendor] or None
        )
    except Exception as e:
        if isinstance(e, InputError):
            raise
        raise InputError(_plain(str(e), program, to)) from e
    seconds = time.perf_counter() - began
    text = executable.as_text() or ""
    if keep is not None:
        with open(keep, "w", encoding="utf-8") as file:
            file.write(text)
    reading, module = hlo.read(text, steps=program.name == "step")
    memory: Any = executable.memory_analysis()
    unit = 1024 if os.uname().sysname == "Linux" else 1
    return Compiled(
        program.name,
        to.name,
        memory.argument_size_in_bytes,
        memory.temp_size_in_bytes,
        memory.output_size_in_bytes,
        memory.alias_size_in_bytes,
        module.aliases,
        memory.generated_code_size_in_bytes,
        memory.peak_memory_in_bytes,
        round(seconds, 1),
        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit,
        reading.to_dict(),
    )


def _plain(text: str, program: Program, to: Target) -> str:
    """Return a compiler's error as one line."""
    lines = [line.strip() for line in text.splitlines() if line.strip()] or ["no reason given"]
    if "RESOURCE_EXHAUSTED" in text or "Ran out of memory" in text:
        return f"the program {program.name!r} does not fit {to.name}: {lines[0][:300]}"
    return f"the program {program.name!r} cannot be compiled for {to.name}: {lines[0][:300]}"
