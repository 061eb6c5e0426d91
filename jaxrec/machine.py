"""The machine that a process runs on."""

import os
from pathlib import Path


def memory() -> int:
    """Return the memory of the machine, or the smaller limit of its container, in bytes."""
    n_bytes = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for name in ("memory.max", "memory/memory.limit_in_bytes"):  # the files of cgroup v2 and v1
        path = Path("/sys/fs/cgroup") / name
        text = path.read_text().strip() if path.is_file() else ""
        if text.isdecimal():
            n_bytes = min(n_bytes, int(text))
    return n_bytes
