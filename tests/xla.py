"""Find which flags the installed XLA knows; an unknown flag ends the process without traceback."""

import os
import subprocess
import sys


def refusal(flags: str) -> str | None:
    """Return XLA's error for these flags, or None if it accepts them, from a separate process."""
    env = os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", "import jax; jax.devices()"]
    asked = subprocess.run(command, env=env, capture_output=True, text=True)
    if asked.returncode == 0:
        return None
    lines = asked.stderr.strip().splitlines() or [f"ended with status {asked.returncode}"]
    return next((line for line in lines if "XLA_FLAGS" in line), lines[-1])


def with_known(flags: str, *more: str) -> str:
    """Return ``flags``, and those of ``more`` that the installed XLA knows.

    Raises:
      ValueError: XLA does not know ``flags``.
    """
    for flag in more:
        if refusal(both := f"{flags} {flag}".strip()) is None:
            flags = both
        elif flags and (said := refusal(flags)) is not None:
            raise ValueError(said)
    return flags
