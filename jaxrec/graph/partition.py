"""A graph cut into equal parts of rows, one a device, and the rows that each part needs of others.

Every part holds a stretch of the users and a stretch of the items, each padded to the longest such
stretch, so that all parts have as many rows. Stretches are cut where the load (a row's edges, and
as much again for the row itself on average) is even. All of this is done once, on the host.
"""

from typing import Any, Literal, NamedTuple, cast

import jax
import jraph
import numpy as np

from jaxrec.data.dataset import Dataset
from jaxrec.data.keys import distinct
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
    """Where the nodes of a data set are in a table of T equal parts of R rows.

    Attributes:
      parts: T.
      users, items: rows of a part for users and, behind them, for items; together R.
      place_N: the row in the whole table of each node.
    """

    parts: int
    users: int
    items: int
    place_N: np.ndarray

    @property
    def rows(self) -> int:
        """R."""
        return self.users + self.items

    @property
    def size(self) -> int:
        """Rows of the whole table, T R."""
        return self.parts * self.rows

    def nodes(self) -> np.ndarray:
        """[T, R] the node in each row; -1 where a row is padding."""
        node_S = np.full(self.size, -1, np.int32)
        node_S[self.place_N] = np.arange(len(self.place_N), dtype=np.int32)
        return node_S.reshape(self.parts, self.rows)

    def padded(self, x_N: np.ndarray) -> np.ndarray:
        """Rows of nodes as rows of the table; padding is 0."""
        x_S = np.zeros((self.size, *x_N.shape[1:]), x_N.dtype)
        x_S[self.place_N] = x_N
        return x_S


def cut(load: np.ndarray, parts: int) -> np.ndarray:
    """[T + 1] where to cut a sequence into T stretches of about the same load."""
    sums = np.append(0, np.cumsum(load, dtype=np.float64))
    ends = np.searchsorted(sums, sums[-1] * np.arange(1, parts) / parts)
    return np.concatenate([[0], ends, [len(load)]]).astype(np.int64)


def node_order(data: Dataset, order: Literal["locality", "data"]) -> np.ndarray | None:
    """The place of each node in the order that is cut: None where it is the data set's own."""
    if order == "data":
        return None
    user, item = data.user, data.item + np.int32(data.n_users)
    ends = np.concatenate([item, user]), np.concatenate([user, item])
    return locality_order(*ends, data.n_users, data.n_users + data.n_items)


def layout(data: Dataset, place_N: np.ndarray | None, parts: int) -> Layout:
    """Cut the users and the items of a data set, in the given order."""
    degrees = data.user_counts(), data.item_counts()
    first, sides, widths = 0, [], []
    mean = 2 * data.n_edges / max(data.n_users + data.n_items, 1)
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
    """A part of the graph on its device; stacked over the parts before it goes there.

    Attributes:
      graph: the edges into the part's R rows; a sender is a row of what an exchange gives: the
        part's own R rows, then those it got. Of the whole table, where all rows are gathered.
      send: rows of the part that go to others: none where all rows are gathered; one [T, H] of rows
        for each other part; or T - 1 of [H_k], for the part k places on.
    """

    graph: Bipartite
    send: tuple


class Traffic(NamedTuple):
    """What a partition costs, counted.

    Attributes:
      edge_cut: share of the edges whose ends are in different parts.
      rows: rows that a device gets in a layer, padding included, by how they are exchanged.
      needed: rows that its edges need, averaged over the parts.
      edges: the most edges that a part has.
    """

    edge_cut: float
    rows: dict[str, int]
    needed: float
    edges: int

    def least(self) -> Exchange:
        """The exchange that moves the fewest rows; the simplest one of equals."""
        return cast(Exchange, min(self.rows, key=lambda name: self.rows[name]))


class Partition(NamedTuple):
    """A graph in parts: ``shard`` has arrays of NumPy with the parts as their first axis."""

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
    """Cut the graph of a data set's interactions.

    Weights, and the order of the edges into a row, are those of :func:`bipartite.build`.

    Args:
      exchange: "auto" takes the one that moves the fewest rows.
      buckets: prepare the kernel of that name.

    Raises:
      InputError: more pairs than int32 can number.
    """
    if data.n_edges >= 2**31:
        raise InputError(f"{data.name}: {data.n_edges:,} pairs are more than 2^31 - 1; filter them")
    parts, rows, n_users = layout.parts, layout.rows, data.n_users
    user, item = layout.place_N[data.user], layout.place_N[data.item + n_users]
    sender, receiver, pair = sorted_edges(user, item, layout.size, layout.size)
    sender[: len(user)] -= layout.size  # both sides have the numbers of the table here
    receiver[len(user) :] -= layout.size
    order = np.argsort(receiver, kind="stable")
    sender, receiver, pair = sender[order], receiver[order], pair[order]
    weight = None if data.weight is None else data.weight.astype(np.float64)[pair]
    degree = np.bincount(receiver, weights=weight, minlength=layout.size)
    normalised = symmetric_weights(sender, receiver, weight, degree)
    bounds = np.searchsorted(receiver, np.arange(parts + 1) * rows)
    needs = [_needed(sender[slice(*bounds[t : t + 2])], t, layout) for t in range(parts)]
    traffic = _traffic(sender, receiver, bounds, needs, layout)
    chosen = traffic.least() if exchange == "auto" else exchange
    send, first = _send(needs, chosen)
    local = []
    for t in range(parts):
        part = slice(*bounds[t : t + 2])
        of = sender[part]
        if chosen != "all_gather":
            of = _renamed(of, t, needs[t], first[t], rows)
        local.append((of, receiver[part] - t * rows, normalised[part]))
    degrees = degree.reshape(parts, rows).astype(np.float32)
    return Partition(layout, Shard(_stacked(local, degrees, rows, buckets), send), chosen, traffic)


