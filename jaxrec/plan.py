"""Estimate the memory and traffic of a run on a mesh from its sizes, without devices, data or jax.

The model has U users, I items, N = U + I nodes, E pairs, width D and L layers. A batch has B pairs
with n negatives each and S negatives that all pairs share. There are ``data`` x ``table`` = P x T
devices. All numbers take 4 bytes (in layers with bfloat16: 2).

* Each device holds R = N / T rows of the table, of each moment (2 in Adam, 1 in Adagrad) and of
  the gradient. If the model propagates, it also holds the input and the output of a layer (two
  tables of R rows) and the X rows that a layer receives from other devices.
* Each device holds its shard of the graph, 2 E / T directed edges of 12 bytes (with the kernel
  "buckets" 20 bytes, and up to a third more for padding), and E / T pairs and known items of 12
  bytes.
* Every device holds the location of all N nodes' rows, and 6 arrays with the rows of its part of a
  batch.
* During an evaluation there is no gradient, layer or batch, but the final embeddings take R rows
  as computed and R rows as ranked (on a mesh the ranked rows are the device's items and the
  location of each user). To compute the final embeddings takes two tables of a layer and the X rows
  if the model propagates, and R updated rows if Adam is row-sparse. Of all this, only the memory
  that exceeds that of a step is listed.
* A spectral start is computed before the optimizer's state exists. It takes 5 tables of D columns;
  3 of them have 16 more columns.
* A checkpoint takes no device memory: it is copied to host memory array by array. Restoring needs
  only the shapes of the state, and the old state is freed first.
* A layer receives X rows: (T - 1) R if all are gathered, or otherwise the rows that its edges need.
  A node with d edges to random nodes is needed in each other part with probability
  1 - (1 - 1/T)^d. If only the mean degrees E / U and E / I are known, X is an upper bound for all
  degree distributions; with counted degrees it is the mean. If neighbours are in the same part,
  fewer rows are needed.
* In a step, devices exchange the rows of 2 L layers; the batch's rows, summed over ``table`` (if
  there are layers, also the rows of the table itself); the gradients of these rows, gathered over
  ``data``; and the indices of the batch's pairs and of their n negatives, summed over ``table``. A
  sum over T devices moves 2 (T - 1) / T of its size to each device, as in a ring.
* A host holds all pairs while it partitions the graph (72 bytes per pair), and the whole table
  once. If the data is partitioned on disk already, it holds the arrays of one part instead of all
  pairs (with the kernel "buckets", the parts of all its devices). While it writes a checkpoint it
  also holds a copy of the optimizer's state.

The table may also be in host memory, with one device, no layers and row-sparse updates. Then a row
and its optimizer state take W bytes (4 D in SGD, 4 D + 4 in row-wise Adagrad, 8 D in Adagrad,
12 D + 4 in Adam), and a batch has M = (2 + n) B + S rows.

* The device holds the rows of 2 K + 2 batches, where K (``AHEAD``) steps are in flight: K + 1
  prefetched batches, the current one, and K that are being written back. It holds no table, edges
  or gradient of the table.
* A step moves M rows from the host, and M rows and their row numbers back: M (2 W + 4) bytes.
* The host holds N rows. While a checkpoint is read or written, and while the initial table is
  computed, it also holds a copy of the N rows and two more tables (8 N D bytes).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from jaxrec.errors import InputError

MOST_PAIRS = 2**31 - 1
"""Most pairs of a run, since pairs are numbered by int32."""
AHEAD = 2
"""K, the most steps in flight between a table in host memory and the device."""
_USABLE = 0.9  # the usable share of a device's memory
# Number of moments per row.
_COPIES = {"adam": 2, "adamw": 2, "adagrad": 1, "sgd": 0, "rowwise_adagrad": 0}
_SPARE = 16  # number of extra columns of a spectral start
# Number of other state values per row.
_NUMBERS = {"adam": 1, "adagrad": 0, "sgd": 0, "rowwise_adagrad": 1}


@dataclass(frozen=True)
class Sizes:
    """Sizes of the data, the model, the batch and the mesh.

    Attributes:
      layer_bytes: bytes per number in layers.
      buckets: whether layers use the kernel "buckets".
      sparse: whether the optimizer updates only the rows of a batch.
      parted: whether the data is partitioned on disk already.
      degrees: counted degrees as pairs (degree, number of nodes), of users and items; if None, each
        user is assumed to have the mean degree of users, and each item that of items.
      got: X, the rows that a layer receives, if the graph is partitioned already; else None.
      host: whether the table is in host memory.
      spectral: whether the initial table is computed from singular vectors.
    """

    users: int
    items: int
    edges: int
    dim: int = 64
    layers: int = 3
    batch: int = 2048
    negatives: int = 1
    shared: int = 0
    data: int = 1
    table: int = 1
    optimizer: str = "adam"
    layer_bytes: int = 4
    buckets: bool = False
    sparse: bool = False
    parted: bool = False
    degrees: Sequence[tuple[int, int]] | None = None
    got: int | None = None
    host: bool = False
    spectral: bool = False

    @property
    def nodes(self) -> int:
        return self.users + self.items

    @property
    def rows(self) -> int:
        """R, the number of table rows that a device holds."""
        return -(-self.nodes // self.table)

    @property
    def row_bytes(self) -> int:
        """W, the bytes of a row and its optimizer state with row-sparse updates."""
        return 4 * self.dim * (1 + _COPIES.get(self.optimizer, 2)) + 4 * _NUMBERS.get(
            self.optimizer, 0
        )

    def evaluation_bytes(self) -> float:
        """Return the bytes of device memory of an evaluation, without the state and the data."""
        rows = float(self.rows * 4 * self.dim)
        ranked = rows
        if self.data * self.table > 1:
            ranked = self.items / self.table * 4 * self.dim + 4 * self.users
        computing = rows * (self.sparse and self.optimizer == "adam")
        if self.layers > 0:
            computing += (2 * self.rows + self.got_rows()) * self.dim * self.layer_bytes
        return rows + max(ranked, computing)

    def start_bytes(self) -> float:
        """Return the bytes of device memory that a spectral start takes, or 0 without one."""
        return self.nodes * 4.0 * (5 * self.dim + 3 * _SPARE) if self.spectral else 0.0

    def got_rows(self) -> float:
        """Return X, the number of rows that a layer receives by the cheaper exchange."""
        if self.layers == 0 or self.table == 1:
            return 0.0
        if self.got is not None:
            return float(self.got)
        degrees = self.degrees or (
            (self.edges / max(self.users, 1), self.users),
            (self.edges / max(self.items, 1), self.items),
        )
        away = 1 - 1 / self.table
        needed = away * sum(nodes * (1 - away**degree) for degree, nodes in degrees)
        return min(needed, (self.table - 1) * self.rows)


@dataclass(frozen=True)
class Plan:
    """Estimated bytes, by purpose.

    Attributes:
      device: memory of each device.
      host: memory of each host while it prepares a run.
      step: bytes that a device receives in a step.
      checkpoint: size of a checkpoint on disk.
    """

    sizes: Sizes
    device: dict[str, int]
    host: dict[str, int]
    step: dict[str, int]
    checkpoint: int

    @property
    def device_bytes(self) -> int:
        return sum(self.device.values())

    @property
    def step_bytes(self) -> int:
        return sum(self.step.values())

    def lines(self) -> list[str]:
        """Format the plan as lines for the console."""
        s = self.sizes
        head = (
            f"plan: {s.users:,} users, {s.items:,} items, {s.edges:,} pairs, dim {s.dim}, "
            f"{s.layers} layers on {s.data} x {s.table} devices (data x table)"
        )
        parts = {"device": self.device, "host": self.host, "step": self.step}
        words = {
            "device": "memory of a device",
            "host": "memory of a host, at most",
            "step": "received by a device per step",
        }
        if s.host:
            words |= {"host": "memory of the host, at most", "step": "moved per step"}
        lines = [head]
        for name, part in parts.items():
            listed = ", ".join(f"{k} {shown(v)}" for k, v in part.items() if v)
            lines.append(f"  {words[name]}: {shown(sum(part.values()))} ({listed or 'nothing'})")
        return [*lines, f"  a checkpoint: {shown(self.checkpoint)}"]


def shown(n_bytes: int | float) -> str:
    """Format a number of bytes with a suitable unit."""
    for unit in ("B", "kB", "MB", "GB"):
        if n_bytes < 1000:
            return f"{n_bytes:.3g} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:.3g} TB"


def plan(s: Sizes) -> Plan:
    """Estimate memory and traffic by the formulas in the module's docstring."""
    row, rows, others = 4 * s.dim, s.rows, s.table - 1
    copies = _COPIES.get(s.optimizer, 2)
    got, per_edge = s.got_rows(), 12 + (8 * 4 / 3 if s.buckets else 0)
    in_part = -(-s.batch // s.data) * (2 + s.negatives) + s.shared
    own = 8 if s.optimizer in ("adam", "adamw") else 4
    work = rows * row * (not s.sparse) + (2 * rows + got) * s.dim * s.layer_bytes * (s.layers > 0)
    device = {
        "table and optimizer": rows * row * (1 + copies) + (rows * 4 if own == 4 else 0),
        "gradient and layers": work,
        "graph": 2 * s.edges / s.table * per_edge + 8 * rows,
        "pairs": 12 * s.edges / s.table + 16 * s.users / s.table,
        "places": 4 * s.nodes,
        "batch": 6 * in_part * row,
    }
    state, step_bytes = device["table and optimizer"], work + device["batch"]
    beyond = max(s.evaluation_bytes(), s.start_bytes() - state) - step_bytes
    device["evaluation, beyond a step"] = max(beyond, 0)
    pairs = device["graph"] + device["pairs"] if s.parted else 72 * s.edges
    host = {"pairs": pairs, "table": s.nodes * row, "copy for a checkpoint": s.nodes * row * copies}
    ring = 2 * others / s.table
    drawn = 4 * s.batch * (2 + s.negatives)
    step = {
        "layers": 2 * s.layers * got * s.dim * s.layer_bytes,
        "rows of the batch": ring * in_part * row * (2 if s.layers else 1),
        "gradients of the batch": (s.data - 1) * in_part * ((1 if s.sparse else 2) * row + 4),
        "the draw": ring * drawn,
    }
    whole = s.nodes * row * (1 + copies)
    if s.host:
        whole = s.nodes * s.row_bytes
        device |= {"table and optimizer": 0, "gradient and layers": 0, "graph": 8 * rows}
        device["evaluation, beyond a step"] = 0  # evaluation reads the table in blocks of rows
        device["rows of batches"] = (2 * AHEAD + 2) * in_part * s.row_bytes
        host = {"pairs": 72 * s.edges, "table and optimizer": whole}
        host["copies of them"] = whole + 2 * s.nodes * row
        step = {"rows from the host": in_part * s.row_bytes}
        step["rows to the host"] = in_part * (s.row_bytes + 4)

    def rounded(parts: dict[str, Any]) -> dict[str, int]:
        return {name: round(value) for name, value in parts.items()}

    return Plan(s, rounded(device), rounded(host), rounded(step), whole)


def smallest(s: Sizes, limit: int) -> int | None:
    """Return the fewest parts of the table with which each device needs at most ``limit`` bytes.

    The number is a power of 2; the result is None if no number of parts is enough.
    """
    for power in range(31):
        on_mesh = replace(s, data=1, table=2**power, got=None, host=False)
        if plan(on_mesh).device_bytes <= limit:
            return 2**power
    return None


def fits(n_bytes: int, memory: int) -> bool:
    """Return whether ``n_bytes`` leave a tenth of the memory free."""
    return n_bytes <= int(_USABLE * memory)


def _host_advice(s: Sizes, device_bytes: int, host_bytes: int | None) -> str:
    """Return the advice to use host memory for the table, or "" if it is impossible or no help."""
    if s.host or s.parted or s.layers > 0 or s.optimizer not in _NUMBERS:
        return ""
    by_host = plan(replace(s, data=1, table=1, got=None, sparse=True, host=True))
    needs = sum(by_host.host.values())
    if not fits(by_host.device_bytes, device_bytes):
        return ""
    if host_bytes is not None and not fits(needs, host_bytes):
        return ""
    return f", or one device with --mesh.memory host, which needs {shown(needs)} of host memory"


def check(estimate: Plan, device_bytes: int | None, host_bytes: int | None = None) -> None:
    """Raise InputError if a plan does not fit the memory.

    Args:
      device_bytes, host_bytes: memory of each device and host, if known; a tenth is kept free.

    Raises:
      InputError: a memory is too small; the message says which, and how the run would fit.
    """
    if device_bytes is not None and not fits(estimate.device_bytes, device_bytes):
        limit = int(_USABLE * device_bytes)
        parts = smallest(estimate.sizes, limit)
        fix = (
            "no mesh of these devices would fit"
            if parts is None
            else f"the smallest mesh that fits is --mesh.data 1 --mesh.table {parts}"
        )
        raise InputError(
            f"a device would need {shown(estimate.device_bytes)}, but only {shown(limit)} of its "
            f"{shown(device_bytes)} are usable; {fix}"
            f"{_host_advice(estimate.sizes, device_bytes, host_bytes)}"
        )
    needs = sum(estimate.host.values())
    if host_bytes is None or fits(needs, host_bytes):
        return
    if estimate.sizes.host:
        raise InputError(
            f"the host would need {shown(needs)} for the table and a copy of it, but has "
            f"{shown(host_bytes)}; use a host with more memory, an optimizer with less state per "
            "row (optim.name rowwise_adagrad), or a mesh of devices with mesh.memory device"
        )
    raise InputError(
        f"a host would need {shown(needs)} to partition the graph, but has "
        f"{shown(host_bytes)}; use a host with more memory, or fewer pairs"
    )
