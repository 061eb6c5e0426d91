"""Estimate the memory and traffic of a run on a mesh from its sizes, without devices, data or jax.

The model has U users, I items, N = U + I nodes, E pairs, width D and L layers. A batch has B pairs
with n negatives each and S negatives that all pairs share. There are ``data`` x ``table`` = P x T
devices. All numbers take 4 bytes (in layers with bfloat16: 2).

* Each device holds R = N / T rows of the table, of each moment (2 in Adam, 1 in Adagrad) and of
  the gradient. If the model propagates, it also holds the input and the output of a layer (two
  tables of R rows) and the X rows that a layer receives from other devices.
* Each device holds its shard of the graph, 2 E / T directed edges of 12 bytes, and E / T pairs and
  known items of 12 bytes. The kernel "buckets" adds 8 bytes for each edge of its padded rows, whose
  number follows from the degrees; unknown degrees are taken to be distributed exponentially.
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
* The steps of a GPU and of a TPU need further arrays, which are listed below.
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

On a GPU or a TPU, the arrays of a step are those of its program as XLA compiles it in jax 0.10.2:

* Row-sparse Adam needs 24 bytes of learning-rate sums for each step of the run at which the
  learning rate changes; for the other steps, it needs 0.2 bytes each, and 30 kB in all.
* A TPU stores the table and its moments as arguments with little padding. If D is not a multiple of
  128, a step copies them to rows padded to a multiple of 128 numbers; likewise PinSAGE's two tables
  of neighbours, unless these copies are larger than VMEM (128 MiB). A gradient or layer is a table
  of padded rows as well. If the copies of the table and its moments fit into VMEM, they are there
  and take no device memory; layers need VMEM for two tables, so two of the copies are then in
  device memory. With row-sparse updates, one of the copies is in VMEM if it takes at most half of
  it.
* LightGCN on a GPU keeps the outputs of the buckets of all L layers until the batch's rows are
  gathered (a row for each row of a bucket, pieces of long rows included), and a copy of the
  buckets' weights. On a mesh, the last of these outputs does not exist yet while the last layer's
  rows are exchanged, and the sent and the received rows do. On a TPU, there are the input and the
  output of a layer, and one index for each directed edge (three if D is a multiple of 128); on a
  mesh a layer's input, the received rows, these with the device's own rows, and the shard's edges a
  second time.
* NGCF saves the two factors of each inner layer's matrices (on a TPU in bfloat16, one of them in
  both orders of axes), and needs three tables for the gradient. GC-MC needs the gradient and, on a
  GPU, the buckets' outputs of one layer, or on a TPU another table.
* PinSAGE needs the rows of the M nodes of a block, and the messages of the outermost hop three
  times. On a GPU, it also needs masks to sum equal rows; on a TPU, one of the three arrays pads the
  number of neighbours to a multiple of 8, and one has no padding.
* If S negatives are shared, a GPU holds the scores of a batch, B S numbers.

``tests/aot/test_planned.py`` compares these with XLA's analysis of compiled programs. Fifteen
configurations on an H200 and a v5e agree within 5 % or 8 MB (small programs need some scratch
memory), with two exceptions:

* PinSAGE on an H200 at Gowalla's size: 400 MB planned, 431 MB compiled. XLA packs the temporary
  arrays with gaps of 50 MB, which the plan does not predict.
* PinSAGE on a v5e at ten times this size: 2,463 MB planned, 2,187 MB compiled. XLA keeps parts of
  the block in VMEM, and so needs most memory in the update of the table, not in the block.

Not compared are NGCF and GC-MC with other numbers of layers than in their presets, bfloat16 layers,
features, losses of ratings, learned scores, and other kernels than a platform's default. On a TPU,
XLA's use of VMEM is only estimated, so that the plan may err by 128 MiB.

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

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from jaxrec.errors import InputError
from jaxrec.plan_arrays import (
    BucketSizes,
    Platform,
    bucket_sizes,
    by_rows,
    exponential,
    learning_rate_sums,
    least,
)

MOST_PAIRS = 2**31 - 1
"""Most pairs of a run, since pairs are numbered by int32."""
AHEAD = 2
"""K, the most steps in flight between a table in host memory and the device."""
_USABLE = 0.9  # the usable share of a device's memory
# Number of moments per row.
_COPIES = {"adam": 2, "adamw": 2, "adagrad": 1, "sgd": 0, "rowwise_adagrad": 0}
_SPARE = 16  # number of extra columns of a spectral start
_VMEM = 2**27  # bytes of a TPU's fast memory, in which XLA places small tables
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
      platform: kind of device: its compiler decides which arrays exist during a step.
      model: value of model.name; models with the same arrays as LightGCN need not be named.
      hidden: width of hidden layers.
      fan_outs: neighbours per node by hop, for models that sample blocks of neighbours.
      drawn: whether these neighbours are drawn anew in each step, not stored per node.
      steps: number of steps of the run; 0 if unknown.
      varied: number of steps after which the learning rate is constant.
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
    platform: Platform = "cpu"
    model: str = "lightgcn"
    hidden: int = 0
    fan_outs: Sequence[int] = ()
    drawn: bool = False
    steps: int = 0
    varied: int = 0

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

    @property
    def batch_rows(self) -> int:
        """The number of nodes in a device's part of a batch, repeats included."""
        return -(-self.batch // self.data) * (2 + self.negatives) + self.shared

    def bucket_sizes(self) -> BucketSizes:
        """Return the sizes of a device's buckets; degrees that are unknown are exponential."""
        if not self.buckets:
            return BucketSizes(0, 0, 0)
        sides = (self.users, self.edges), (self.items, self.edges)
        degrees = self.degrees or [pair for side in sides for pair in exponential(*side)]
        return bucket_sizes(degrees, 1 / self.table)

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


def _work(s: Sizes, buckets: BucketSizes) -> float | int:
    """Return the bytes of gradients and of layers at the moment of a step that needs most."""
    table = by_rows(s.platform, s.rows, s.dim)
    layer = table * s.layer_bytes / 4
    received = s.got_rows() * s.dim * s.layer_bytes
    dense = table * (not s.sparse)
    if s.platform == "cpu":
        return dense + (2 * layer + received) * (s.layers > 0 and not s.fan_outs)
    if s.fan_outs:
        rows = by_rows(s.platform, s.batch_rows * _per_row(s), s.dim)
        return max(_block(s), dense + rows)
    if s.layers == 0:
        return dense
    if s.platform == "gpu" and not s.buckets:
        return dense + 2 * layer + _exchanged(s)
    if s.platform == "gpu":
        # The outputs of the buckets of all layers exist until the batch's rows are gathered.
        sums, weights = buckets.sums * s.dim * s.layer_bytes, 4 * buckets.entries
        if s.model == "ngcf":  # the factors of both matrices are saved for the gradient
            return (s.layers - 1) * (sums + 2 * layer) + sums + 3 * table + weights
        layers = 1 if s.model == "gcmc" else s.layers
        exchanged = _exchanged(s) + max((layers - 1) * sums + weights, dense)
        return max(layers * sums + weights, dense + sums, exchanged)
    if s.model == "ngcf":  # both factors are saved in bfloat16, one of them in both orders
        return (s.layers - 1) * 1.25 * table + 3 * table
    if s.model == "gcmc":
        return 2 * table
    # A TPU holds the input and the output of a layer, and indices of the senders of all edges. If
    # the tables need no copies by rows, there are three arrays of these indices: clamped, clamped
    # for the table of the batch's gradients, and padded.
    if s.table > 1:  # the shard's edges are also there without their first axis
        return layer + _exchanged(s) + 24 * s.edges / s.table
    indices = 8 * s.edges * (1 if least(s.platform, s.rows, s.dim) < table else 3)
    return min(s.layers, 2) * layer + indices


def _exchanged(s: Sizes) -> float | int:
    """Return the bytes of the rows of a layer that are exchanged, with their copies.

    On a GPU, these are the sent and the received rows. On a TPU, they are the received rows, and a
    table of a device's own rows and the received ones.
    """
    got, others = s.got_rows(), s.table - 1
    if others == 0:
        return 0.0
    if got >= others * s.rows:  # all rows are gathered, and none are copied to be sent
        return by_rows(s.platform, s.table * s.rows, s.dim) * s.layer_bytes / 4
    rows = by_rows(s.platform, got * s.table / others, s.dim)  # with a share for itself
    own = by_rows(s.platform, s.rows, s.dim) * (s.platform == "tpu")
    return (2 * rows + own) * s.layer_bytes / 4


def _per_row(s: Sizes) -> int:
    """Return the number of nodes in a sampled block per node of the batch."""
    return math.prod(1 + count for count in s.fan_outs)


def _block(s: Sizes) -> float | int:
    """Return the bytes of a sampled block of neighbours in the gradient of the outermost hop.

    The block has M nodes: K nodes and F neighbours of each. The gradient needs the rows of all M
    nodes, and the messages of the K F neighbours, before and after their activation.
    """
    width, count, nodes = s.hidden or s.dim, s.fan_outs[-1], s.batch_rows * _per_row(s)
    inner = nodes // (1 + count)
    rows = by_rows(s.platform, nodes, s.dim)
    messages = by_rows(s.platform, inner * count, width)
    if s.platform == "gpu":
        # Rows are sorted to be summed: 32 bytes of masks per row, and sorted row numbers.
        return rows + 3 * messages + by_rows("gpu", inner, 2 * width) + 44 * nodes
    by_node = by_rows("tpu", inner, count, width)  # the tiles pad F, too
    return rows + messages + by_node + least("tpu", inner * count, width) + 8 * nodes


def _of_programs(s: Sizes) -> dict[str, float | int]:
    """Return the bytes of further arrays of a step as compiled for a GPU or a TPU, by purpose."""
    found: dict[str, float | int] = {}
    table, copies = by_rows(s.platform, s.rows, s.dim), _COPIES.get(s.optimizer, 2)
    if least(s.platform, s.rows, s.dim) < table:
        fit = (2 if s.sparse else 1 + copies) * table <= _VMEM and not s.fan_outs
        most = 1 if s.sparse else max(1 + copies - 2 * (s.layers > 0), 0)
        in_vmem = most if fit else 0
        found["copies by rows"] = table * (1 + copies - in_vmem)
        near = 2 * by_rows(s.platform, s.rows, max(s.fan_outs, default=0))
        if s.fan_outs and not s.drawn and near <= _VMEM:
            found["copies by rows"] += near
    if s.sparse and s.optimizer == "adam":
        found["learning rates"] = learning_rate_sums(s.platform, s.steps, s.varied)
    if s.platform == "gpu":
        found["scores"] = 4 * s.batch * s.shared
    return found


def plan(s: Sizes) -> Plan:
    """Estimate memory and traffic by the formulas in the module's docstring."""
    row, rows, others = 4 * s.dim, s.rows, s.table - 1
    copies = _COPIES.get(s.optimizer, 2)
    got, in_part = s.got_rows(), s.batch_rows
    buckets, directed = s.bucket_sizes(), 2 * s.edges / s.table
    numbers = 4 * rows * _NUMBERS.get(s.optimizer, 0) * s.sparse
    work = _work(s, buckets)
    device = {
        "table and optimizer": least(s.platform, rows, s.dim) * (1 + copies) + numbers,
        "gradient and layers": work,
        "graph": 12 * directed + 8 * rows + 8 * buckets.entries + 4 * buckets.places,
        "pairs": 12 * s.edges / s.table + 16 * s.users / s.table,
        "places": 4 * s.nodes,
        "batch": 6 * in_part * row,
    }
    if s.fan_outs:
        device["places"] = 0
        if not s.drawn:
            device["graph"] = 4 * directed + 8 * rows
            device["graph"] += 2 * least(s.platform, rows, max(s.fan_outs))
    if s.platform != "cpu" and not s.host:
        device |= _of_programs(s)
    state = device["table and optimizer"]
    more = ("copies by rows", "learning rates", "scores")
    step_bytes = work + device["batch"] + sum(device.get(name, 0) for name in more)
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


def unread(found: Plan) -> int:
    """Return the bytes of the graph on a device that no step reads; compilers do not count them."""
    s = found.sizes
    if s.layers == 0 and not s.fan_outs:
        return found.device["graph"]
    on_mesh = s.data * s.table > 1
    return round(24 * s.edges / s.table) if on_mesh and s.buckets else 0


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
