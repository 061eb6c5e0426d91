"""The clock, the writer of results and the measured bandwidth, which all cases share."""

import json
import os
import platform
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
_PACKAGES = (
    *("jax", "jaxlib", "numpy", "polars", "pandas"),
    *("torch", "torch_geometric", "implicit", "gensim"),
)


def record(
    case: str, impl: str, values: Sequence[float], unit: str, command: str, **extra: Any
) -> dict[str, Any]:
    """Print one figure as a JSON line and append it to ``bench/results/<case>.jsonl``.

    Args:
      values: the repeated measurements, without compilation and warm-up.
      command: the command that repeats the measurement.
      extra: further fields, such as ``what`` if a case has several figures. ``device`` replaces
        ours, and ``versions`` are added to ours.

    Returns:
      The line: ``value`` is the median of ``n`` values, and ``spread`` their range.
    """
    median = statistics.median(values)
    line = {
        "case": case,
        "impl": impl,
        "value": median,
        "unit": unit,
        "median": median,
        "spread": max(values) - min(values),
        "n": len(values),
        "commit": commit(),
        "versions": versions() | extra.pop("versions", {}),
        "device": extra.pop("device", None) or cpu(),
        "command": command,
        **extra,
    }
    text = json.dumps(line)
    print(text, flush=True)
    RESULTS.mkdir(exist_ok=True)
    with (RESULTS / f"{case}.jsonl").open("a", encoding="utf-8") as file:
        file.write(text + "\n")
    return line


@contextmanager
def worktree(commit: str) -> Iterator[Path]:
    """Check out another commit of this repository for the duration of the context."""
    git = ["git", "-C", str(RESULTS.parents[1]), "worktree"]
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "tree"
        subprocess.run([*git, "add", "-q", "--detach", str(tree), commit], check=True)
        try:
            yield tree
        finally:
            subprocess.run([*git, "remove", "--force", str(tree)], check=True)


def seconds(call: Callable[[], Any], *, repeats: int, warmup: int = 1) -> list[float]:
    """Return the wall seconds of each repeat after warm-up; ``call`` must wait for the device."""
    for _ in range(warmup):
        call()
    taken = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        taken.append(time.perf_counter() - start)
    return taken


def alternate(
    calls: dict[str, Callable[[], Any]], *, rounds: int, warmup: int = 1
) -> dict[str, list[float]]:
    """Seconds of each call, taken in turn, so that a noisy machine is as noisy for all of them.

    The calls must wait for the device themselves.
    """
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        for _ in range(warmup):
            call()
    for _ in range(rounds):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            taken[name].append(time.perf_counter() - start)
    return taken


def device() -> str:
    """Return the name of the device on which JAX runs; for a CPU, the processor's model."""
    import jax

    here = jax.devices()[0]
    return cpu() if here.platform == "cpu" else here.device_kind


def torch_device() -> str:
    """Return torch's device: the GPU if JAX has one and torch sees it, else the CPU."""
    import jax
    import torch  # pyright: ignore[reportMissingImports]

    there = jax.default_backend() == "gpu" and torch.cuda.is_available()
    return "cuda" if there else "cpu"


def hardware_of_torch() -> str:
    """Return the device for a line of torch's figures."""
    return device() if torch_device() == "cuda" else cpu()


def bandwidth(n_bytes: int = 2**29) -> float:
    """Measure the bytes per second that x <- x + 1 moves, for an x far larger than a cache."""
    import jax
    import jax.numpy as jnp

    x = jnp.zeros(n_bytes // 8)
    add = jax.jit(lambda x: x + 1, donate_argnums=0)

    def step() -> None:
        nonlocal x
        x = add(x).block_until_ready()

    return n_bytes / statistics.median(seconds(step, repeats=9, warmup=2))


def gather_rate(n_rows: int, dim: int, group: int = 16) -> float:
    """Random rows of a [n_rows, dim] float32 table gathered a second, summed in groups.

    One fused loop over both cores, so that the rows are read and little is written.
    """
    import jax
    import jax.numpy as jnp

    key = jax.random.key(0)
    table = jax.random.normal(key, (n_rows, dim))
    row = jax.random.randint(key, (2**17, group), 0, n_rows).astype(jnp.uint32)

    def gather(table: jax.Array, row: jax.Array, _: jax.Array) -> jax.Array:
        parts = [table.at[row[:, k]].get(mode="promise_in_bounds") for k in range(group)]
        return sum(parts[1:], start=parts[0])

    compiled = jax.jit(gather, donate_argnums=2, keep_unused=True)
    out = jnp.zeros((row.shape[0], dim))

    def step() -> None:
        nonlocal out
        out = compiled(table, row, out).block_until_ready()

    return row.size / statistics.median(seconds(step, repeats=9, warmup=2))


def floors(
    case: str, ours: Sequence[float], n_bytes: dict[str, int], command: str, **extra: Any
) -> None:
    """Record the least milliseconds that moving so many bytes takes, and how far above we are.

    Args:
      ours: measured milliseconds.
      n_bytes: bytes by what they are.
      command, extra: as of :func:`record`.
    """
    speed = bandwidth()
    for name, size in n_bytes.items():
        floor = 1e3 * size / speed
        more = {"bytes": size, "bytes_per_second": speed, "above": statistics.median(ours) / floor}
        record(case, f"floor: {name}", [floor], "ms", command, **more, **extra)


def commit() -> str:
    """Return the measured commit, with ``+`` if tracked files differ from it."""
    root = Path(__file__).parent
    git = ["git", "-C", str(root)]
    try:
        name = subprocess.check_output([*git, "rev-parse", "--short=12", "HEAD"], text=True)
        changed = subprocess.check_output(
            [*git, "status", "--porcelain", "--untracked-files=no", "--", "..", ":!results"],
            text=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return name.strip() + ("+" if changed else "")


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that determine the speed."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def cpu() -> str:
    """Return the processor's model and the number of cores that this process may use."""
    model = platform.processor() or platform.machine()
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
    except OSError:
        pass
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{model}, {cores} cores"
