"""Fetches data from an address such as ``s3://bucket/clicks.parquet``, by fsspec."""

import contextlib
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

from jaxrec.errors import InputError

_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://.+")


def is_address(path: str | Path) -> bool:
    """Return whether a path is an address such as ``s3://bucket/file``."""
    return isinstance(path, str) and _ADDRESS.fullmatch(path) is not None


@contextlib.contextmanager
def local(path: str | Path) -> Iterator[Path]:
    """Yield a path unchanged; for an address, fetch it and yield the local copy.

    Errors inside the context name the address instead of the copy.

    Raises:
      InputError: fsspec or a package that it needs is not installed, nothing is at the address, or
        it cannot be fetched.
    """
    if not is_address(path):
        yield Path(path)
        return
    address = str(path)
    try:
        import fsspec
    except ImportError as e:
        raise InputError(
            f"{address}: reading an address needs fsspec; pip install 'jaxrec[remote]', or "
            "download the file"
        ) from e
    with tempfile.TemporaryDirectory(prefix="jaxrec-") as folder:
        name = address.split("://", 1)[1].split("?")[0].rstrip("/").rpartition("/")[2]
        target = Path(folder) / (re.sub(r"[^\w.=-]", "_", name) or "data")
        try:
            system, remote_path = fsspec.core.url_to_fs(address)
            system.get(remote_path, str(target), recursive=bool(system.isdir(remote_path)))
        except ImportError as e:
            raise InputError(f"{address}: fsspec needs another package ({e}); install it") from e
        except Exception as e:  # every file system has its own errors
            reason = str(e).splitlines()[0][:200] if str(e) else type(e).__name__
            raise InputError(f"{address}: cannot be fetched ({reason}); check the address") from e
        try:
            yield target
        except InputError as e:
            raise InputError(str(e).replace(str(target), address.rstrip("/"))) from e
