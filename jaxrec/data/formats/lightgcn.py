"""Reads LightGCN's text files: each line is a user id, followed by the ids of the user's items.

Source: X. He et al., "LightGCN", SIGIR 2020; github.com/gusye1234/LightGCN-PyTorch (``data``).
"""

from pathlib import Path

import numpy as np
import polars as pl

from jaxrec.data.dataset import TEST, TRAIN, VALIDATION
from jaxrec.data.formats.assemble import Part, ids
from jaxrec.data.formats.text import read_bytes
from jaxrec.errors import InputError

_SPACED = 8
"""If a file has at least this many lines, of one width and with repeated users, it is taken for a
table whose cells are separated by spaces."""
_FILES = {"train.txt": TRAIN, "val.txt": VALIDATION, "valid.txt": VALIDATION, "test.txt": TEST}


def parts(path: Path) -> list[Part]:
    """Read ``train.txt``, and if present also ``valid.txt`` (or ``val.txt``) and ``test.txt``.

    Args:
      path: the folder, or a single file, whose interactions then have no split.

    Raises:
      InputError: there is no ``train.txt``, or a file is not UTF-8 text with interactions.
    """
    if not path.is_dir():
        return [_part(path, None)]
    splits = {name: label for name, label in _FILES.items() if (path / name).exists()}
    if "train.txt" not in splits:
        raise InputError(f"{path}: no train.txt, which the lightgcn format needs; add it")
    if len(splits) == 1:
        return [_part(path / "train.txt", None)]
    return [_part(path / name, label) for name, label in splits.items()]


def _refuse_triplets(path: Path, lines: list[str], length: np.ndarray, users: pl.Series) -> None:
    """Raise InputError if the file is a table of users and items, with or without more columns.

    Such a table has lines of equal width and repeats users. A file of LightGCN has one line per
    user.
    """
    full = length[length > 0]
    if users.len() == users.n_unique() or full[0] > 4 or not (full == full[0]).all():
        return
    width = int(full[0])
    tabs = all(line.count("\t") == width - 1 for line in lines if line.strip())
    if tabs or (width > 2 and len(full) >= _SPACED):
        raise InputError(
            f"{path}: every line has {width} columns and users repeat, as in a table of user, item "
            "and count or rating; read it as one: jaxrec data import ... --format "
            f"{'tsv' if tabs else 'csv --separator space'}"
        )


def _part(path: Path, split: int | None) -> Part:
    content = read_bytes(path)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as e:
        line = content[: e.start].count(b"\n") + 1
        raise InputError(f"{path}:{line}: not valid UTF-8; fix or drop the line") from e
    lines = text.removesuffix("\n").split("\n")
    words = pl.Series("line", lines).str.extract_all(r"\S+")
    length = words.list.len().to_numpy()
    degree = np.maximum(length.astype(np.int64) - 1, 0)
    line_of = np.repeat(np.arange(1, len(lines) + 1), degree)
    users = ids(words.list.first().drop_nulls())
    _refuse_triplets(path, lines, length, users)
    user_row = np.repeat(np.cumsum(length > 0) - 1, degree)
    items = ids(words.list.slice(1).explode().drop_nulls())
    return Part(
        path,
        pl.DataFrame({"user": users.gather(user_row), "item": items}),
        lambda row: f"{path}:{line_of[row]}",
        split=split,
        lone_users=users.filter(pl.Series(length[length > 0] == 1)),
        notes={
            "UTF-8 byte order marks": int(content.startswith(b"\xef\xbb\xbf")),
            "lines with Windows ends": content.count(b"\r\n"),
            "blank lines": int((length == 0).sum()),
        },
    )
