"""Which files a path names: one, those of a folder (also in Hive's partitions), or of a pattern."""

import glob
import re
from collections.abc import Iterable
from pathlib import Path

from jaxrec.data.dataset import TEST, TRAIN, VALIDATION
from jaxrec.data.formats import compressed
from jaxrec.errors import InputError

_SPLITS = {"train": TRAIN, "valid": VALIDATION, "val": VALIDATION, "validation": VALIDATION}
_SPLITS["test"] = TEST
_PARTITION = re.compile(r"([A-Za-z_]\w*)=(.+)")


def part_of_name(word: str) -> int | None:
    """The part of a split that files of such a name are; None where it is no such name."""
    return _SPLITS.get(word.lower())


def is_pattern(path: Path) -> bool:
    """Whether a path is a pattern such as ``clicks-*.csv``, and no file of that name."""
    return glob.has_magic(str(path)) and not path.exists()


def matching(pattern: Path) -> list[Path]:
    """The files that a pattern names, sorted. Raises InputError where there is none."""
    found = sorted(Path(name) for name in glob.glob(str(pattern), recursive=True))
    found = [path for path in found if path.is_file()]
    if not found:
        raise InputError(f"{pattern}: no file of such a name; check the pattern")
    return found


def inside(folder: Path) -> list[Path]:
    """The files of a folder, sorted; where it is partitioned as Hive does, those of the folders
    ``key=value`` in it."""
    there = sorted(folder.iterdir())
    if any(path.is_dir() and _PARTITION.fullmatch(path.name) for path in there):
        deeper = (inside(path) for path in there if path.is_dir() and "=" in path.name)
        return [path for paths in deeper for path in paths]
    return [path for path in there if path.is_file() and path.name[0] not in "._"]


def partition(root: Path, file: Path) -> dict[str, str]:
    """The values that the folders ``key=value`` between a root and a file give to its rows."""
    between = file.parent.relative_to(root).parts if root.is_dir() else ()
    matches = (_PARTITION.fullmatch(name) for name in between)
    return {match[1]: match[2] for match in matches if match}


def files_of(path: Path, ending: str) -> dict[Path, int | None]:
    """The files of a path with an ending, packed or not, and the part of the split each one is.

    ``train.csv`` (or ``name.train.inter``, or a folder ``split=train``) with ``test.csv``, and
    perhaps ``valid.csv``, give a split; otherwise a folder must hold a train file or one file
    alone, where it is not partitioned.

    Raises:
      InputError: no such file, or several without a train file among them.
    """
    if path.is_file():
        return {path: None}
    if is_pattern(path):
        files, several = matching(path), True
    else:
        files = inside(path)
        several = any(partition(path, file) for file in files)
    files = [file for file in files if compressed.plain_name(file).lower().endswith(ending)]
    named = {file: part for file in files if (part := _part(path, file, ending)) is not None}
    train = [file for file, part in named.items() if part == TRAIN]
    if several and files:
        return named if named.keys() == set(files) and train else dict.fromkeys(files)
    if len(train) == 1:
        return dict(named) if len(named) > 1 else {train[0]: None}
    if len(files) == 1:
        return {files[0]: None}
    found = ", ".join(file.name for file in files[:8]) or "none"
    raise InputError(
        f"{path}: one {ending} file is needed, found {found}; name the file itself, or a pattern: "
        f"'{path}/*{ending}'"
    )


def _part(root: Path, file: Path, ending: str) -> int | None:
    words: Iterable[str] = [compressed.plain_name(file).lower().removesuffix(ending).split(".")[-1]]
    words = [partition(root, file).get("split", ""), *words]
    return next((part for word in words if (part := part_of_name(word)) is not None), None)
