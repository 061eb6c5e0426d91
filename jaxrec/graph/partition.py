"""Partition a graph by rows into one part per device, and plan which rows the parts exchange.

Each part holds a range of users and a range of items, both padded to the longest range, so that all
parts have the same number of rows. The ranges balance the load: the load of a row is the number of
its edges plus the mean number of edges per row. The partition is computed once, on the host.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, cast

import jax
import jraph
import numpy as np

from jaxrec.data.dataset import Dataset
from jaxrec.data.pair_keys import distinct
from jaxrec.errors import InputError
from jaxrec.graph import buckets as bucketed
from jaxrec.graph.bipartite import (
    Bipartite,
    locality_order,
    sorted_edges,
    symmetric_weights,
)

Exchange = Literal["all_gather", "all_to_all", "ring"]


class Layout(NamedTuple):
    """Positions of a data set's nodes in a table of T parts of R rows.

    Attributes:
      parts: T.
      users, items: numbers of rows per part for users and for items. User rows come first, and R
        is the sum of both.
      place_N: row of each node in the whole table.
    """

    parts: int
    users: int
    items: int
    place_N: np.ndarray

    @property
    def rows(self) -> int:
        """Rows per part, R."""
        return self.users + self.items

    @property
    def size(self) -> int:
        """Rows of the whole table, T · R."""
        return self.parts * self.rows

    def nodes(self) -> np.ndarray:
        """Return the node of each row, [T, R]; -1 for padding."""
        node_S = np.full(self.size, -1, np.int32)
        node_S[self.place_N] = np.arange(len(self.place_N), dtype=np.int32)
        return node_S.reshape(self.parts, self.rows)

    def padded(self, x_N: np.ndarray) -> np.ndarray:
        """Scatter the rows of nodes into the whole table; padding rows are 0."""
        x_S = np.zeros((self.size, *x_N.shape[1:]), x_N.dtype)
        x_S[self.place_N] = x_N
        return x_S


def cut(load: np.ndarray, parts: int) -> np.ndarray:
    """Cut a sequence into T ranges of about equal load; returns bounds [T + 1]."""
    sums = np.append(0, np.cumsum(load, dtype=np.float64))
    ends = np.searchsorted(sums, sums[-1] * np.arange(1, parts) / parts)
    return np.concatenate([[0], ends, [len(load)]]).astype(np.int64)


def node_order(data: Dataset, order: Literal["locality", "data"]) -> np.ndarray | None:
    """Return each node's position in the order that is partitioned; None for the data's order."""
    if order == "data":
        return None
    user, item = data.user, data.item + np.int32(data.n_users)
    ends = np.concatenate([item, user]), np.concatenate([user, item])
    return locality_order(*ends, data.n_users, data.n_users + data.n_items)


def layout(data: Dataset, place_N: np.ndarray | None, parts: int) -> Layout:
    """Partition the users and items of a data set, in the order ``place_N``."""
    return layout_of((data.user_counts(), data.item_counts()), place_N, parts)


def layout_of(
    degrees: tuple[np.ndarray, np.ndarray], place_N: np.ndarray | None, parts: int
) -> Layout:
    """Compute the :func:`layout` from the pair counts of users [U] and items [I]."""
    first, sides, widths = 0, [], []
    mean = 2 * int(degrees[0].sum()) / max(sum(map(len, degrees)), 1)
    for degree in degrees:
        node = np.arange(len(degree))
        if place_N is not None:
            node = np.argsort(place_N[first : first + len(degree)])
        bounds = cut(degree[node] + mean, parts)
        sides.append((node + first, bounds))
        widths.append(max(int(np.diff(bounds).max()), 1))
        first += len(degree)
    made = np.empty(first, np.int32)
    offset = 0
    for (node, bounds), width in zip(sides, widths, strict=True):
        part = np.repeat(np.arange(parts), np.diff(bounds))
        made[node] = part * sum(widths) + offset + np.arange(len(node)) - bounds[part]
        offset += width
    n_users, n_items = widths
    return Layout(parts, n_users, n_items, made)


class Shard(NamedTuple):
    """One part of the graph on its device; on the host, the stacked parts.

    Attributes:
      graph: the edges into the part's R rows. Senders are rows of the result of the exchange: the
        part's own R rows, then received rows; or the whole table if all rows are gathered.
      send: rows to send. For all_gather it is empty. For all_to_all it is one array [T, H], by
        receiving part. For a ring it is one array [H_k] for each k from 1 to T - 1, whose rows part
        t sends to part (t + k) mod T.
    """

    graph: Bipartite
    send: tuple


class Traffic(NamedTuple):
    """Communication cost of a partition.

    Attributes:
      edge_cut: share of edges between different parts.
      rows: number of rows that a device receives per layer, with padding, by kind of exchange.
      needed: number of rows that a part's edges need from other parts, averaged over parts.
      edges: number of edges of the part with the most edges.
    """

    edge_cut: float
    rows: dict[str, int]
    needed: float
    edges: int

    def least(self) -> Exchange:
        """Return the kind of exchange that moves the fewest rows; ties go to the simplest kind."""
        return cast(Exchange, min(self.rows, key=lambda name: self.rows[name]))


class Partition(NamedTuple):
    """A partitioned graph; the NumPy arrays in ``shard`` have the parts as first axis."""

    layout: Layout
    shard: Shard
    exchange: Exchange
    traffic: Traffic


def partition(
    data: Dataset,
    layout: Layout,
    exchange: Literal["auto"] | Exchange = "auto",
    *,
    buckets: bool = False,
) -> Partition:
    """Partition the graph of a data set's interactions.

    The weights of edges, and the order of edges into a row, are as in :func:`bipartite.build`.

    Args:
      exchange: "auto" takes the kind that moves the fewest rows.
      buckets: also prepare the layout of the buckets kernel.

    Raises:
      InputError: more pairs than int32 can number.
    """
    if data.n_edges >= 2**31:
        raise InputError(f"{data.name}: {data.n_edges:,} pairs are more than 2^31 - 1; filter them")
    parts, rows, n_users = layout.parts, layout.rows, data.n_users
    user, item = layout.place_N[data.user], layout.place_N[data.item + n_users]
    sender, receiver, pair = sorted_edges(user, item, layout.size, layout.size)
    sender[: len(user)] -= layout.size  # here users and items are both numbered by table row
    receiver[len(user) :] -= layout.size
    order = np.argsort(receiver, kind="stable")
    sender, receiver, pair = sender[order], receiver[order], pair[order]
    weight = None if data.weight is None else data.weight.astype(np.float64)[pair]
    degree = np.bincount(receiver, weights=weight, minlength=layout.size)
    normalised = symmetric_weights(sender, receiver, weight, degree)
    bounds = np.searchsorted(receiver, np.arange(parts + 1) * rows)
    needs = [needed(sender[slice(*bounds[t : t + 2])], t, layout) for t in range(parts)]
    count_TT = np.array([[len(row) for row in of] for of in needs])
    apart = sender // rows != receiver // rows
    edge_cut = float(apart.mean()) if len(apart) else 0.0
    found = traffic(count_TT, edge_cut, int(np.diff(bounds).max()), rows)
    chosen = found.least() if exchange == "auto" else exchange
    how = Sending.of(count_TT, chosen)
    send = tuple(map(np.stack, zip(*(how.rows_of(t, needs) for t in range(parts)), strict=True)))
    local = []
    for t in range(parts):
        part = slice(*bounds[t : t + 2])
        of = how.renamed(sender[part], t, needs[t], rows)
        local.append((of, receiver[part] - t * rows, normalised[part]))
    degrees = degree.reshape(parts, rows).astype(np.float32)
    return Partition(layout, Shard(_stacked(local, degrees, rows, buckets), send), chosen, found)


def needed(sender: np.ndarray, part: int, layout: Layout) -> list[np.ndarray]:
    """Find the rows that a part needs from each other part, numbered within the other part."""
    row = distinct(sender)
    owner = row // layout.rows
    none = np.zeros(0, row.dtype)
    return [none if t == part else row[owner == t] - t * layout.rows for t in range(layout.parts)]


def traffic(count_TT: np.ndarray, edge_cut: float, edges: int, rows: int) -> Traffic:
    """Compute the communication cost of a partition.

    Args:
      count_TT: number of rows that each part needs from each other part.
      edge_cut, edges: see :class:`Traffic`.
      rows: R.
    """
    parts, others = len(count_TT), len(count_TT) - 1
    ring = sum(max(count_TT[t, t - k] for t in range(parts)) for k in range(1, parts))
    moved = {
        "all_gather": others * rows,
        "all_to_all": others * int(count_TT.max(initial=0)),
        "ring": int(ring),
    }
    return Traffic(edge_cut, moved, float(count_TT.sum(axis=1).mean()), edges)


class Sending(NamedTuple):
    """The plan of the exchange of rows; shorter lists of rows are padded to equal lengths.

    Attributes:
      exchange: kind of exchange.
      widths: for all_to_all, the number of rows that a part sends to each other part; for a ring,
        the number of rows that part t sends to part (t + k) mod T, for each k from 1 to T - 1.
      first_TT: first_TT[t, s] is the offset at which part t stores the rows of part s, counted from
        the end of part t's own rows.
    """

    exchange: Exchange
    widths: tuple[int, ...]
    first_TT: np.ndarray

    @classmethod
    def of(cls, count_TT: np.ndarray, exchange: Exchange) -> "Sending":
        """Plan the exchange from the number of rows that parts need from each other."""
        parts = len(count_TT)
        first_TT = np.zeros((parts, parts), np.int64)
        if exchange == "all_gather":
            return cls(exchange, (), first_TT)
        if exchange == "all_to_all":
            width = int(count_TT.max()) or 1
            first_TT[:] = np.arange(parts) * width
            return cls(exchange, (width,), first_TT)
        widths, at = [], 0
        for k in range(1, parts):
            widths.append(max(int(count_TT[t, t - k]) for t in range(parts)) or 1)
            for t in range(parts):
                first_TT[t, t - k] = at
            at += widths[-1]
        return cls(exchange, tuple(widths), first_TT)

    def rows_of(self, part: int, needs: Sequence[Sequence[np.ndarray]]) -> tuple[np.ndarray, ...]:
        """Return the rows that a part sends, for :attr:`Shard.send`."""
        if self.exchange == "all_to_all":
            return (np.stack([_pad(of[part], self.widths[0]) for of in needs]),)
        to = enumerate(self.widths, 1)
        return tuple(_pad(needs[(part + k) % len(needs)][part], width) for k, width in to)

    def renamed(
        self, sender: np.ndarray, part: int, needs: Sequence[np.ndarray], rows: int
    ) -> np.ndarray:
        """Convert row numbers in the whole table to row numbers in one part's table.

        A part's table is the table that the part has after the exchange.
        """
        if self.exchange == "all_gather":
            return sender
        made = sender - part * rows
        owner = sender // rows
        for t, row in enumerate(needs):
            if len(row):
                theirs = owner == t
                at = np.searchsorted(row, sender[theirs] - t * rows)
                made[theirs] = rows + self.first_TT[part, t] + at
        return made


def _pad(row: np.ndarray, width: int) -> np.ndarray:
    return np.pad(row, (0, width - len(row))).astype(np.int32)


def graph_of(arrays: Mapping[str, Any]) -> Bipartite:
    """Build the graph of one part, or the stacked graphs of all parts, from arrays by name."""
    graph = jraph.GraphsTuple(
        nodes=None,
        edges=arrays["edges"],
        receivers=arrays["receivers"],
        senders=arrays["senders"],
        globals=None,
        n_node=arrays["n_node"],
        n_edge=arrays["n_edge"],
    )
    return Bipartite(graph, arrays["indptr"], arrays["degree"])


def _stacked(
    local: list[tuple[np.ndarray, ...]], degrees: np.ndarray, rows: int, buckets: bool
) -> Bipartite:
    most = max(max(len(of) for of, _, _ in local), 1)
    made = []
    for (sender, receiver, weight), degree in zip(local, degrees, strict=True):
        indptr = np.append(0, np.cumsum(np.bincount(receiver, minlength=rows)))
        more = (0, most - len(sender))
        # Padding edges have an out-of-range receiver, so they are dropped.
        padded = np.pad(sender, more), np.pad(receiver, more, constant_values=rows)
        ends = (x.astype(np.int32) for x in padded)
        arrays: dict[str, Any] = dict(zip(("senders", "receivers"), ends, strict=True))
        arrays |= {"edges": np.pad(weight, more), "indptr": indptr.astype(np.int32)}
        arrays |= {"n_node": np.array([rows], np.int32), "degree": degree}
        arrays |= {"n_edge": np.array([len(sender)], np.int32)}
        made.append(graph_of(arrays))
    stacked = jax.tree.map(lambda *xs: np.stack(xs), *made)
    if not buckets:
        return stacked
    here = jax.local_devices(backend="cpu")[0]
    with jax.default_device(here):  # keep the parts of other devices off the default device
        each = [
            bucketed.group_rows(graph.indptr, of, weight)
            for graph, (of, _, weight) in zip(made, local, strict=True)
        ]
    return stacked._replace(buckets=bucketed.stacked(each))
