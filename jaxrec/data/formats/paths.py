"""Finds the files that a path names: a file, a folder (with Hive's partitions), or a pattern."""

import glob
import re
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import unquote

from jaxrec.data.dataset import TEST, TRAIN, VALIDATION
from jaxrec.data.formats import compressed
from jaxrec.errors import InputError

_SPLITS = {"train": TRAIN, "valid": VALIDATION, "val": VALIDATION, "validation": VALIDATION}
_SPLITS["test"] = TEST
_PARTITION = re.compile(r"([A-Za-z_]\w*)=(.+)")
_NULL = "__HIVE_DEFAULT_PARTITION__"


def part_of_name(word: str) -> int | None:
    """Return the part of a split that a word such as "train" names; None for other words."""
    return _SPLITS.get(word.lower())


def is_pattern(path: Path) -> bool:
    """Return whether a path is a pattern such as ``clicks-*.csv``, and not a file of that name."""
    return glob.has_magic(str(path)) and not path.exists()


def matching(pattern: Path) -> list[Path]:
    """Return the files that match a pattern, sorted. Raises InputError if no file does."""
    paths = sorted(Path(name) for name in glob.glob(str(pattern), recursive=True))
    files = [path for path in paths if path.is_file()]
    if not files:
        raise InputError(f"{pattern}: no file matches the pattern; check it")
    return files


def inside(folder: Path) -> list[Path]:
    """Return the files of a folder, sorted, including those in Hive partitions ``key=value``."""
    entries = sorted(folder.iterdir())
    if any(path.is_dir() and _PARTITION.fullmatch(path.name) for path in entries):
        deeper = (inside(path) for path in entries if path.is_dir() and "=" in path.name)
        return [path for paths in deeper for path in paths]
    return [path for path in entries if path.is_file() and path.name[0] not in "._"]


def partition(root: Path, file: Path) -> dict[str, str]:
    """Return the keys and values of the ``key=value`` folders between a root and a file.

    Hive writes some characters of values as ``%3A``, and its own word for a missing value, which
    is the empty text here.
    """
    between = file.parent.relative_to(root).parts if root.is_dir() else ()
    matches = (_PARTITION.fullmatch(name) for name in between)
    return {match[1]: unquote(match[2].replace(_NULL, "")) for match in matches if match}


def files_of(path: Path, endings: tuple[str, ...]) -> dict[Path, int | None]:
    """Map each file with one of the endings, compressed or not, to its part of the split, or None.

    The part is found in a name such as ``train.csv`` or ``name.train.inter``, or in a partition
    folder ``split=train``. The files are a split if one of them is a train file and others are test
    or validation files. A folder without a split must hold a train file or a single file, unless
    it is partitioned.

    Raises:
      InputError: there is no such file, or there are several and none of them is a train file.
    """
    if path.is_file():
        return {path: None}
    if is_pattern(path):
        files, several = matching(path), True
    else:
        files = inside(path)
        several = any(partition(path, file) for file in files)
    files = [file for file in files if compressed.plain_name(file).lower().endswith(endings)]
    named = {file: part for file in files if (part := _part(path, file)) is not None}
    train = [file for file, part in named.items() if part == TRAIN]
    if several and files:
        return named if named.keys() == set(files) and train else dict.fromkeys(files)
    if len(train) == 1:
        return dict(named) if len(named) > 1 else {train[0]: None}
    if len(files) == 1:
        return {files[0]: None}
    listed = ", ".join(file.name for file in files[:8]) or "none"
    raise InputError(
        f"{path}: one {endings[0]} file is needed, found {listed}; name the file itself, or a "
        f"pattern: '{path}/*{endings[0]}'"
    )


def _part(root: Path, file: Path) -> int | None:
    words: Iterable[str] = [Path(compressed.plain_name(file).lower()).stem.split(".")[-1]]
    words = [partition(root, file).get("split", ""), *words]
    return next((part for word in words if (part := part_of_name(word)) is not None), None)
