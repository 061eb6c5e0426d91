"""The folder format of prepared data: ``manifest.json`` and one ``.npy`` file per array.

NumPy loads the arrays memory-mapped, without pickle. The manifest holds a fingerprint of the
content. It also lists the names of the feature arrays, in the order of their files
(``item_features.0.npy`` and so on).
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxrec.data.features import Features
from jaxrec.errors import InputError
from jaxrec.files import (
    check_path,
    is_partial,
    parse_json,
    read_arrays,
    remove_partial,
    replacing,
    write_npy,
)

VERSION = 1
PARTED = "jaxrec data in parts"
"""Format name of a partitioned data set (:mod:`jaxrec.parted`)."""


def fingerprint(arrays: Mapping[str, np.ndarray], sides: Mapping[str, Features]) -> str:
    """Return the SHA-256 of all arrays and features, as hexadecimal digits."""
    digest = hashlib.sha256()
    named = dict(arrays)
    for side, features in sides.items():
        named |= {f"{side}:{name}": array for name, array in features.arrays().items()}
    for name, column in named.items():
        digest.update(f"{name}{column.dtype.str}{column.shape}".encode())
        digest.update(np.ascontiguousarray(column).data)
    return digest.hexdigest()


def save(
    folder: str | Path,
    arrays: Mapping[str, np.ndarray],
    sides: Mapping[str, Features],
    manifest: Mapping[str, Any],
) -> None:
    """Write the folder atomically, and add version and fingerprint to its manifest.

    Raises:
      InputError: the folder exists and is not empty, or cannot be written.
    """
    refuse_occupied(folder)
    with replacing(Path(folder).absolute()) as partial:
        partial.mkdir()
        named = dict(arrays)
        listed = {side: features.arrays() for side, features in sides.items()}
        for side, parts in listed.items():
            named |= {f"{side}.{n}": array for n, array in enumerate(parts.values())}
        for name, column in named.items():
            write_npy(partial / f"{name}.npy", column)
        written = {
            **manifest,
            "version": VERSION,
            **{side: list(parts) for side, parts in listed.items()},
            "fingerprint": fingerprint(arrays, sides),
        }
        (partial / "manifest.json").write_text(json.dumps(written, indent=1) + "\n")


def refuse_occupied(folder: str | Path) -> None:
    """Raise InputError unless the path does not exist or is an empty folder.

    A folder that holds only partial files of killed processes counts as empty, and these files are
    removed.
    """
    check_path(folder)
    folder = Path(folder)
    try:
        if folder.is_dir() and all(map(is_partial, folder.iterdir())):
            remove_partial(folder)
        occupied = folder.exists() and (not folder.is_dir() or any(folder.iterdir()))
    except OSError as e:
        raise InputError(f"{folder}: cannot be written ({e.strerror or e})") from e
    if occupied:
        raise InputError(f"{folder}: exists already; name a new or an empty folder")


def is_prepared(folder: str | Path) -> bool:
    """Return whether the path is a folder with a manifest."""
    return (Path(folder) / "manifest.json").is_file()


def open_array(path: Path) -> np.ndarray:
    """Open an array, memory-mapped. Raises InputError if the file is missing or damaged."""
    try:
        return read_arrays(path, mmap=True)
    except (OSError, ValueError) as e:
        raise InputError(f"{path}: damaged or missing; import the data again") from e


def load_features(folder: Path, side: str, listed: list[str], n_rows: int) -> Features:
    """Load features from a prepared folder. Raises InputError if an array is invalid.

    Args:
      side: ``user_features`` or ``item_features``.
      listed: the names of the feature arrays, as the manifest lists them.
    """
    arrays = {name: open_array(folder / f"{side}.{n}.npy") for n, name in enumerate(listed)}
    features = Features.from_arrays(arrays)
    fault = features.fault(n_rows)
    if fault is not None:
        raise mismatch(folder / f"{side}.{listed.index(fault)}.npy")
    return features


def mismatch(path: Path) -> InputError:
    """Return the error for a file that does not match the manifest."""
    return InputError(f"{path}: does not match manifest.json; import the data again")


def read_manifest(
    folder: Path,
    format: str,
    counts: tuple[str, ...],
    sides: tuple[str, ...],
    complete: Callable[[dict[str, Any]], bool] = lambda manifest: True,
) -> dict[str, Any]:
    """Read the manifest of a folder of this format.

    Args:
      counts: names of the fields that must be integers.
      sides: names of the optional fields that list feature arrays.
      complete: returns whether the other fields are as expected.

    Raises:
      InputError: the manifest is missing, damaged, or of another format or version.
    """
    path = folder / "manifest.json"
    try:
        manifest = parse_json(path.read_text(encoding="utf-8"))
        known = manifest["format"] == format and manifest["version"] == VERSION
        valid = known and (
            all(isinstance(manifest[n], int) for n in counts)
            and isinstance(manifest["name"], str)
            and isinstance(manifest["notes"], dict)
            and isinstance(manifest["fingerprint"], str)
            and all(isinstance(line, str) for line in reading(manifest))
            and complete(manifest)
        )
        empty = np.empty(0)
        for side in manifest.keys() & set(sides):
            Features.from_arrays(dict.fromkeys(manifest[side], empty))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as e:
        raise InputError(
            f"{path}: not the manifest of a prepared data set; import the data again"
        ) from e
    if not valid:
        raise InputError(f"{path}: not a manifest of version {VERSION}; import the data again")
    return manifest


def reading(manifest: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the column roles of each source file; manifests of older folders list none."""
    return tuple(manifest.get("reading", ()))


def format_of(folder: str | Path) -> str | None:
    """Return the format that a prepared folder's manifest names; None without a valid manifest."""
    try:
        format = parse_json((Path(folder) / "manifest.json").read_text(encoding="utf-8"))["format"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return format if isinstance(format, str) else None
