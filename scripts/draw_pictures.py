#!/usr/bin/env python3
"""Draw the pictures of README.md and of the guides as SVG: the way of the data, and the rooms.

    scripts/draw_pictures.py            # writes jaxrec/guides/overview.svg and rooms.svg

The picture of the rooms is made from the import statements of the package.
"""

import ast
from collections.abc import Iterable
from html import escape
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1] / "jaxrec"
GUIDES = PACKAGE / "guides"
BLUE, ORANGE, GREY, INK = "#0072B2", "#E69F00", "#8a8f98", "#24292f"
FONT = 'font-family="Helvetica, Arial, sans-serif"'
USERS, ITEMS = 4, 5
EDGES = ((0, 0), (0, 2), (1, 0), (1, 1), (2, 2), (2, 3), (3, 3), (3, 4))


def svg(width: int, height: int, title: str, shapes: Iterable[str]) -> str:
    """A picture on a white ground, with a title for readers who do not see it."""
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" role="img">\n<title>{escape(title)}</title>'
    )
    ground = f'<rect width="{width}" height="{height}" fill="white"/>'
    return "\n".join([head, ground, *shapes, "</svg>", ""])


def text(
    x: float, y: float, words: str, size: int = 13, fill: str = INK, anchor: str = "middle"
) -> str:
    return (
        f'<text x="{x:g}" y="{y:g}" {FONT} font-size="{size}" fill="{fill}" '
        f'text-anchor="{anchor}">{escape(words)}</text>'
    )


def box(x: float, y: float, width: float, height: float, fill: str, stroke: str = "none") -> str:
    return (
        f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="3" fill="{fill}" '
        f'stroke="{stroke}"/>'
    )


def line(x: float, y: float, x2: float, y2: float, stroke: str = GREY, width: float = 1.5) -> str:
    return (
        f'<line x1="{x:g}" y1="{y:g}" x2="{x2:g}" y2="{y2:g}" stroke="{stroke}" '
        f'stroke-width="{width:g}"/>'
    )


def dot(x: float, y: float, fill: str, radius: float = 7) -> str:
    return f'<circle cx="{x:g}" cy="{y:g}" r="{radius:g}" fill="{fill}"/>'


def arrow(x: float, y: float) -> str:
    """From one panel to the next."""
    return f'<path d="M{x:g} {y:g} h22 m-7 -6 l7 6 l-7 6" fill="none" stroke="{INK}"/>'


def _interactions(x: float) -> list[str]:
    shapes = [text(x + 35, 66, "user", 12, GREY), text(x + 95, 66, "item", 12, GREY)]
    for row, (user, item) in enumerate(EDGES[:6]):
        y = 76 + 22 * row
        shapes += [box(x + 5, y, 120, 18, "#f3f4f6")]
        shapes += [text(x + 35, y + 13, f"u{user + 1}", 12, BLUE)]
        shapes += [text(x + 95, y + 13, f"i{item + 1}", 12, "#9a6700")]
    return shapes


def _places(x: float) -> tuple[list[tuple[float, float]], list[tuple[float, float]]]:
    users = [(x + 25, 82 + 38.0 * n) for n in range(USERS)]
    items = [(x + 110, 70 + 34.0 * n) for n in range(ITEMS)]
    return users, items


def _graph(x: float) -> list[str]:
    users, items = _places(x)
    shapes = [line(*users[user], *items[item]) for user, item in EDGES]
    return shapes + [dot(*at, BLUE) for at in users] + [dot(*at, ORANGE) for at in items]


def _layers(x: float) -> list[str]:
    shapes = []
    for layer in range(3):
        left = x + 10 + 45 * layer
        for n in range(USERS + ITEMS):
            fill = BLUE if n < USERS else ORANGE
            y = 66 + 16 * n
            shapes.append(
                f'<rect x="{left:g}" y="{y:g}" width="24" height="12" fill="{fill}" '
                f'opacity="{0.35 + 0.3 * layer:g}"/>'
            )
            if layer < 2:
                near = (66 + 16 * ((n + step) % (USERS + ITEMS)) + 6 for step in (0, 4))
                shapes += [line(left + 24, y + 6, left + 45, other, "#c5c9d0", 1) for other in near]
    return shapes


