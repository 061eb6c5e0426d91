"""Runs kernels of training and ranking on small inputs with known results, on this device.

Some releases of XLA gave wrong values on some devices. Each kernel runs twice, and both results
must be correct and equal to the last bit. :func:`_cases` lists the kernels.
"""

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrec.data.dataset import Dataset
from jaxrec.errors import InputError, RunError
from jaxrec.evaluation.scorers import dot_scorer
from jaxrec.evaluation.topk import rank
from jaxrec.files import write_json
from jaxrec.graph import bipartite, rows
from jaxrec.graph.csr import DeviceCsr, contains
from jaxrec.graph.spmm import Kernel, default_kernel, propagate, sum_of_layers
from jaxrec.runfolder import read_json
from jaxrec.training.batch import permute
from jaxrec.training.environment import versions

_USERS, _ITEMS, _EDGES, _DIM = 120, 90, 3000, 64
_EXACT, _CLOSE = 0.0, 2e-5


@dataclass(frozen=True)
class Finding:
    """The result of the check of one kernel.

    Attributes:
      name: the kernel's name.
      error: the largest deviation from the true result, relative to the largest true number.
      limit: the largest error that is accepted.
      repeats: whether two calls gave equal results, bit for bit.
    """

    name: str
    error: float
    limit: float
    repeats: bool

    @property
    def well(self) -> bool:
        return self.error <= self.limit and self.repeats

    def line(self) -> str:
        """Format the finding as a line for the console."""
        said = "right" if self.error <= self.limit else f"WRONG by {self.error:.1e}"
        return f"{self.name:28} {said}" + ("" if self.repeats else ", NOT the same bits twice")


def _graph(kernel: Kernel) -> tuple[bipartite.Bipartite, np.ndarray]:
    """Return a small graph with rows of all lengths, and its matrix in float64."""
    rng = np.random.default_rng(0)
    weight = 1 / np.arange(1, _USERS * _ITEMS + 1) ** 0.6
    pair = rng.choice(_USERS * _ITEMS, _EDGES, replace=False, p=weight / weight.sum())
    user, item = (x.astype(np.int32) for x in np.divmod(np.sort(pair), _ITEMS))
    data = Dataset(user, item, np.arange(_USERS), np.arange(_ITEMS))
    graph = bipartite.build(data, buckets=kernel == "buckets")
    n_nodes = _USERS + _ITEMS
    matrix = np.zeros((n_nodes, n_nodes))
    ends = np.asarray(graph.receivers), np.asarray(graph.senders)
    np.add.at(matrix, ends, np.asarray(graph.weights, np.float64))
    return graph, matrix


