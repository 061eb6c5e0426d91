"""Data at an address such as ``s3://bucket/clicks.parquet``, which fsspec fetches to be read."""

import contextlib
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

from jaxrec.errors import InputError

_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://.+")


def is_address(path: str | Path) -> bool:
    """Whether a text is an address and no path."""
    return isinstance(path, str) and _ADDRESS.fullmatch(path) is not None


@contextlib.contextmanager
def local(path: str | Path) -> Iterator[Path]:
    """The path itself; of an address, where its file or folder lies while it is read.

    Errors inside speak of the address.

    Raises:
      InputError: fsspec or what it needs for the address is not installed, nothing is there, or it
        cannot be fetched.
    """
    if not is_address(path):
        yield Path(path)
        return
    address = str(path)
    try:
        import fsspec
    except ImportError as e:
        raise InputError(
            f"{address}: addresses need fsspec: pip install 'jaxrec[remote]', or fetch the file"
        ) from e
    with tempfile.TemporaryDirectory(prefix="jaxrec-") as folder:
        name = address.split("://", 1)[1].split("?")[0].rstrip("/").rpartition("/")[2]
        target = Path(folder) / (re.sub(r"[^\w.=-]", "_", name) or "data")
        try:
            system, there = fsspec.core.url_to_fs(address)
            system.get(there, str(target), recursive=bool(system.isdir(there)))
        except ImportError as e:
            raise InputError(f"{address}: fsspec needs another package ({e})") from e
        except Exception as e:  # of any file system: each has errors of its own
            reason = str(e).splitlines()[0][:200] if str(e) else type(e).__name__
            raise InputError(f"{address}: cannot be fetched ({reason}); check the address") from e
        try:
            yield target
        except InputError as e:
            raise InputError(str(e).replace(str(target), address.rstrip("/"))) from e