def _needed(sender: np.ndarray, part: int, layout: Layout) -> list[np.ndarray]:
    """By owner, the rows (numbered within their part) that a part's edges need of others."""
    row = distinct(sender)
    owner = row // layout.rows
    none = np.zeros(0, row.dtype)
    return [none if t == part else row[owner == t] - t * layout.rows for t in range(layout.parts)]


def _traffic(
    sender: np.ndarray,
    receiver: np.ndarray,
    bounds: np.ndarray,
    needs: list[list[np.ndarray]],
    layout: Layout,
) -> Traffic:
    parts, others = layout.parts, layout.parts - 1
    count = np.array([[len(rows) for rows in of] for of in needs])
    ring = sum(max(count[t, t - k] for t in range(parts)) for k in range(1, parts))
    rows = {
        "all_gather": others * layout.rows,
        "all_to_all": others * int(count.max(initial=0)),
        "ring": int(ring),
    }
    apart = sender // layout.rows != receiver // layout.rows
    edge_cut = float(apart.mean()) if len(apart) else 0.0
    return Traffic(edge_cut, rows, float(count.sum(axis=1).mean()), int(np.diff(bounds).max()))


def _send(
    needs: list[list[np.ndarray]], exchange: Exchange
) -> tuple[tuple[np.ndarray, ...], np.ndarray]:
    """The rows to send, and [T, T] where what a part gets of another begins behind its own."""
    parts = len(needs)
    first = np.zeros((parts, parts), np.int64)
    if exchange == "all_gather":
        return (), first
    if exchange == "all_to_all":
        width = max(len(rows) for of in needs for rows in of) or 1
        first[:] = np.arange(parts) * width
        send = np.stack([np.stack([_pad(of[t], width) for of in needs]) for t in range(parts)])
        return (send,), first
    made, at = [], 0
    for k in range(1, parts):
        width = max(len(needs[t][t - k]) for t in range(parts)) or 1
        for t in range(parts):
            first[t, t - k] = at
        made.append(np.stack([_pad(needs[(t + k) % parts][t], width) for t in range(parts)]))
        at += width
    return tuple(made), first


def _pad(row: np.ndarray, width: int) -> np.ndarray:
    return np.pad(row, (0, width - len(row))).astype(np.int32)


def _renamed(
    sender: np.ndarray, part: int, needs: list[np.ndarray], first: np.ndarray, rows: int
) -> np.ndarray:
    """Rows of the whole table as rows of what the exchange gives."""
    made = sender - part * rows
    owner = sender // rows
    for t, row in enumerate(needs):
        if len(row):
            theirs = owner == t
            made[theirs] = rows + first[t] + np.searchsorted(row, sender[theirs] - t * rows)
    return made


def _stacked(
    local: list[tuple[np.ndarray, ...]], degrees: np.ndarray, rows: int, buckets: bool
) -> Bipartite:
    most = max(max(len(of) for of, _, _ in local), 1)
    made = []
    for (sender, receiver, weight), degree in zip(local, degrees, strict=True):
        indptr = np.append(0, np.cumsum(np.bincount(receiver, minlength=rows)))
        more = (0, most - len(sender))
        # Padding comes after the last row's edges: out of bounds, and dropped.
        padded = np.pad(sender, more), np.pad(receiver, more, constant_values=rows)
        edges: Any = (*(x.astype(np.int32) for x in padded), np.pad(weight, more))
        sizes: Any = np.array([rows], np.int32), np.array([len(sender)], np.int32)
        in_numpy: Any = indptr.astype(np.int32), degree
        graph = jraph.GraphsTuple(
            nodes=None,
            edges=edges[2],
            receivers=edges[1],
            senders=edges[0],
            globals=None,
            n_node=sizes[0],
            n_edge=sizes[1],
        )
        made.append(Bipartite(graph, *in_numpy))
    stacked = jax.tree.map(lambda *xs: np.stack(xs), *made)
    if not buckets:
        return stacked
    here = jax.local_devices(backend="cpu")[0]
    with jax.default_device(here):  # no device holds the parts of others
        each = [
            bucketed.build(graph.indptr, of, weight)
            for graph, (of, _, weight) in zip(made, local, strict=True)
        ]
    return stacked._replace(buckets=bucketed.stacked(each))
