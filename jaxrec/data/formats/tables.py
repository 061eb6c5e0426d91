"""Reads delimited text with an interaction per row: csv, tsv, RecBole's atomic files, MovieLens.

The fast path parses only the needed columns. Only if that fails, a slow search looks for the faulty
line.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl

from jaxrec.data import times
from jaxrec.data.formats.assemble import Part, ids, one_by_one, whole_number
from jaxrec.data.formats.columns import (
    IDS,
    MISSING,
    NUMBERS,
    Roles,
    cells_at,
    date_orders,
    described,
    form_of,
    has_header,
    is_number,
    locate,
    locate_by_number,
    order_found,
)
from jaxrec.data.formats.faults import Faults
from jaxrec.data.formats.text import (
    LARGEST,
    Layout,
    Source,
    TextOptions,
    find_fault,
    find_stray_quote,
    first_row,
    line_of,
    look,
    name_of,
    none_left,
    opened,
    sifted,
    survey,
)
from jaxrec.data.formats.text import pieces as text_pieces
from jaxrec.errors import InputError

_BYTES = 32
"""The assumed bytes per row, by which the size of a piece is chosen; most rows are longer."""


def delimited(
    path: Path,
    columns: Roles,
    event_weights: dict[str, float] | None,
    *,
    options: TextOptions | None = None,
    ending: str | None = None,
    typed: bool = False,
    quote: bool = True,
    split: int | None = None,
) -> Part:
    """Read one delimited text file.

    Args:
      options: settings that cannot be detected from the file.
      ending: the ending to assume for the file's name, such as .tsv.
      typed: whether the header's names have types after a colon (RecBole).
      quote: whether cells may be quoted.

    Raises:
      InputError: the content is not usable; the message names the file, the line and a fix.
    """
    (part,) = pieces(
        *(path, columns, event_weights, None),
        options=options,
        ending=ending,
        typed=typed,
        quote=quote,
        split=split,
    )
    return part


def pieces(
    path: Path,
    columns: Roles,
    event_weights: dict[str, float] | None,
    rows: int | None,
    *,
    options: TextOptions | None = None,
    ending: str | None = None,
    typed: bool = False,
    quote: bool = True,
    split: int | None = None,
    more: Mapping[str, str] | None = None,
) -> Iterator[Part]:
    """Read as :func:`delimited` does, in parts of about ``rows`` rows, or in one part if None.

    The roles and types of columns are found in the first piece. The last part has the counts of all
    lines that were left out.

    Args:
      more: names and values of constant columns, which come from the names of partition folders.

    Raises:
      InputError: the content is not usable; the message names the file, the line and a fix.
    """
    options, table, last = options or TextOptions(), None, None

    def sources() -> Iterator[Source]:
        if rows is None:
            return iter((opened(path, options),))
        return text_pieces(path, options, rows * _BYTES, quote=quote)

    for source in sources():
        if table is None:
            table = _Table(
                *(source, sources, columns, event_weights or {}, options),
                ending=ending,
                typed=typed,
                quote=quote,
                more=more or {},
            )
        part = table.part(source, split)
        if part is not None:
            if last is not None:
                yield last
            last = part
    assert table is not None
    if last is None:
        raise none_left(path, table.faults)
    last.notes |= table.left_out()
    yield last


class _Table:
    """The layout of a delimited text file, found in its first lines."""

    def __init__(
        self,
        source: Source,
        every: Callable[[], Iterable[Source]],
        columns: Roles,
        weights: dict[str, float],
        options: TextOptions,
        *,
        ending: str | None,
        typed: bool,
        quote: bool,
        more: Mapping[str, str],
    ) -> None:
        path = source.path
        head = look(source, separator=options.separator, ending=ending, quote=quote)
        rows, place = head.rows, f"{path}:{head.blank + 1}"
        if typed:
            rows[0][:] = [name.split(":")[0] for name in rows[0]]
        headed = options.header
        if headed is None:
            headed = typed or has_header(place, rows, columns, more=tuple(more))
        if len(rows) == headed:
            raise InputError(f"{path}: a header without rows; give a file with rows")
        width, names = len(rows[0]), None
        header = [*rows[0], *more] if headed else None
        cells = [[*row, *more.values()] for row in rows[headed:] if len(row) == width]
        self._blank = head.blank + (head.gap if headed else 0)
        self._layout = Layout(
            source=source,
            separator=head.separator,
            skip=self._blank + headed,
            width=width,
            at={},
            quote=quote,
            events=tuple(weights),
            guessed=head.guessed,
            absent=MISSING if options.skip_missing_ids else frozenset(),
            more=tuple(more.values()),
        )
        if headed:
            # A constant column replaces a column of the file that has its name.
            names = [*("" if name in more else name for name in rows[0]), *more]
        form, orders = options.time_format, {}
        if form is None:
            orders = date_orders(names, columns, cells, lambda place: self._texts(every(), place))
        event = bool(weights)
        if names is not None:
            at = locate(place, names, columns, event=event, rows=cells, form=form, orders=orders)
        else:
            at = locate_by_number(place, rows, columns, event=event, more=more, orders=orders)
        form = form_of(at, form, orders)
        dated = "time" in at and (form is not None or _dated(cells_at(cells, at["time"])))
        self._layout = replace(self._layout, at=at, dated=dated, form=form)
        self.faults = Faults(path, strict=False)
        self._options, self._weights = options, weights
        self._header, self._sample = header, cells
        reading = described(
            at, width, header, rows=cells, columns=columns, more=tuple(more), orders=orders
        )
        detected = [
            f"separator {name_of(head.separator)}" if head.guessed else "",
            "" if headed else "no header",
            "" if headed else order_found(at, columns),
        ]
        if any(detected):
            reading = f"{', '.join(filter(None, detected))}: {reading}"
        self._reading = reading

    def _texts(self, sources: Iterable[Source], place: int) -> Iterator[pl.LazyFrame]:
        """Yield all cells of the column at a position, in the column ``text``."""
        names = [f"column {n}" for n in range(self._layout.width)]
        if place >= len(names):
            yield pl.LazyFrame({"text": self._layout.more[place - len(names)]})
            return
        for layout in map(self._of_piece, sources):
            if layout is not None:
                yield layout.scan(names, lenient=True).select(text=names[place])

    def _of_piece(self, source: Source) -> Layout | None:
        """Return the layout of the file, or of a piece of it; None if the piece has no row."""
        if not source.before:
            return replace(self._layout, source=source)
        leading = first_row(source)
        return None if leading is None else replace(self._layout, source=source, skip=leading)

    def part(self, source: Source, split: int | None) -> Part | None:
        """Read the file, or a piece of it; return None if it has no valid line."""
        layout, options = self._of_piece(source), self._options
        if layout is None:
            return None
        skipped = layout.skip if source.before else self._blank
        before = self.faults.count()
        if options.skip_bad_lines or options.skip_missing_ids:
            skip = layout.skip
            layout = sifted(layout, self.faults, ids_only=not options.skip_bad_lines)
            if layout is None:
                return None
            skipped += layout.skip - skip
        between = options.item_separator
        frame, notes = _parse(
            layout, self._sample, skipped, self._weights, orders=between is not None
        )
        if self._header is not None:
            _refuse_header_again(layout, frame, self._header)
        notes["blank lines"] -= self.faults.count() - before
        notes["files without a header"] = int(self._header is None and not source.before)
        order: np.ndarray | None = None
        if between is not None and "item" in layout.at:
            frame, order = one_by_one(frame, _cut(frame["item"], between))
            frame = frame.with_columns(ids(frame["item"]).alias("item"))
        return Part(
            source.path,
            frame,
            lambda row: line_of(layout, row if order is None else int(order[row])),
            split=split,
            notes=notes,
            reading=self._reading,
            untyped=True,
        )

    def left_out(self) -> dict[str, int]:
        """Return counts of the lines that were left out."""
        return {f"left out: {fault}": count for fault, count in self.faults.notes().items()}


def _cut(orders: pl.Series, between: str) -> pl.Series:
    """Cut texts into lists of items; if all are lists as programs print them, also drop the signs
    around them: ``['a', 'b']``."""
    inner = orders.str.extract(r"^\[([^\[\]]*)\]$")
    if inner.null_count():
        return orders.str.split(between)
    bare = (
        pl.element().str.strip_chars().str.replace(r"^'(.*)'$", "$1").str.replace('^"(.*)"$', "$1")
    )
    return inner.str.split(between).list.eval(bare)


def _dated(cells: Sequence[str]) -> bool:
    """Return whether more of the cells are dates in text than numbers."""
    return sum(map(times.is_moment, cells)) > sum(map(is_number, cells))


def _refuse_header_again(layout: Layout, frame: pl.DataFrame, header: Sequence[str]) -> None:
    """Raise InputError at a row that repeats the header, as in concatenated files."""
    texts = [role for role in IDS if role in layout.at and frame[role].dtype == pl.String]
    if not texts:
        return
    again = frame.select(
        pl.all_horizontal(pl.col(role) == header[layout.at[role]] for role in texts)
    ).to_series()
    if len(texts) == 2 and again.any():
        place = line_of(layout, int(again.arg_max() or 0))
        raise InputError(f"{place}: the line repeats the header; drop the line")


def _parse(
    layout: Layout,
    sample: Sequence[Sequence[str]],
    skipped: int,
    weights: dict[str, float],
    *,
    orders: bool,
) -> tuple[pl.DataFrame, dict[str, int]]:
    try:
        named = [role for role in IDS if role in layout.at]
        as_text = {role for role in named if not _whole_numbers(layout, sample, role)}
        as_text |= {"item"} if orders else set()
        frame = _scan(layout, weights, as_text)
        odd = {role for role in named if frame[role].null_count() > frame["blank"].sum()}
        if odd - as_text:
            frame = _scan(layout, weights, as_text | odd)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as e:
        find_fault(layout)
        find_stray_quote(layout)
        raise not_a_table(layout.path, str(e).splitlines()[0]) from e
    timed: dict[str, int] = {}
    if "time" in layout.at:
        time = frame["time"]
        moments = times.of_texts(time, layout.form) if layout.dated else times.of_numbers(time)
        frame, timed = frame.with_columns(moments.seconds.alias("time")), moments.notes
    counted = survey(layout.source, layout.separator)
    blank, short = (int(frame.drop_in_place(name).sum()) for name in ("blank", "short"))
    lines = frame.height - blank + (layout.skip > skipped)
    # A row with too few cells is found by the count of separators or, if cells are quoted, by its
    # last cell, which is null.
    if counted.quotes and layout.quote:
        whole = short == blank
    else:
        whole = counted.separators == lines * (layout.width - 1)
    convertible = _convertible(frame, blank)
    if not (whole and convertible and blank == counted.blank - skipped):
        rows = find_fault(layout)
        if not convertible or rows != frame.height - blank:
            raise not_a_table(layout.path, "a cell does not fit its column")
    notes = {
        "UTF-8 byte order marks": counted.bom,
        "lines with Windows ends": counted.windows,
        "blank lines": blank + skipped,
        **timed,
    }
    return (frame.drop_nulls() if blank else frame), notes


def not_a_table(path: Path, reason: str) -> InputError:
    """Return the error for a text file in which no single line can be named as faulty."""
    return InputError(f"{path}: cannot be read as a table ({reason}); save it again as plain csv")


def _whole_numbers(layout: Layout, sample: Sequence[Sequence[str]], role: str) -> bool:
    cells = [row[layout.at[role]] for row in sample]
    cast = pl.DataFrame({"cell": cells}, schema={"cell": pl.String}).select(
        whole_number(pl.col("cell"))
    )
    return not cast["cell"].null_count()


def _convertible(frame: pl.DataFrame, blank: int) -> bool:
    """Return whether columns are null in blank lines only, and numbers are finite."""
    return all(
        column.null_count() == blank
        and (column.dtype != pl.Float64 or bool((column.abs() < LARGEST).all()))
        for column in frame
    )


def _scan(layout: Layout, weights: dict[str, float], as_text: set[str]) -> pl.DataFrame:
    """Convert the needed columns; cells that cannot be converted become null.

    Two further columns say whether all these cells are null (``blank``), and whether the row's last
    cell is null (``short``).
    """
    width = layout.width
    names = [f"column {n}" for n in range(width)]
    cell = {role: pl.col(names[at]) for role, at in layout.at.items() if at < width}
    last = pl.col(names[-1]).is_null()
    blank = pl.all_horizontal(last, *(text.is_null() for text in cell.values()))
    converted = {"blank": blank, "short": last}
    for role, at in layout.at.items():
        if at >= width:  # constant columns are null in blank lines, as others are
            cell[role] = pl.when(~blank).then(pl.lit(layout.more[at - width]))
    for role, raw in cell.items():
        text = raw.str.strip_chars()
        if role == "event":
            converted["weight"] = text.replace_strict(
                weights, default=None, return_dtype=pl.Float64
            )
        elif role == "time" and layout.dated:
            converted[role] = pl.when(text != "").then(text)
        elif role in NUMBERS:
            converted[role] = text.cast(pl.Float64, strict=False)
        elif role in as_text:
            converted[role] = pl.when(text != "").then(text)
        else:
            converted[role] = whole_number(text)
    return layout.scan(names).select(**converted).collect(engine="streaming")
