"""Functions that build HTML and escape everything that is not yet an :class:`Html`."""

import html
from collections.abc import Iterable, Sequence
from pathlib import Path

_NARROW = 3


class Html(str):
    """Markup that needs no escaping."""


def text(value: object) -> Html:
    """Return Html unchanged and a dash for None; convert other values to text and escape it."""
    if isinstance(value, Html):
        return value
    return Html("–" if value is None else html.escape(str(value)))


def tag(name: str, *children: object, **attributes: object) -> Html:
    """Build an element.

    ``class_`` sets the attribute class, and ``aria_label`` sets aria-label. An attribute whose
    value is None is omitted.
    """
    pairs = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(str(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    return Html(f"<{name}{pairs}>{join(children)}</{name}>")


def join(parts: Iterable[object]) -> Html:
    """Concatenate parts, escaping each that is not an Html."""
    return Html("".join(map(text, parts)))


def number(value: object) -> Html:
    """Format a number with few digits, with its exact value on hover; show other values as text."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return text(value)
    if isinstance(value, int):
        return text(f"{value:,}")
    size = abs(value)
    if size == 0 or 1e-3 <= size < 1000:
        shown = f"{value:.4f}"
    else:
        shown = f"{value:.6f}" if 1e-5 <= size < 1 else f"{value:,.4g}"
    return tag("span", shown, title=repr(value))


def table(
    caption: str,
    head: Sequence[object],
    rows: Iterable[Sequence[object]],
    *,
    class_: str | None = None,
) -> Html:
    """Build a table with a caption, whose first column holds row headers.

    On a narrow page, each row of a table with more than ``_NARROW`` columns becomes a block whose
    cells show their column headings, so that no column is hidden.

    Args:
      head: column headings; may be empty.
    """
    lines = [tag("tr", *(tag("th", cell, scope="col") for cell in head))] if head else []
    body = [
        tag(
            "tr",
            tag("th", first, scope="row"),
            *(
                tag("td", cell, data_label=head[n] if head else None)
                for n, cell in enumerate(rest, 1)
            ),
        )
        for first, *rest in rows
    ]
    classes = [class_ or "", "stacks" if len(head) > _NARROW else ""]
    element = tag(
        "table",
        tag("caption", caption),
        tag("thead", *lines),
        tag("tbody", *body),
        class_=" ".join(name for name in classes if name) or None,
    )
    return tag("div", element, class_="scroll")


def notice(title: str, *words: object) -> Html:
    """Build a box for a warning or an important remark."""
    return tag("p", tag("strong", title), " ", *words, class_="notice", role="note")


def tiles(facts: Iterable[tuple[str, object, object]]) -> Html:
    """Build tiles of headline figures from (name, figure, small print)."""
    return tag(
        "dl",
        *(
            tag("div", tag("dt", name), tag("dd", figure), tag("dd", small, class_="small"))
            for name, figure, small in facts
        ),
        class_="tiles",
    )


def document(title: str, *body: object) -> str:
    """Build the whole page, with inline styles so that it loads no other file."""
    style = Path(__file__).with_name("style.css").read_text(encoding="utf-8")
    head = join(
        (
            Html('<meta charset="utf-8">'),
            Html('<meta name="viewport" content="width=device-width, initial-scale=1">'),
            Html('<meta name="color-scheme" content="light dark">'),
            tag("title", title),
            tag("style", Html(style)),
        )
    )
    return f'<!doctype html>\n<html lang="en"><head>{head}</head><body>{join(body)}</body></html>\n'
