"""Compiles in a process of its own, whose environment alone has the compilers."""

import importlib.util
import json
import os
import subprocess
import sys
from typing import Any

from jaxrec.aot.targets import Target
from jaxrec.errors import InputError, RunError

_PLUGINS = {"cuda": "jax_plugins.xla_cuda12", "tpu": "libtpu"}


def installed(vendor: str) -> bool:
    """Whether the compiler of a vendor ("cuda", "tpu") is there."""
    try:
        return importlib.util.find_spec(_PLUGINS[vendor]) is not None
    except ModuleNotFoundError:
        return False


def environment(devices: int = 1) -> dict[str, str]:
    """Of the process that compiles: JAX on the CPU, with as many virtual devices as a mesh has."""
    left_out = ("XLA_FLAGS", "JAX_PLATFORMS", "LIBTPU_INIT_ARGS", "JAX_COMPILATION_CACHE_DIR")
    kept = {name: value for name, value in os.environ.items() if name not in left_out}
    own = {
        "JAX_PLATFORMS": "cpu",
        "JAX_NUM_CPU_DEVICES": str(devices),
        "JAX_SKIP_CUDA_CONSTRAINTS_CHECK": "1",
        "JAX_ENABLE_COMPILATION_CACHE": "false",
        "TPU_SKIP_MDS_QUERY": "1",
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
    here = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    path = os.pathsep.join(filter(None, [here, kept.get("PYTHONPATH")]))
    return kept | own | {"PYTHONPATH": path}


def compile_for(
    target: Target,
    config: dict[str, Any],
    *,
    sizes: tuple[int, int, int] | None = None,
    data: str | None = None,
    programs: tuple[str, ...] = ("step",),
    keep: str | None = None,
) -> list[dict[str, Any]]:
    """What :class:`jaxrec.aot.compiler.Compiled` says of each program.

    Args:
      config: as config.json has it.
      sizes: users, items and pairs; the data is read where None.
      data: a path; that of the configuration where None.
      keep: a folder for the programs' texts.

    Raises:
      InputError: the compiler is not installed, or the program cannot be compiled or does not fit.
      RunError: the compiler broke off.
    """
    if not installed(target.device.vendor):
        raise InputError(
            f"the compiler for {target.name} is not installed: pip install 'jaxrec[compile]'"
        )
    request = {"config": config, "sizes": sizes, "data": data, "target": target.name_of_topology}
    request |= {"programs": list(programs), "keep": keep}
    devices = 1 if sizes else config["mesh"]["data"] * config["mesh"]["table"]
    done = subprocess.run(
        [sys.executable, "-m", "jaxrec.aot.child"],
        input=json.dumps(request),
        env=environment(devices),
        capture_output=True,
        text=True,
    )
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    error = lines[-1].get("error") if lines else None
    if error is not None:
        raise InputError(error)
    if done.returncode or len(lines) != len(programs):
        said = [line for line in done.stderr.strip().splitlines() if line.strip()]
        last = said[-1][:300] if said else "no word"
        raise RunError(f"the compiler for {target.name} broke off ({done.returncode}): {last}")
    return lines
