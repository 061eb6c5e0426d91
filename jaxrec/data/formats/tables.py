"""Delimited text, a row an interaction: csv, tsv, RecBole's atomic files, MovieLens.

The fast path parses only the columns that are needed; the slow search for the faulty line
runs only where that fails.
"""

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from jaxrec.data.dataset import TEST, TRAIN, VALIDATION
from jaxrec.data.formats.assemble import Part, whole_number
from jaxrec.data.formats.columns import (
    IDS,
    NUMBERS,
    Roles,
    has_header,
    locate,
    locate_by_number,
)
from jaxrec.data.formats.text import (
    LARGEST,
    Layout,
    find_fault,
    find_stray_quote,
    line_of,
    look,
    survey,
)
from jaxrec.errors import InputError

_SPLITS = {"train": TRAIN, "valid": VALIDATION, "val": VALIDATION, "validation": VALIDATION}
_SPLITS["test"] = TEST


def part_of_name(word: str) -> int | None:
    """The part of a split that files of such a name are; None where it is no such name."""
    return _SPLITS.get(word.lower())


def split_files(folder: Path, ending: str) -> dict[Path, int | None]:
    """The files of a folder with this ending, and the part of the split that each one is.

    ``train.csv`` (or ``name.train.inter``) with ``test.csv``, and perhaps ``valid.csv``, give a
    split; otherwise the folder must hold a train file or one file alone.

    Raises:
      InputError: no such file, or several without a train file among them.
    """
    files = sorted(folder.glob(f"*{ending}"))
    named: dict[Path, int | None] = {
        file: _SPLITS[word]
        for word in _SPLITS
        for file in files
        if file.name.removesuffix(ending).split(".")[-1].lower() == word
    }
    train = [file for file, part in named.items() if part == TRAIN]
    if len(train) == 1:
        return named if len(named) > 1 else {train[0]: None}
    if len(files) == 1:
        return {files[0]: None}
    found = ", ".join(file.name for file in files[:8]) or "none"
    raise InputError(f"{folder}: one {ending} file is needed, found {found}; name the file itself")


def delimited(
    path: Path,
    columns: Roles,
    event_weights: dict[str, float] | None,
    *,
    separator: str | None = None,
    typed: bool = False,
    quote: bool = True,
    split: int | None = None,
) -> Part:
    """Read one delimited text file.

    Args:
      separator: found from the head of the file where not given.
      typed: the header's names have types behind a colon (RecBole).
      quote: whether cells may be quoted.

    Raises:
      InputError: names the file, the line and the mend.
    """
    weights = event_weights or {}
    head = look(path, separator=separator, quote=quote)
    if typed:
        head.rows[0][:] = [name.split(":")[0] for name in head.rows[0]]
    headed = typed or has_header(head.rows, columns)
    if len(head.rows) == headed:
        raise InputError(f"{path}: a header and no interactions; a file with some is needed")
    place = f"{path}:{head.blank + 1}"
    if headed:
        at = locate(place, head.rows[0], columns, event=bool(weights))
    else:
        at = locate_by_number(place, head.rows, columns, event=bool(weights))
    layout = Layout(
        path=path,
        separator=head.separator,
        skip=head.blank + (1 + head.gap if headed else 0),
        width=len(head.rows[0]),
        at=at,
        quote=quote,
        events=tuple(weights),
    )
    skipped = head.blank + (head.gap if headed else 0)
    frame, notes = _parse(layout, head.rows[headed:], skipped, weights)
    notes["files without a header"] = int(not headed)
    return Part(path, frame, lambda row: line_of(layout, row), split=split, notes=notes)


def _parse(
    layout: Layout, sample: Sequence[Sequence[str]], skipped: int, weights: dict[str, float]
) -> tuple[pl.DataFrame, dict[str, int]]:
    try:
        ids = [role for role in IDS if role in layout.at]
        as_text = {role for role in ids if not _whole_numbers(layout, sample, role)}
        frame = _scan(layout, weights, as_text)
        odd = {role for role in ids if frame[role].null_count() > frame["blank"].sum()}
        if odd - as_text:
            frame = _scan(layout, weights, as_text | odd)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as e:
        find_fault(layout)
        find_stray_quote(layout)
        raise not_a_table(layout.path, str(e).splitlines()[0]) from e
    counted = survey(layout.path, layout.separator)
    blank, short = (int(frame.drop_in_place(name).sum()) for name in ("blank", "short"))
    lines = frame.height - blank + (layout.skip > skipped)
    # A row that lacks cells shows in the separators or, where cells may be quoted, at its end.
    if counted.quotes and layout.quote:
        whole = short == blank
    else:
        whole = counted.separators == lines * (layout.width - 1)
    sound = _sound(frame, blank)
    if not (whole and sound and blank == counted.blank - skipped):
        rows = find_fault(layout)
        if not sound or rows != frame.height - blank:
            raise not_a_table(layout.path, "a cell that is not what its column holds")
    notes = {
        "UTF-8 byte order marks": counted.bom,
        "lines with Windows ends": counted.windows,
        "blank lines": blank + skipped,
    }
    return (frame.drop_nulls() if blank else frame), notes


def not_a_table(path: Path, reason: str) -> InputError:
    """The error for a text file that has no line to blame."""
    return InputError(f"{path}: cannot be read as a table ({reason}); write it anew as plain csv")


def _whole_numbers(layout: Layout, sample: Sequence[Sequence[str]], role: str) -> bool:
    cells = [row[layout.at[role]] for row in sample if len(row) == layout.width]
    cast = pl.DataFrame({"cell": cells}, schema={"cell": pl.String}).select(
        whole_number(pl.col("cell"))
    )
    return not cast["cell"].null_count()


def _sound(frame: pl.DataFrame, blank: int) -> bool:
    """Whether every column holds as many nulls as there are blank lines, and finite numbers."""
    return all(
        column.null_count() == blank
        and (column.dtype != pl.Float64 or bool((column.abs() < LARGEST).all()))
        for column in frame
    )


def _scan(layout: Layout, weights: dict[str, float], as_text: set[str]) -> pl.DataFrame:
    """The needed columns, null where a cell cannot be what it should be.

    Beside them: ``blank``, rows whose cells are all null, and ``short``, whose last one is.
    """
    names = [f"column {n}" for n in range(layout.width)]
    cell = {role: pl.col(names[at]) for role, at in layout.at.items()}
    last = pl.col(names[-1]).is_null()
    made = {
        "blank": pl.all_horizontal(last, *(text.is_null() for text in cell.values())),
        "short": last,
    }
    for role, raw in cell.items():
        text = raw.str.strip_chars()
        if role == "event":
            made["weight"] = text.replace_strict(weights, default=None, return_dtype=pl.Float64)
        elif role in NUMBERS:
            made[role] = text.cast(pl.Float64, strict=False)
        elif role in as_text:
            made[role] = pl.when(text != "").then(text)
        else:
            made[role] = whole_number(text)
    lines = pl.scan_csv(
        layout.path,
        has_header=False,
        skip_rows=layout.skip,
        separator=layout.separator,
        quote_char='"' if layout.quote else None,
        schema=dict.fromkeys(names, pl.String),
    )
    return lines.select(**made).collect(engine="streaming")
