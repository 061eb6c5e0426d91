"""The layout of a partitioned data set's folder, and its manifest."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from jaxrec.config import SplitConfig
from jaxrec.data import prepared
from jaxrec.data.prepared import PARTED as FORMAT
from jaxrec.errors import InputError

SPLITS = ("train", "validation", "test")
COUNTS = ("users", "items", "interactions", "parts", "seed", "rows_users", "rows_items")
"""The integer fields of the manifest."""


def part_folder(part: int) -> str:
    """Return the name of a part's folder."""
    return f"part-{part:05d}"


def is_parted(path: str | Path) -> bool:
    """Return whether the path is a folder of a partitioned data set."""
    return prepared.is_prepared(path) and prepared.format_of(path) == FORMAT


def seal(folder: Path, manifest: dict[str, Any]) -> dict[str, Any]:
    """Add the size and SHA-256 of every file to a manifest, write it, and return it."""
    files = {
        str(path.relative_to(folder)): [path.stat().st_size, sha256(path)]
        for path in sorted(folder.rglob("*.npy"))
    }
    whole = manifest | {"format": FORMAT, "version": prepared.VERSION, "files": files}
    text = json.dumps(whole, sort_keys=True)
    whole |= {"fingerprint": hashlib.sha256(text.encode()).hexdigest()}
    (folder / "manifest.json").write_text(json.dumps(whole, indent=1) + "\n")
    return whole


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read(folder: Path) -> dict[str, Any]:
    """Read the manifest. Raises InputError if it is missing, damaged or of another format."""

    def complete(manifest: dict[str, Any]) -> bool:
        SplitConfig(**manifest["split"])
        kinds = {"files": dict, "arrays": dict, "traffic": dict, "pairs": dict, "buckets": list}
        return all(isinstance(manifest[name], kind) for name, kind in kinds.items())

    return prepared.read_manifest(folder, FORMAT, COUNTS, (), complete)


def described(manifest: dict[str, Any]) -> str:
    """Format the manifest for the console, one line per field."""
    cut = manifest["traffic"]
    rows = [
        ("name", manifest["name"]),
        ("users", f"{manifest['users']:,}"),
        ("items", f"{manifest['items']:,}"),
        ("pairs", ", ".join(f"{n:,} {name}" for name, n in manifest["pairs"].items())),
        ("split", f"{manifest['split']['name']}, seed {manifest['seed']}"),
        ("parts", f"{manifest['parts']}: train with --mesh.table {manifest['parts']}"),
        ("cut", f"{cut['edge_cut']:.1%} of the edges; exchange {manifest['exchange']}"),
        ("most edges", f"{cut['edges']:,} of a part"),
    ]
    rows += [("columns", line) for line in prepared.reading(manifest)]
    rows += [("note", f"{what}: {count:,}") for what, count in manifest["notes"].items()]
    rows.append(("fingerprint", manifest["fingerprint"]))
    return "\n".join(f"{name:<14}{value}" for name, value in rows)


def split_as_dict(split: SplitConfig) -> dict[str, Any]:
    """Return the split's configuration as a dictionary for the manifest."""
    return asdict(split)


def check_files(folder: Path, manifest: dict[str, Any], parts: tuple[int, ...]) -> None:
    """Check the shared files and the files of ``parts`` against the manifest.

    Raises:
      InputError: a file is missing or changed; the message names the first such file.
    """
    for name in _files_of(manifest, parts):
        n_bytes, digest = manifest["files"][name]
        path = folder / name
        try:
            fault = None
            if path.stat().st_size != n_bytes:
                fault = f"has {path.stat().st_size:,} bytes, not {n_bytes:,}"
            elif sha256(path) != digest:
                fault = "does not fit its checksum"
        except OSError as e:
            fault = f"cannot be read ({e.strerror or e})"
        if fault:
            raise InputError(
                f"{path}: {fault}; copy it again, or rewrite the folder: `jaxrec data partition`"
            )


def _files_of(manifest: dict[str, Any], parts: tuple[int, ...]) -> Iterator[str]:
    ours = {part_folder(part) for part in parts}
    for name in manifest["files"]:
        folder, _, _ = name.rpartition("/")
        if not folder or folder in ours:
            yield name
