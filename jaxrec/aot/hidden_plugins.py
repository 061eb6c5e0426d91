"""Compilers that are installed for machines that are not here, kept out of JAX's sight."""

import sys
import types
from importlib.util import find_spec
from pathlib import Path

_PLUGIN, _LIBRARY = "jax_plugins.xla_cuda12", "jax_cuda12_plugin"


def gpu_here() -> bool:
    """Whether this machine shows a GPU of NVIDIA's: a driver, or WSL's device."""
    marks = (Path("/proc/driver/nvidia/version"), Path("/dev/nvidiactl"), Path("/dev/dxg"))
    return any(mark.exists() for mark in marks)


def leave_out() -> None:
    """Let JAX start as without the extra ``compile`` where there is no GPU.

    JAX would look for CUDA's libraries, which that extra does not install, and tell their absence
    in thirty lines. Nothing is done once JAX is loaded, or where it does not have the compiler.
    """
    if "jax" in sys.modules or gpu_here() or find_spec(_LIBRARY) is None:
        return
    nothing = types.ModuleType(_PLUGIN)
    nothing.initialize = lambda: None  # type: ignore[attr-defined]
    sys.modules[_PLUGIN] = nothing
    sys.modules[_LIBRARY] = None  # type: ignore[assignment]
