"""The files around a Recommender: lists of ids in, recommendations out."""

import tempfile
from collections.abc import Iterable
from pathlib import Path

import polars as pl

from jaxrec.errors import InputError
from jaxrec.files import replacing


def write(frames: pl.DataFrame | Iterable[pl.DataFrame], path: str | Path) -> None:
    """Write frames below one another, in the format of the suffix, whole or not at all.

    Several are written as they come: none needs to be in memory with the next.

    Args:
      frames: of the same columns, one or more.
      path: .parquet, .csv, .tsv or .jsonl; a file that is there is replaced.

    Raises:
      InputError: another suffix, or a place that cannot be written.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in (".parquet", ".csv", ".tsv", ".jsonl"):
        raise InputError(f"{path}: the name must end in .parquet, .csv, .tsv or .jsonl")
    several = [frames] if isinstance(frames, pl.DataFrame) else frames
    with replacing(path) as partial:
        if suffix == ".parquet":
            _write_parquet(several, partial)
            return
        with partial.open("wb") as file:
            for number, frame in enumerate(several):
                if suffix == ".jsonl":
                    frame.write_ndjson(file)
                else:
                    separator = "," if suffix == ".csv" else "\t"
                    frame.write_csv(file, separator=separator, include_header=number == 0)


def _write_parquet(frames: Iterable[pl.DataFrame], path: Path) -> None:
    # A parquet file cannot be appended to; parts on disk keep one frame in memory at a time.
    with tempfile.TemporaryDirectory(prefix=f"{path.name}.", dir=path.parent) as folder:
        parts = []
        for number, frame in enumerate(frames):
            parts.append(Path(folder, f"{number}.parquet"))
            frame.write_parquet(parts[-1])
        pl.scan_parquet(parts).sink_parquet(path)


def read_ids(path: str | Path, column: str) -> list[str]:
    """Ids from a file: a .parquet or a table with a header that names ``column``, or a line each.

    Raises:
      InputError: the file cannot be read, holds several columns and none of that name, or is
        empty.
    """
    return _read_columns(Path(path), column)[column].to_list()


def read_history(path: str | Path) -> pl.DataFrame:
    """Items as :func:`read_ids` takes them, of one user; with a column ``user``, of many.

    Raises:
      InputError: as :func:`read_ids`.
    """
    return _read_columns(Path(path), "item", "user")


def _read_columns(path: Path, column: str, beside: str | None = None) -> pl.DataFrame:
    """The column, and the one beside it where the file has it, without rows that lack an id."""
    try:
        if path.suffix == ".parquet":
            frame = pl.read_parquet(path)
        else:
            text = path.read_text(encoding="utf-8-sig")
            head = text.partition("\n")[0]
            separator = "\t" if "\t" in head else ","
            named = column in (cell.strip() for cell in head.split(separator))
            frame = pl.read_csv(
                text.encode(), has_header=named, infer_schema=False, separator=separator
            )
    except (
        OSError,
        UnicodeDecodeError,
        pl.exceptions.PolarsError,
        pl.exceptions.PanicException,
    ) as e:
        raise InputError(f"{path}: no readable list of ids; one id a line will do") from e
    if column not in frame.columns:
        if frame.width != 1:
            raise InputError(f"{path}: has no column {column!r}; name it so, or give one id a line")
        frame.columns = [column]
    names = [column, beside] if beside in frame.columns else [column]
    ids = frame.select(pl.col(names).cast(pl.String).str.strip_chars().replace("", None))
    ids = ids.drop_nulls()
    if ids.is_empty():
        raise InputError(f"{path}: holds no ids; give one id a line")
    return ids
