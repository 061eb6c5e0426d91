"""What a run on a mesh needs and moves, by arithmetic: no device, no data, no jax.

The model, for U users, I items, N = U + I, E pairs, width D, L layers, batches of B pairs with n
negatives each and S that all share, on ``data`` x ``table`` = P x T devices, all numbers 4 bytes
(layers in bfloat16: 2):

* A device has R = N / T rows: the table, 2 moments of them in Adam (1 in Adagrad), a gradient; of a
  model that propagates also two tables of a layer and the X rows that a layer gets of others.
* Its share of the graph: 2 E / T directed edges of 12 bytes (of 20 and padding up to a third more
  where the kernel is buckets), and of the pairs and what users know, E / T of 12 bytes.
* On every device: the row of each node (N), and 6 arrays of the rows of its part of a batch.
* An evaluation has none of a step's gradient, layers and batch, but final embeddings: R as they
  come out and R as they are ranked (on a mesh the items' share of them, and the row of each user);
  while they are made, two tables of a layer and the X rows where a model propagates, and R rows
  brought up to date where Adam updates rows. What it needs beyond a step is counted.
* A spectral start, before there is an optimizer: 5 tables of D columns, of which 3 have 16 more.
* A checkpoint takes nothing on a device: it is copied to the host's memory, leaf by leaf, and
  restored by shapes alone, the old state gone before.
* A layer gets X rows: (T - 1) R where all are gathered, else those that its edges need. A node with
  d edges that fall at random is needed in a given other part with probability 1 - (1 - 1/T)^d. With
  d = E / U and E / I for all users and items this is the most it can be for any degrees; with
  counted degrees it is the mean. Neighbours that lie near each other need fewer.
* A step: 2 L layers; the sum over ``table`` of the batch's rows (and of the table's own rows where
  there are layers); the gradients of these gathered over ``data``; the integers of the batch's
  pairs and private negatives summed over ``table``. A sum over T devices moves 2 (T - 1) / T of its
  size to each, as a ring does.
* A host holds all pairs while it cuts the graph (72 bytes a pair), and the whole table once; where
  the data lies in parts already, the arrays of a part instead of all pairs (the kernel buckets: of
  the parts of all its devices). While a checkpoint is written it has a copy of all that the
  optimizer has of each row.

With the table in the host's memory (one device, no layers, row-sparse updates), of which a row with
what the optimizer keeps of it has W bytes (4 D in SGD, 4 D + 4 in row-wise Adagrad, 8 D in Adagrad,
12 D + 4 in Adam), and M = (2 + n) B + S rows in a batch:

* The device has the rows of 2 K + 2 batches: of K + 1 that come, of K that went and of the one
  between, where K steps are on their way (``AHEAD``); no table, no gradient of one and no edges.
* A step gets M rows from the host, and gives it M rows and their numbers: M (2 W + 4) bytes.
* The host has N rows, and as much again and twice the table (8 N D bytes) while a checkpoint is
  read or written and while the first table is made.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from jaxrec.errors import InputError

MOST_PAIRS = 2**31 - 1
"""Pairs are numbered by int32."""
AHEAD = 2
"""K, steps that may be on their way between a table in the host's memory and the device."""
_USABLE = 0.9  # of a device's memory
_COPIES = {"adam": 2, "adamw": 2, "adagrad": 1, "sgd": 0, "rowwise_adagrad": 0}
_SPARE = 16  # columns of a spectral start besides those of the table
_NUMBERS = {"adam": 1, "adagrad": 0, "sgd": 0, "rowwise_adagrad": 1}  # a row, besides the copies


@dataclass(frozen=True)
class Sizes:
    """What is trained, and on how many devices.

    ``degrees`` are counted ones: pairs (degree, nodes) of users and of items; without them all
    users are taken to have the mean degree, and all items. ``got`` is X where the graph is cut
    already, ``parted`` whether it is cut on disk. With ``host`` the table lies in the host's
    memory, with ``spectral`` it begins with singular vectors.
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
        """R."""
        return -(-self.nodes // self.table)

    @property
    def row_bytes(self) -> int:
        """W, of an optimizer that updates rows."""
        return 4 * self.dim * (1 + _COPIES.get(self.optimizer, 2)) + 4 * _NUMBERS.get(
            self.optimizer, 0
        )

    def evaluation_bytes(self) -> float:
        """What an evaluation holds besides the state and the data."""
        rows = float(self.rows * 4 * self.dim)
        ranked = rows
        if self.data * self.table > 1:
            ranked = self.items / self.table * 4 * self.dim + 4 * self.users
        made = rows * (self.sparse and self.optimizer == "adam")
        if self.layers > 0:
            made += (2 * self.rows + self.got_rows()) * self.dim * self.layer_bytes
        return rows + max(ranked, made)

    def start_bytes(self) -> float:
        """What the first table takes while it is made, where that is more than itself twice."""
        return self.nodes * 4.0 * (5 * self.dim + 3 * _SPARE) if self.spectral else 0.0

    def got_rows(self) -> float:
        """X, of the cheaper exchange."""
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
    """Bytes, by what they are for.

    Attributes:
      device: in the memory of each.
      host: in the memory of each, while it prepares a run.
      step: that a device gets from others in a step.
      checkpoint: of one on disk.
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
        """For people."""
        s = self.sizes
        head = (
            f"plan: {s.users:,} users, {s.items:,} items, {s.edges:,} pairs, dim {s.dim}, "
            f"{s.layers} layers on {s.data} x {s.table} devices (data x table)"
        )
        parts = {"device": self.device, "host": self.host, "step": self.step}
        words = {
            "device": "memory of a device",
            "host": "memory of a host, at most",
            "step": "moved to a device a step",
        }
        if s.host:
            words |= {"host": "memory of the host, at most", "step": "moved a step"}
        lines = [head]
        for name, part in parts.items():
            listed = ", ".join(f"{k} {shown(v)}" for k, v in part.items() if v)
            lines.append(f"  {words[name]}: {shown(sum(part.values()))} ({listed or 'nothing'})")
        return [*lines, f"  a checkpoint: {shown(self.checkpoint)}"]


