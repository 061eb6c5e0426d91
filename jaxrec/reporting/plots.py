"""Plots as inline SVG that use the page's colours, and so follow its light or dark scheme."""

import io
import math
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from jaxrec.errors import InputError
from jaxrec.reporting.markup import Html, tag

_INK, _GRID = "#010101", "#020202"
_COLORS = 8
_GOLDEN_ANGLE = 137.508  # in degrees; hues at multiples of this angle differ well from each other
_MOST_POINTS = 2000
_THOUSANDS = 10_000  # from this value on, tick labels have commas
_RC: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.size": 9,
    "text.color": _INK,
    "axes.labelcolor": _INK,
    "axes.edgecolor": _GRID,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": _GRID,
    "grid.linewidth": 0.6,
    "xtick.color": _GRID,
    "ytick.color": _GRID,
    "xtick.labelcolor": _INK,
    "ytick.labelcolor": _INK,
    "axes.formatter.useoffset": False,
    "axes.formatter.limits": (-4, 6),
}


class Line(NamedTuple):
    """A curve with its legend text, points, colour number and dash (``-``, ``--`` or ``:``)."""

    label: str
    x: Sequence[float]
    y: Sequence[float]
    color: int
    dash: str = "-"


class Good(NamedTuple):
    """A sketch of how a plot looks for a healthy run, with an explanation.

    Each stroke is a curve, given by heights from 0 to 1 at equal distances.
    """

    words: str
    strokes: tuple[tuple[float, ...], ...]


RISES = (0.05, 0.5, 0.72, 0.82, 0.87, 0.89, 0.9)
"""A stroke that rises fast and levels off."""
FALLS = (0.95, 0.5, 0.3, 0.2, 0.15, 0.13, 0.12)
"""A stroke that falls fast and levels off."""
LOW = (0.1, 0.11, 0.1, 0.11, 0.1, 0.1, 0.1)
"""A stroke that stays low."""


def require_matplotlib() -> None:
    """Raise InputError with the command to install matplotlib, if it is missing."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as e:
        raise InputError(
            "a report needs matplotlib; install it with: pip install 'jaxrec[report]'"
        ) from e


def curves(
    title: str,
    lines: Sequence[Line],
    *,
    x: str,
    y: str,
    note: str = "",
    mark: int | float | None = None,
    zero: bool = False,
    right: Line | None = None,
    epoch: float | None = None,
    dot: tuple[float, float] | None = None,
    good: Good | None = None,
) -> Html:
    """Plot curves with a legend, or return nothing if no curve has a point.

    Args:
      x, y: labels of the axes.
      note: small print under the title.
      mark: an x to mark with a vertical line.
      zero: start the vertical axis at 0.
      right: one more curve with its own vertical axis on the right, labelled by its legend text.
      epoch: steps per epoch, to show a second horizontal axis in epochs.
      dot: a point to mark.
      good: a sketch of the figure for a healthy run.
    """
    lines = [line for line in lines if len(line.x)]
    if not lines:
        return Html()
    figure, axes = _axes(x, y)
    for line in lines:
        _plot(axes, line)
    if right is not None:
        other = axes.twinx()
        other.grid(False)
        other.spines["right"].set_visible(True)
        other.set_ylabel(right.label.replace("$", r"\$"))
        _plot(other, right)
        lines = [*lines, right]
    if epoch is not None:
        top = axes.secondary_xaxis("top", functions=(lambda s: s / epoch, lambda e: e * epoch))
        top.set_xlabel("epoch", fontsize=_RC["font.size"])
        top.tick_params(labelsize=_RC["font.size"], color=_GRID, labelcolor=_INK)
        top.spines["top"].set_color(_GRID)
    if dot is not None:
        axes.plot([dot[0]], [dot[1]], "o", color=_INK, markersize=4.5)
    if mark is not None:
        axes.axvline(mark, color=_INK, linewidth=0.8, dashes=(4, 3))
    highest = max(max(line.y) for line in lines)
    if zero or highest == min(min(line.y) for line in lines) == 0:
        axes.set_ylim(0, 1.1 * highest or 1.0)
    ends = [f"{line.label} from {line.y[0]:.4g} to {line.y[-1]:.4g}" for line in lines]
    alt = f"{title}: {y} over {x}; " + "; ".join(ends)
    legend = [tag("li", _swatch(line), line.label) for line in lines]
    below = [tag("ul", *legend, class_="legend")]
    if good is not None:
        below.append(tag("p", _sketch(good), tag("span", good.words), class_="good"))
    return _figure(title, note, alt, figure, *below)


def _sketch(good: Good) -> Html:
    width, height = 72, 30
    strokes = []
    for n, stroke in enumerate(good.strokes):
        across = [2 + (width - 4) * i / (len(stroke) - 1) for i in range(len(stroke))]
        points = zip(across, (height - 2 - (height - 4) * y for y in stroke), strict=True)
        path = " ".join(f"{x:.0f},{y:.0f}" for x, y in points)
        strokes.append(tag("polyline", points=path, fill="none", stroke=_css(n), stroke_width=2))
    return tag("svg", *strokes, viewBox=f"0 0 {width} {height}", aria_hidden="true")


def _plot(axes: Any, line: Line) -> None:
    stride = math.ceil(len(line.x) / _MOST_POINTS)
    # Long curves are thinned out evenly, but always include their last point.
    kept = sorted({*range(0, len(line.x), stride), len(line.x) - 1})
    axes.plot(
        [line.x[i] for i in kept],
        [line.y[i] for i in kept],
        line.dash,
        color=_color(line.color),
        linewidth=1.7,
        marker="o" if len(kept) < 12 and line.dash == "-" else None,
        markersize=3.5,
    )


def bars(
    title: str,
    labels: Sequence[str],
    heights: Sequence[float | None],
    *,
    x: str,
    y: str,
    note: str = "",
) -> Html:
    """Plot one bar per label; a height of None leaves a gap."""
    if not labels:
        return Html()
    figure, axes = _axes(x, y)
    axes.bar(range(len(labels)), [height or 0.0 for height in heights], color=_color(0), width=0.75)
    axes.set_xticks(
        range(len(labels)), labels, fontsize=7.5, rotation=30, ha="right", rotation_mode="anchor"
    )
    axes.grid(False, axis="x")
    values = [
        f"{label}: {'none' if h is None else f'{h:.4g}'}"
        for label, h in zip(labels, heights, strict=True)
    ]
    return _figure(title, note, f"{title}: {y} by {x}; " + "; ".join(values), figure)


def levels(
    title: str, named: Sequence[tuple[str, float]], *, x: str, note: str = "", most: int = 6
) -> Html:
    """Plot the first ``most`` values as horizontal bars; the first bar has the model's colour."""
    if not named:
        return Html()
    named = named[:most]
    figure, axes = _axes(x, "")
    colors = [_color(0), *[_color(1)] * (len(named) - 1)]
    places = range(len(named))
    drawn = axes.barh(places, [value for _, value in named], color=colors, height=0.6)
    texts = [f"{value:#.3g}".rstrip(".") for _, value in named]
    axes.bar_label(drawn, texts, padding=4, color=_INK)
    axes.set_yticks(places, [name.replace("$", r"\$") for name, _ in named])
    axes.invert_yaxis()
    axes.margins(x=0.16)
    axes.grid(False, axis="y")
    told = "; ".join(f"{name} {value:.4g}" for name, value in named)
    return _figure(title, note, f"{title}: {x}; {told}", figure)


