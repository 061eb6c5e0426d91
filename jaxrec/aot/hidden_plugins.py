"""Hide from JAX the plugins that are installed only to compile for other machines."""

import sys
import types
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path

_PLUGIN, _LIBRARY = "jax_plugins.xla_cuda12", "jax_cuda12_plugin"


def gpu_here() -> bool:
    """Return whether this machine has an NVIDIA GPU, judged by its driver's or WSL's files."""
    paths = (Path("/proc/driver/nvidia/version"), Path("/dev/nvidiactl"), Path("/dev/dxg"))
    return any(path.exists() for path in paths)


def leave_out() -> None:
    """Hide the CUDA plugin of the extra ``compile`` from JAX on machines without a GPU.

    With the plugin, JAX looks for CUDA's libraries, which the extra does not install, and prints
    thirty lines about their absence. This function does nothing if JAX is already imported or the
    plugin is not installed.
    """
    if "jax" in sys.modules or gpu_here() or find_spec(_LIBRARY) is None:
        return
    plugin = types.ModuleType(_PLUGIN)
    plugin.initialize = lambda: None  # type: ignore[attr-defined]
    plugin.__spec__ = ModuleSpec(_PLUGIN, None)  # find_spec raises if __spec__ is missing
    sys.modules[_PLUGIN] = plugin
    sys.modules[_LIBRARY] = None  # type: ignore[assignment]