def _cases() -> list[tuple[str, float, Callable[..., Any], tuple, np.ndarray]]:
    """Return the name, limit, function, arguments and true result of each check."""
    kernel, rng = default_kernel(), np.random.default_rng(1)
    graph, matrix = _graph(kernel)
    n_nodes = _USERS + _ITEMS
    x = rng.normal(size=(n_nodes, _DIM)).astype(np.float32)
    g = rng.normal(size=(n_nodes, _DIM)).astype(np.float32)
    row = rng.integers(0, n_nodes, 700).astype(np.int32)
    row[:250] = 3  # many positions hold this row
    g_RD = rng.normal(size=(700, _DIM)).astype(np.float32)
    summed = np.zeros((n_nodes, _DIM))
    np.add.at(summed, row, g_RD.astype(np.float64))
    share = np.full(3, 1 / 3, np.float32)
    layers = (np.eye(n_nodes) + matrix + matrix @ matrix) / 3
    known = np.asarray(matrix[:_USERS, _USERS:] > 0)
    csr = DeviceCsr(
        jnp.asarray(np.append(0, np.cumsum(known.sum(axis=1))), jnp.int32),
        jnp.asarray(np.nonzero(known)[1], jnp.int32),
    )
    user = np.repeat(np.arange(_USERS), _ITEMS).astype(np.int32)
    item = np.tile(np.arange(_ITEMS), _USERS).astype(np.int32)[:, None]
    scores = x[:_USERS].astype(np.float64) @ x[_USERS:].T.astype(np.float64)
    scorer = dot_scorer(x[:_USERS], x[_USERS:])

    def back(x: Any, g: Any) -> Any:
        return jax.vjp(lambda x: propagate(graph, x), x)[1](g)[0]

    def forward_rows(x: Any) -> Any:
        return sum_of_layers(graph, x, jnp.asarray(row), jnp.asarray(share))[0]

    def back_rows(x: Any, g: Any) -> Any:
        return jax.vjp(forward_rows, x)[1](g)[0]

    def back_take(x: Any, g: Any) -> Any:
        return jax.vjp(lambda x: rows.take(x, jnp.asarray(row)), x)[1](g)[0]

    def best(params: Any) -> Any:
        return rank(scorer.fn, 10, params, jnp.arange(_USERS, dtype=jnp.int32), None).item_BK

    size = 5000

    def order(at: Any) -> Any:
        return jnp.sort(permute(jax.random.key(7), at, size))

    count = jnp.arange(size, dtype=jnp.uint32)
    return [
        (f"product ({kernel})", _CLOSE, lambda x: propagate(graph, x), (x,), matrix @ x),
        (f"its gradient ({kernel})", _CLOSE, back, (x, g), matrix @ g),
        ("layers at rows", _CLOSE, forward_rows, (x,), (layers @ x)[row]),
        ("their gradient", _CLOSE, back_rows, (x, g_RD), layers @ summed),
        ("gradient of selected rows", _CLOSE, back_take, (x, g_RD), summed),
        ("items of a user", _EXACT, lambda i: contains(csr, jnp.asarray(user), i), (item,), known),
        ("pair order of an epoch", _EXACT, order, (count,), np.arange(size)),
        ("top-k items", _EXACT, best, (scorer.params,), np.argsort(-scores, axis=1)[:, :10]),
    ]


def check() -> list[Finding]:
    """Run every kernel twice and compare it with the true result."""
    found = []
    for name, limit, fn, args, truth in _cases():
        jitted = jax.jit(fn)
        first, second = (np.asarray(jax.device_get(jitted(*args))) for _ in range(2))
        gap = np.abs(first.reshape(truth.shape).astype(np.float64) - truth)
        error = float(np.nan_to_num(gap, nan=np.inf).max() / max(np.abs(truth).max(), 1e-30))
        found.append(Finding(name, error, limit, first.tobytes() == second.tobytes()))
    return found


def _seal() -> Path:
    """Return the path of a file that exists if the check passed on this machine and versions."""
    here = jax.local_devices()[0]
    driver = Path("/proc/driver/nvidia/version")
    facts = [here.device_kind, *versions().items(), os.environ.get("XLA_FLAGS", "")]
    facts += [driver.read_text() if driver.is_file() else "", os.uname().nodename]
    name = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "jaxrec" / "checked" / f"{name}.json"


def once() -> None:
    """Check the kernels on a GPU before the first training with the installed versions.

    Raises:
      RunError: a kernel is wrong or not repeatable; the message names it and what to use instead.
    """
    if jax.default_backend() != "gpu":
        return
    seal = _seal()
    try:
        if read_json(seal):
            return
    except InputError:  # a process was killed while it wrote the file
        pass
    bad = [one for one in check() if not one.well]
    if bad:
        raise RunError(
            f"{bad[0].name} is {'wrong' if bad[0].error > bad[0].limit else 'not repeatable'} on "
            f"{jax.local_devices()[0].device_kind} with jax {jax.__version__} "
            "(`jaxrec env --check` tells more); use another release of jax, or set "
            "--model.kernel segment_sum"
        )
    try:
        seal.parent.mkdir(parents=True, exist_ok=True)
        write_json(seal, {"passed": True})
    except OSError:
        return  # the folder cannot be written: the next process checks again
