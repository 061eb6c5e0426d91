"""A persistent cache of compiled programs under the user's cache folder.

JAX does not write cache entries atomically and never overwrites one. An entry that a killed process
left half-written never loads, and its program is recompiled in every run. So each entry is checked
once, and removed if it does not decompress.
"""

import contextlib
import functools
import hashlib
import importlib
import os
import platform
import zlib
from pathlib import Path
from typing import Any

import jax

from jaxrec.errors import InputError
from jaxrec.files import write_json
from jaxrec.runfolder import read_json

_SUFFIX = "-cache"
_SEALED = "checked.json"
_MOST_BYTES = 2 * 2**30


def default_folder() -> Path:
    """Return the cache folder for this processor, in $XDG_CACHE_HOME/jaxrec/xla or
    ~/.cache/jaxrec/xla.

    A program compiled for one processor may not run on another that shares the home folder.
    """
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    kind = platform.machine()
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8") as file:
        flags = next((line for line in file if line.startswith(("flags", "Features"))), "")
        kind += "-" + hashlib.sha256(flags.encode()).hexdigest()[:12]
    return Path(base) / "jaxrec" / "xla" / kind


@functools.cache
def use_cache() -> None:
    """Cache compiled programs in the default folder, unless JAX is configured otherwise.

    Only applications such as the command line should call this function, since it changes JAX's
    settings for the whole process; the library never calls it. Later calls have no effect.
    JAX_ENABLE_COMPILATION_CACHE=false and JAX_COMPILATION_CACHE_DIR are respected; the folder in
    the latter is never repaired or trimmed. If the default folder cannot be written, the cache
    stays off.
    """
    config: Any = jax.config
    if not config.jax_enable_compilation_cache or config.jax_compilation_cache_dir is not None:
        return
    with contextlib.suppress(OSError, RuntimeError):  # the home folder may not be writable
        folder = default_folder()
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            return
        with contextlib.suppress(OSError, InputError):  # on a full disk, entries can still be read
            repair(folder)
        config.update("jax_compilation_cache_dir", str(folder))
        if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
            # Cache small programs too: a run has dozens of them, which together take as long to
            # compile as the training step.
            config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


def repair(folder: Path) -> list[str]:
    """Remove damaged entries, and the oldest entries if all exceed 2 GiB together.

    Use it only for jaxrec's own folder. The size and time of each checked entry are stored in
    ``checked.json``, so that the entry is read only once. An entry that another process is writing
    may be removed too; the next process that needs the entry writes it again.

    Returns:
      The names of the damaged entries.
    """
    checked = {}
    with contextlib.suppress(InputError):
        checked = read_json(folder / _SEALED)
    found, removed = {}, []
    for entry in folder.glob("*" + _SUFFIX):
        with contextlib.suppress(OSError):  # the entry was removed meanwhile, or is not a file
            stat = entry.stat()
            seal = [stat.st_size, stat.st_mtime_ns]
            if checked.get(entry.name) != seal and not _is_whole(entry.read_bytes()):
                entry.unlink()
                removed.append(entry.name)
            else:
                found[entry.name] = seal
    total = sum(size for size, _ in found.values())
    for name in sorted(found, key=lambda name: found[name][1]):
        if total <= _MOST_BYTES:
            break
        (folder / name).unlink(missing_ok=True)
        total -= found.pop(name)[0]
    if found != checked:
        write_json(folder / _SEALED, found)
    return removed


def _is_whole(entry: bytes) -> bool:
    """Return whether an entry decompresses; JAX uses zstd if it is installed, else zlib."""
    if entry[:4] == b"\x28\xb5\x2f\xfd":
        return _zstd_is_whole(entry)
    stream = zlib.decompressobj()
    try:
        stream.decompress(entry)
    except zlib.error:
        return False
    return stream.eof


def _zstd_is_whole(entry: bytes) -> bool:
    for name in ("compression.zstd", "zstandard"):
        with contextlib.suppress(ImportError):
            zstd = importlib.import_module(name)
            try:
                zstd.decompress(entry)
            except zstd.ZstdError:
                return False
            return True
    return False  # without zstd, JAX could not read the entry either