def _axes(x: str, y: str) -> tuple[Any, Any]:
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_RC):
        figure = Figure(figsize=(4.6, 2.9), layout="constrained")
        axes = figure.subplots()
    # A dollar sign would start a formula.
    axes.set_xlabel(x.replace("$", r"\$"))
    axes.set_ylabel(y.replace("$", r"\$"))
    return figure, axes


def _figure(title: str, note: str, alt: str, figure: Any, *below: object) -> Html:
    import matplotlib
    from matplotlib.ticker import StrMethodFormatter

    for axes in figure.axes:
        for axis, (low, high) in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim())):
            if max(abs(low), abs(high)) >= _THOUSANDS:
                axis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    written = io.StringIO()
    # Use the alt text as salt, so that ids are reproducible and differ between figures.
    with matplotlib.rc_context({**_RC, "svg.hashsalt": alt}):
        no_metadata = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(written, format="svg", transparent=True, metadata=no_metadata)
    caption = tag("figcaption", title, *([tag("span", note)] if note else []))
    return tag("figure", caption, _inline(written.getvalue(), alt), *below)


def _inline(svg: str, alt: str) -> Html:
    """Convert matplotlib's SVG file to an element for the page.

    Ids of groups and metadata are removed, and fixed colours are replaced by the page's colours.
    """
    body = svg[svg.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    view = re.search(r'viewBox="([^"]*)"', body)
    body = body[body.index(">") + 1 : body.rindex("</svg>")]
    body = re.sub(r'<g id="[^"]*"', "<g", body).replace("xlink:href", "href")
    body = body.replace(_INK, "currentColor").replace(_GRID, "var(--line)")
    body = re.sub(r"#0303([0-9a-f]{2})", lambda m: _css(int(m[1], 16)), body)
    return tag("svg", Html(body), viewBox=view[1] if view else None, role="img", aria_label=alt)


def _color(number: int) -> str:
    return f"#0303{number % 256:02x}"


def _css(number: int) -> str:
    """Return the CSS colour of a series: from style.css, or a new hue if style.css has too few."""
    if number < _COLORS:
        return f"var(--series-{number})"
    hue = round((20 + (number - _COLORS) * _GOLDEN_ANGLE) % 360)
    return f"hsl({hue} 55% var(--tone))"


def _swatch(line: Line) -> Html:
    dash = {"-": None, "--": "6 3", ":": "2 3"}[line.dash]
    stroke = _css(line.color % 256)
    if len(line.x) == 1:
        stripe = tag("circle", cx=13, cy=5, r=4, fill=stroke)
    else:
        stripe = tag(
            "line", x1=0, y1=5, x2=26, y2=5, stroke=stroke, stroke_width=3, stroke_dasharray=dash
        )
    return tag("svg", stripe, viewBox="0 0 26 10", aria_hidden="true")
