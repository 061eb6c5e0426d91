"""XLA's compiled programs, kept between runs under the user's cache folder.

JAX does not write an entry of its persistent cache at one stroke, and never writes one that is
already there: an entry that a killed process left half-written fails to load for ever after, and
its program is compiled anew in every run. So entries are read through once before JAX meets
them, and those that do not decompress are removed.
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
    """$XDG_CACHE_HOME/jaxrec/xla or ~/.cache/jaxrec/xla, a folder for each kind of processor.

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
    """Keep compiled programs in the default folder, unless JAX was told of another, or of none.

    For programs of their own, such as the command line's: it changes JAX's settings for the whole
    process, which is why nothing in the library calls it. Done once a process: a call after the
    first costs nothing. JAX's own settings hold: JAX_ENABLE_COMPILATION_CACHE=false, and
    JAX_COMPILATION_CACHE_DIR, whose folder is its owner's and never repaired or trimmed. A default
    folder that cannot be written leaves the cache off.
    """
    config: Any = jax.config
    if not config.jax_enable_compilation_cache or config.jax_compilation_cache_dir is not None:
        return
    with contextlib.suppress(OSError, RuntimeError):  # no home, or none that can be written
        folder = default_folder()
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            return
        with contextlib.suppress(OSError, InputError):  # a full disk: the entries can still be read
            repair(folder)
        config.update("jax_compilation_cache_dir", str(folder))
        if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
            # A run compiles dozens of small programs, which together take as long as a step's.
            config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


def repair(folder: Path) -> list[str]:
    """Remove entries that are not whole, and the oldest beyond 2 GiB; names of the former.

    Only for folders of our own: another program's entries may look like ours, and are its own.
    An entry is read once: its size and time are then kept in ``checked.json``. One that another
    process is just writing may go too, and is written again by the next that needs it.
    """
    checked = {}
    with contextlib.suppress(InputError):
        checked = read_json(folder / _SEALED)
    found, removed = {}, []
    for entry in folder.glob("*" + _SUFFIX):
        with contextlib.suppress(OSError):  # gone meanwhile, or no file at all
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
    """Whether an entry decompresses: JAX compresses with zstd where it finds it, else with zlib."""
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
    return False  # nor could JAX read it
