"""Markup by functions: what is not Html already is escaped, so no string of a user gets through."""

import html
from collections.abc import Iterable, Sequence
from pathlib import Path


class Html(str):
    """Markup that is safe as it stands."""


def text(value: object) -> Html:
    """``value`` as markup: Html as it is, None as a dash, everything else escaped."""
    if isinstance(value, Html):
        return value
    return Html("–" if value is None else html.escape(str(value)))


def tag(name: str, *children: object, **attributes: object) -> Html:
    """An element. ``class_`` is class, ``aria_label`` is aria-label; None leaves one out."""
    pairs = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(str(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    return Html(f"<{name}{pairs}>{join(children)}</{name}>")


def join(parts: Iterable[object]) -> Html:
    """Parts one after the other, each escaped where it is no Html."""
    return Html("".join(map(text, parts)))


def number(value: object) -> Html:
    """A figure short enough to compare, the exact one on hover; other things as their text."""
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
    """A table with a caption, its first column as row headers; scrolls sideways where narrow.

    Args:
      head: column headings, or none.
      groups: headings over the columns: (text, how many columns), from the left.
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
    whole = tag(
        "table", tag("caption", caption), tag("thead", *lines), tag("tbody", *body), class_=class_
    )
    return tag("div", whole, class_="scroll")


def notice(title: str, *words: object) -> Html:
    """Something that a reader must not miss."""
    return tag("p", tag("strong", title), " ", *words, class_="notice", role="note")


def tiles(facts: Iterable[tuple[str, object, object]]) -> Html:
    """Headline figures: (what, figure, small print)."""
    return tag(
        "dl",
        *(
            tag("div", tag("dt", what), tag("dd", figure), tag("dd", small, class_="small"))
            for what, figure, small in facts
        ),
        class_="tiles",
    )


def document(title: str, *body: object) -> str:
    """The whole page; nothing in it is fetched from anywhere."""
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
