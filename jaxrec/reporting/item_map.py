"""A map of the items, projected to the plane in which their vectors vary most."""

from __future__ import annotations

import itertools
from collections import Counter
from typing import Literal, NamedTuple

import numpy as np

from jaxrec.errors import InputError
from jaxrec.reporting.learned import Learned
from jaxrec.reporting.markup import Html, tag

Method = Literal["pca", "umap"]
_MOST_MARKS = 1200
_CATEGORIES = 6
_OTHER = "other"
_WIDTH, _HEIGHT, _MARGIN = 420, 300, 22
_LEVELS = 5
_SEED = 0

# Classes of items differ by colour and by shape. The SVG path of a mark is "M x y", followed by one
# of these shapes.
_SHAPES = (
    "m-3 0a3 3 0 1 0 6 0a3 3 0 1 0-6 0z",  # circle
    "m-2.7-2.7h5.4v5.4h-5.4z",  # square
    "m0-3.6l3.4 6h-6.8z",  # triangle
    "m0-3.9l3.3 3.9l-3.3 3.9l-3.3-3.9z",  # diamond
    "m-1.1-3.4h2.2v2.3h2.3v2.2h-2.3v2.3h-2.2v-2.3h-2.3v-2.2h2.3z",  # plus
    "m0 3.6l3.4-6h-6.8z",  # triangle that stands on its tip
)


class _Class(NamedTuple):
    """A class of items on the map: its legend text, CSS colour, shape of marks, and item rows."""

    label: str
    color: str
    shape: str
    rows: np.ndarray


def item_map(learned: Learned, method: Method = "pca") -> Html:
    """Plot the items by their normalised vectors; return nothing if fewer than 3 have vectors.

    Similar items are close together, as far as two dimensions allow. Colours show categories if the
    table of items has a column of categories, or else popularity.

    Raises:
      InputError: ``method`` is "umap" but umap-learn is not installed.
    """
    rows = np.flatnonzero(learned.learnt_I)
    if len(rows) < 3 or learned.table.item.shape[1] < 2:
        return Html()
    point_N2, axes = _placed(learned.unit_ID[rows], method)
    classes, colored_by = _classes(learned, rows)
    drawn = _evenly(rows, learned)
    at = {int(row): n for n, row in enumerate(rows)}
    low, high = np.percentile(point_N2, [1, 99], axis=0)
    share_N2 = ((point_N2 - low) / np.maximum(high - low, 1e-9)).clip(0, 1)
    marks, legend = [], []
    for kind in classes:
        inside = [
            tag("path", tag("title", learned.names[row]), d=_mark(share_N2[at[row]], kind.shape))
            for row in kind.rows.tolist()
            if row in drawn
        ]
        marks.append(tag("g", *inside, fill=kind.color))
        sign = tag("path", d=f"M5 5{kind.shape}", fill=kind.color)
        sign = tag("svg", sign, viewBox="0 0 10 10", aria_hidden="true", class_="sign")
        legend.append(tag("li", sign, f"{kind.label} ({len(kind.rows):,})"))
    coloring = f", coloured by {colored_by}" if colored_by else ""
    alt = f"Item map: {axes[1]} over {axes[0]}{coloring}: "
    alt += ", ".join(kind.label for kind in classes)
    frame = tag(
        "rect", x=_MARGIN, y=1, width=_WIDTH - _MARGIN - 1, height=_HEIGHT - _MARGIN - 1,
        fill="none", stroke="var(--line)",
    )  # fmt: skip
    middle = _HEIGHT / 2
    words = [
        tag("text", axes[0], x=(_WIDTH + _MARGIN) / 2, y=_HEIGHT - 6, text_anchor="middle"),
        tag(
            "text", axes[1], x=0, y=0, text_anchor="middle",
            transform=f"translate(14 {middle - _MARGIN / 2}) rotate(-90)",
        ),
    ]  # fmt: skip
    picture = tag(
        "svg",
        *(frame, *words, *marks),
        viewBox=f"0 0 {_WIDTH} {_HEIGHT}",
        role="img",
        aria_label=alt,
        class_="map",
    )
    some = (
        f"{len(drawn):,} of {len(rows):,} items" if len(drawn) < len(rows) else "one mark per item"
    )
    note = f"{some}{coloring}; similar items are close together"
    caption = tag("figcaption", "Item map", tag("span", note))
    return tag("figure", caption, picture, tag("ul", *legend, class_="legend"))


