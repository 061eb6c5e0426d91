"""Writing files whole or not at all."""

import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jaxrec.errors import InputError


@contextlib.contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yield a temporary sibling of ``path`` to write a file or make a folder at.

    It takes the place of ``path`` when the block ends well and is removed when it does not,
    so that a reader finds the old content, the new content, or nothing. Missing parent
    folders are made.

    Raises:
      InputError: the place cannot be written (no permission, a full disk, a folder that is
        not empty where the result would go).
    """
    path = Path(path)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        os.replace(partial, path)
    except OSError as e:
        raise InputError(f"{path}: cannot be written ({e.strerror or e})") from e
    finally:
        if partial.is_dir():
            shutil.rmtree(partial, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):
                partial.unlink()


def write_json(path: str | Path, value: Any) -> None:
    """A JSON file, whole or not at all. Raises InputError as :func:`replacing` does."""
    with replacing(path) as partial:
        partial.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")


def write_npz(path: str | Path, arrays: dict[str, Any]) -> None:
    """An .npz file, whole or not at all. Raises InputError as :func:`replacing` does."""
    import numpy as np

    with replacing(path) as partial, partial.open("wb") as file:
        np.savez(file, **arrays)
