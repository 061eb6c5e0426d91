"""Compile programs in a child process, whose environment enables the compilers."""

import importlib.util
import json
import os
import subprocess
import sys
from typing import Any

from jaxrec.aot.targets import Target
from jaxrec.config import from_dict
from jaxrec.errors import InputError, RunError

_PLUGINS = {"cuda": "jax_plugins.xla_cuda12", "tpu": "libtpu"}


def installed(vendor: str) -> bool:
    """Return whether the compiler of a vendor ("cuda", "tpu") is installed."""
    try:
        return importlib.util.find_spec(_PLUGINS[vendor]) is not None
    except ModuleNotFoundError:
        return False


def environment(devices: int = 1) -> dict[str, str]:
    """Return the child's environment: JAX runs on the CPU, with ``devices`` virtual devices."""
    removed = ("XLA_FLAGS", "JAX_PLATFORMS", "LIBTPU_INIT_ARGS", "JAX_COMPILATION_CACHE_DIR")
    kept = {name: value for name, value in os.environ.items() if name not in removed}
    added = {
        "JAX_PLATFORMS": "cpu",
        "JAX_NUM_CPU_DEVICES": str(devices),
        "JAX_SKIP_CUDA_CONSTRAINTS_CHECK": "1",
        "JAX_ENABLE_COMPILATION_CACHE": "false",
        "TPU_SKIP_MDS_QUERY": "1",
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    path = os.pathsep.join(filter(None, [root, kept.get("PYTHONPATH")]))
    return kept | added | {"PYTHONPATH": path}


def compile_for(
    target: Target,
    config: dict[str, Any],
    *,
    sizes: tuple[int, int, int] | None = None,
    data: str | None = None,
    programs: tuple[str, ...] = ("step",),
    keep: str | None = None,
) -> list[dict[str, Any]]:
    """Compile programs for a target.

    Returns:
      ``Compiled.to_dict()`` of each program, with the sizes, the bytes of the state and, for the
      step, the planned memory.

    Args:
      config: the configuration as in config.json.
      sizes: numbers of users, items and pairs; if None, the data is read.
      data: path of the data; by default that of the configuration.
      keep: folder to which the texts of the programs are written, if any.

    Raises:
      InputError: the compiler is not installed, the model has no training step, or a program
        cannot be compiled or does not fit.
      RunError: the compiler crashed.
    """
    if not installed(target.device.vendor):
        raise InputError(
            f"the compiler for {target.name} is not installed: pip install 'jaxrec[compile]'"
        )
    made = from_dict(config)
    if made.model.kind.fitted or made.minutes is not None:
        raise InputError(
            f"preset {made.preset!r} has no training step to compile: it fits a filter or searches "
            "models; give the preset of a model that trains, such as lightgcn"
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
        errors = [line for line in done.stderr.strip().splitlines() if line.strip()]
        last = errors[-1][:300] if errors else "no message"
        raise RunError(
            f"the compiler for {target.name} ended with status {done.returncode}: {last}"
        )
    return lines
