"""Functions that build HTML and escape everything that is not an Html already."""

import html
from collections.abc import Iterable, Sequence
from pathlib import Path


class Html(str):
    """Markup that needs no escaping."""


def text(value: object) -> Html:
    """Convert a value to markup: Html stays, None becomes a dash, everything else is escaped."""
    if isinstance(value, Html):
        return value
    return Html("–" if value is None else html.escape(str(value)))


def tag(name: str, *children: object, **attributes: object) -> Html:
    """Build an element.

    ``class_`` sets the attribute class, ``aria_label`` aria-label; an attribute of None is omitted.
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
    """Format a number with few digits and its exact value on hover; other values as text."""
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
    groups: Sequence[tuple[str, int]] = (),
    class_: str | None = None,
) -> Html:
    """Build a table with a caption, whose first column holds row headers.

    Args:
      head: column headings; may be empty.
      groups: headings above groups of columns, from the left: (text, number of columns).
    """
    lines = [tag("tr", *(tag("th", cell, scope="col") for cell in head))] if head else []
    if groups:
        spans = [
            tag("th", name, scope="colgroup", colspan=n) if name else tag("td", colspan=n)
            for name, n in groups
        ]
        lines.insert(0, tag("tr", *spans, class_="groups"))
    body = [
        tag("tr", tag("th", first, scope="row"), *(tag("td", cell) for cell in rest))
        for first, *rest in rows
    ]
    element = tag(
        "table", tag("caption", caption), tag("thead", *lines), tag("tbody", *body), class_=class_
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