def _ranking(x: float) -> list[str]:
    shapes = []
    for n, length in enumerate((95, 84, 66, 58, 41, 30)):
        y, hit = 70 + 22 * n, n in (0, 3)
        shapes += [text(x + 8, y + 12, f"{n + 1}", 12, GREY)]
        shapes += [box(x + 20, y, length, 15, ORANGE if hit else "#f3d9a4")]
        shapes += [text(x + 28 + length, y + 12, "✓", 13, BLUE)] if hit else []
    return shapes


def _folder(x: float) -> list[str]:
    names = ("config.json", "metrics.jsonl", "checkpoints/", "embeddings.npz", "eval.json")
    shapes = [
        f'<path d="M{x + 2:g} 72 h46 l10 12 h76 v116 h-132 z" fill="#f3f4f6" stroke="{GREY}"/>'
    ]
    places = enumerate((*names, "report.html"))
    return shapes + [text(x + 14, 104 + 17 * n, name, 12, anchor="start") for n, name in places]


def overview() -> str:
    """Interactions, graph, layers, ranking, run folder."""
    panels = (
        ("interactions", "any format, or a table", _interactions),
        ("graph", "Jraph, once on the device", _graph),
        ("layers", "Flax, jit, segment-sum", _layers),
        ("ranking", "all items, all devices", _ranking),
        ("run folder", "resumes to the same bits", _folder),
    )
    shapes = []
    for n, (title, about, draw) in enumerate(panels):
        x = 20 + 178.0 * n
        shapes += [text(x + 66, 24, title, 16), text(x + 66, 43, about, 11, GREY), *draw(x)]
        shapes += [arrow(x + 146, 135)] if n < len(panels) - 1 else []
    return svg(900, 225, "Interactions become a graph, layers, rankings and a run folder", shapes)


def room_imports() -> dict[str, set[str]]:
    """By room (a folder or a module of the package) the rooms that its files import."""
    found: dict[str, set[str]] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        room = path.relative_to(PACKAGE).with_suffix("").parts[0]
        if room in ("__init__", "__main__"):
            continue
        needs = found.setdefault(room, set())
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            modules = []
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module == "jaxrec":
                modules = [f"jaxrec.{alias.name}" for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                modules = [node.module or ""]
            needs |= {name.split(".")[1] for name in modules if name.startswith("jaxrec.")}
        needs.discard(room)
    return {room: needs & found.keys() for room, needs in found.items()}


def heights(imports: dict[str, set[str]]) -> dict[str, int]:
    """By room its row: 0 imports nothing, every other lies above all that it imports.

    Raises:
      ValueError: rooms import each other in a circle.
    """
    found: dict[str, int] = {}

    def height(room: str, above: tuple[str, ...]) -> int:
        if room in above:
            raise ValueError(f"a circle of imports: {' -> '.join((*above, room))}")
        if room not in found:
            below = [height(other, (*above, room)) for other in sorted(imports[room])]
            found[room] = 1 + max(below, default=-1)
        return found[room]

    for room in sorted(imports):
        height(room, ())
    return found


def rooms() -> str:
    """Rooms in rows, each of which imports only from the rows below."""
    imports = room_imports()
    rows: dict[int, list[str]] = {}
    for room, row in sorted(heights(imports).items()):
        rows.setdefault(row, []).append(room)
    folders = {path.name for path in PACKAGE.iterdir() if path.is_dir()}
    width, room_width, step = 900, 136, 34
    per_line = (width - 30) // (room_width + 8)
    shapes, y = [], 30.0
    shapes.append(text(15, y, "imports only from the rows below", 12, GREY, "start"))
    y += 12
    for row in sorted(rows, reverse=True):
        here = rows[row]
        for first in range(0, len(here), per_line):
            part = here[first : first + per_line]
            left = (width - len(part) * (room_width + 8) + 8) / 2
            for n, room in enumerate(part):
                x = left + n * (room_width + 8)
                folder = room in folders
                shapes.append(box(x, y, room_width, 26, "#dbeaf5" if folder else "#f3f4f6", GREY))
                shapes.append(text(x + room_width / 2, y + 17, room, 12))
            y += step
        if row:
            shapes.append(line(15, y - 2, width - 15, y - 2, "#d8dce2", 1))
            y += 4
    shapes.append(text(15, y + 14, "blue: a folder; grey: a module", 12, GREY, "start"))
    return svg(width, round(y + 28), "The rooms of the package by their imports", shapes)


def main() -> None:
    for name, picture in (("overview", overview()), ("rooms", rooms())):
        (GUIDES / f"{name}.svg").write_text(picture, encoding="utf-8")


if __name__ == "__main__":
    main()