def _placed(unit_ND: np.ndarray, method: Method) -> tuple[np.ndarray, tuple[str, str]]:
    """Return the items' coordinates [N, 2] on the map, and the labels of its axes."""
    if method == "umap":
        return _umap(unit_ND), ("UMAP 1 (no unit)", "UMAP 2 (no unit)")
    centred_ND = unit_ND.astype(np.float64) - unit_ND.mean(axis=0)
    value_D, vector_DD = np.linalg.eigh(centred_ND.T @ centred_ND)
    vector_D2 = vector_DD[:, :-3:-1]
    # The sign of a component is arbitrary; choose the one that makes its largest entry positive.
    vector_D2 = vector_D2 * np.sign(vector_D2[np.abs(vector_D2).argmax(axis=0), [0, 1]])
    share = value_D[:-3:-1] / max(float(value_D.sum()), 1e-30)
    names = [
        f"principal component {n} ({100 * s:.0f} % of variance)" for n, s in enumerate(share, 1)
    ]
    return centred_ND @ vector_D2, (names[0], names[1])


def _umap(unit_ND: np.ndarray) -> np.ndarray:
    try:
        from umap import UMAP  # pyright: ignore[reportMissingImports]
    except ImportError as e:
        raise InputError("a map by umap needs umap-learn: pip install umap-learn") from e
    made = UMAP(n_neighbors=min(15, len(unit_ND) - 1), metric="cosine", random_state=_SEED)
    return np.asarray(made.fit_transform(unit_ND), np.float64)


def _classes(learned: Learned, rows: np.ndarray) -> tuple[list[_Class], str]:
    found = learned.categories()
    if found is not None:
        name, category_I = found
        count = Counter(category_I[row] for row in rows if category_I[row] is not None)
        if len(count) > 1:
            return _by_category(category_I, count, rows), f"the first of their {name}"
    return _by_popularity(learned, rows)


def _by_category(
    category_I: list[str | None], count: Counter[str | None], rows: np.ndarray
) -> list[_Class]:
    shown = [str(name) for name, _ in sorted(count.items(), key=_most_first)[:_CATEGORIES]]
    classes = []
    for n, name in enumerate(shown):
        own = rows[[category_I[row] == name for row in rows]]
        classes.append(_Class(name, f"var(--series-{n})", _SHAPES[n], own))
    rest = rows[[category_I[row] not in shown for row in rows]]
    if len(rest):
        classes.insert(0, _Class(_OTHER, "var(--soft)", _SHAPES[0], rest))
    return classes


def _most_first(counted: tuple[str | None, int]) -> tuple[int, str]:
    return -counted[1], str(counted[0])


def _by_popularity(learned: Learned, rows: np.ndarray) -> tuple[list[_Class], str]:
    count_I = learned.counts_I
    if count_I is None:
        return [_Class("items", "var(--series-0)", _SHAPES[0], rows)], ""
    edges = np.unique(np.quantile(count_I[rows], np.linspace(0, 1, _LEVELS + 1)).astype(int))
    bins = list(itertools.pairwise(edges)) or [(edges[0], edges[0] + 1)]
    classes = []
    for n, (low, high) in enumerate(bins):
        last = n == len(bins) - 1
        inside = (count_I[rows] >= low) & ((count_I[rows] < high) | last)
        top = int(count_I[rows].max()) if last else high - 1
        label = f"{low:,}" if low == top else f"{low:,}–{top:,}"
        level = n + _LEVELS - len(bins)
        classes.append(_Class(f"{label} users", f"var(--ramp-{level})", _SHAPES[0], rows[inside]))
    return classes, "popularity"


def _evenly(rows: np.ndarray, learned: Learned) -> set[int]:
    """Choose the items to draw: all, or a sample spread evenly over the ranks of popularity."""
    if len(rows) <= _MOST_MARKS:
        return set(rows.tolist())
    count_I = learned.counts_I
    order = rows if count_I is None else rows[np.argsort(-count_I[rows], kind="stable")]
    return set(order[np.linspace(0, len(order) - 1, _MOST_MARKS).astype(int)].tolist())


def _mark(share: np.ndarray, shape: str) -> str:
    x = _MARGIN + 6 + share[0] * (_WIDTH - _MARGIN - 12)
    y = 6 + (1 - share[1]) * (_HEIGHT - _MARGIN - 12)
    return f"M{x:.0f} {y:.0f}{shape}"