def shown(n_bytes: int | float) -> str:
    """A number of bytes in the unit that suits it."""
    for unit in ("B", "kB", "MB", "GB"):
        if n_bytes < 1000:
            return f"{n_bytes:.3g} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:.3g} TB"


def plan(s: Sizes) -> Plan:
    """The plan of some sizes, by the module's model."""
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
        device["evaluation, beyond a step"] = 0  # by blocks of rows
        device["rows of batches"] = (2 * AHEAD + 2) * in_part * s.row_bytes
        host = {"pairs": 72 * s.edges, "table and optimizer": whole}
        host["copies of them"] = whole + 2 * s.nodes * row
        step = {"rows from the host": in_part * s.row_bytes}
        step["rows to the host"] = in_part * (s.row_bytes + 4)

    def rounded(of: dict[str, Any]) -> dict[str, int]:
        return {name: round(value) for name, value in of.items()}

    return Plan(s, rounded(device), rounded(host), rounded(step), whole)


def smallest(s: Sizes, limit: int) -> int | None:
    """The fewest parts of the table, a power of 2, with which a device needs no more than
    ``limit`` bytes; None where no number helps."""
    for power in range(31):
        on_mesh = replace(s, data=1, table=2**power, got=None, host=False)
        if plan(on_mesh).device_bytes <= limit:
            return 2**power
    return None


def fits(n_bytes: int, memory: int) -> bool:
    """Whether so many bytes leave a tenth of the memory free."""
    return n_bytes <= int(_USABLE * memory)


def _by_host(s: Sizes, device_bytes: int, host_bytes: int | None) -> str:
    """What to say of the host's memory where a device lacks room and the host has it."""
    if s.host or s.parted or s.layers > 0 or s.optimizer not in _NUMBERS:
        return ""
    made = plan(replace(s, data=1, table=1, got=None, sparse=True, host=True))
    needs = sum(made.host.values())
    if not fits(made.device_bytes, device_bytes):
        return ""
    if host_bytes is not None and not fits(needs, host_bytes):
        return ""
    return f", or one device with --mesh.memory host, and {shown(needs)} of the host's memory"


def check(made: Plan, device_bytes: int | None, host_bytes: int | None = None) -> None:
    """Refuse what cannot fit.

    Args:
      device_bytes, host_bytes: memory of each, where it is known; a tenth is kept free.

    Raises:
      InputError: names what is short, and the smallest mesh that would do.
    """
    if device_bytes is not None and not fits(made.device_bytes, device_bytes):
        limit = int(_USABLE * device_bytes)
        parts = smallest(made.sizes, limit)
        fix = (
            "no mesh of these would do"
            if parts is None
            else (f"the smallest mesh that would do is --mesh.data 1 --mesh.table {parts}")
        )
        raise InputError(
            f"a device would need {shown(made.device_bytes)}, and has {shown(limit)} "
            f"of {shown(device_bytes)} to use; {fix}"
            f"{_by_host(made.sizes, device_bytes, host_bytes)}"
        )
    needs = sum(made.host.values())
    if host_bytes is None or fits(needs, host_bytes):
        return
    if made.sizes.host:
        raise InputError(
            f"the host would need {shown(needs)} for the table and a copy of it, and has "
            f"{shown(host_bytes)}; take a host with more memory, an optimizer that keeps less of a "
            "row (optim.name rowwise_adagrad), or a mesh of devices with mesh.memory device"
        )
    raise InputError(
        f"a host would need {shown(needs)} while it cuts the graph, and has "
        f"{shown(host_bytes)}; take a host with more memory, or fewer pairs"
    )
